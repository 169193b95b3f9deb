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

	mu     sync.Mutex // guards slices
	slices map[[2]int]*engine.Slice
}

func newFallback(g *graph.Graph, p *plan.Plan) *fallback {
	f := &fallback{g: g, plan: p, nodes: make(map[string]*graph.Node), slices: make(map[[2]int]*engine.Slice)}
	for _, n := range g.Nodes {
		f.nodes[n.Name] = n
	}
	return f
}

// compute returns the result [Outer, height, Inner] of data slice s.
func (f *fallback) compute(pool *kernel.Pool, layer, s int, x []float32) ([]float32, error) {
	slice, err := f.slice(layer, s)
	if err != nil {
		return nil, err
	}
	pl := f.plan.Layers[layer]
	result := make([]float32, pl.Linear.OutputLen(pl.Height(s)))
	slice.Run(pool, result, x, nil)
	return result, nil
}

func (f *fallback) slice(layer, s int) (*engine.Slice, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]int{layer, s}
	if slice := f.slices[key]; slice != nil {
		return slice, nil
	}
	pl := f.plan.Layers[layer]
	linear, w, err := engine.LinearOf(f.g, f.nodes[pl.Node])
	if err != nil {
		return nil, err
	}
	begin, end := pl.Rows(s)
	slice, err := engine.NewSlice(linear, w[begin*linear.Cols:end*linear.Cols], end-begin)
	if err != nil {
		return nil, err
	}
	f.slices[key] = slice
	return slice, nil
}
