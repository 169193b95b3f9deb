package coordinator

import (
	"sync"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/plan"
)

// fallback computes slices that fewer than k workers can give. It prepares a
// slice when it is first needed and keeps it: who lost more than r workers
// once needs it in every request until they return.
type fallback struct {
	g     *graph.Graph
	plan  *plan.Plan
	nodes map[string]*graph.Node

	mu      sync.Mutex        // guards the fields below
	weights map[int][]float32 // of whole layers: a view of the graph's, or a copy of its own
	slices  map[[2]int]*engine.Slice
}

func newFallback(g *graph.Graph, p *plan.Plan) *fallback {
	f := &fallback{
		g: g, plan: p, nodes: make(map[string]*graph.Node),
		weights: make(map[int][]float32), slices: make(map[[2]int]*engine.Slice),
	}
	for _, n := range g.Nodes {
		f.nodes[n.Name] = n
	}
	return f
}

// compute returns the result [Outer, height, Inner] of data slice s, in scratch
// if that is large enough.
func (f *fallback) compute(pool *kernel.Pool, layer, s int, x, scratch []float32) ([]float32, error) {
	slice, err := f.slice(layer, s)
	if err != nil {
		return scratch, err
	}
	pl := f.plan.Layers[layer]
	size := pl.Linear.OutputLen(pl.Height(s))
	if cap(scratch) < size {
		scratch = make([]float32, size)
	}
	slice.Run(pool, scratch[:size], x, nil)
	return scratch[:size], nil
}

func (f *fallback) slice(layer, s int) (*engine.Slice, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]int{layer, s}
	if slice := f.slices[key]; slice != nil {
		return slice, nil
	}
	pl := f.plan.Layers[layer]
	w := f.weights[layer]
	if w == nil {
		var err error
		if _, w, err = engine.LinearOf(f.g, f.nodes[pl.Node]); err != nil {
			return nil, err
		}
		f.weights[layer] = w
	}
	begin, end := pl.Rows(s)
	slice, err := engine.NewSlice(pl.Linear, w[begin*pl.Linear.Cols:end*pl.Linear.Cols], end-begin)
	if err != nil {
		return nil, err
	}
	f.slices[key] = slice
	return slice, nil
}
