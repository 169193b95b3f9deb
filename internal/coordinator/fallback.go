package coordinator

import (
	"maps"
	"sync"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// fallback computes slices that fewer than k workers can give. It prepares a
// slice when it is first needed and keeps it: who lost more than r workers
// once needs it in every request until they return.
type fallback struct {
	g     *graph.Graph
	plan  *plan.Plan
	nodes [][]*graph.Node // by layer

	mu      sync.Mutex     // guards the fields below
	weights map[int][]byte // of whole layers: a view of the graph's, or a copy of its own
	slices  map[[2]int]*engine.Slice
	rows    map[int][][]float64 // see norms
}

func newFallback(g *graph.Graph, p *plan.Plan) *fallback {
	f := &fallback{
		g: g, plan: p, nodes: p.Nodes(g),
		weights: make(map[int][]byte), slices: make(map[[2]int]*engine.Slice),
		rows: make(map[int][][]float64),
	}
	return f
}

// scratch is memory that fallback.compute uses again.
type scratch struct{ input, result []float32 }

// compute leaves the result of data slice j in memory.result.
func (f *fallback) compute(pool *kernel.Pool, layer, j int, x []float32, memory *scratch) error {
	slice, err := f.slice(layer, j)
	if err != nil {
		return err
	}
	pl := &f.plan.Layers[layer]
	if !pl.SharesInput() {
		memory.input = sized(memory.input, pl.Slice(j).InputLen())
		pl.Input(j, tensor.Bytes(memory.input), tensor.Bytes(x), 0)
		x = memory.input
	}
	memory.result = sized(memory.result, pl.Slice(j).OutputLen())
	slice.Run(pool, tensor.Bytes(memory.result), tensor.Bytes(x), nil)
	return nil
}

func (f *fallback) slice(layer, j int) (*engine.Slice, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [2]int{layer, j}
	if slice := f.slices[key]; slice != nil {
		return slice, nil
	}
	pl := &f.plan.Layers[layer]
	w, err := f.whole(layer)
	if err != nil {
		return nil, err
	}
	slice, err := engine.NewSlice(pl.Slice(j), pl.Weights(j, w))
	if err != nil {
		return nil, err
	}
	f.slices[key] = slice
	return slice, nil
}

// whole returns the weights of a layer; mu is held.
func (f *fallback) whole(layer int) ([]byte, error) {
	w := f.weights[layer]
	if w == nil {
		var err error
		if _, w, err = engine.LinearOf(f.g, f.nodes[layer]...); err != nil {
			return nil, err
		}
		f.weights[layer] = w
	}
	return w, nil
}

// norms is rowNorms of a layer that parity covers.
func (f *fallback) norms(layer int) ([][]float64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rows := f.rows[layer]; rows != nil {
		return rows, nil
	}
	w, err := f.whole(layer)
	if err != nil {
		return nil, err
	}
	pl := &f.plan.Layers[layer]
	code, err := parity.New(pl.K(), pl.R())
	if err != nil {
		return nil, err
	}
	f.rows[layer] = rowNorms(code, pl, tensor.View[float32](w))
	return f.rows[layer], nil
}

// layerWeights returns the weights of a layer, not to be written.
func (f *fallback) layerWeights(layer int) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.whole(layer)
}

// replace gives a layer other weights. None of its slices may be in use.
func (f *fallback) replace(layer int, w []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.weights[layer] = w
	delete(f.rows, layer)
	maps.DeleteFunc(f.slices, func(key [2]int, _ *engine.Slice) bool { return key[0] == layer })
}
