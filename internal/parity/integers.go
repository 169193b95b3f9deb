package parity

import (
	"fmt"
	"math/bits"
)

// MaxIntegerParity is the most parity blocks of an Integers code.
const MaxIntegerParity = 3

// Integers is a code over the integers, for quantised layers: the results of
// int8 weights before bias and requantisation are whole numbers, and lost ones
// are recovered with the same bits. Parity block p is Σ_i (i+1)^p·W_i. It is
// immutable.
//
// All arithmetic wraps, modulo 2^w with w = 32 or 64 the width of a result, so
// only what is recovered has to fit, not the parity results. With r ≥ 2 no
// systematic code over the integers modulo 2^w recovers everything: its
// coefficients must be odd to be invertible, so 2×2 minors are even. But for
// lost columns C and their syndromes b = C·y, adj(C)·b = det(C)·y; with
// det(C) = q·2^v and q odd, multiplying by q⁻¹ mod 2^w leaves 2^v·y mod 2^w,
// and shifting it back by v is exact as long as |y| < 2^(w−1−v). Headroom is
// the largest v of any pattern. Every minor of rows of powers of distinct
// positive nodes is positive (a generalised Vandermonde matrix: Gantmacher,
// "The Theory of Matrices", chapter XIII), so no pattern is singular, lost
// parities included.
type Integers struct {
	k, r, headroom int
}

// NewIntegers returns the code for k data and r parity blocks; 0 ≤ r ≤
// MaxIntegerParity, and 1 ≤ k ≤ MaxData, or MaxCoded where r ≥ 2.
func NewIntegers(k, r int) (Integers, error) {
	most := MaxData
	if r > 1 {
		most = MaxCoded
	}
	switch {
	case r < 0 || r > MaxIntegerParity:
		return Integers{}, fmt.Errorf("an integer code has 0 to %d parity slices, not %d", MaxIntegerParity, r)
	case k < 1 || k > most:
		return Integers{}, fmt.Errorf("an integer code with %d parity slices has 1 to %d data slices, not %d", r, most, k)
	}
	c := Integers{k: k, r: r}
	for lost := range subsets(k, min(r, k)) {
		for used := range subsets(r, len(lost)) {
			if len(used) == len(lost) && len(lost) > 0 {
				m := c.minor(used, lost)
				c.headroom = max(c.headroom, bits.TrailingZeros64(uint64(m.determinant(len(lost)))))
			}
		}
	}
	return c, nil
}

// subsets yields the ascending subsets of 0 … n−1 of at most m ≤ 3 elements.
func subsets(n, m int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		var set [MaxIntegerParity]int
		var grow func(size, from int) bool
		grow = func(size, from int) bool {
			if !yield(set[:size]) {
				return false
			}
			for i := from; i < n && size < m; i++ {
				set[size] = i
				if !grow(size+1, i+1) {
					return false
				}
			}
			return true
		}
		grow(0, 0)
	}
}

// K is the number of data blocks.
func (c Integers) K() int { return c.k }

// R is the number of parity blocks.
func (c Integers) R() int { return c.r }

// N is k + r.
func (c Integers) N() int { return c.k + c.r }

// Coefficient is (i+1)^p, by which data block i takes part in parity block p.
func (c Integers) Coefficient(p, i int) int64 {
	out := int64(1)
	for range p {
		out *= int64(i + 1)
	}
	return out
}

// Headroom is v: results of w bits are recovered exactly if their magnitude is
// below 2^(w−1−v), whatever is lost.
func (c Integers) Headroom() int { return c.headroom }

// WeightBits is how many bits a weight of parity block p needs, sign included,
// if data weights are int8.
func (c Integers) WeightBits(p int) int {
	var sum int64
	for i := range c.k {
		sum += c.Coefficient(p, i)
	}
	return bits.Len64(uint64(128*sum-1)) + 1 // from −128·sum
}

// Encode fills dst with parity block p of int8 data blocks, each padded with
// zeros to len(dst). No block may be longer than dst.
func (c Integers) Encode(dst []int32, p int, data [][]int8) {
	if len(data) != c.k || p < 0 || p >= c.r {
		panic(fmt.Sprintf("parity: encode parity %d of %d blocks with k=%d r=%d", p, len(data), c.k, c.r))
	}
	clear(dst)
	for i, block := range data {
		g := int32(c.Coefficient(p, i)) // k^2·128·k < 2^31 for k ≤ 32
		for e, w := range block {
			dst[e] += g * int32(w)
		}
	}
}

// matrix is a square matrix of at most MaxIntegerParity rows.
type matrix [MaxIntegerParity][MaxIntegerParity]int64

// minor is the rows of parities used at the columns of data slices lost.
func (c Integers) minor(used, lost []int) (m matrix) {
	for a, p := range used {
		for b, i := range lost {
			m[a][b] = c.Coefficient(p, i)
		}
	}
	return m
}

// determinant of the first n rows and columns; below 2^31 for k ≤ 32.
func (m *matrix) determinant(n int) int64 {
	switch n {
	case 1:
		return m[0][0]
	case 2:
		return m[0][0]*m[1][1] - m[0][1]*m[1][0]
	}
	var det int64
	for j := range 3 {
		det += m[0][j] * m.cofactor(0, j, 3)
	}
	return det
}

// cofactor of row i and column j.
func (m *matrix) cofactor(i, j, n int) int64 {
	switch n {
	case 1:
		return 1
	case 2:
		return m[1-i][1-j] * int64(1-2*((i+j)%2))
	}
	// Taken cyclically, rows and columns bring the sign with them.
	a, b, x, y := (i+1)%3, (i+2)%3, (j+1)%3, (j+2)%3
	return m[a][x]*m[b][y] - m[a][y]*m[b][x]
}

// IntegerSolution says how lost data results follow from others. It may be used
// again, and then allocates nothing.
type IntegerSolution struct {
	Lost []int // data results to recover, ascending
	From []int // the k results that they follow from, ascending; ≥ k are parities

	k, shift int
	d        []int64 // [len(Lost),k], of From: gives 2^shift times the result
}

// Solve makes s recover every data result that is not there: have [n] says
// which are. The first parities that are there are used. The error wraps
// ErrTooFewSlices.
func (c Integers) Solve(s *IntegerSolution, have []bool) error {
	if len(have) != c.N() {
		panic(fmt.Sprintf("parity: solve for %d results with k=%d r=%d", len(have), c.k, c.r))
	}
	s.k, s.d = c.k, s.d[:0]
	var err error
	if s.Lost, s.From, err = choose(c.k, have, s.Lost[:0], s.From[:0]); err != nil {
		return err
	}
	m := len(s.Lost)
	if m == 0 {
		return nil
	}
	var used [MaxIntegerParity]int
	for i, u := range s.From[c.k-m:] {
		used[i] = u - c.k
	}
	minor := c.minor(used[:m], s.Lost)
	det := minor.determinant(m)
	s.shift = bits.TrailingZeros64(uint64(det))
	odd := inverse(det >> s.shift)
	for l := range m {
		for at, f := range s.From {
			var d int64
			if f >= c.k {
				d = minor.cofactor(at-(c.k-m), l, m)
			} else {
				for q := range m {
					d -= minor.cofactor(q, l, m) * c.Coefficient(used[q], f)
				}
			}
			s.d = append(s.d, d*odd)
		}
	}
	return nil
}

// inverse of an odd number modulo 2^64, by Newton's iteration: x is right in 3
// bits, and each step doubles them.
func inverse(q int64) int64 {
	x := q
	for range 5 {
		x *= 2 - q*x
	}
	return x
}

// RecoverIntegers fills dst[i] with the data result Lost[i], from the results
// From: every operand counts as padded with zeros, and no dst may overlap
// another slice. T is the width that the results were computed in, wrapping.
// What is recovered is exact if it is within Headroom, which the caller knows
// from the layer's weights and the range of its input.
func RecoverIntegers[T int32 | int64](s *IntegerSolution, dst, from [][]T) {
	if len(dst) != len(s.Lost) || len(from) != s.k {
		panic(fmt.Sprintf("parity: recover %d of %d results from %d with k=%d", len(dst), len(s.Lost), len(from), s.k))
	}
	for l, to := range dst {
		clear(to)
		for i, f := range from {
			n, d := min(len(to), len(f)), T(s.d[l*s.k+i])
			for e, v := range f[:n] {
				to[e] += d * v
			}
		}
		if s.shift > 0 {
			for e := range to {
				to[e] >>= s.shift
			}
		}
	}
}
