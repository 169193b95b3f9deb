//go:build (!amd64 && !arm64 && !arm) || noasm

package kernel

func level() string { return levelPortable }

func setLevel(name string) bool { return name == levelPortable }

func gemmTiles(c []float32, ldc int, a, b []float32, kc, panels int, first bool) {
	gemmTilesPortable(c, ldc, a, b, kc, panels, first)
}

func gemvRows(dst, w, x []float32, rows, k int) { gemvRowsPortable(dst, w, x, rows, k) }

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
}
