//go:build !noasm

package kernel

import "math"

// leavesZeros says whether this level has products that leave out zeros and are as
// fast as the others.
func leavesZeros() bool { return true }

// sparseTiles is sparseTilesPortable for the first panels, and says how many.
func sparseTiles(t *tiling, c []float32, ldc int, a, b []float32, at, starts []int32, panels, n int, first bool) (done int) {
	if !neon {
		sparseTilesPortable(t, c, ldc, a, b, at, starts, panels, n, first)
		return panels
	}
	if panels == 0 || n < t.n {
		return 0
	}
	steps := int(starts[panels] - starts[0])
	_ = c[(panels*sparseM-1)*ldc+n-1]
	if steps == 0 { // there may be no first one
		a, at = b, starts
	}
	_, _ = a[:max(1, steps*sparseM)], at[:max(1, steps)]
	start := 0
	if first {
		start = 1
	}
	sparseTilesNEON(&c[0], ldc, &a[0], &b[0], &at[0], &starts[0], panels, start)
	return panels
}

func sparseRows(dst, w, x []float32, at, starts []int32) {
	if !neon {
		sparseRowsPortable(dst, w, x, at, starts)
		return
	}
	for r := range dst {
		var lanes [sparseBlock]float32
		if blocks := int(starts[r+1] - starts[r]); blocks > 0 {
			_, _ = w[blocks*sparseBlock-1], at[blocks-1]
			sparseLanesNEON(&lanes[0], &w[0], &x[0], &at[0], blocks)
			w, at = w[blocks*sparseBlock:], at[blocks:]
		}
		dst[r] = sumLanes(&lanes, nil, nil)
	}
}

func magnitudes(x []float32) (least, most uint32) {
	var lows, highs [4]uint32
	for l := range lows {
		lows[l] = math.MaxUint32
	}
	done := 0
	if groups := len(x) / 4; neon && groups > 0 {
		magnitudesNEON(&lows[0], &highs[0], &x[0], groups)
		done = 4 * groups
	}
	least, most = magnitudesPortable(x[done:])
	for l := range lows {
		least, most = min(least, lows[l]), max(most, highs[l])
	}
	return least, most
}
