// Package kernel holds the numeric loops of Starling: matrix products,
// convolutions, pooling, normalisation and elementwise operators on float32
// slices, and the pool of goroutines they run on. It knows nothing of graphs,
// models or files: the caller decides which loop runs, allocates what it
// writes and passes geometry that has been validated.
//
// Invariants:
//
//   - Canonical summation. Every output element of [Packed.Gemm] and [Conv.Run]
//     is one chain of float32 fused multiply-adds in k order that starts at +0;
//     when K is blocked the chain goes on from the value stored in dst. Padding
//     cells of a convolution take part in the chain as zeros. Every output
//     element of [Gemv] is 16 chains, lane l taking k ≡ l (mod 16) in order and
//     standing still where k has run out, added by one fixed tree. So the bits
//     of an element do not depend on how rows, columns or K are cut, on the
//     number of threads, or on the level.
//   - Sums of integers are exact modulo 2³², whatever the order (see int8.go).
//   - All other functions do the same float operations in the same order on
//     every CPU. Only the payload and sign of a NaN may differ between levels.
//   - Bias and activation come after the sum: y = act(acc + bias).
//   - Nothing allocates once its scratch is warm, except the constructors.
//
// Slices are row-major. A slice of the wrong length is a bug of the caller and
// panics.
package kernel

import "fmt"

//go:generate go -C _gen run . -out ..

// Names of the levels.
const (
	levelPortable = "portable"
	levelAVX2     = "avx2"
	levelAVX512   = "avx512"
	levelNEON     = "neon"
	levelVFPv4    = "vfpv4"
)

// Level names the instruction set in use: "avx512", "avx2", "neon", "vfpv4" or "portable".
func Level() string { return level() }

// SetLevel selects the instruction set by name, for tests and benchmarks. It
// must not run beside a kernel. A level that is unknown or that this CPU lacks
// is an error and changes nothing.
func SetLevel(name string) error {
	if !setLevel(name) {
		return fmt.Errorf("no level %q on this CPU or in this build", name)
	}
	return nil
}

// need panics unless a slice called name has at least want elements.
func need(name string, have, want int) {
	if have < want {
		panic(fmt.Sprintf("kernel: %s has %d elements, needs %d", name, have, want))
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
