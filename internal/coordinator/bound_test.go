package coordinator_test

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// With weights that are no whole numbers a decoded result differs from the
// computed one, by Solution.Bound at most; all others are equal. Every set of
// dead workers that the code covers.
func TestDecodedWithinBound(t *testing.T) {
	for _, c := range []struct {
		layer string
		batch int
		opt   plan.Options
	}{
		{"dense", 1, plan.Options{Data: 3, Parity: 1}},
		{"dense", 3, plan.Options{Data: 3, Parity: 1}},
		{"conv", 2, plan.Options{Data: 3, Parity: 1}},
		{"conv", 2, plan.Options{Data: 3, Parity: 1, Split: plan.Spatial}},
		{"dense", 1, plan.Options{Data: 4, Parity: 2}},
		{"conv", 2, plan.Options{Data: 3, Parity: 2}},
		{"conv", 2, plan.Options{Data: 3, Parity: 2, Split: plan.Spatial}},
		{"dense", 2, plan.Options{Data: 3, Parity: 3}},
		{"dense", 1, plan.Options{Data: 2, Parity: 4}},
	} {
		p := prepareBy(t, normalLayer(c.layer, c.batch), c.opt)
		for _, dead := range sets(p.plan.N(), c.opt.Parity)[1:] {
			t.Run(fmt.Sprintf("%s, batch of %d, %d+%d %s, %v dead", c.layer, c.batch, c.opt.Data, c.opt.Parity, c.opt.Split, dead), func(t *testing.T) {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead...)
					for range 3 {
						checkBound(t, l, dead)
					}
				})
			})
		}
	}
}

// normalLayer is a graph of one layer, "dense" or "conv", whose weights are no
// whole numbers.
func normalLayer(name string, batch int) *graph.Graph {
	if name == "dense" {
		b := newBuilder(batch, 301)
		b.g.Constants["w"] = normal(b.r, 31, 301)
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, "w")
		return b.graph()
	}
	b := newBuilder(batch, 5, 13, 8)
	b.g.Constants["w"] = normal(b.r, 10, 5, 3, 3)
	b.node("Conv", graph.Attrs{"pads": []int64{1, 1, 1, 1}, "strides": []int64{2, 1}}, b.last, "w")
	return b.graph()
}

// sets are all sets of at most that many of n workers, the empty one first.
func sets(n, most int) (all [][]int) {
	for set := range uint(1) << n {
		if bits.OnesCount(set) > most {
			continue
		}
		var members []int
		for w := range n {
			if set>>w&1 == 1 {
				members = append(members, w)
			}
		}
		all = append(all, members)
	}
	return all
}

// Where the sum of the results overflows, though none of them does, nothing can
// be decoded: the coordinator computes the slice, and the answer is a local
// run's.
func TestOverflowIsNotDecoded(t *testing.T) {
	const k = 4
	b := newBuilder(1, 2)
	w := tensor.New(tensor.Float32, 2*k, 2)
	for i := range w.F32() {
		w.F32()[i] = 1e30
	}
	b.g.Constants["w"] = w
	b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, "w")
	p := prepare(t, b.graph(), k, 1)
	in := []*tensor.Tensor{tensor.FromSlice([]float32{5e7, 5e7}, 1, 2)} // each row gives 1e38, four of them too much
	want := p.local(t, in)
	for dead := range k {
		inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start(dead)
			var a coordinator.Answer
			if err := l.c.Infer(t.Context(), in, &a); err != nil || !same(a.Outputs, want) {
				t.Errorf("w%d dead: %v, %v", dead+1, a.Outputs[0].F32(), err)
			}
			if len(a.Decoded) != 0 || len(a.Recomputed) != 1 {
				t.Errorf("w%d dead: %+v", dead+1, a)
			}
		})
	}
}

// checkBound runs a request of a model of one layer without some workers: what
// they alone would give is decoded, and lies within the bound.
func checkBound(t *testing.T, l *lab, dead []int) {
	t.Helper()
	in := []*tensor.Tensor{normal(l.r, l.g.Inputs[0].Shape...)}
	var a coordinator.Answer
	if err := l.c.Infer(context.Background(), in, &a); err != nil {
		t.Fatal(err)
	}
	layer := &l.plan.Layers[0]
	missing := 0
	for j := range layer.K() {
		if slices.Contains(dead, l.plan.WorkerOf(0, j)) {
			missing++
		}
	}
	if len(a.Decoded) != missing || len(a.Recomputed) != 0 {
		t.Fatalf("decoded %v, recomputed %v; %d missing", a.Decoded, a.Recomputed, missing)
	}
	decoded, differ := withinBound(t, layer, l.truth(t, in), &a, dead)
	// A few sums of a few products may happen to round to the same.
	if decoded >= 10 && layer.Linear.Cols > 40 && layer.K() > 1 && !differ {
		t.Errorf("decoded %v, but nothing differs from a local run", a.Decoded)
	}
}

// withinBound checks the answer of a model of one layer y = W·x, of which parity
// gave what the dead workers did not: decoded elements, which it counts, lie
// within Solution.Bound of a local run's, all others are equal to them.
//
// The absolute sums of truth were computed in float32 too, of K products all
// positive, so they may be short by γ_K, less than 1 in 10,000 for K ≤ 1,000,
// and by γ_K itself beyond. Of combined inputs the derivation is the same with
// weights and inputs in each other's place: the sums are those of the tiles.
func withinBound(t *testing.T, layer *plan.Layer, v *truth, a *coordinator.Answer, dead []int) (decoded int, differ bool) {
	t.Helper()
	got := a.Outputs[0].F32()
	bounds := make([]float32, len(got)) // 0 where nothing was decoded
	if len(a.Decoded) > 0 {
		solutions := solve(t, layer, a, dead)
		short := 1 + max(0.0001, float64(layer.Linear.Cols)/(1<<23))
		sumAbs := make([]float64, layer.K())
		for b := range layer.MostBlocks() {
			for p := range layer.Pieces(b) {
				for _, d := range a.Decoded {
					bound := pieceOf(layer, d.Slice, b, p, bounds) // tiles overlap: either may have been placed last
					for i := range bound {
						for other := range sumAbs {
							sumAbs[other] = 0 // padding
							if sum := pieceOf(layer, other, b, p, v.absolute); i < len(sum) {
								sumAbs[other] = short * float64(sum[i])
							}
						}
						for _, s := range solutions {
							if at := slices.Index(s.Lost, d.Slice); at >= 0 {
								bound[i] = max(bound[i], float32(s.Bound(at, layer.Linear.Cols, sumAbs)*(1+1.0/(1<<22)))) // not rounded down
							}
						}
					}
				}
			}
		}
	}
	for i, bound := range bounds {
		off := math.Abs(float64(got[i]) - float64(v.want[i]))
		if !(off <= float64(bound)) {
			t.Errorf("%v dead: element %d is %v, a local run's %v: %g off, bound %g; decoded %v", dead, i, got[i], v.want[i], off, bound, a.Decoded)
			break
		}
		differ = differ || off > 0
		if bound > 0 {
			decoded++
		}
	}
	return decoded, differ
}

// pieceOf is plan.Layer.Piece of float32.
func pieceOf(layer *plan.Layer, j, b, i int, out []float32) []float32 {
	return tensor.View[float32](layer.Piece(j, b, i, tensor.Bytes(out)))
}

// solve gives the solutions by every choice of what may have been there, in one
// block of rows or another: of the parities of live workers, and of the slices of
// live workers that were late and decoded.
func solve(t *testing.T, layer *plan.Layer, a *coordinator.Answer, dead []int) (all []*parity.Solution) {
	t.Helper()
	code, err := parity.New(layer.K(), layer.R())
	if err != nil {
		t.Fatal(err)
	}
	live := results(layer, dead)
	var open []int
	for u, there := range live {
		late := slices.ContainsFunc(a.Decoded, func(d coordinator.Recovered) bool { return d.Slice == u })
		if there && (u >= layer.K() || late) {
			open = append(open, u)
		}
	}
	for set := range uint(1) << len(open) {
		have := slices.Clone(live)
		for i, u := range open {
			have[u] = set>>i&1 == 1
		}
		count := 0
		for _, there := range have {
			if there {
				count++
			}
		}
		if count != layer.K() {
			continue // too few, or more than are used
		}
		s := new(parity.Solution)
		if err := code.Solve(s, have); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// absolute runs the model's layer with the absolute values of its weights and
// inputs.
func absolute(t *testing.T, l *lab, in []*tensor.Tensor) []float32 {
	t.Helper()
	abs := func(x *tensor.Tensor) *tensor.Tensor {
		y := x.Clone()
		for i, v := range y.F32() {
			y.F32()[i] = float32(math.Abs(float64(v)))
		}
		return y
	}
	g := *l.g
	g.Constants = map[string]*tensor.Tensor{}
	for name, w := range l.g.Constants {
		g.Constants[name] = abs(w)
	}
	positive := &prepared{g: &g}
	return positive.local(t, []*tensor.Tensor{abs(in[0])})[0].F32()
}

func normal(r *rand.Rand, shape ...int) *tensor.Tensor {
	x := tensor.New(tensor.Float32, shape...)
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	return x
}
