//go:build (!amd64 && !arm64 && !arm) || noasm

package kernel

func level() string { return levelPortable }

func setLevel(name string) bool { return name == levelPortable }

func tilesOfLevel() *tiling { return &tiles6x16 }

func gemmTiles(t *tiling, c []float32, ldc int, a, b []float32, m, n, kc int, first bool, end ending, ahead []float32) (rows int) {
	gemmTilesPortable(t, c, ldc, a, b, m, n, kc, first)
	end.apply(c, ldc, m, n)
	return m
}

func gemvRows(dst, w, x []float32, rows, k int) { gemvRowsPortable(dst, w, x, rows, k) }

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
}

func vecSub(dst, x []float32)                       { vecSubPortable(dst, x) }
func vecAddScaled(dst, x []float32, c float32)      { vecAddScaledPortable(dst, x, c) }
func vecAdd(dst, a, b []float32)                    { vecAddPortable(dst, a, b) }
func vecMax(dst, a, b []float32)                    { vecMaxPortable(dst, a, b) }
func vecMul(dst, a, b []float32)                    { vecMulPortable(dst, a, b) }
func vecClamp(dst, x []float32, lo, hi float32)     { vecClampPortable(dst, x, lo, hi) }
func vecBiasClamp(dst []float32, b, lo, hi float32) { vecBiasClampPortable(dst, b, lo, hi) }
