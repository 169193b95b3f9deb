// Package plan decides which worker holds which slice of which layer. A plan
// is pure geometry: it holds no weights and knows no connections.
//
// Every layer of a plan has k data slices, cut by rows of its matrix into
// heights that differ by at most one, and r parity slices as high as the
// highest data slice. Worker w holds slice (w + layer) mod n of each layer, so
// that parity work rotates over all workers.
package plan

import (
	"errors"
	"fmt"
	"strings"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/parity"
)

// Split kinds. Auto takes both of the others, each where it applies.
const (
	Auto    = "auto"
	Output  = "output"  // dense layers by output rows
	Channel = "channel" // convolutions by output channels
)

// Options say how to cut a model.
type Options struct {
	Data   int    // k: data slices of each layer; 0 plans a local run without workers
	Parity int    // r: parity slices of each layer
	Split  string // Auto, Output or Channel; "" is Auto
}

// Plan is who holds what. It is immutable once made.
type Plan struct {
	Data   int // k
	Parity int // r
	Layers []Layer
}

// Layer is one split layer.
type Layer struct {
	Node   string // name of the graph's node
	Linear engine.Linear
	data   int
}

// ErrNothingToSplit says that a model has no layer of the wanted kind.
var ErrNothingToSplit = errors.New("no layer to split")

// RowsError says that a layer has fewer rows than there are data slices.
type RowsError struct {
	Layer      string
	Rows, Data int
}

func (e *RowsError) Error() string {
	return fmt.Sprintf("layer %s has %d rows, too few for %d data slices: use --workers %d or fewer",
		e.Layer, e.Rows, e.Data, e.Rows)
}

// New plans a prepared graph: every Gemm and MatMul with constant weights
// (split output) and every ungrouped Conv (split channel) is cut.
func New(g *graph.Graph, opt Options) (*Plan, error) {
	p := &Plan{Data: opt.Data, Parity: opt.Parity}
	if opt.Data == 0 {
		p.Parity = 0
		return p, nil
	}
	if _, err := parity.New(opt.Data, opt.Parity); err != nil {
		return nil, err
	}
	var dense, conv bool
	switch opt.Split {
	case "", Auto:
		dense, conv = true, true
	case Output:
		dense = true
	case Channel:
		conv = true
	case "input", "filter", "spatial":
		return nil, fmt.Errorf("split %q can't be coded by weights and is not built: use auto, output or channel", opt.Split)
	default:
		return nil, fmt.Errorf("unknown split %q: use auto, output or channel", opt.Split)
	}
	for _, n := range g.Nodes {
		if n.Op == "Conv" && !conv || n.Op != "Conv" && !dense {
			continue
		}
		l, _, err := engine.LinearOf(g, n)
		if errors.Is(err, engine.ErrNotLinear) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if l.Rows < opt.Data {
			return nil, &RowsError{Layer: n.Name, Rows: l.Rows, Data: opt.Data}
		}
		layer := Layer{Node: n.Name, Linear: l, data: opt.Data}
		in, out := 4*int64(l.InputLen()), 4*int64(l.OutputLen(layer.Height(opt.Data)))
		if most := max(in, out); most > frame.DefaultMaxPayload {
			return nil, fmt.Errorf("layer %s sends or returns %d bytes, a frame carries at most %d: use another --split, or --workers 0", n.Name, most, frame.DefaultMaxPayload)
		}
		p.Layers = append(p.Layers, layer)
	}
	if len(p.Layers) == 0 {
		return nil, fmt.Errorf("%w: the model has no %s: use another --split, or --workers 0 to run it here",
			ErrNothingToSplit, strings.Join(kinds(dense, conv), " or "))
	}
	return p, nil
}

func kinds(dense, conv bool) []string {
	var k []string
	if dense {
		k = append(k, "dense layer with constant weights")
	}
	if conv {
		k = append(k, "ungrouped convolution with constant weights")
	}
	return k
}

// N is the number of slices of each layer and of workers: k + r.
func (p *Plan) N() int { return p.Data + p.Parity }

// SliceOf is the slice of a layer that a worker holds: 0 … k−1 are data
// slices, k … n−1 parity slices.
func (p *Plan) SliceOf(layer, worker int) int { return (worker + layer) % p.N() }

// WorkerOf is the worker that holds a slice of a layer.
func (p *Plan) WorkerOf(layer, slice int) int {
	n := p.N()
	return ((slice-layer)%n + n) % n
}

// Rows is the range of the layer's rows that data slice j holds, end excluded.
func (l Layer) Rows(j int) (begin, end int) {
	rows, k := int64(l.Linear.Rows), int64(l.data)
	return int(rows * int64(j) / k), int(rows * int64(j+1) / k)
}

// Height is the number of rows that slice j holds; a parity slice is as high
// as the highest data slice.
func (l Layer) Height(j int) int {
	if j >= l.data {
		return (l.Linear.Rows + l.data - 1) / l.data
	}
	begin, end := l.Rows(j)
	return end - begin
}
