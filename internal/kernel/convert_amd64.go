//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

func toHalf(dst []uint16, x []float32, scale float32) {
	done := 0
	if avx2 && cpu.X86.HasF16C && len(x) >= 8 {
		done = len(x) &^ 7
		toHalfAVX2(&dst[0], &x[0], done, scale)
	}
	toHalfPortable(dst[done:], x[done:], scale)
}

func fromHalf(dst []float32, h []uint16, scale float32) {
	done := 0
	if avx2 && cpu.X86.HasF16C && len(h) >= 8 {
		done = len(h) &^ 7
		fromHalfAVX2(&dst[0], &h[0], done, scale)
	}
	fromHalfPortable(dst[done:], h[done:], scale)
}

func extremes(x []float32) (least, most float32) {
	if groups := len(x) / 16; avx2 && groups > 0 {
		var lows, highs [8]float32
		extremesAVX2(&lows[0], &highs[0], &x[0], groups)
		x = x[16*groups:]
		for l := range lows {
			least, most = min(least, lows[l]), max(most, highs[l])
		}
	}
	low, high := extremesPortable(x)
	return min(least, low), max(most, high)
}
