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
//	spatial  convolution  a tile and its halo     rows of the output map, or planes or columns
//
//	cover      further slices                                      holds for
//	parity     r whose weights are combinations of the data's      output, channel of one group
//	inputs     r that are given combinations of the inputs         spatial, in tiles of equal height
//	replicate  the same data slices again, with other workers      every kind
//
// A parity slice needs either one input or one set of weights for all data
// slices; slices that differ in both can only be computed twice.
//
// A stage, several nodes of which one value goes in and one comes out, is a layer
// too, of kind Stage: one data slice, which is all of it, and copies.
package plan

import (
	"errors"
	"slices"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/wire"
)

// Kinds of split.
const (
	Auto    = "auto"    // Output and Channel, of layers that parity can cover
	Output  = "output"  // dense layers by output rows
	Channel = "channel" // convolutions by output channels or groups
	Input   = "input"   // dense layers by input columns
	Filter  = "filter"  // convolutions by input channels
	Spatial = "spatial" // convolutions by rows of the map
	Local   = "local"   // in a Setting: not split
	Stage   = "stage"   // runs of nodes, each whole; in a Setting, with To
)

// Kinds are all that Options.Split can be.
var Kinds = []string{Auto, Output, Channel, Input, Filter, Spatial, Stage}

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
	// Memory is how many bytes of weights each worker may hold: who would hold
	// more is given smaller slices. Nil is no limit.
	Memory []int64
	Block  int           // rows in which slices are returned as they are computed; 0 chooses what is worth its cost
	Wire   wire.Encoding // of inputs and results on the link
	Layers []Setting     // what is otherwise for some layers
}

// Setting plans one layer apart from the others. Workers count from 0.
type Setting struct {
	Node       string         // of the graph; of dense ones that read the same input, the first is for all that have none of their own
	To         string         // the last node of a stage that begins with Node (see graph.Graph.StageOf); "" if it is none
	Split      string         // a kind, or Local; "" is Options.Split
	Redundancy string         // None, Parity, Inputs or Replicate; "" is Options.Redundancy
	Wire       *wire.Encoding // nil is Options.Wire
	// Data holds the data slices, in order; nil chooses from all workers. One
	// worker alone holds the layer whole, as it must a stage.
	Data   []int
	Shares []float64 // of the layer, one for each of Data; nil is their speeds
	// Spare holds the parity slices, or a copy of each data slice; nil chooses.
	Spare []int
}

// Workers is how many workers a plan with these options has.
func (o *Options) Workers() int {
	switch {
	case o.Redundancy == None || o.Data == 0:
		return o.Data
	case o.Redundancy == Replicate:
		return 2 * o.Data
	default:
		return o.Data + o.Parity
	}
}

// Plan is who holds what. It is immutable once made.
type Plan struct {
	Data    int // k
	Parity  int // r
	Workers int
	Layers  []Layer

	speeds []float64 // of the workers
}

// ErrNothingToSplit says that a model has no layer of the wanted kind.
var ErrNothingToSplit = errors.New("no layer to split")

// New plans a prepared graph.
func New(g *graph.Graph, opt Options) (*Plan, error) {
	if opt.Data == 0 {
		return &Plan{}, nil
	}
	m, err := newMaker(g, opt)
	if err != nil {
		return nil, err
	}
	speeds := slices.Clone(m.speeds)
	for range fittings {
		p, err := m.plan()
		if err != nil {
			return nil, err
		}
		p.speeds = speeds
		if m.fit(p) {
			return p, nil
		}
		if opt.Split == Stage { // other cuts
			if err := m.find(g); err != nil {
				return nil, err
			}
		}
	}
	return nil, m.tooLarge()
}

// wanted says what a split is for.
var wanted = map[string]string{
	"": "dense layer or ungrouped convolution", Auto: "dense layer or ungrouped convolution",
	Output: "dense layer", Input: "dense layer",
	Channel: "convolution", Filter: "ungrouped convolution", Spatial: "convolution",
	Stage: "run of nodes with one value going in and one coming out, a layer among them",
}

// kindOf is the kind in which a run with that split cuts a layer that is no part of
// a stage; "" if it does not.
func kindOf(l engine.Linear, split string) string {
	if split == "" || split == Auto || split == Stage {
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

// N is the number of workers.
func (p *Plan) N() int { return p.Workers }

// SliceOf is the first slice of a layer that a worker holds, -1 for none.
func (p *Plan) SliceOf(layer, worker int) int { return slices.Index(p.Layers[layer].Workers, worker) }

// WorkerOf is the worker that holds a slice of a layer.
func (p *Plan) WorkerOf(layer, slice int) int { return p.Layers[layer].Workers[slice] }

// Memory is how many bytes of weights each worker holds.
func (p *Plan) Memory() []int64 {
	held := make([]int64, p.Workers)
	for i := range p.Layers {
		l := &p.Layers[i]
		for s, w := range l.Workers {
			held[w] += int64(l.Work(s).WeightBytes)
		}
	}
	return held
}

// Nodes are the graph's nodes of each layer; nil where the graph lacks one.
func (p *Plan) Nodes(g *graph.Graph) [][]*graph.Node {
	byName := make(map[string]*graph.Node, len(g.Nodes))
	for _, n := range g.Nodes {
		byName[n.Name] = n
	}
	all := make([][]*graph.Node, len(p.Layers))
	for i := range p.Layers {
		for _, name := range p.Layers[i].Nodes {
			if byName[name] == nil {
				all[i] = nil
				break
			}
			all[i] = append(all[i], byName[name])
		}
	}
	return all
}
