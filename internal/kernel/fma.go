package kernel

import "math"

// softFMA is fma32 in float64 arithmetic, for CPUs that have no fused
// multiply-add of float32 that Go would use. The product of two float32 is exact in float64, so
// only the sum s rounds before the conversion does. Rounding twice differs from
// rounding once only if s lies on a midpoint of float32, that is if the 29
// bits that the conversion drops are 100…0, or where float32 is subnormal and
// drops more bits.
func softFMA(a, b, c float32) float32 {
	s := float64(float64(a)*float64(b)) + float64(c)
	bits := math.Float64bits(s)
	if bits&(1<<29-1) != 1<<28 && bits>>52&0x7ff > 1023-127 {
		return float32(s)
	}
	return softFMAOdd(a, b, c)
}

// softFMAOdd is softFMA for all values: the sum is rounded to odd, which keeps in
// its last bit that something was cut off, so that the conversion rounds as if
// from the exact value (Boldo and Melquiond, "Emulation of FMA and correctly
// rounded sums: proved algorithms using rounding to odd", IEEE TC 57(4), 2008).
func softFMAOdd(a, b, c float32) float32 {
	p, d := float64(float64(a)*float64(b)), float64(c)
	s := p + d
	if math.IsInf(s, 0) || s != s {
		return float32(s)
	}
	// The error of the sum, exactly (Knuth, TAOCP 2, 4.2.2, theorem B).
	t := s - p
	e := (p - (s - t)) + (d - t)
	bits := math.Float64bits(s)
	if e != 0 && bits&1 == 0 {
		if (e > 0) == (s > 0) {
			bits++
		} else {
			bits--
		}
	}
	return float32(math.Float64frombits(bits))
}
