//go:build !noasm

package kernel

import "math"

// leavesZeros says whether this level has products that leave out zeros and are as
// fast as the others.
func leavesZeros() bool { return true }

// sparseTiles is sparseTilesPortable for the first panels, and says how many.
func sparseTiles(t *tiling, c []float32, ldc int, a, b []float32, at, starts []int32, panels, n int, first bool) (done int) {
	in512, in2 := avx512 && t.n == 32, avx2 && t.n == 16
	if !in512 && !in2 {
		sparseTilesPortable(t, c, ldc, a, b, at, starts, panels, n, first)
		return panels
	}
	if panels == 0 || in2 && n < t.n {
		return 0
	}
	steps := int(starts[panels] - starts[0])
	_ = c[(panels*sparseM-1)*ldc+n-1]
	if steps == 0 { // there may be no first one
		a, at = b, starts
	}
	_, _ = a[:max(1, steps*sparseM)], at[:max(1, steps)]
	if in512 {
		sparseTilesAVX512(&c[0], ldc, &a[0], &b[0], &at[0], &starts[0], panels, asInt(first), 1<<n-1)
	} else {
		sparseTilesAVX2(&c[0], ldc, &a[0], &b[0], &at[0], &starts[0], panels, asInt(first))
	}
	return panels
}

func sparseRows(dst, w, x []float32, at, starts []int32) {
	blocks := int(starts[len(dst)] - starts[0])
	if !avx2 || blocks == 0 {
		sparseRowsPortable(dst, w, x, at, starts)
		return
	}
	_, _ = w[blocks*sparseBlock-1], at[blocks-1]
	if avx512 {
		sparseRowsAVX512(&dst[0], &w[0], &x[0], &at[0], &starts[0], len(dst))
	} else {
		sparseRowsAVX2(&dst[0], &w[0], &x[0], &at[0], &starts[0], len(dst))
	}
}

func magnitudes(x []float32) (least, most uint32) {
	var lows, highs [8]uint32
	for l := range lows {
		lows[l] = math.MaxUint32
	}
	done := 0
	if groups := len(x) / 16; avx2 && groups > 0 {
		magnitudesAVX2(&lows[0], &highs[0], &x[0], groups)
		done = 16 * groups
	}
	least, most = magnitudesPortable(x[done:])
	for l := range lows {
		least, most = min(least, lows[l]), max(most, highs[l])
	}
	return least, most
}
