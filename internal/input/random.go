package input

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Random returns input i of a seeded sequence for want: floats uniform in
// [-1, 1), integers in 0…7, bools. Equal arguments give equal bits on every
// platform: element by element one 64-bit draw u of PCG-DXSM
// (math/rand/v2.PCG), seeded with seed and the 64-bit FNV-1a hash of want.Name
// and i (as 8 little-endian bytes). A float is m·2^(1−b) − 1 with m the top b
// bits of u, and b 24 for float32, 53 for float64, 11 for float16, 8 for
// bfloat16, so that it is exact; an integer is the top 3 bits, a bool the top
// one.
func Random(want graph.Value, seed uint64, i int) *tensor.Tensor {
	h := fnv.New64a()
	// Writing to a hash never fails.
	_, _ = h.Write([]byte(want.Name))
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(i)))
	src := rand.NewPCG(seed, h.Sum64())
	t := tensor.New(want.Type, want.Shape...)
	size := want.Type.Size()
	for b := t.Data; len(b) > 0; b = b[size:] {
		switch u := src.Uint64(); want.Type {
		case tensor.Float32:
			binary.LittleEndian.PutUint32(b, math.Float32bits(float32(uniform(u, 24))))
		case tensor.Float64:
			binary.LittleEndian.PutUint64(b, math.Float64bits(uniform(u, 53)))
		case tensor.Float16:
			binary.LittleEndian.PutUint16(b, float16(float32(uniform(u, 11))))
		case tensor.BFloat16:
			binary.LittleEndian.PutUint16(b, uint16(math.Float32bits(float32(uniform(u, 8)))>>16))
		case tensor.Bool:
			b[0] = byte(u >> 63)
		default: // little-endian: the low byte comes first, the others are 0
			b[0] = byte(u >> 61)
		}
	}
	return t
}

// uniform is exact: |m·2^(1−bits) − 1| has at most bits significant bits.
func uniform(u uint64, bits uint) float64 {
	return math.Ldexp(float64(u>>(64-bits)), 1-int(bits)) - 1
}

// float16 converts 0 or a number of 11 significant bits from 2^-14 to 1.
func float16(x float32) uint16 {
	if x == 0 {
		return 0
	}
	b := math.Float32bits(x)
	return uint16(b>>16&0x8000 | (b>>23&0xff-127+15)<<10 | b>>13&0x3ff)
}
