//go:build check

package coordinator

import (
	"slices"

	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// Trial is the part of a request that knows no network, of a model of one layer:
// what its results are computed from, and its output once some of them have come.
type Trial struct {
	l       *call
	members []*member
}

// NewTrial makes a trial of a plan for g.
func NewTrial(g *graph.Graph, p *plan.Plan) (*Trial, error) {
	layerCode, err := newCode(&p.Layers[0])
	if err != nil {
		return nil, err
	}
	c := &Coordinator{plan: p, codes: []code{layerCode}, local: newFallback(g, p, 0)}
	t := &Trial{l: &call{c: c, answer: new(Answer), changed: make(chan struct{}, 1), layer: none}}
	for w := range p.Workers {
		t.members = append(t.members, &member{number: w})
	}
	return t, nil
}

// Inputs are what each of the layer's results is computed from, of its whole input
// and that one's zero point.
func (t *Trial) Inputs(x []byte, zero int32) (all [][]byte) {
	layer := &t.l.c.plan.Layers[0]
	t.l.layer = 0
	t.l.fillInputs(layer, x, zero)
	for u := range layer.Results() {
		values := t.l.input(layer, u).values.Bytes()
		input := tensor.Alloc(len(values))
		copy(input, values)
		all = append(all, input)
	}
	t.l.releaseInputs()
	return all
}

// Output makes the layer's output of the results that come from workers which are
// not dead, one after the other in that order of slices, and returns the data slices
// that were decoded.
func (t *Trial) Output(out []byte, results [][]byte, order, dead []int) ([]Recovered, error) {
	l, layer := t.l, &t.l.c.plan.Layers[0]
	l.holders = l.holders[:0]
	for _, w := range layer.Workers {
		l.holders = append(l.holders, t.members[w])
	}
	l.mu.Lock()
	l.prepare(layer)
	l.out, l.layer = out, 0
	for _, s := range order {
		if slices.Contains(dead, layer.Workers[s]) {
			continue
		}
		u := s % layer.Results()
		for b := range layer.Blocks(u) {
			l.take(layer, s, b, result{wire.F32, layer.Kept(u, b, results[u])})
		}
	}
	l.layer = none
	l.mu.Unlock()
	l.answer.Decoded = l.answer.Decoded[:0]
	if layer.Sums() {
		l.sum(0, out)
		return nil, nil
	}
	err := l.decode(0, out)
	return l.answer.Decoded, err
}
