//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

// avx2 selects the assembly twins.
var avx2 = hasAVX2()

func hasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA }

func level() string {
	if avx2 {
		return levelAVX2
	}
	return levelPortable
}

func setLevel(name string) bool {
	switch {
	case name == levelPortable:
		avx2 = false
	case name == levelAVX2 && hasAVX2():
		avx2 = true
	default:
		return false
	}
	return true
}

// asInt is a bool as the assembly takes it.
func asInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func gemmTiles(c []float32, ldc int, a, b []float32, kc, panels int, first bool) {
	if !avx2 {
		gemmTilesPortable(c, ldc, a, b, kc, panels, first)
		return
	}
	if panels == 0 {
		return
	}
	_ = c[(panels*tileM-1)*ldc+tileN-1]
	_ = a[panels*kc*tileM-1]
	_ = b[kc*tileN-1]
	gemmTilesAVX2(&c[0], ldc, &a[0], &b[0], kc, panels, asInt(first))
}

func packSix(dst, x []float32, ldx, k int) {
	done := 0
	if avx2 && k >= 8 {
		done = k &^ 7
		_, _ = dst[k*tileM-1], x[(tileM-1)*ldx+k-1]
		packSixAVX2(&dst[0], &x[0], ldx, done/8)
	}
	packSixPortable(dst[done*tileM:], x[done:], ldx, k-done)
}

// laneMask[16-n:][:16] is a mask whose first n lanes are set.
var laneMask = [32]int32{
	-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
}

func gemvRows(dst, w, x []float32, rows, k int) {
	if !avx2 {
		gemvRowsPortable(dst, w, x, rows, k)
		return
	}
	if rows == 0 {
		return
	}
	_, _, _ = dst[rows-1], w[rows*k-1], x[k-1]
	gemvRowsAVX2(&dst[0], &w[0], &x[0], rows, k, &laneMask[16-k%16])
}

func packRun(dst, src []float32, cols *columns, taps []tap, h, w, step int, merge bool) {
	if !avx2 {
		packPortable(dst, src, cols, taps, h, w, step, merge, true)
		return
	}
	packRunAVX2(&dst[0], &src[0], cols, &taps[0], len(taps), h, w, step, asInt(merge))
}

func packGather(dst, src []float32, cols *columns, taps []tap, h, w, step int) {
	if !avx2 {
		packPortable(dst, src, cols, taps, h, w, step, false, false)
		return
	}
	packGatherAVX2(&dst[0], &src[0], cols, &taps[0], len(taps), h, w, step)
}

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	if !avx2 {
		depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
		return
	}
	_ = dst[rows*cols-1]
	depthwiseRowsAVX2(&dst[0], &src[0], &w[0], &off[0], len(off), rows, cols, srcStep, &laneMask[16-cols%16])
}

func dealTwo(even, odd, x []float32) {
	done := 0
	if avx2 && len(even) >= 8 {
		done = len(even) &^ 7
		_, _ = odd[done-1], x[2*done-1]
		dealTwoAVX2(&even[0], &odd[0], &x[0], done/8)
	}
	dealTwoPortable(even[done:], odd[done:], x[2*done:])
}

func vecSub(dst, x []float32) {
	if !avx2 {
		vecSubPortable(dst, x)
	} else if len(dst) > 0 {
		vecSubAVX2(&dst[0], &x[0], len(dst))
	}
}

func vecAdd(dst, a, b []float32) {
	if !avx2 {
		vecAddPortable(dst, a, b)
	} else if len(dst) > 0 {
		vecAddAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecMul(dst, a, b []float32) {
	if !avx2 {
		vecMulPortable(dst, a, b)
	} else if len(dst) > 0 {
		vecMulAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecMax(dst, a, b []float32) {
	if !avx2 {
		vecMaxPortable(dst, a, b)
	} else if len(dst) > 0 {
		vecMaxAVX2(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecClamp(dst, x []float32, lo, hi float32) {
	if !avx2 {
		vecClampPortable(dst, x, lo, hi)
	} else if len(dst) > 0 {
		vecClampAVX2(&dst[0], &x[0], len(dst), lo, hi)
	}
}

func vecBiasClamp(dst []float32, bias, lo, hi float32) {
	if !avx2 {
		vecBiasClampPortable(dst, bias, lo, hi)
	} else if len(dst) > 0 {
		vecBiasClampAVX2(&dst[0], len(dst), bias, lo, hi)
	}
}
