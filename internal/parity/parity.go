// Package parity is the coding theory: systematic linear codes over blocks of
// float32. k data blocks W_0 … W_{k-1} are kept as they are, and each of r
// parity blocks is a linear combination of them. Because a layer is linear,
// the result of a parity block, W_p·x, is the same combination of the data
// results, so a lost data result follows from the others without any weights.
//
// Built now: r ≤ 1 with all coefficients 1, so W_p = W_0 + … + W_{k-1} and a
// lost result is a_j = a_p − Σ_{i≠j} a_i ("Creating Robust Deep Neural
// Networks With Coded Distributed Computing for IoT", arXiv 2104.04447,
// section on CDC). The package knows neither layers nor devices.
//
// # The rounding bound of a decoded result
//
// Notation: u = 2^-24, γ_m = m·u/(1−m·u) (Higham, "Accuracy and Stability of
// Numerical Algorithms", lemma 3.1), K the length of a row, x the layer's
// input, and for one output row of the group S = Σ_i |W_i|·|x|, the sum of
// the absolute products over all k data slices.
//
//   - A result is a sum of K products with at most K roundings, so a data
//     result differs from the exact W_i·x by at most γ_K·|W_i|·|x|.
//   - Encode adds in float64 and rounds once, so each parity weight is off by
//     at most u·(1+2^-20)·Σ|W_i| (the float64 part is below 2^-20·u for
//     k ≤ 2^8), which changes a_p by at most u·(1+2^-20)·S. Its own dot
//     product adds γ_K·(1+2u)·S.
//   - Recover subtracts k−1 results in float32. Its operands are at most
//     (1+2u)(1+γ_K)·S for a_p and (1+γ_K)·S for the others together, so it
//     adds at most γ_{k−1}·2·(1+2u)(1+γ_K)·S.
//
// The k−1 subtracted results and the directly computed a_j, with which the
// decoded one is compared, together bring γ_K·S once more. In all
//
//	|decoded − computed| ≤ (2·γ_K + 2·γ_{k−1} + u)·(1+2^-10)·S
//
// as long as nothing overflows float32, which Recover reports, and
// for K ≤ 2^13 (where (1+2u)(1+γ_K) ≤ 1+2^-10); Bound evaluates the sum
// without that restriction.
package parity

import (
	"errors"
	"fmt"
	"math"

	"starling/internal/kernel"
)

// MaxData is the largest number of data slices of a code.
const MaxData = 256

// ErrTooFewSlices says that fewer than k of the n results are there, so that
// the code cannot give the missing ones.
var ErrTooFewSlices = errors.New("too few slices to decode")

// Code is a code with k data and r parity blocks. It is immutable.
type Code struct {
	k, r int
}

// New returns the code for k data and r parity blocks; 1 ≤ k ≤ MaxData and
// 0 ≤ r ≤ 1.
func New(k, r int) (Code, error) {
	switch {
	case k < 1 || k > MaxData:
		return Code{}, fmt.Errorf("a code needs 1 to %d data slices, not %d", MaxData, k)
	case r < 0 || r > 1:
		return Code{}, fmt.Errorf("a code has 0 or 1 parity slices, not %d", r)
	}
	return Code{k: k, r: r}, nil
}

// K is the number of data blocks.
func (c Code) K() int { return c.k }

// R is the number of parity blocks.
func (c Code) R() int { return c.r }

// N is k + r.
func (c Code) N() int { return c.k + c.r }

// Encode fills dst with the parity block: the sum of the k data blocks, each
// padded with zeros to len(dst). It adds in float64 and rounds once. No block
// may be longer than dst, and none may overlap it.
func (c Code) Encode(dst []float32, data [][]float32) {
	if len(data) != c.k || c.r == 0 {
		panic(fmt.Sprintf("parity: encode %d blocks with k=%d r=%d", len(data), c.k, c.r))
	}
	var sum [512]float64
	for lo := 0; lo < len(dst); lo += len(sum) {
		out := dst[lo:min(lo+len(sum), len(dst))]
		acc := sum[:len(out)]
		clear(acc)
		for _, block := range data {
			if lo >= len(block) {
				continue
			}
			for i, v := range block[lo:min(lo+len(acc), len(block))] {
				acc[i] += float64(v)
			}
		}
		for i, v := range acc {
			out[i] = float32(v)
		}
	}
}

// Recover fills dst with the one missing data result: parity − Σ others,
// where every operand counts as padded with zeros; len(dst) ≤ len(parity).
// others are the results of the k−1 data blocks that arrived. dst must not
// overlap them. Nothing is allocated. It is false if a value of dst is not
// finite: an operand or a difference has overflowed, the bound does not hold,
// and dst is not to be used.
func (c Code) Recover(dst, parity []float32, others [][]float32) bool {
	if c.r == 0 || len(others) != c.k-1 {
		panic(fmt.Sprintf("parity: recover from %d results with k=%d r=%d", len(others), c.k, c.r))
	}
	copy(dst, parity[:len(dst)])
	for _, o := range others {
		n := min(len(o), len(dst))
		kernel.Sub(dst[:n], o[:n])
	}
	return Finite(dst)
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

// Bound is the most by which a decoded output may differ from the computed
// one: k data slices, rows of length cols, and sumAbs the row's Σ_i |W_i|·|x|
// over the data slices. The derivation is in the package comment.
func Bound(k, cols int, sumAbs float64) float64 {
	const u = 1.0 / (1 << 24)
	gamma := func(m int) float64 { return float64(m) * u / (1 - float64(m)*u) }
	gK, gk := gamma(cols), gamma(k-1)
	encode := u * (1 + 1.0/(1<<20))
	return (encode + gK*(1+2*u) + gK + 2*gk*(1+2*u)*(1+gK)) * sumAbs
}
