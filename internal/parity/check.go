package parity

import (
	"fmt"
	"math"
)

// Syndrome fills dst with parity result p less the combination of the data
// results that it should be: zero but for rounding. Data results may be
// shorter than dst and then count as padded with zeros; none may overlap it.
//
// With u and γ as in the package comment, a data result is off by γ_K·T_i at
// most, the parity result by (γ_K(1+2u) + u(1+2^-20))·Σ|G[p,i]|·T_i, and the
// chain of k fused multiply-adds adds at most γ_k of all that it adds up, which
// is at most 2(1+γ_K)(1+2u)·Σ|G[p,i]|·T_i. So healthy results give
//
//	|syndrome| ≤ Tolerance(K) · Σ_i |G[p,i]|·T_i + Underflow(K, Σ|x|)
//
// as long as nothing overflows.
func (c Code) Syndrome(dst, result []float32, p int, data [][]float32) {
	if len(data) != c.k || p < 0 || p >= c.r {
		panic(fmt.Sprintf("parity: syndrome %d of %d results with k=%d r=%d", p, len(data), c.k, c.r))
	}
	copy(dst, result[:len(dst)])
	for i, d := range data {
		add(dst, d, -c.Coefficient(p, i))
	}
}

// Tolerance is the factor in Syndrome's bound for rows of that length.
func (c Code) Tolerance(cols int) float64 {
	gK := gamma(cols)
	return (gK*(2+2*u) + u*(1+1.0/(1<<20)) + 2*gamma(c.k)*(1+gK)*(1+2*u)) * (1 + 1.0/(1<<10))
}

// Underflow is what roundings of subnormal numbers add to Syndrome's bound, for rows
// of that length: each is off by 2^-150 at most, however small what it rounds (Higham,
// section 2.1). There are K in each data result, which takes part |G[p,i]| ≤ 2 times,
// K in the parity result and k in the chain. Each weight of the parity was rounded too:
// sum is at least that of all |x|, by which they are multiplied, or, where inputs are
// combined, of all |w|. The factor 2 is for the later roundings of such errors.
func (c Code) Underflow(cols int, sum float64) float64 {
	return 2 * 0x1p-150 * (float64(cols)*float64(2*c.k+1) + sum + float64(c.k))
}

// Check finds out from syndromes whether a result is wrong, and which one. It
// may be used again, and then allocates nothing.
type Check struct {
	Over [MaxParity]bool // by parity: a syndrome is beyond its tolerance

	k, r     int
	code     Code     // of float32
	integers Integers // or this one
	cleared  []bool   // by result: it alone does not explain the syndromes
}

// Begin forgets what was seen, for results of a code.
func (c *Check) Begin(code Code) {
	c.begin(code.k, code.r)
	c.code = code
}

// BeginIntegers is Begin for results over the integers.
func (c *Check) BeginIntegers(code Integers) {
	c.begin(code.k, code.r)
	c.integers = code
}

func (c *Check) begin(k, r int) {
	c.k, c.r, c.Over = k, r, [MaxParity]bool{}
	c.cleared = append(c.cleared[:0], make([]bool, k+r)...)
}

// See takes one element's syndromes and their tolerances, by parity. there says
// whether data result i has that element; it is padding in the others.
func (c *Check) See(syndrome, tolerance *[MaxParity]float64, there func(i int) bool) {
	wrong := false
	for p := range c.r {
		if !(math.Abs(syndrome[p]) <= tolerance[p]) { // not a number is wrong
			c.Over[p], wrong = true, true
		}
	}
	if !wrong {
		return
	}
	for i := range c.cleared {
		if !c.cleared[i] && (i < c.k && !there(i) || !c.explains(i, syndrome, tolerance)) {
			c.cleared[i] = true
		}
	}
}

// SeeIntegers is See over the integers, where every syndrome of right results is
// 0; narrow says that they have 32 bits.
func (c *Check) SeeIntegers(syndrome *[MaxParity]int64, narrow bool, there func(i int) bool) {
	wrong := false
	for p := range c.r {
		if syndrome[p] != 0 {
			c.Over[p], wrong = true, true
		}
	}
	if !wrong {
		return
	}
	for i := range c.cleared {
		if !c.cleared[i] && (i < c.k && !there(i) || !c.explainsInteger(i, syndrome, narrow)) {
			c.cleared[i] = true
		}
	}
}

// explainsInteger says whether the syndromes are as if only result i were wrong: an
// error e of data result i makes syndrome p −G[p,i]·e.
func (c *Check) explainsInteger(i int, syndrome *[MaxParity]int64, narrow bool) bool {
	for p := range c.r {
		want := int64(0)
		switch {
		case i == c.k+p:
			continue
		case i < c.k:
			if !narrow && (syndrome[0] > math.MaxUint32 || syndrome[0] < -math.MaxUint32) {
				return false // data results have 32 bits
			}
			want = c.integers.Coefficient(p, i) * syndrome[0]
			if narrow {
				want = int64(int32(want))
			}
		}
		if syndrome[p] != want {
			return false
		}
	}
	return true
}

// explains says whether the syndromes are as if only result i were wrong. An
// error e of data result i makes syndrome p −G[p,i]·e, and adds γ_k·|G[p,i]·e|
// to its rounding; G[0,i] is 1.
func (c *Check) explains(i int, syndrome, tolerance *[MaxParity]float64) bool {
	if math.IsInf(syndrome[0], 0) || syndrome[0] != syndrome[0] {
		return false // whichever result of the sum is not finite, it looks the same
	}
	for p := range c.r {
		switch {
		case i == c.k+p:
		case i >= c.k:
			if !(math.Abs(syndrome[p]) <= tolerance[p]) {
				return false
			}
		case p > 0:
			g := float64(c.code.Coefficient(p, i))
			slack := tolerance[p] + math.Abs(g)*(tolerance[0]+4*gamma(c.k+2)*math.Abs(syndrome[0]))
			if !(math.Abs(syndrome[p]-g*syndrome[0]) <= slack) {
				return false
			}
		}
	}
	return true
}

// Wrong says whether a result is wrong.
func (c *Check) Wrong() bool { return c.Over != [MaxParity]bool{} }

// Suspect is the one result that alone explains all that was seen, or false if
// none or several would.
func (c *Check) Suspect() (result int, ok bool) {
	result = -1
	for i, cleared := range c.cleared {
		switch {
		case cleared:
		case result >= 0:
			return 0, false
		default:
			result = i
		}
	}
	return result, result >= 0 && c.Wrong()
}
