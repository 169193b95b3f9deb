//go:build (!amd64 && !arm64) || noasm

package kernel

func schemesOf(bool) []*scheme { return []*scheme{&pairs6x16} }

func multiplyTiles(s *scheme, c []int32, a, b []uint32, rows, lanes, cols int, aSigned, bSigned bool) {
	multiplyPortable(s, c, a, b, rows, lanes, cols, aSigned, bSigned)
}

func packRuns(s *scheme, dst []uint32, src []byte, offs []int32, runs []run8, flip byte) {
	packRunsPortable(s, dst, src, offs, runs, flip)
}

func requantRows(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	requantRowsPortable(dst, ldd, c, ldc, rows, cols, add, scale, l)
}

func requantCols(dst []byte, ldd int, c []int32, ldc, rows, cols int, add []int32, scale []float32, l limits) {
	requantColsPortable(dst, ldd, c, ldc, rows, cols, add, scale, l)
}

func sumRows(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	sumRowsPortable(dst, ldd, c, ldc, rows, cols, add)
}

func sumCols(dst []int32, ldd int, c []int32, ldc, rows, cols int, add []int32) {
	sumColsPortable(dst, ldd, c, ldc, rows, cols, add)
}

func addOuter(c []int32, ldc int, u, v []int32) { addOuterPortable(c, ldc, u, v) }

func widen(dst []int16, x []byte, flip byte) { widenPortable(dst, x, flip) }

func gemvWants(*Weights) (signed, ok bool) { return false, false }

func gemvBytes(dst []int32, w []byte, signed bool, x *vector8, rows, k int) {
	gemvBytesPortable(dst, w, signed, x.wide, rows, k)
}

func gemvWide(dst []int32, w, x []int16, rows, k int) { gemvWidePortable(dst, w, x, rows, k) }

func depthwiseSums(dst []int32, src []byte, signed bool, w, off []int32, rows, cols, step int) {
	depthwiseBytesPortable(dst, src, signed, w, off, rows, cols, step)
}

func quantize(dst []byte, x []float32, scale float32, l limits) { quantizePortable(dst, x, scale, l) }

func dequantize(dst []float32, x []byte, signed bool, scale float32, zero int32) {
	dequantizePortable(dst, x, signed, scale, zero)
}

func dealBytes(even, odd, x []byte) { dealBytesPortable(even, odd, x) }

// patchable says whether patchSums has a routine.
func patchable() bool { return false }

func patchSums(p *patchwork, dst []int32, x []byte, w []uint32, flip, pad byte) {
	patchSumsPortable(p, dst, x, w, flip, pad)
}
