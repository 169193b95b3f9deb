//go:build !noasm

package kernel

func toHalf(dst []uint16, x []float32, scale float32) {
	done := 0
	if neon && len(x) >= 8 {
		done = len(x) &^ 7
		toHalfNEON(&dst[0], &x[0], done, scale)
	}
	toHalfPortable(dst[done:], x[done:], scale)
}

func fromHalf(dst []float32, h []uint16, scale float32) {
	done := 0
	if neon && len(h) >= 8 {
		done = len(h) &^ 7
		fromHalfNEON(&dst[0], &h[0], done, scale)
	}
	fromHalfPortable(dst[done:], h[done:], scale)
}

func extremes(x []float32) (least, most float32) {
	if n := len(x) &^ 7; neon && n > 0 {
		var lows, highs [4]float32
		extremesNEON(&lows[0], &x[0], n, &highs[0])
		x = x[n:]
		for l := range lows {
			least, most = min(least, lows[l]), max(most, highs[l])
		}
	}
	low, high := extremesPortable(x)
	return min(least, low), max(most, high)
}
