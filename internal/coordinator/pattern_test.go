package coordinator_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// A manner is a way to split a layer of a random graph.
type manner struct {
	split  string
	groups bool // of channels
}

var manners = []manner{
	{plan.Output, false},
	{plan.Input, false},
	{plan.Channel, false},
	{plan.Channel, true},
	{plan.Filter, false},
	{plan.Spatial, false},
}

// Random layers of random weights, a few of all numbers of slices and sets of
// dead workers; the checks that take longer have all of them.
func TestSomePatterns(t *testing.T) {
	r := random(t)
	for _, m := range manners {
		k, parities := 1+r.IntN(8), r.IntN(4)
		for _, opt := range []plan.Options{{Data: k, Parity: parities, Split: m.split}, {Data: k, Redundancy: plan.Replicate, Split: m.split}} {
			g := randomLayer(r, m, k, 3)
			patterns(t, r, g, normal(r, g.Inputs[0].Shape...), opt, 24)
		}
	}
}

// randomLayer is a graph of one layer of random sizes and weights that can be
// split in that manner into k slices and more; a convolution has at most so many
// dimensions.
func randomLayer(r *rand.Rand, m manner, k, most int) *graph.Graph {
	n := func(most int) int { return 1 + r.IntN(most) }
	if m.split == plan.Output || m.split == plan.Input {
		b := newBuilder(n(3), k+n(200))
		b.g.Constants["w"] = normal(r, k+n(40), b.g.Inputs[0].Shape[1])
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, "w")
		return b.graph()
	}
	dims, size, stride, pad := n(most), n(3), n(2), 0
	if m.split != plan.Spatial || k > 1 { // a tile may not see padding alone
		pad = r.IntN(size)
	}
	groups, per, maps := 1, k+n(5), k+n(20)
	if m.groups {
		groups, per = k+n(4), n(3)
		maps = groups * n(3)
	}
	attrs := graph.Attrs{"group": int64(groups), "pads": slices.Repeat([]int64{int64(pad)}, 2*dims), "strides": slices.Repeat([]int64{int64(stride)}, dims)}
	shape, filter := []int{n(2), groups * per}, []int{maps, per}
	for d := range dims {
		cells := n(4)
		if d == 0 {
			cells = k + n(3) // of the result
		}
		shape, filter = append(shape, size+stride*(cells-1)), append(filter, size)
	}
	b := newBuilder(shape...)
	b.g.Constants["w"] = normal(r, filter...)
	b.node("Conv", attrs, b.last, "w")
	return b.graph()
}

// patterns cuts a graph of one layer y = W·x and runs a request of input in without each set
// of workers whose loss leaves enough, at most so many sets drawn by r.
//
// Nothing is computed here. Where nothing was decoded, the answer has a local
// run's bits, or for partial sums those it has with all workers, within
// 2·γ_K·Σ|w||x| of the local ones (see TestPartialSums). What was decoded lies
// within the code's bound.
func patterns(t *testing.T, r *rand.Rand, g *graph.Graph, in *tensor.Tensor, opt plan.Options, most int) {
	t.Helper()
	p := prepareBy(t, g, opt)
	layer := &p.plan.Layers[0]
	all := covered(layer)
	r.Shuffle(len(all)-1, func(i, j int) { all[i+1], all[j+1] = all[j+1], all[i+1] })
	all = all[:min(most, len(all))]
	name := fmt.Sprintf("%s %v %s k=%d r=%d %s", layer.Linear.Op, g.Inputs[0].Shape, layer.Kind, opt.Data, opt.Parity, layer.Cover)
	t.Run(name, func(t *testing.T) {
		inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start()
			truth := l.truth(t, []*tensor.Tensor{in})
			var whole []byte // the answer with all workers
			var a coordinator.Answer
			for _, dead := range all {
				for w := range l.machines {
					l.c.Leave(w, slices.Contains(dead, w))
				}
				if err := l.c.Infer(context.Background(), truth.in, &a); err != nil || len(a.Recomputed) != 0 {
					t.Fatalf("%v dead: recomputed %v, %v", dead, a.Recomputed, err)
				}
				synctest.Wait() // no result of this request is late in the next
				if whole == nil {
					whole = slices.Clone(a.Outputs[0].Data)
				}
				switch {
				case layer.Sums() && !slices.Equal(a.Outputs[0].Data, whole):
					t.Errorf("%v dead: other bits than with all workers", dead)
				case layer.Sums():
					truth.sums(t, layer, a.Outputs[0].F32())
				default:
					for j, there := range results(layer, dead)[:layer.K()] {
						if !there && !slices.ContainsFunc(a.Decoded, func(d coordinator.Recovered) bool { return d.Slice == j }) {
							t.Errorf("%v dead: slice %d was not decoded", dead, j)
						}
					}
					withinBound(t, layer, truth, &a, dead)
				}
				if t.Failed() {
					return
				}
			}
		})
	})
}

// covered are the sets of workers whose loss leaves results enough, the empty
// one first.
func covered(layer *plan.Layer) (all [][]int) {
	workers := slices.Sorted(slices.Values(layer.Workers))
	workers = slices.Compact(workers)
	for _, set := range sets(len(workers), len(workers)) {
		var dead []int
		for _, i := range set {
			dead = append(dead, workers[i])
		}
		missing, parities := 0, 0
		for u, there := range results(layer, dead) {
			switch {
			case u < layer.K() && !there:
				missing++
			case u >= layer.K() && there:
				parities++
			}
		}
		if missing <= parities {
			all = append(all, dead)
		}
	}
	return all
}

// results says of which results a worker lives that gives them.
func results(layer *plan.Layer, dead []int) []bool {
	there := make([]bool, layer.Results())
	for s, w := range layer.Workers {
		if !slices.Contains(dead, w) {
			there[s%layer.Results()] = true
		}
	}
	return there
}

// truth is what a model of one layer gives for an input in one process.
type truth struct {
	in       []*tensor.Tensor
	want     []float32
	absolute []float32 // |W|·|x|
}

func (l *lab) truth(t *testing.T, in []*tensor.Tensor) *truth {
	t.Helper()
	return &truth{in, l.local(t, in)[0].F32(), absolute(t, l, in)}
}

// sums checks an answer that was added up in another order.
func (v *truth) sums(t *testing.T, layer *plan.Layer, out []float32) {
	t.Helper()
	gamma := float64(layer.Linear.Cols) / (1<<24 - float64(layer.Linear.Cols))
	for i, got := range out {
		// The absolute sum is itself short by γ_K at most.
		if off := math.Abs(float64(got) - float64(v.want[i])); !(off <= 2*gamma*(1+2*gamma)*float64(v.absolute[i])) {
			t.Fatalf("element %d is %v, want %v", i, got, v.want[i])
		}
	}
}

// In how many sets of dead workers each cover leaves enough is known.
func TestPatternsAreAll(t *testing.T) {
	r := random(t)
	for _, c := range []struct {
		opt  plan.Options
		want int
	}{
		{plan.Options{Data: 8, Parity: 3}, 1 + 11 + 55 + 165},
		{plan.Options{Data: 8, Parity: 0}, 1},
		{plan.Options{Data: 5, Redundancy: plan.Replicate}, 3 * 3 * 3 * 3 * 3},
		{plan.Options{Data: 3, Parity: 1, Split: plan.Input}, 7}, // of 4 in a ring no two beside each other
	} {
		p, err := plan.New(randomLayer(r, manners[0], 8, 3), c.opt)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(covered(&p.Layers[0])); got != c.want {
			t.Errorf("%s: %d sets, want %d", strings.TrimSpace(fmt.Sprintf("%+v", c.opt)), got, c.want)
		}
	}
}
