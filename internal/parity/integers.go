package parity

import (
	"fmt"
	"math/bits"

	"starling/internal/kernel"
)

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

// NewIntegers returns the code for k data and r parity blocks, with the limits of
// [New].
func NewIntegers(k, r int) (Integers, error) {
	if err := checkSize(k, r); err != nil {
		return Integers{}, err
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

// subsets yields the ascending subsets of 0 … n−1 of at most m ≤ 4 elements.
func subsets(n, m int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		var set [MaxParity]int
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

// Most is the largest magnitude that a number of parity block p can have, if those
// of data blocks have at most that one: for bytes below 2^31.
func (c Integers) Most(p, data int) int64 {
	var sum int64
	for i := range c.k {
		sum += c.Coefficient(p, i)
	}
	return sum * int64(data)
}

// Encode fills dst with parity block p of data blocks, each padded with zeros to
// len(dst). No block may be longer than dst.
func (c Integers) Encode(dst []int32, p int, data [][]int32) {
	if len(data) != c.k || p < 0 || p >= c.r {
		panic(fmt.Sprintf("parity: encode parity %d of %d blocks with k=%d r=%d", p, len(data), c.k, c.r))
	}
	clear(dst)
	for i, block := range data {
		kernel.AddScaledInt32(dst[:len(block)], block, int32(c.Coefficient(p, i)))
	}
}

// matrix is a square matrix of at most MaxParity rows.
type matrix [MaxParity][MaxParity]int64

// minor is the rows of parities used at the columns of data slices lost.
func (c Integers) minor(used, lost []int) (m matrix) {
	for a, p := range used {
		for b, i := range lost {
			m[a][b] = c.Coefficient(p, i)
		}
	}
	return m
}

// determinant of the first n rows and columns; below 2^45 for k ≤ 32.
func (m *matrix) determinant(n int) int64 {
	if n == 1 {
		return m[0][0]
	}
	var det int64
	for j := range n {
		det += m[0][j] * m.cofactor(0, j, n)
	}
	return det
}

// cofactor of row i and column j.
func (m *matrix) cofactor(i, j, n int) int64 {
	if n == 1 {
		return 1
	}
	var rest matrix
	for a := range n - 1 {
		for b := range n - 1 {
			rest[a][b] = m[a+below(a >= i)][b+below(b >= j)]
		}
	}
	return rest.determinant(n-1) * int64(1-2*((i+j)%2))
}

func below(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// IntegerSolution says how lost data results follow from others. It may be used
// again, and then allocates nothing.
type IntegerSolution struct {
	Lost []int // data results to recover, ascending
	From []int // the k results that they follow from, ascending; ≥ k are parities

	k, shift int
	d        []int64      // [len(Lost),k], of From: gives 2^shift times the result
	sums     [piece]int64 // scratch
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
	var used [MaxParity]int
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

// Sums are the results of a block of integers, of the width in which they were
// added up, wrapping: one of the two is set.
type Sums struct {
	Narrow []int32
	Wide   []int64
}

// Recover fills dst[i] with the data result Lost[i], from the results From: every
// operand counts as padded with zeros, and no dst may overlap another slice. If one
// of them is Wide, narrow ones must be exact, not wrapped. What is recovered is
// exact if it is within Headroom of the width, which the caller knows from the
// layer's weights and the range of its input; it is wrapped to 32 bits.
func (s *IntegerSolution) Recover(dst [][]int32, from []Sums) {
	if len(dst) != len(s.Lost) || len(from) != s.k {
		panic(fmt.Sprintf("parity: recover %d of %d results from %d with k=%d", len(dst), len(s.Lost), len(from), s.k))
	}
	wide := false
	for _, f := range from {
		wide = wide || f.Wide != nil
	}
	for l, to := range dst {
		d := s.d[l*s.k : (l+1)*s.k]
		for lo := 0; lo < len(to); lo += piece {
			if wide {
				s.recoverWide(to[lo:min(lo+piece, len(to))], from, d, lo)
			} else {
				s.recoverNarrow(to[lo:min(lo+piece, len(to))], from, d, lo)
			}
		}
	}
}

// recoverNarrow recovers the elements of a result from lo on, with coefficients d.
func (s *IntegerSolution) recoverNarrow(to []int32, from []Sums, d []int64, lo int) {
	clear(to)
	for i, f := range from {
		x := part(f.Narrow, lo, len(to))
		kernel.AddScaledInt32(to[:len(x)], x, int32(d[i]))
	}
	if shift := s.shift & 31; shift > 0 { // masked, the loop needs no checks
		for e, v := range to {
			to[e] = v >> shift
		}
	}
}

// recoverWide is recoverNarrow of sums of 64 bits.
func (s *IntegerSolution) recoverWide(to []int32, from []Sums, d []int64, lo int) {
	sums := s.sums[:len(to)]
	clear(sums)
	for i, f := range from {
		addWide(sums, part(f.Narrow, lo, len(to)), d[i])
		addWide(sums, part(f.Wide, lo, len(to)), d[i])
	}
	shift := s.shift & 63
	for e, v := range sums {
		to[e] = int32(v >> shift)
	}
}

// addWide is sums += d·x for as long as x is.
func addWide[T int32 | int64](sums []int64, x []T, d int64) {
	sums = sums[:len(x)]
	for e, v := range x {
		sums[e] += d * int64(v)
	}
}

// Syndrome fills dst with parity result p less the combination of the data results
// that it should be, in the width of that result: zero, if all are right. Data
// results may be shorter than dst and then count as padded with zeros.
func (c Integers) Syndrome(dst []int64, result Sums, p int, data [][]int32) {
	if len(data) != c.k || p < 0 || p >= c.r {
		panic(fmt.Sprintf("parity: syndrome %d of %d results with k=%d r=%d", p, len(data), c.k, c.r))
	}
	for e, v := range part(result.Narrow, 0, len(dst)) {
		dst[e] = int64(v)
	}
	copy(dst, result.Wide)
	for i, y := range data {
		g := c.Coefficient(p, i)
		for e, v := range y {
			dst[e] -= g * int64(v)
		}
	}
	if result.Wide == nil {
		for e, v := range dst {
			dst[e] = int64(int32(v))
		}
	}
}
