// Package plan decides which worker holds which slice of which layer. A plan
// is pure geometry: it holds no weights and knows no connections.
//
// A layer is cut into k data slices by its kind of split, and has a cover that
// makes good for lost ones:
//
//	kind     of           data slice j is given   and computes
//	output   dense        the input               rows of W
//	channel  convolution  the input               output channels
//	channel  … of groups  its groups' channels    all filters of whole groups
//	input    dense        part of the input       columns of W: a partial sum
//	filter   convolution  input channels          these of every filter: a partial sum
//	spatial  convolution  a tile and its halo     rows of the output map
//
//	cover      further slices                                      holds for
//	parity     r whose weights are combinations of the data's      output, channel of one group
//	inputs     r that are given combinations of the inputs         spatial, in tiles of equal height
//	replicate  the same data slices again, with other workers      every kind
//
// A parity slice needs either one input or one set of weights for all data
// slices; slices that differ in both can only be computed twice.
package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/parity"
)

// Kinds of split.
const (
	Auto    = "auto"    // Output and Channel, of layers that parity can cover
	Output  = "output"  // dense layers by output rows
	Channel = "channel" // convolutions by output channels or groups
	Input   = "input"   // dense layers by input columns
	Filter  = "filter"  // convolutions by input channels
	Spatial = "spatial" // convolutions by rows of the map
)

// Kinds are all that Options.Split can be.
var Kinds = []string{Auto, Output, Channel, Input, Filter, Spatial}

// Covers.
const (
	None      = "none"
	Parity    = "parity"
	Replicate = "replicate"
	Inputs    = "inputs"
)

// Options say how to cut a model.
type Options struct {
	Data   int    // k: data slices of each layer; 0 plans a local run without workers
	Parity int    // r: losses that each layer is to survive
	Split  string // a kind; "" is Auto. Layers that it is not for are not split
	// Redundancy is None, which sets r to 0; Parity, the default: each layer has
	// its cheapest cover, Parity or Inputs if possible, on k + r workers; or
	// Replicate: every slice is held by two of 2·k workers.
	Redundancy string
	// Speeds of the workers, relative to each other: slices are in proportion.
	// Nil if all are alike.
	Speeds []float64
}

// Plan is who holds what. It is immutable once made.
type Plan struct {
	Data    int // k
	Parity  int // r
	Workers int
	Layers  []Layer
}

// ErrNothingToSplit says that a model has no layer of the wanted kind.
var ErrNothingToSplit = errors.New("no layer to split")

// New plans a prepared graph.
func New(g *graph.Graph, opt Options) (*Plan, error) {
	if opt.Data == 0 {
		return &Plan{}, nil
	}
	m, err := newMaker(&opt)
	if err != nil {
		return nil, err
	}
	p := &Plan{Data: opt.Data, Parity: opt.Parity, Workers: len(m.speeds)}
	for _, n := range g.Nodes {
		l, _, err := engine.LinearOf(g, n)
		if errors.Is(err, engine.ErrNotLinear) {
			continue
		}
		if err != nil {
			return nil, err
		}
		kind := kindOf(l, opt.Split)
		if kind == "" {
			continue
		}
		layer, err := m.layer(len(p.Layers), n.Name, l, kind)
		if err != nil {
			return nil, fmt.Errorf("split layer %s: %w", n.Name, err)
		}
		p.Layers = append(p.Layers, layer)
	}
	if len(p.Layers) == 0 {
		return nil, fmt.Errorf("%w: the model has no %s with constant weights: use another --split, or --workers 0 to run it here",
			ErrNothingToSplit, wanted[opt.Split])
	}
	return p, nil
}

// wanted says what a split is for.
var wanted = map[string]string{
	"": "dense layer or ungrouped convolution", Auto: "dense layer or ungrouped convolution",
	Output: "dense layer", Input: "dense layer",
	Channel: "convolution", Filter: "ungrouped convolution", Spatial: "convolution",
}

// kindOf is the kind in which a run with that split cuts a layer; "" if it
// does not.
func kindOf(l engine.Linear, split string) string {
	if split == "" || split == Auto {
		switch {
		case l.Op != "Conv":
			return Output
		case l.Conv.Groups == 1:
			return Channel
		}
		return ""
	}
	if _, err := Units(l, split); err != nil {
		return ""
	}
	return split
}

// maker makes the layers of a plan.
type maker struct {
	data, parity int
	replicate    bool
	speeds       []float64 // of all workers
}

// Workers is how many workers a plan with these options has.
func (o *Options) Workers() int {
	switch o.Redundancy {
	case None:
		return o.Data
	case Replicate:
		return 2 * o.Data
	default:
		return o.Data + o.Parity
	}
}

// newMaker checks the options and puts their defaults in.
func newMaker(opt *Options) (*maker, error) {
	if _, ok := wanted[opt.Split]; !ok {
		return nil, fmt.Errorf("unknown split %q: use %s", opt.Split, strings.Join(Kinds, ", "))
	}
	n := opt.Workers()
	switch opt.Redundancy {
	case "", Parity:
	case None, Replicate:
		opt.Parity = 0
	default:
		return nil, fmt.Errorf("unknown redundancy %q: use %s, %s or %s", opt.Redundancy, None, Parity, Replicate)
	}
	if _, err := parity.New(opt.Data, opt.Parity); err != nil {
		return nil, err
	}
	m := &maker{data: opt.Data, parity: opt.Parity, replicate: opt.Redundancy == Replicate, speeds: opt.Speeds}
	if m.speeds == nil {
		m.speeds = slices.Repeat([]float64{1}, n)
	}
	if len(m.speeds) != n {
		return nil, fmt.Errorf("%d speeds for %d workers", len(m.speeds), n)
	}
	for i, s := range m.speeds {
		if !(s > 0 && s < 1e9) { // not a number is not
			return nil, fmt.Errorf("speed %v of worker w%d: must be above 0 and below 1e9", s, i+1)
		}
	}
	return m, nil
}

// layer plans layer number i.
func (m *maker) layer(i int, node string, l engine.Linear, kind string) (Layer, error) {
	layer := Layer{Node: node, Linear: l, Kind: kind, Cover: None}
	var data, extra []int // workers of the data slices, and of each further set
	var shares []float64
	switch {
	case m.replicate:
		layer.Cover = Replicate
		data, extra, shares = m.pairs()
	case m.parity > 0:
		layer.Cover = cheapest(l, kind)
		data, extra, shares = m.coded(i)
		if layer.Cover == Replicate {
			data, extra, shares = m.ring()
		}
	default:
		data, shares = m.rotated(i), m.speeds
	}
	return layer, layer.fill(data, extra, shares)
}

// cheapest is the cover that takes the least work.
func cheapest(l engine.Linear, kind string) string {
	switch {
	case kind == Output || kind == Channel && l.Conv.Groups == 1:
		return Parity
	case kind == Spatial:
		return Inputs
	}
	return Replicate
}

// rotated lists all workers, in another order for each layer, so that a
// remainder does not always go to the same one.
func (m *maker) rotated(layer int) []int {
	n := len(m.speeds)
	order := make([]int, n)
	for s := range order {
		order[s] = ((s-layer)%n + n) % n
	}
	return order
}

// coded chooses who holds parity, so that the layer is done soonest. A parity
// slice is as high as the highest data slice, so nobody should have more than
// the parity workers can do in the same time: with c the speed of the slowest
// of them, worker w is given rows in proportion to min(speed, c), and the layer
// takes 1/(Σ min(speed, c) − r·c). Among the workers as fast as c, parity
// rotates over the layers.
func (m *maker) coded(layer int) (data, extra []int, shares []float64) {
	best, least := 0.0, 0.0
	fast := slices.Clone(m.speeds)
	slices.SortFunc(fast, func(a, b float64) int { return cmp.Compare(b, a) })
	for _, c := range fast[m.parity-1:] {
		sum := -float64(m.parity) * c
		for _, s := range m.speeds {
			sum += min(s, c)
		}
		if sum > best {
			best, least = sum, c
		}
	}
	order := m.rotated(layer)
	for _, w := range slices.Backward(order) {
		if m.speeds[w] >= least && len(extra) < m.parity {
			extra = append(extra, w)
		}
	}
	slices.Reverse(extra)
	for _, w := range order {
		if !slices.Contains(extra, w) {
			data = append(data, w)
			shares = append(shares, min(m.speeds[w], least))
		}
	}
	return data, extra, shares
}

// ring gives every worker a data slice, and the same to the r workers after it.
func (m *maker) ring() (data, extra []int, shares []float64) {
	n := len(m.speeds)
	for w := range n {
		data = append(data, w)
	}
	for c := range m.parity {
		for w := range n {
			extra = append(extra, (w+c+1)%n)
		}
	}
	return data, extra, m.speeds
}

// pairs gives the same data slice to workers that are about as fast.
func (m *maker) pairs() (data, extra []int, shares []float64) {
	order := m.rotated(0)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.speeds[b], m.speeds[a]) })
	for i := 0; i < len(order); i += 2 {
		data, extra = append(data, order[i]), append(extra, order[i+1])
		shares = append(shares, m.speeds[order[i+1]])
	}
	return data, extra, shares
}

// N is the number of workers.
func (p *Plan) N() int { return p.Workers }

// SliceOf is the first slice of a layer that a worker holds, -1 for none.
func (p *Plan) SliceOf(layer, worker int) int { return slices.Index(p.Layers[layer].Workers, worker) }

// WorkerOf is the worker that holds a slice of a layer.
func (p *Plan) WorkerOf(layer, slice int) int { return p.Layers[layer].Workers[slice] }
