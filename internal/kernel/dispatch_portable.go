//go:build (!amd64 && !arm64) || noasm

package kernel

// What only amd64 and arm64 have in assembly.

func interleave(dst, x []float32, ldx, m, k int) { interleavePortable(dst, x, ldx, m, m, k) }

const runsWrap = true

func packRun(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	packPortable(dst, src, cols, taps, width, h, w, step, merge, true)
}

func packGather(dst, src []float32, cols *columns, taps []tap, width, h, w, step int) {
	packPortable(dst, src, cols, taps, width, h, w, step, false, false)
}

func dealTwo(even, odd, x []float32) { dealTwoPortable(even, odd, x) }

func vecDiv(dst, a, b []float32) { vecDivPortable(dst, a, b) }
