//go:build !arm64

package kernel

// fma32 is a·b + c rounded once to float32 (IEEE 754-2019, 5.4.1), with the
// same bits on every CPU.
func fma32(a, b, c float32) float32 { return softFMA(a, b, c) }
