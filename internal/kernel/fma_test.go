package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exactFMA rounds a·b + c once, by arithmetic wide enough for every float32.
func exactFMA(a, b, c float32) float32 {
	for _, v := range []float32{a, b, c} {
		if v != v || math.IsInf(float64(v), 0) {
			return float32(float64(a)*float64(b) + float64(c))
		}
	}
	wide := func(v float32) *big.Float { return new(big.Float).SetPrec(700).SetFloat64(float64(v)) }
	sum := wide(a)
	sum.Mul(sum, wide(b)).Add(sum, wide(c))
	if sum.Sign() == 0 {
		return float32(float64(a)*float64(b) + float64(c)) // exact; the sign of zero is IEEE's
	}
	v, _ := sum.Float32()
	return v
}

// hard returns a float32 whose significand has few ones, at an exponent near
// others, so that sums of products often fall on or beside a midpoint.
func hard(r *rand.Rand, exponent int) float32 {
	significand := uint32(1)<<23 | 1<<r.IntN(24)
	switch r.IntN(6) {
	case 0:
		significand |= uint32(r.IntN(4))
	case 1:
		significand = 1<<24 - 1 - uint32(r.IntN(3))
	}
	v := math.Ldexp(float64(significand), exponent-23)
	if r.IntN(2) == 0 {
		v = -v
	}
	return float32(v)
}

func TestFMA(t *testing.T) {
	r := newRand(t)
	check := func(a, b, c float32) {
		t.Helper()
		if got, want := fma32(a, b, c), exactFMA(a, b, c); !sameBits(got, want) {
			t.Fatalf("fma(%x, %x, %x) is %x, want %x", a, b, c, got, want)
		}
		if got, want := softFMA(a, b, c), exactFMA(a, b, c); !sameBits(got, want) {
			t.Fatalf("in float64: fma(%x, %x, %x) is %x, want %x", a, b, c, got, want)
		}
		if got, want := softFMAOdd(a, b, c), exactFMA(a, b, c); !sameBits(got, want) {
			t.Fatalf("by rounding to odd: fma(%x, %x, %x) is %x, want %x", a, b, c, got, want)
		}
	}
	n := 300_000
	if testing.Short() {
		n = 20_000
	}
	for range n {
		check(math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()))
		ea, eb := r.IntN(40)-20, r.IntN(40)-20
		check(hard(r, ea), hard(r, eb), hard(r, ea+eb+r.IntN(120)-60))
		// Results around and below the smallest normal number.
		e := r.IntN(30) - 150
		check(hard(r, e/2), hard(r, e-e/2), hard(r, e+r.IntN(30)))
		// Around the greatest.
		check(hard(r, 64), hard(r, 63), hard(r, 100+r.IntN(28)))
	}
	special := []float32{
		0, float32(math.Copysign(0, -1)), 1, -1, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 0x1p-126, 0x1.fffffcp-127,
		math.MaxFloat32, -math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 0.5, 0x1p-75, 0x1.000002p0, 0x1p-24,
	}
	for _, a := range special {
		for _, b := range special {
			for _, c := range special {
				check(a, b, c)
			}
		}
	}
}

// TestFMARoundsOnce holds cases in which rounding to float64 first goes wrong,
// so that the test above cannot be satisfied by chance.
func TestFMARoundsOnce(t *testing.T) {
	for name, v := range map[string][3]float32{
		"just above a midpoint": {0x1p-30, 0x1p-30, 0x1p0},
		"midpoint plus dust":    {0x1.000002p0, 0x1.8p-24, 0x1p-24},
	} {
		if got, want := fma32(v[0], v[1], v[2]), exactFMA(v[0], v[1], v[2]); got != want {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
	// 1 + 2⁻²⁴ + 2⁻⁶⁰ lies above the midpoint of 1 and its successor; in float64
	// it is the midpoint. a·b = 2⁻²⁴·(1 + 2⁻¹²)·(1 - 2⁻¹² + 2⁻²⁴)= 2⁻²⁴·(1 + 2⁻³⁶).
	// From a map, since a compiler folds constants without fusing.
	var a, b float32
	for v := range map[[2]float32]bool{{0x1p-24 * (1 + 0x1p-12), 1 - 0x1p-12 + 0x1p-24}: true} {
		a, b = v[0], v[1]
	}
	twice := float32(float64(a)*float64(b) + 1)
	if got := fma32(a, b, 1); got != 0x1.000002p0 || twice != 1 {
		t.Errorf("once %x, twice %x; want 0x1.000002p+00 and 0x1p+00", got, twice)
	}
}
