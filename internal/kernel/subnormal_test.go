package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// faint is n values of which share in 100 are at or below the end of the normal
// range, or become so in products and sums, with zeros of both signs.
func faint(r *rand.Rand, n, share int) []float32 {
	v := uniform(r, n)
	for i := range v {
		if r.IntN(100) >= share {
			continue
		}
		switch r.IntN(6) {
		case 0:
			v[i] = float32(math.Copysign(0, float64(v[i])))
		case 1:
			v[i] = math.Float32frombits(r.Uint32() & 0x807fffff) // subnormal
		case 2:
			v[i] *= 0x1p-126
		case 3: // products of two such lie around the smallest normal number,
			// some just below it and rounded up to it
			v[i] = float32(math.Copysign(0x1p-63*(1-0x1p-24*float64(r.IntN(3))), float64(v[i])))
		default:
			v[i] *= float32(math.Ldexp(1, -50-r.IntN(50)))
		}
	}
	return v
}

// TestSubnormals compares the levels where results leave the normal range: now
// and then, and nearly everywhere.
func TestSubnormals(t *testing.T) {
	r := newRand(t)
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for _, share := range []int{1, 20, 95} {
		for range rounds {
			rows, k, batch, n := size(r, 40), size(r, 90), 1+size(r, 20), size(r, 200)
			w, x := faint(r, rows*k, share), faint(r, batch*k, share)
			long := faint(r, 3*600, share)
			a, b := faint(r, n, share), faint(r, n, share)
			g := conv2D(3, 12+r.IntN(20), 12+r.IntN(20), 3, 3, 1+r.IntN(2), 1)
			g.C, g.Groups = 3, 3
			filters, maps := faint(r, g.M*g.K(), share), faint(r, g.C*g.H*g.W, share)
			for _, f := range []struct {
				name string
				dst  int
				run  func(dst []float32)
			}{
				{"gemm", batch * rows, func(dst []float32) { Pack(w, rows, k).Gemm(nil, dst, x, batch, After{}, nil) }},
				{"gemm of several K blocks", 3, func(dst []float32) { Pack(long, 3, 600).Gemm(nil, dst, long, 1, After{}, nil) }},
				{"gemv", rows, func(dst []float32) { Gemv(nil, dst, w, x, rows, k) }},
				{"depthwise", g.M * g.OH * g.OW, func(dst []float32) { NewConv(g, filters, g.M).Run(nil, dst, maps, After{}, nil) }},
				{"add", n, func(dst []float32) { Add(dst, a, b) }},
				{"sub", n, func(dst []float32) { copy(dst, a); Sub(dst, b) }},
				{"mul", n, func(dst []float32) { Mul(dst, a, b) }},
				{"max", n, func(dst []float32) { vecMax(dst, a, b) }},
				{"clamp", n, func(dst []float32) { Clamp(dst, a, 0, 0x1p-127) }},
				{"bias and clamp", n, func(dst []float32) { copy(dst, a); BiasAct(nil, dst, b, 1, 1, n, -0x1p-126, 1) }},
			} {
				want := make([]float32, f.dst)
				atLevel(t, levelPortable, func() { f.run(want) })
				for _, level := range levels() {
					dst := make([]float32, f.dst)
					atLevel(t, level, func() { f.run(dst) })
					compareBits(t, label("%s, %d %% faint, %s", f.name, share, level), dst, want)
				}
			}
		}
	}
}
