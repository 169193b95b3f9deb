// Package parity is the coding theory: systematic linear codes over blocks. k
// data blocks W_0 … W_{k-1} are kept as they are, and each of r parity blocks is
// a linear combination of them, W_{k+p} = Σ_i G[p,i]·W_i. Because a layer is
// linear, the result of a parity block, W_{k+p}·x, is the same combination of
// the data results, so lost data results follow from others without any
// weights ("Creating Robust Deep Neural Networks With Coded Distributed
// Computing for IoT", arXiv 2104.04447, section on CDC). The package knows
// neither layers nor devices.
//
// Code is for float32: any k of the n = k + r results give the others, up to
// rounding. The first row of G is all ones, so that one lost result is a plain
// subtraction, a_j = a_k − Σ_{i≠j} a_i; the other rows were found by a search
// (_gen) that makes the worst condition number over all erasure patterns
// small: docs/parity.md has them. Integers is for int32 results of quantised
// layers, and exact.
//
// # The rounding bound of a decoded result
//
// Notation: u = 2^-24, γ_m = m·u/(1−m·u) (Higham, "Accuracy and Stability of
// Numerical Algorithms", lemma 3.1), K the length of a row, x the layer's
// input, T_i = |W_i|·|x| for one output row of data slice i, the sum of the
// absolute products. A lost result l is the combination Σ_s d_s·a_s of k
// results that are there; d is D's row l, found by solving in float64 and
// rounded to float32.
//
//   - A result is a sum of K products with at most K roundings, so a data
//     result is off by at most γ_K·T_i.
//   - Encode adds in float64, where a product with a coefficient is exact, and
//     rounds once, so each parity weight is off by at most
//     u·(1+2^-20)·Σ|G[p,i]||W_i|, which changes a_{k+p} by at most
//     u·(1+2^-20)·Σ|G[p,i]|·T_i. Its own dot product adds γ_K·(1+2u) times
//     that sum. Where inputs are combined instead of weights, the same holds
//     with x_i in the place of W_i.
//   - Recover is a chain of k fused multiply-adds with coefficients off by at
//     most u(1+2^-10) each: γ_k + u(1+2^-10) + O(u²), of Σ|d_s||a_s|.
//
// With A_i = |d_i| + Σ_p |d_{k+p}|·|G[p,i]|, where d is zero for results that
// are not used, and with γ_K·T_l for the directly computed result with which
// the decoded one is compared,
//
//	|decoded − computed| ≤ (γ_K + γ_k + 2u)·(1+2^-9)·Σ_i A_i·T_i + γ_K·T_l
//
// as long as nothing overflows float32, which Recover reports, or becomes
// subnormal, and for K ≤ 2^13 (where the products of small terms stay below the
// factor); Solution.Bound evaluates the sum without that last restriction. With
// one loss and the first parity, A_l = 1 and every other A_i = 2.
package parity

import (
	"errors"
	"fmt"
	"math"

	"starling/internal/kernel"
)

//go:generate go -C _gen run . -out ..

// Limits of a code.
const (
	MaxData   = 256 // k, with r ≤ 1
	MaxCoded  = 32  // k, with r ≥ 2
	MaxParity = 4   // r
)

// coefficientUnit is the number of steps from 0 to 1 in the table.
const coefficientUnit = 64

// ErrTooFewSlices says that fewer than k of the n results are there, so that
// the code cannot give the missing ones.
var ErrTooFewSlices = errors.New("too few slices to decode")

// Code is a code with k data and r parity blocks of float32. It is immutable.
type Code struct {
	k, r int
	g    []float32 // [r,k]
}

// New returns the code for k data and r parity blocks; 0 ≤ r ≤ MaxParity, and
// 1 ≤ k ≤ MaxData, or MaxCoded where r ≥ 2.
func New(k, r int) (Code, error) {
	if err := checkSize(k, r); err != nil {
		return Code{}, err
	}
	c := Code{k: k, r: r, g: make([]float32, r*k)}
	for i := range c.g {
		c.g[i] = 1
		if i >= k {
			c.g[i] = float32(coefficients[r][k][i-k]) / coefficientUnit
		}
	}
	return c, nil
}

// checkSize says whether there are codes for k data and r parity blocks.
func checkSize(k, r int) error {
	most := MaxData
	if r > 1 {
		most = MaxCoded
	}
	switch {
	case r < 0 || r > MaxParity:
		return fmt.Errorf("a code has 0 to %d parity slices, not %d", MaxParity, r)
	case k < 1 || k > most:
		return fmt.Errorf("a code with %d parity slices has 1 to %d data slices, not %d", r, most, k)
	}
	return nil
}

// K is the number of data blocks.
func (c Code) K() int { return c.k }

// R is the number of parity blocks.
func (c Code) R() int { return c.r }

// N is k + r.
func (c Code) N() int { return c.k + c.r }

// Coefficient is G[p,i], by which data block i takes part in parity block p.
func (c Code) Coefficient(p, i int) float32 { return c.g[p*c.k+i] }

// Encode fills dst with parity block p, counted from 0: the combination of the
// k data blocks, each padded with zeros to len(dst). It adds in float64 and
// rounds once. No block may be longer than dst, and none may overlap it.
func (c Code) Encode(dst []float32, p int, data [][]float32) {
	if len(data) != c.k || p < 0 || p >= c.r {
		panic(fmt.Sprintf("parity: encode parity %d of %d blocks with k=%d r=%d", p, len(data), c.k, c.r))
	}
	var sum [512]float64
	for lo := 0; lo < len(dst); lo += len(sum) {
		out := dst[lo:min(lo+len(sum), len(dst))]
		acc := sum[:len(out)]
		clear(acc)
		for b, block := range data {
			if lo >= len(block) {
				continue
			}
			g := float64(c.Coefficient(p, b))
			for i, v := range block[lo:min(lo+len(acc), len(block))] {
				acc[i] += g * float64(v) // exact before the sum, so fused or not is the same
			}
		}
		for i, v := range acc {
			out[i] = float32(v)
		}
	}
}

// Solution says how lost data results follow from others. It may be used
// again, and then allocates nothing.
type Solution struct {
	Lost []int // data results to recover, ascending
	From []int // the k results that they follow from, ascending; ≥ k are parities

	code Code
	d    []float32      // [len(Lost),k]: of From
	odd  [piece]float32 // zeros, NaN where Recover saw a value that is not finite
}

// piece is how many elements of each operand Recover takes at a time, so that
// what is added up stays in the nearest cache.
const piece = 1024

// Solve makes s recover every data result that is not there: have [n] says
// which are. The first parities that are there are used. The error wraps
// ErrTooFewSlices.
func (c Code) Solve(s *Solution, have []bool) error {
	if len(have) != c.N() {
		panic(fmt.Sprintf("parity: solve for %d results with k=%d r=%d", len(have), c.k, c.r))
	}
	s.code = c
	var err error
	if s.Lost, s.From, err = choose(c.k, have, s.Lost[:0], s.From[:0]); err != nil {
		return err
	}
	m := len(s.Lost)
	// C holds the lost columns of the used parity rows; [C | 1] → [1 | C⁻¹].
	var a [MaxParity][2 * MaxParity]float64
	used := s.From[c.k-m:]
	for i, p := range used {
		for j, l := range s.Lost {
			a[i][j] = float64(c.Coefficient(p-c.k, l))
		}
		a[i][m+i] = 1
	}
	eliminate(a[:m], 2*m)
	s.d = s.d[:0]
	for i := range m {
		inverse := a[i][m : 2*m]
		for at, f := range s.From {
			var d float64
			if f >= c.k {
				d = inverse[at-(c.k-m)]
			} else {
				for q, p := range used {
					d -= float64(inverse[q] * float64(c.Coefficient(p-c.k, f)))
				}
			}
			s.d = append(s.d, float32(d))
		}
	}
	return nil
}

// choose appends the data results that are not there to lost, and the first k
// results that are there to from: so every data result that is there, then
// parities.
func choose(k int, have []bool, lost, from []int) ([]int, []int, error) {
	for i, there := range have {
		switch {
		case there && len(from) < k:
			from = append(from, i)
		case !there && i < k:
			lost = append(lost, i)
		}
	}
	if len(from) < k {
		return lost, from, fmt.Errorf("%w: %d of %d are there, %d are needed", ErrTooFewSlices, len(from), len(have), k)
	}
	return lost, from, nil
}

// eliminate is Gauss-Jordan elimination with partial pivoting of the first
// len(a) columns of n.
func eliminate(a [][2 * MaxParity]float64, n int) {
	for col := range a {
		p := col
		for i := col + 1; i < len(a); i++ {
			if math.Abs(a[i][col]) > math.Abs(a[p][col]) {
				p = i
			}
		}
		a[p], a[col] = a[col], a[p]
		inverse := 1 / a[col][col]
		for j := range n {
			a[col][j] *= inverse
		}
		for i := range a {
			if f := a[i][col]; i != col && f != 0 {
				for j := range n {
					a[i][j] -= float64(f * a[col][j])
				}
			}
		}
	}
}

// Recover fills dst[i] with the data result Lost[i], from the results From:
// every operand counts as padded with zeros. No dst may overlap another slice.
// It is false if a value of dst is not finite: an operand or a sum has
// overflowed, the bound does not hold, and dst is not to be used.
func (s *Solution) Recover(dst, from [][]float32) bool {
	k := s.code.k
	if len(dst) != len(s.Lost) || len(from) != k {
		panic(fmt.Sprintf("parity: recover %d of %d results from %d with k=%d", len(dst), len(s.Lost), len(from), k))
	}
	longest := 0
	for _, d := range dst {
		longest = max(longest, len(d))
	}
	clear(s.odd[:])
	for lo := 0; lo < longest; lo += piece {
		for _, d := range dst {
			clear(part(d, lo, piece))
		}
		for i, f := range from {
			x := part(f, lo, piece)
			for l, d := range dst {
				add(part(d, lo, piece), x, s.d[l*k+i])
			}
		}
		for _, d := range dst {
			add(s.odd[:], part(d, lo, piece), 0) // 0·x is 0, but NaN if x is not finite
		}
	}
	return Finite(s.odd[:min(piece, longest)])
}

// part is x[lo:lo+n], as far as there is such.
func part[T any](x []T, lo, n int) []T {
	return x[min(lo, len(x)):min(lo+n, len(x))]
}

// add is dst += c·x for as long as both are.
func add(dst, x []float32, c float32) {
	n := min(len(dst), len(x))
	if c == -1 {
		kernel.Sub(dst[:n], x[:n]) // the same bits, faster on some CPUs
	} else {
		kernel.AddScaled(dst[:n], x[:n], c)
	}
}

// Finite reports whether no value is infinite or NaN.
func Finite(x []float32) bool {
	// The exponent of such a value is all ones: adding one to it carries into
	// the sign, which was cleared.
	var carry uint32
	for _, v := range x {
		carry |= math.Float32bits(v)&^(1<<31) + 1<<23
	}
	return carry>>31 == 0
}

const u = 1.0 / (1 << 24) // the unit roundoff of float32

func gamma(m int) float64 { return float64(m) * u / (1 - float64(m)*u) }

// Bound is the most by which the decoded data result Lost[i] may differ from
// the computed one, for an output row: cols is the length of its weights, and
// sumAbs [k] has |W_j|·|x| for that row of every data slice j. The derivation
// is in the package comment.
func (s *Solution) Bound(i, cols int, sumAbs []float64) float64 {
	k, gK := s.code.k, gamma(cols)
	var sum float64
	for at, f := range s.From {
		d := math.Abs(float64(s.d[i*k+at]))
		if f < k {
			sum += d * sumAbs[f]
			continue
		}
		for j, t := range sumAbs {
			sum += d * math.Abs(float64(s.code.Coefficient(f-k, j))) * t
		}
	}
	results := gK*(1+2*u) + u*(1+1.0/(1<<20))
	chain := (u*(1+1.0/(1<<10)) + gamma(k) + u*gamma(k)) * (1 + gK) * (1 + 2*u)
	return (results+chain)*(1+1.0/(1<<10))*sum + gK*sumAbs[s.Lost[i]]
}
