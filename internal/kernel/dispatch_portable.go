//go:build (!amd64 && !arm64) || noasm

package kernel

// What only amd64 and arm64 have in assembly.

func interleave(dst, x []float32, ldx, m, k int) { interleavePortable(dst, x, ldx, m, m, k) }

func packRun(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	packPortable(dst, src, cols, taps, width, h, w, step, merge, true)
}

func packGather(dst, src []float32, cols *columns, taps []tap, width, h, w, step int) {
	packPortable(dst, src, cols, taps, width, h, w, step, false, false)
}

func dealTwo(even, odd, x []float32) { dealTwoPortable(even, odd, x) }

func vecSub(dst, x []float32)                       { vecSubPortable(dst, x) }
func vecAdd(dst, a, b []float32)                    { vecAddPortable(dst, a, b) }
func vecMax(dst, a, b []float32)                    { vecMaxPortable(dst, a, b) }
func vecMul(dst, a, b []float32)                    { vecMulPortable(dst, a, b) }
func vecClamp(dst, x []float32, lo, hi float32)     { vecClampPortable(dst, x, lo, hi) }
func vecBiasClamp(dst []float32, b, lo, hi float32) { vecBiasClampPortable(dst, b, lo, hi) }
