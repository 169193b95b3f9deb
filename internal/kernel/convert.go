package kernel

import (
	"math"

	"starling/internal/tensor"
)

// ToHalf is dst = x·scale as IEEE 754 binary16, rounded once to the nearest, to
// even, where scale is a power of two; beyond 65504 it is infinite. dst and x
// have the same length.
func ToHalf(dst []uint16, x []float32, scale float32) {
	need("dst", len(dst), len(x))
	toHalf(dst, x, scale)
}

// FromHalf is dst = h·scale, h as IEEE 754 binary16. dst and h have the same
// length.
func FromHalf(dst []float32, h []uint16, scale float32) {
	need("dst", len(dst), len(h))
	fromHalf(dst, h, scale)
}

// Magnitude is the largest |x|: infinite if x has an infinity and NaN if it has
// a NaN; 0 if x is empty.
func Magnitude(x []float32) float32 {
	_, most := magnitudes(x)
	return math.Float32frombits(most)
}

// Extremes are the least and the greatest of x and zero; the sign of a zero is
// undefined. x has no NaN.
func Extremes(x []float32) (least, most float32) { return extremes(x) }

func toHalfPortable(dst []uint16, x []float32, scale float32) {
	for i, v := range x {
		dst[i] = halfOf(v * scale)
	}
}

// halfOf rounds to the nearest, to even.
func halfOf(v float32) uint16 {
	b := math.Float32bits(v)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0xff<<23: // NaN
		return sign | 0x7e00 | uint16(b>>13)&0x3ff
	case b >= (127+16)<<23:
		return sign | 0x7c00
	case b < (127-14)<<23:
		// Subnormal: a step is 2⁻²⁴, as that of float32 from 0.5 on.
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5))
	}
	b += 0xfff + b>>13&1 // a carry goes on into the exponent
	return sign | uint16((b-(127-15)<<23)>>13)
}

func fromHalfPortable(dst []float32, h []uint16, scale float32) {
	for i, v := range h {
		dst[i] = tensor.FromFloat16(v) * scale
	}
}

func extremesPortable(x []float32) (least, most float32) {
	for _, v := range x {
		least, most = min(least, v), max(most, v)
	}
	return least, most
}
