package coordinator_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// randomGraph is a convolution, a dense layer and three that read the same; fill makes the weights.
// All sizes are random: strides, dilations, pads, groups, one or two spatial
// dimensions.
func randomGraph(r *rand.Rand, fill func(shape ...int) *tensor.Tensor) *graph.Graph {
	n := func(most int) int { return 1 + r.IntN(most) }
	groups := []int{1, 1, 2, 5}[r.IntN(4)]
	per := n(3)
	channels := groups * per
	maps := groups * n(4)
	if r.IntN(3) == 0 { // depthwise
		groups, per = channels, 1
		maps = channels
	}
	shape, filter := []int{n(2), channels}, []int{maps, per}
	attrs := graph.Attrs{"group": int64(groups)}
	dims := n(2)
	var pads, ends, strides, dilations []int64
	for range dims {
		kernel, dilation := n(3), n(2)
		reach := (kernel-1)*dilation + 1
		shape, filter = append(shape, reach+r.IntN(12)), append(filter, kernel)
		pads, ends = append(pads, int64(r.IntN(reach))), append(ends, int64(r.IntN(reach)))
		strides, dilations = append(strides, int64(n(3))), append(dilations, int64(dilation))
	}
	attrs["pads"], attrs["strides"], attrs["dilations"] = append(pads, ends...), strides, dilations

	b := newBuilder(shape...)
	constant := func(shape ...int) string {
		name := fmt.Sprintf("c%d", len(b.g.Constants))
		b.g.Constants[name] = fill(shape...)
		return name
	}
	b.node("Conv", attrs, b.last, constant(filter...), constant(maps))
	b.node("Relu", nil, b.last)
	b.node("Flatten", nil, b.last)
	b.g.Outputs = []string{b.last}
	if err := b.g.Prepare(); err != nil {
		panic(err)
	}
	cols, rows := b.g.Infos[b.last].Shape[1], n(20)
	b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, constant(rows, cols), constant(rows))
	joined, out := b.last, n(9) // as Q, K and V: one layer of three nodes
	b.node("MatMul", nil, joined, constant(rows, out))
	q := b.last
	b.node("Gemm", graph.Attrs{"transB": int64(1)}, joined, constant(out, rows), constant(out))
	k := b.last
	b.node("MatMul", nil, joined, constant(rows, n(9)))
	v := b.last
	b.node("Add", nil, q, k)
	b.node("Concat", graph.Attrs{"axis": int64(1)}, b.last, v)
	return b.graph()
}

var kinds = []string{plan.Auto, plan.Output, plan.Channel, plan.Input, plan.Filter, plan.Spatial}

// randomOptions cut a model in some way; it may have nothing to split so.
func randomOptions(r *rand.Rand) plan.Options {
	opt := plan.Options{
		Data: 1 + r.IntN(8), Parity: []int{1, 1, 2, 3}[r.IntN(4)], Split: kinds[r.IntN(len(kinds))],
		Redundancy: []string{plan.Parity, plan.Parity, plan.Replicate, plan.None}[r.IntN(4)],
	}
	if opt.Redundancy != plan.Parity {
		opt.Parity = 1
	}
	if r.IntN(2) == 0 {
		for range opt.Workers() {
			opt.Speeds = append(opt.Speeds, []float64{0.25, 0.5, 1, 1, 3}[r.IntN(5)])
		}
	}
	return opt
}

// However a model of whole numbers is split and whichever worker is dead, the
// answer is that of a local run: whole numbers are exact in every order of
// summing, so not even partial sums and decoded slices differ.
func TestEverySplitLosesNothing(t *testing.T) {
	cases := 120
	if testing.Short() {
		cases = 25
	}
	r := random(t)
	for i := range cases {
		g := randomGraph(r, func(shape ...int) *tensor.Tensor { return whole(r, shape...) })
		opt := randomOptions(r)
		if _, err := plan.New(g, opt); err != nil {
			continue // that it can't be split so is tested in package plan
		}
		p := prepareBy(t, g, opt)
		t.Run(fmt.Sprintf("%d %s %s k=%d", i, opt.Split, opt.Redundancy, opt.Data), func(t *testing.T) {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start()
				if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed)+a.Late != 0 {
					t.Errorf("all are there: %+v", a)
				}
			})
			if opt.Redundancy == plan.None {
				return
			}
			for dead := range p.plan.N() {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead)
					l.covered(opt, dead)
				})
			}
			for range 3 * (opt.Parity - 1) { // as many as are covered
				dead := r.Perm(p.plan.N())[:opt.Parity]
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead...)
					l.covered(opt, dead...)
				})
			}
		})
	}
}

// covered runs a request without some workers: nothing may be computed here, and
// the answer is a local run's, to a rounding where coefficients are no whole
// numbers.
func (l *lab) covered(opt plan.Options, dead ...int) {
	l.t.Helper()
	in, want := l.request(l.t, l.r)
	var a coordinator.Answer
	if err := l.c.Infer(context.Background(), in, &a); err != nil || len(a.Recomputed) != 0 {
		l.t.Fatalf("%v dead: recomputed %v, error %v", dead, a.Recomputed, err)
	}
	if !same(a.Outputs, want) && (opt.Parity < 2 || len(a.Decoded) == 0 || !near(a.Outputs[0].F32(), want[0].F32())) {
		l.t.Errorf("%v dead: another answer than a local run's: decoded %v", dead, a.Decoded)
	}
}

// With any weights, a split that adds nothing has the bits of a local run. Nor
// has a partial sum others than one that is added here in the order of the
// slices, which lies within a bound of the local run's.
func TestEverySplitHasItsBits(t *testing.T) {
	cases := 100
	if testing.Short() {
		cases = 25
	}
	r := random(t)
	for i := range cases {
		g := randomGraph(r, func(shape ...int) *tensor.Tensor { return normal(r, shape...) })
		opt := randomOptions(r)
		if _, err := plan.New(g, opt); err != nil {
			continue
		}
		p := prepareBy(t, g, opt)
		t.Run(fmt.Sprintf("%d %s %s k=%d", i, opt.Split, opt.Redundancy, opt.Data), func(t *testing.T) {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start()
				in := []*tensor.Tensor{normal(l.r, l.g.Inputs[0].Shape...)}
				var a coordinator.Answer
				if err := l.c.Infer(context.Background(), in, &a); err != nil {
					t.Fatal(err)
				}
				sums := opt.Split == plan.Input || opt.Split == plan.Filter
				if want := l.local(t, in); same(a.Outputs, want) || sums && near(a.Outputs[0].F32(), want[0].F32()) {
					return
				}
				t.Error("other bits than a local run")
			})
		})
	}
}

// near says whether results differ by what partial sums may. TestPartialSums
// has the bound of one layer; here are three layers and it is enough that
// nothing is grossly wrong.
func near(a, b []float32) bool {
	var off, size float64
	for i := range a {
		off += math.Abs(float64(a[i]) - float64(b[i]))
		size += math.Abs(float64(b[i]))
	}
	return off <= 1e-4*size
}

// Whichever way K products are added, each is rounded at most K times, so that
// two sums of them differ by at most 2·γ_K·Σ|w||x| (Higham, "Accuracy and
// Stability of Numerical Algorithms", section 4.2), γ_K = K·u/(1−K·u).
func TestPartialSums(t *testing.T) {
	r := random(t)
	for _, kind := range []string{plan.Input, plan.Filter} {
		b := newBuilder(2, 40)
		if kind == plan.Filter {
			b = newBuilder(2, 7, 6, 5)
			b.g.Constants["w"] = normal(r, 4, 7, 3, 3)
			b.node("Conv", nil, b.last, "w")
		} else {
			b.g.Constants["w"] = normal(r, 40, 9)
			b.node("MatMul", nil, b.last, "w")
		}
		g := b.graph()
		linear, _, err := engine.LinearOf(g, g.Nodes[0])
		if err != nil {
			t.Fatal(err)
		}
		inLab(t, prepareBy(t, g, plan.Options{Data: 5, Split: kind}), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			in := []*tensor.Tensor{normal(l.r, l.g.Inputs[0].Shape...)}
			var a coordinator.Answer
			if err := l.c.Infer(context.Background(), in, &a); err != nil {
				t.Fatal(err)
			}
			want, sums := l.local(t, in)[0].F32(), absolute(t, l, in)
			gamma := float64(linear.Cols) / (1<<24 - float64(linear.Cols))
			for i, got := range a.Outputs[0].F32() {
				// sums is itself short by γ_K at most.
				if off := math.Abs(float64(got) - float64(want[i])); off > 2*gamma*(1+2*gamma)*float64(sums[i]) {
					t.Errorf("%s: element %d is %v, want %v", kind, i, got, want[i])
				}
			}
		})
	}
}

// A parity tile's input is Σ x_j, added in float64 and rounded once, as a parity
// slice's weights are. With weights and inputs in each other's place the
// derivation in package parity is the same, so its bound holds, S being
// Σ_j |W|·|x_j| over the tiles at the same place in each.
func TestDecodedTileWithinBound(t *testing.T) {
	const k = 3
	r := random(t)
	b := newBuilder(2, 5, 14, 6)
	b.g.Constants["w"] = normal(r, 7, 5, 3, 3)
	b.node("Conv", graph.Attrs{"pads": []int64{1, 1, 1, 1}, "strides": []int64{2, 1}}, b.last, "w")
	p := prepareBy(t, b.graph(), plan.Options{Data: k, Parity: 1, Split: plan.Spatial})
	layer := &p.plan.Layers[0]
	cols := layer.Linear.Cols
	for dead := range k + 1 {
		inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start(dead)
			in := []*tensor.Tensor{normal(l.r, l.g.Inputs[0].Shape...)}
			var a coordinator.Answer
			if err := l.c.Infer(context.Background(), in, &a); err != nil {
				t.Fatal(err)
			}
			have := slices.Repeat([]bool{true}, layer.N())
			have[l.plan.SliceOf(0, dead)] = false
			solutions := solve(t, k, 1, have)
			want, got, sums := l.local(t, in)[0].F32(), a.Outputs[0].F32(), absolute(t, l, in)
			off := make([]float64, len(got))
			for i := range got {
				off[i] = math.Abs(float64(got[i]) - float64(want[i]))
			}
			for o := range layer.Blocks() {
				for j := range k {
					block := layer.Block(j, got, o)
					for i := range block {
						sumAbs := make([]float64, k)
						for other := range k {
							sumAbs[other] = 1.0001 * float64(layer.Block(other, sums, o)[i])
						}
						at, bound := cap(got)-cap(block)+i, 0.0
						if len(a.Decoded) > 0 {
							for _, s := range solutions {
								bound = max(bound, s.Bound(0, cols, sumAbs))
							}
						}
						if off[at] > bound && (len(a.Decoded) == 0 || j == a.Decoded[0].Slice) {
							t.Errorf("w%d dead: element %d is %g off, bound %g", dead+1, at, off[at], bound)
						}
					}
				}
			}
			if wrong := slices.ContainsFunc(off, func(d float64) bool { return d > 0 }); wrong != (len(a.Decoded) == 1) {
				t.Errorf("w%d dead: decoded %v, results differ: %v", dead+1, a.Decoded, wrong)
			}
		})
	}
}
