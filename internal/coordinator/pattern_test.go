package coordinator_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// Random layers of random weights, a few of all numbers of slices and sets of
// dead workers; the checks that take longer have all of them.
func TestSomePatterns(t *testing.T) {
	r := random(t)
	for range 6 {
		testPatterns(t, r, 1+r.IntN(8), r.IntN(4), 12)
	}
}

// testPatterns cuts a random layer into k and r slices. With every set of dead
// workers that the code covers, at most so many of them drawn, the answer is a
// local run's where nothing was decoded, and within the bound elsewhere.
func testPatterns(t *testing.T, rng *rand.Rand, k, r, most int) {
	g := randomLayer(rng)
	p := prepare(t, g, k, r)
	n := p.plan.N()
	var sets []uint
	for set := range uint(1) << n {
		if bits.OnesCount(set) <= r {
			sets = append(sets, set)
		}
	}
	rng.Shuffle(len(sets), func(i, j int) { sets[i], sets[j] = sets[j], sets[i] })
	for _, set := range sets[:min(most, len(sets))] {
		var dead []int
		for w := range n {
			if set>>w&1 == 1 {
				dead = append(dead, w)
			}
		}
		t.Run(fmt.Sprintf("%s k=%d r=%d %v dead", g.Nodes[0].Op, k, r, dead), func(t *testing.T) {
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				l.start(dead...)
				checkBound(t, l, dead)
			})
		})
	}
}

// randomLayer is a graph of one dense layer or convolution of random sizes and
// weights.
func randomLayer(r *rand.Rand) *graph.Graph {
	n := func(most int) int { return 1 + r.IntN(most) }
	constant := func(b *builder, w *tensor.Tensor) string {
		name := fmt.Sprintf("c%d", len(b.g.Constants))
		b.g.Constants[name] = w
		return name
	}
	if r.IntN(2) == 0 {
		b := newBuilder(n(3), n(200))
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, constant(b, normal(r, n(40), b.g.Inputs[0].Shape[1])))
		return b.graph()
	}
	size := n(3)
	b := newBuilder(n(2), n(5), size+r.IntN(8), size+r.IntN(8))
	pad, stride := int64(r.IntN(size)), int64(n(2))
	b.node("Conv", graph.Attrs{"pads": []int64{pad, pad, pad, pad}, "strides": []int64{stride, stride}},
		b.last, constant(b, normal(r, n(20), b.g.Inputs[0].Shape[1], size, size)))
	return b.graph()
}
