package zoo

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"starling/internal/tensor"
)

// biasDeviation is the standard deviation of biases and running means: enough
// for a wrong or forgotten one to show.
const biasDeviation = 0.1

// weights adds weights for fanIn inputs of x an output, scaled so that values
// keep their size from layer to layer: variance 2/fanIn behind a ReLU (He et
// al. 2015, arXiv 1502.01852, equation 10), 1/fanIn elsewhere.
func (b *builder) weights(name string, x layer, fanIn int, shape ...int) string {
	variance := 1 / float64(fanIn)
	if x.rectified {
		variance *= 2
	}
	return b.constant(name, b.bell(name, math.Sqrt(variance), shape...))
}

// bellDeviation is the standard deviation of the sum of four uniform integers
// in 0…65535, each of variance (2^32 − 1)/12.
var bellDeviation = math.Sqrt((1<<32 - 1) / 3.0)

// bell fills a tensor with numbers of mean 0 and the given standard deviation,
// nearly normal: sums of four uniform ones, the 16-bit parts of one draw. A
// sum is an exact integer and is rounded once, where it is scaled, so that no
// platform's logarithm or fused operations can change a bit.
func (b *builder) bell(name string, deviation float64, shape ...int) *tensor.Tensor {
	const middle = 2 * (1<<16 - 1)
	t := tensor.New(tensor.Float32, shape...)
	scale := float32(deviation / bellDeviation)
	src := b.source(name)
	out := t.F32()
	for i := range out {
		u := src.Uint64()
		sum := int32(u&0xffff) + int32(u>>16&0xffff) + int32(u>>32&0xffff) + int32(u>>48)
		out[i] = float32(sum-middle) * scale
	}
	return t
}

// around fills a tensor with numbers uniform in [middle/2, 3·middle/2).
func (b *builder) around(name string, middle float32, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	src := b.source(name)
	out := t.F32()
	for i := range out {
		// Exact in 24 bits but for the last product.
		out[i] = float32(1<<22+src.Uint64()>>41) * (middle / (1 << 23))
	}
	return t
}

// source is the generator of one tensor: PCG-DXSM seeded with the seed and
// the 64-bit FNV-1a hash of the tensor's name.
func (b *builder) source(name string) *rand.PCG {
	h := fnv.New64a()
	// Writing to a hash never fails.
	_, _ = h.Write([]byte(name))
	return rand.NewPCG(b.seed, h.Sum64())
}
