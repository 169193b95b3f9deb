package kernel

import (
	"math/rand/v2"
	"testing"
)

// randomDeep is a convolution of three dimensions.
func randomDeep(r *rand.Rand) Conv3D {
	g := Conv3D{Conv2D: randomConv(r), D: size(r, 6), KD: size(r, 3), StrideD: size(r, 3), PadFront: r.IntN(3), PadBack: r.IntN(3), DilationD: size(r, 2)}
	for g.D+g.PadFront+g.PadBack < (g.KD-1)*g.DilationD+1 {
		g.D++
	}
	g.OD = (g.D+g.PadFront+g.PadBack-(g.KD-1)*g.DilationD-1)/g.StrideD + 1
	return g
}

// Every result is the chain over channel, plane, row and column of its filter,
// whichever rows are computed together.
func TestDeepConv(t *testing.T) {
	r := newRand(t)
	for range 40 {
		g := randomDeep(r)
		if err := g.Validate(); err != nil {
			t.Fatalf("%+v: %v", g, err)
		}
		rows := g.M
		if g.Groups == 1 {
			rows = 1 + r.IntN(g.M)
		}
		w, x := uniform(r, rows*g.K()), uniform(r, g.N*g.C*g.InputCells())
		got := make([]float32, g.N*rows*g.OutputCells())
		if !NewDeepConv(g, w, rows).Run(nil, got, x, nil) {
			t.Fatal("stopped without being told to")
		}
		i := 0
		per := g.C / g.Groups
		for n := range g.N {
			for m := range rows {
				first := m / (rows / g.Groups) * per
				for out := range g.OutputCells() {
					od, oy, ox := out/(g.OH*g.OW), out/g.OW%g.OH, out%g.OW
					var acc float32
					for c := range per {
						for tap := range g.Taps() {
							d := od*g.StrideD - g.PadFront + tap/(g.KH*g.KW)*g.DilationD
							y := oy*g.StrideH - g.PadTop + tap/g.KW%g.KH*g.DilationH
							z := ox*g.StrideW - g.PadLeft + tap%g.KW*g.DilationW
							var v float32
							if d >= 0 && d < g.D && y >= 0 && y < g.H && z >= 0 && z < g.W {
								v = x[(((n*g.C+first+c)*g.D+d)*g.H+y)*g.W+z]
							}
							acc = fma32(w[(m*per+c)*g.Taps()+tap], v, acc)
						}
					}
					if got[i] != acc {
						t.Fatalf("%+v: element %d is %v, want %v", g, i, got[i], acc)
					}
					i++
				}
			}
		}
	}
}

func TestDeepConvAllocatesNothing(t *testing.T) {
	r := newRand(t)
	g := randomDeep(r)
	c := NewDeepConv(g, uniform(r, g.M*g.K()), g.M)
	x, y := uniform(r, g.N*g.C*g.InputCells()), make([]float32, g.N*g.M*g.OutputCells())
	run := func() { c.Run(nil, y, x, nil) }
	run()
	if n := testing.AllocsPerRun(5, run); n > 0 {
		t.Errorf("%v allocations a run", n)
	}
}
