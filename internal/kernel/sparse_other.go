//go:build (!amd64 && !arm64) || noasm

package kernel

// leavesZeros says whether this level has products that leave out zeros and are as
// fast as the others.
func leavesZeros() bool { return level() == levelPortable }

// sparseTiles is sparseTilesPortable for the first panels, and says how many.
func sparseTiles(t *tiling, c []float32, ldc int, a, b []float32, at, starts []int32, panels, n int, first bool) (done int) {
	sparseTilesPortable(t, c, ldc, a, b, at, starts, panels, n, first)
	return panels
}

func sparseRows(dst, w, x []float32, at, starts []int32) { sparseRowsPortable(dst, w, x, at, starts) }

func magnitudes(x []float32) (least, most uint32) { return magnitudesPortable(x) }
