//go:build !noasm

package kernel

import (
	"slices"
	"testing"

	"golang.org/x/sys/cpu"
)

// TestNEONLeavesSubnormals sees for every routine in NEON that it does all of an
// ordinary input, and that it stops at a subnormal operand or result wherever it
// is, with what it left unchanged.
func TestNEONLeavesSubnormals(t *testing.T) {
	if !cpu.ARM.HasNEON || !cpu.ARM.HasVFPv4 {
		t.Skip("needs a CPU with NEON and VFPv4")
	}
	if !hasNEON {
		t.Fatal("this CPU does not say what its NEON flushes")
	}
	r := newRand(t)
	tileM, tileN := tiles6x16.m, tiles6x16.n
	const k, n = 48, 3 * neonBlock
	for _, f := range []struct {
		name     string
		operands [2]int // lengths
		dst      int
		want     int // what is returned for all
		run      func(dst, a, b []float32) int
	}{
		{"gemm", [2]int{3 * tileM * k, k * tileN}, 3 * tileM * tileN, 3, func(dst, a, b []float32) int {
			return gemmHalvesNEON(&dst[0], tileN, &a[0], &b[0], k, 3, 0)
		}},
		{"gemv", [2]int{2 * k, k}, 2 * 16, 1, func(dst, a, b []float32) int {
			return gemvTwoNEON(&dst[0], &a[0], &b[0], k/16, k)
		}},
		{"depthwise", [2]int{3, 32}, 30, 1, func(dst, a, b []float32) int {
			return depthwiseRowNEON(&dst[0], &b[0], &a[0], &[]int{0, 1, 2}[0], 3, 30)
		}},
		{"sub", [2]int{n, n}, n, n, func(dst, a, b []float32) int {
			copy(dst, a)
			return vecSubNEON(&dst[0], &b[0], n)
		}},
		{"add", [2]int{n, n}, n, n, func(dst, a, b []float32) int { return vecAddNEON(&dst[0], &a[0], &b[0], n) }},
		{"mul", [2]int{n, n}, n, n, func(dst, a, b []float32) int { return vecMulNEON(&dst[0], &a[0], &b[0], n) }},
		{"max", [2]int{n, n}, n, n, func(dst, a, b []float32) int { return vecMaxNEON(&dst[0], &a[0], &b[0], n) }},
		{"clamp", [2]int{n, 1}, n, n, func(dst, a, b []float32) int { return vecClampNEON(&dst[0], &a[0], n, b[0], 0.5) }},
		{"bias and clamp", [2]int{n, 1}, n, n, func(dst, a, b []float32) int {
			copy(dst, a)
			return vecBiasClampNEON(&dst[0], n, b[0], -0.5, 0.5)
		}},
	} {
		operands := [][]float32{uniform(r, f.operands[0]), uniform(r, f.operands[1])}
		check := func(what string, all bool) {
			t.Helper()
			dst := make([]float32, f.dst)
			done := f.run(dst, operands[0], operands[1])
			if (done == f.want) != all {
				t.Errorf("%s: did %d of %d with %s", f.name, done, f.want, what)
			}
		}
		check("ordinary operands", true)
		for o, v := range operands {
			at := r.IntN(len(v))
			if f.name == "gemm" && o == 1 {
				at = at/tileN*tileN + at%8 // in the half that is computed
			}
			before := v[at]
			for _, s := range []float32{0x1p-149, -0x1.fffffcp-127} {
				v[at] = s
				check(label("%x as operand %d", s, o), false)
			}
			v[at] = before
		}
	}

	// Results: a product of normal numbers that is subnormal, one that would round
	// up to the smallest normal number, and a difference.
	for _, v := range [][3]float32{{0x1p-70, 0x1p-70, 0}, {0x1.fffffep-64, 0x1p-63, 0}, {0x1.8p-126, 1, -0x1p-126}} {
		c, a, b := uniform(r, 2*tileM*tileN), uniform(r, 2*tileM), uniform(r, tileN)
		a[tileM+2], b[5], c[(tileM+2)*tileN+5] = v[0], v[1], v[2]
		before := slices.Clone(c)
		if done := gemmHalvesNEON(&c[0], tileN, &a[0], &b[0], 1, 2, 0); done != 1 {
			t.Errorf("did %d panels of which the second has the result %x·%x + %x", done, v[0], v[1], v[2])
		}
		compareBits(t, "the panel left", c[tileM*tileN:], before[tileM*tileN:])
	}
	for name, f := range map[string]func(dst, a, b []float32) int{
		"1.5·2⁻¹²⁶ + -2⁻¹²⁶": func(dst, a, b []float32) int {
			a[40], b[40] = 0x1.8p-126, -0x1p-126
			return vecAddNEON(&dst[0], &a[0], &b[0], n)
		},
		"2⁻⁷⁰·2⁻⁷⁰": func(dst, a, b []float32) int {
			a[40], b[40] = 0x1p-70, 0x1p-70
			return vecMulNEON(&dst[0], &a[0], &b[0], n)
		},
	} {
		dst := make([]float32, n)
		if done := f(dst, uniform(r, n), uniform(r, n)); done != neonBlock {
			t.Errorf("did %d elements with %s at 40", done, name)
		}
		compareBits(t, name, dst[neonBlock:], make([]float32, n-neonBlock))
	}
}
