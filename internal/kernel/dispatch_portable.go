//go:build (!amd64 && !arm64) || noasm

package kernel

// What only amd64 and arm64 have in assembly.

func interleave(dst, x []float32, ldx, m, k int) { interleavePortable(dst, x, ldx, m, m, k) }

func evenRuns() bool { return false }

const runsWrap = true

func packRun(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	packPortable(dst, src, cols, taps, width, h, w, step, merge, 1)
}

func packGather(dst, src []float32, cols *columns, taps []tap, width, h, w, step int) {
	packPortable(dst, src, cols, taps, width, h, w, step, false, 0)
}

func dealTwo(even, odd, x []float32) { dealTwoPortable(even, odd, x) }

func vecDiv(dst, a, b []float32) { vecDivPortable(dst, a, b) }

func packEven(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	packPortable(dst, src, cols, taps, width, h, w, step, merge, 2)
}

func vecExp(dst, x []float32, most float32) { vecExpPortable(dst, x, most) }
