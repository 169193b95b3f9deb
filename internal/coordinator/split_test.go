package coordinator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// randomGraph is a convolution, a dense layer and three that read the same; fill makes the weights.
// All sizes are random: strides, dilations, pads, groups, one to three spatial
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
	dims := n(3)
	var pads, ends, strides, dilations []int64
	for range dims {
		kernel, dilation := n(3), n(2)
		reach := (kernel-1)*dilation + 1
		shape, filter = append(shape, reach+r.IntN(12/dims)), append(filter, kernel)
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

// kinds are those of single layers.
var kinds = []string{plan.Auto, plan.Output, plan.Channel, plan.Input, plan.Filter, plan.Spatial}

// randomOptions cut a model in some way; it may have nothing to split so.
func randomOptions(r *rand.Rand) plan.Options {
	opt := plan.Options{
		Data: 1 + r.IntN(8), Parity: []int{1, 1, 2, 3}[r.IntN(4)], Split: kinds[r.IntN(len(kinds))],
		Redundancy: []string{plan.Parity, plan.Parity, plan.Replicate, plan.None}[r.IntN(4)],
		Block:      r.IntN(4), // rows; 0 makes one block of slices as small as these
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
// the answer is a local run's, unless it was decoded by several parities, whose
// coefficients are no whole numbers: checkBound has those.
func (l *lab) covered(opt plan.Options, dead ...int) {
	l.t.Helper()
	in, want := l.request(l.t, l.r)
	var a coordinator.Answer
	if err := l.c.Infer(context.Background(), in, &a); err != nil || len(a.Recomputed) != 0 {
		l.t.Fatalf("%v dead: recomputed %v, error %v", dead, a.Recomputed, err)
	}
	if rounded := opt.Parity > 1 && len(a.Decoded) > 0; !rounded && !same(a.Outputs, want) {
		l.t.Errorf("%v dead: another answer than a local run's: decoded %v", dead, a.Decoded)
	}
}

// With any weights, a split that adds nothing has the bits of a local run.
// Partial sums do not: TestPartialSums has their bound, and above they are those
// of whole numbers.
func TestEverySplitHasItsBits(t *testing.T) {
	cases := 100
	if testing.Short() {
		cases = 25
	}
	r := random(t)
	for i := range cases {
		g := randomGraph(r, func(shape ...int) *tensor.Tensor { return normal(r, shape...) })
		opt := randomOptions(r)
		if _, err := plan.New(g, opt); err != nil || opt.Split == plan.Input || opt.Split == plan.Filter {
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
				if !same(a.Outputs, l.local(t, in)) {
					t.Error("other bits than a local run")
				}
			})
		})
	}
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
		inLab(t, prepareBy(t, g, plan.Options{Data: 5, Split: kind}), coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			in := []*tensor.Tensor{normal(l.r, l.g.Inputs[0].Shape...)}
			var a coordinator.Answer
			if err := l.c.Infer(context.Background(), in, &a); err != nil {
				t.Fatal(err)
			}
			l.truth(t, in).sums(t, &l.plan.Layers[0], a.Outputs[0].F32())
		})
	}
}
