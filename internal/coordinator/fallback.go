package coordinator

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// fallback computes slices that fewer than k workers can give. It prepares a
// block of a slice when it is first needed and keeps it: who lost more than r
// workers once needs it in every request until they return.
type fallback struct {
	g     *graph.Graph
	plan  *plan.Plan
	nodes [][]*graph.Node // by layer
	slice time.Duration   // see Config

	mu      sync.Mutex               // guards the fields below
	weights map[int][]byte           // of whole layers: a view of the graph's, or a copy of its own
	stages  map[int]*engine.Stage    // by layer
	blocks  map[[3]int]*engine.Slice // by layer, data slice and block
	rows    map[int][][]float64      // see norms
}

func newFallback(g *graph.Graph, p *plan.Plan, slice time.Duration) *fallback {
	f := &fallback{
		g: g, plan: p, nodes: p.Nodes(g), slice: slice,
		weights: make(map[int][]byte), blocks: make(map[[3]int]*engine.Slice),
		stages: make(map[int]*engine.Stage), rows: make(map[int][][]float64),
	}
	return f
}

// compute leaves block b of the result of data slice j in memory, computed from
// the slice's input; false if stop became true.
func (f *fallback) compute(pool *kernel.Pool, layer, j, b int, input []byte, memory *[]byte, stop *atomic.Bool) (bool, error) {
	pl := &f.plan.Layers[layer]
	size := pl.BlockWork(j, b).OutputBytes
	*memory = sized(*memory, size)
	ends := time.Now().Add(f.slice * time.Duration(size) / time.Duration(pl.Work(j).OutputBytes))
	done, err := f.run(pool, layer, j, b, *memory, input, stop)
	for rest := time.Until(ends); done && f.slice > 0 && rest > 0; rest = time.Until(ends) {
		time.Sleep(min(rest, time.Millisecond))
		done = stop == nil || !stop.Load()
	}
	return done, err
}

// run computes a block, or a stage, as compute does.
func (f *fallback) run(pool *kernel.Pool, layer, j, b int, dst, input []byte, stop *atomic.Bool) (bool, error) {
	if f.plan.Layers[layer].Run != nil {
		stage, err := f.stage(pool, layer)
		if err != nil {
			return false, err
		}
		return stage.Run(dst, input, stop, time.Time{})
	}
	block, err := f.block(layer, j, b)
	if err != nil {
		return false, err
	}
	return block.Run(pool, dst, input, stop), nil
}

// stage compiles a stage with its kernels on pool.
func (f *fallback) stage(pool *kernel.Pool, layer int) (*engine.Stage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stage := f.stages[layer]; stage != nil {
		return stage, nil
	}
	run := f.plan.Layers[layer].Run
	s, err := f.g.StageOf(run.From, run.To)
	if err != nil {
		return nil, err
	}
	own := f.g.Cut(s)
	if err := own.Prepare(); err != nil {
		return nil, err
	}
	f.stages[layer], err = engine.NewStage(own, pool)
	return f.stages[layer], err
}

func (f *fallback) block(layer, j, b int) (*engine.Slice, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := [3]int{layer, j, b}
	if block := f.blocks[key]; block != nil {
		return block, nil
	}
	pl := &f.plan.Layers[layer]
	w, err := f.whole(layer)
	if err != nil {
		return nil, err
	}
	block, err := engine.NewSlice(pl.Block(j, b), pl.BlockWeights(j, b, pl.Weights(j, w)))
	if err != nil {
		return nil, err
	}
	f.blocks[key] = block
	return block, nil
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
	maps.DeleteFunc(f.blocks, func(key [3]int, _ *engine.Slice) bool { return key[0] == layer })
}
