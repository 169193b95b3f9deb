package tensor

import "math"

// FromFloat16 is the value of a float16 (IEEE 754 §3.6, binary16).
func FromFloat16(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)/(1<<24)))
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// ToFloat16 rounds to the nearest float16, to even.
func ToFloat16(v float64) uint16 {
	sign := uint16(math.Float64bits(v) >> 63 << 15)
	a := math.Abs(v)
	switch {
	case v != v:
		return sign | 0x7e00
	case a == 0:
		return sign
	case a >= 65520: // halfway from the largest, 65504, to 2¹⁶
		return sign | 0x7c00
	}
	// A unit in the last place is 2^(e−10), for subnormal numbers 2⁻²⁴.
	_, e := math.Frexp(a)
	e = max(e-1, -14)
	steps := uint16(math.RoundToEven(math.Ldexp(a, 10-e))) // with the leading 1
	return sign | (uint16(e+14)<<10 + steps)
}

// FromBFloat16 is the value of a bfloat16, the upper half of a float32.
func FromBFloat16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBFloat16 rounds to the nearest bfloat16, to even.
func ToBFloat16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 1<<6
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
