//go:build !amd64 || noasm

package kernel

func transposed(dst []float32, ldd int, src []float32, lds, rows, cols int, end ending) {
	transposedPortable(dst, ldd, src, lds, rows, cols, end)
}

func stencils(size, stride int) bool { return false }

func stencilSums(s *stencil, dst, src, w []float32, bias, lo, hi float32) {
	stencilSumsPortable(s, dst, src, w, bias, lo, hi)
}

func stencilMeans(s *stencil, dst, src, counts []float32) {
	stencilMeansPortable(s, dst, src, counts)
}

func stencilMax(s *stencil, dst, src []float32) { stencilMaxPortable(s, dst, src) }

func packsByChannel(width int) bool { return false }

func packsLater(*tiling) bool { return false }

func gemmPack(t *tiling, c []float32, ldc int, a, packed, x []float32, starts []int32, from *panel, first bool, end ending) {
	gemmPackPortable(t, c, ldc, a, packed, x, starts, from, first)
	end.apply(c, ldc, t.m, t.n)
}

func packWhole(dst, src []float32, taps []tap, channels, plane int) {
	packWholePortable(dst, src, taps, channels, plane)
}

func packStripes(dst, src []float32, taps []tap, channels, plane, runs int, s *stripes, mask int) {
	packStripesPortable(dst, src, taps, channels, plane, runs, s, mask)
}

func lanesMost(x []float32) [16]float32 { return lanesMostPortable(x) }

func vecDivWide(dst []float32, by float64) { vecDivWidePortable(dst, by) }
