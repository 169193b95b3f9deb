package coordinator_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/plan"
)

// Random layers of random weights, a few of all numbers of slices and sets of
// dead workers; the checks that take longer have all of them.
func TestSomePatterns(t *testing.T) {
	r := random(t)
	for range 6 {
		testPatterns(t, r, 1+r.IntN(8), r.IntN(4), 12)
	}
}

// testPatterns cuts a random layer into k and r slices, a convolution into tiles
// now and then. With every set of dead workers that the code covers, at most so
// many of them drawn, the answer is a local run's where nothing was decoded, and
// within the bound elsewhere.
func testPatterns(t *testing.T, rng *rand.Rand, k, r, most int) {
	g, opt := randomLayer(rng), plan.Options{Data: k, Parity: r}
	if rng.IntN(2) == 0 {
		opt.Split = plan.Spatial
		if _, err := plan.New(g, opt); err != nil {
			opt.Split = plan.Auto
		}
	}
	p := prepareBy(t, g, opt)
	all := sets(p.plan.N(), r)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, dead := range all[:min(most, len(all))] {
		t.Run(fmt.Sprintf("%s %s k=%d r=%d %v dead", g.Nodes[0].Op, opt.Split, k, r, dead), func(t *testing.T) {
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
	if r.IntN(2) == 0 {
		b := newBuilder(n(3), n(200))
		b.g.Constants["w"] = normal(r, n(40), b.g.Inputs[0].Shape[1])
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, "w")
		return b.graph()
	}
	size := n(3)
	b := newBuilder(n(2), n(5), size+r.IntN(8), size+r.IntN(8))
	pad, stride := int64(r.IntN(size)), int64(n(2))
	b.g.Constants["w"] = normal(r, n(20), b.g.Inputs[0].Shape[1], size, size)
	b.node("Conv", graph.Attrs{"pads": []int64{pad, pad, pad, pad}, "strides": []int64{stride, stride}}, b.last, "w")
	return b.graph()
}
