package kernel

import (
	"slices"
	"testing"
)

// Bytes made of plain sums are those that a Run makes at once, and sums that are
// scaled and added are what a loop makes, at every level.
func TestFinish(t *testing.T) {
	r := newRand(t)
	for _, level := range levels() {
		atLevel(t, level, func() {
			for range 50 {
				g := conv2D(1+r.IntN(5), 1+r.IntN(9), 1+r.IntN(9), 1+r.IntN(20), 1, 1, 0)
				g.N = 1 + r.IntN(2)
				w := Weights{Data: randomBytes(r, g.M*g.K()), Signed: true, Zeros: []int32{3}}
				x := Bytes{Data: randomBytes(r, g.N*g.C*g.H*g.W), Zero: 117}
				scale := make([]float32, g.M)
				for i := range scale {
					scale[i] = r.Float32() / 100
				}
				size := g.N * g.M * g.OH * g.OW
				sums, want, got := make([]int32, size), make([]byte, size), make([]byte, size)
				out := Output{Bytes: want, Zero: 100, Scale: scale}
				if r.IntN(2) == 0 {
					out.Bias = make([]int32, g.M)
					for i := range out.Bias {
						out.Bias[i] = int32(r.IntN(1000))
					}
				}
				c := NewQuantConv(g, w, g.M)
				c.Run(nil, out, x, nil)
				c.Run(nil, Output{Sums: sums}, x, nil)
				out.Bytes = got
				out.Finish(sums, g.N, g.M, g.OH*g.OW)
				if !slices.Equal(got, want) {
					t.Fatalf("%s: %+v: bytes differ", level, g)
				}
				other := slices.Clone(sums)
				AddScaledInt32(other, sums[:size/2], -1<<31+7)
				for i, v := range sums {
					if i < size/2 {
						v += v * (-1<<31 + 7)
					}
					if other[i] != v {
						t.Fatalf("%s: sum %d is %d, want %d", level, i, other[i], v)
					}
				}
			}
		})
	}
}
