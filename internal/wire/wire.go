// Package wire is how activations travel between coordinator and workers: as
// they are, or narrower and rounded. It knows no frames and no sockets.
//
// Encodings, all little-endian:
//
//	f32   4n bytes         the values' own bits
//	f16   4 + 2n           float32 factor, a power of two; n times IEEE 754 binary16.
//	                       A value is half · factor
//	int8  n + 5·⌈n/256⌉    for each 256 values, the last ones being fewer: float32
//	                       scale, uint8 zero; then their uint8 bytes. A value is
//	                       (byte − zero) · scale, as ONNX DynamicQuantizeLinear has it
//
// The factor of f16 puts the largest magnitude M into [2¹⁴, 2¹⁵), so that
// nothing overflows and little underflows: a value x arrives as x(1+d) + e with
// |d| ≤ 2⁻¹¹ and |e| ≤ M·2⁻³⁹, whatever M is (at least 2⁻¹¹²). Scales of int8 are
// those of 256 values because one large value would cost all others of a whole
// tensor their digits; they are affine because what follows a ReLU has one sign.
// An error is at most the span of the 256 values and 0, divided by 510, and 0
// arrives as 0.
//
// Encode refuses what a narrower encoding cannot hold: a value that is not finite,
// or that rounding could make infinite. It then travels as f32: no infinity and no
// NaN is lost, and none comes of rounding.
//
// Bits do not depend on the CPU. Nothing here allocates.
package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"starling/internal/kernel"
	"starling/internal/tensor"
)

// Encoding is how float32 values are written. Its numbers are part of the
// format: they stand in frame headers.
type Encoding uint8

// The encodings.
const (
	F32 Encoding = iota
	F16
	Int8
	end
)

var names = [end]string{F32: "f32", F16: "f16", Int8: "int8"}

// Names are what Parse takes.
func Names() []string { return names[:] }

// Parse is the encoding of that name; "" is F32.
func Parse(name string) (Encoding, error) {
	for e, s := range names {
		if s == name {
			return Encoding(e), nil
		}
	}
	if name == "" {
		return F32, nil
	}
	return 0, fmt.Errorf("unknown wire format %q: use %s", name, strings.Join(names[:], ", "))
}

// Valid says whether e is an encoding of this version.
func (e Encoding) Valid() bool { return e < end }

func (e Encoding) String() string {
	if !e.Valid() {
		return fmt.Sprintf("encoding %d", uint8(e))
	}
	return names[e]
}

// group is how many values have a scale of their own in Int8, and groupHead what
// that costs in bytes.
const (
	group     = 256
	groupHead = 5
	halfHead  = 4
)

// Size is how many bytes n values take; e is valid.
func (e Encoding) Size(n int) int {
	switch e {
	case F16:
		return halfHead + 2*n
	case Int8:
		return n + groupHead*((n+group-1)/group)
	default:
		return 4 * n
	}
}

// Encode writes x to dst, of Size(len(x)) bytes. It is false, and dst undefined,
// if e cannot hold a value of x. dst must not overlap x and begins at an even
// address, for F32 at a multiple of 4.
func (e Encoding) Encode(dst []byte, x []float32) bool {
	if e == F32 {
		copy(dst, tensor.Bytes(x))
		return true
	}
	most := kernel.Magnitude(x)
	if !(most <= math.MaxFloat32/2) {
		return false
	}
	if e == F16 {
		power := max(math.Ilogb(float64(most)), -112) - 14 // of most = 0 it is the least int
		binary.LittleEndian.PutUint32(dst, math.Float32bits(powerOfTwo(power)))
		kernel.ToHalf(tensor.View[uint16](dst[halfHead:]), x, powerOfTwo(-power))
		return true
	}
	for len(x) > 0 {
		n := min(len(x), group)
		low, high := kernel.Extremes(x[:n])
		scale := float32((float64(high) - float64(low)) / 255)
		zero := 0.0
		if scale > 0 {
			zero = min(math.RoundToEven(-float64(low)/float64(scale)), 255)
		}
		binary.LittleEndian.PutUint32(dst, math.Float32bits(scale))
		dst[4] = byte(zero)
		kernel.QuantizeBytes(dst[groupHead:groupHead+n], x[:n], scale, false, int32(zero))
		x, dst = x[n:], dst[groupHead+n:]
	}
	return true
}

// powerOfTwo is 2^n, n from -126 to 127.
func powerOfTwo(n int) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// Decode reads values into dst from b, which has Size(len(dst)) bytes and is
// aligned as for Encode. Any bytes are values.
func (e Encoding) Decode(dst []float32, b []byte) { e.DecodeFrom(dst, b, 0) }

// DecodeFrom is Decode of some of the values, from number first on.
func (e Encoding) DecodeFrom(dst []float32, b []byte, first int) {
	switch e {
	case F16:
		factor := math.Float32frombits(binary.LittleEndian.Uint32(b))
		kernel.FromHalf(dst, tensor.View[uint16](b[halfHead:])[first:][:len(dst)], factor)
	case Int8:
		b = b[first/group*(groupHead+group):]
		for first %= group; len(dst) > 0; first = 0 {
			n := min(len(dst), group-first)
			scale := math.Float32frombits(binary.LittleEndian.Uint32(b))
			kernel.DequantizeBytes(dst[:n], kernel.Bytes{Data: b[groupHead+first:][:n], Zero: int32(b[4])}, scale)
			dst, b = dst[n:], b[min(groupHead+group, len(b)):]
		}
	default:
		copy(dst, tensor.View[float32](b)[first:])
	}
}
