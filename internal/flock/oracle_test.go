package flock_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// oracle computes in one process what a flock answers, decoded slices included:
// every sum has one order, so which slices were decoded decides every bit. It
// implements engine.Remote.
type oracle struct {
	t       *testing.T
	plan    *plan.Plan
	code    parity.Code
	session *engine.Session
	layers  []oracleLayer
	decoded map[int]int // of the request under way: slice by layer
	moves   bool        // places change hands: there are spares
}

type oracleLayer struct {
	slices   []*engine.Slice // k data, then the parity if there is one
	absolute *engine.Slice   // of the sum of the data slices' absolute weights
}

// newOracle takes a prepared graph, which it simplifies in place.
func newOracle(t *testing.T, g *graph.Graph, k, r int) *oracle {
	t.Helper()
	if err := rewrite.Simplify(g); err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(g, plan.Options{Data: k, Parity: r})
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{t: t, plan: p}
	if o.code, err = parity.New(k, r); err != nil {
		t.Fatal(err)
	}
	nodes := map[string]*graph.Node{}
	for _, n := range g.Nodes {
		nodes[n.Name] = n
	}
	split := map[string]int{}
	for i, layer := range p.Layers {
		split[layer.Node] = i
		o.layers = append(o.layers, o.layer(g, nodes[layer.Node], layer))
	}
	program, err := engine.Compile(g, engine.Options{Split: split})
	if err != nil {
		t.Fatal(err)
	}
	o.session = program.NewSession()
	return o
}

func (o *oracle) layer(g *graph.Graph, n *graph.Node, layer plan.Layer) oracleLayer {
	o.t.Helper()
	linear, raw, err := engine.LinearOf(g, n)
	if err != nil {
		o.t.Fatal(err)
	}
	w := tensor.View[float32](raw)
	slice := func(weights []float32) *engine.Slice {
		s, err := engine.NewSlice(linear.OfRows(len(weights)/linear.Cols), tensor.Bytes(weights))
		if err != nil {
			o.t.Fatal(err)
		}
		return s
	}
	var out oracleLayer
	var data, absolute [][]float32
	for j := range o.plan.Data {
		begin, end := layer.Rows(j)
		rows := w[begin*linear.Cols : end*linear.Cols]
		data = append(data, rows)
		absolute = append(absolute, abs(rows))
		out.slices = append(out.slices, slice(rows))
	}
	if o.plan.Parity > 0 {
		sum := make([]float32, layer.Height(o.plan.Data)*linear.Cols)
		o.code.Encode(sum, 0, data)
		out.slices = append(out.slices, slice(sum))
		sum = make([]float32, len(sum))
		o.code.Encode(sum, 0, absolute)
		out.absolute = slice(sum)
	}
	return out
}

func abs(x []float32) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = max(v, -v)
	}
	return out
}

// check fails the test unless the answer has the bits that follow from what it
// says was decoded.
func (o *oracle) check(name string, inputs []*tensor.Tensor, answer *coordinator.Answer) {
	o.t.Helper()
	o.decoded = map[int]int{}
	for _, d := range answer.Decoded {
		if old, twice := o.decoded[d.Layer]; twice {
			o.t.Errorf("%s: slices %d and %d of layer %d are both decoded from one parity", name, old, d.Slice, d.Layer)
		}
		if holder := o.plan.WorkerOf(d.Layer, d.Slice); holder != d.Worker && !o.moves {
			o.t.Errorf("%s: slice %d of layer %d was w%d's, the answer says w%d", name, d.Slice, d.Layer, holder+1, d.Worker+1)
		}
		o.decoded[d.Layer] = d.Slice
	}
	want, err := o.session.Run(context.Background(), o, inputs)
	if err != nil {
		o.t.Fatal(err)
	}
	for i := range want {
		if !bytes.Equal(answer.Outputs[i].Data, want[i].Data) {
			o.t.Errorf("%s: output %d with %d slices decoded has other bits than it must have", name, i, len(answer.Decoded))
		}
	}
}

// Linear implements engine.Remote. A recovered slice must lie within the bound
// of the one computed directly; package parity derives it.
func (o *oracle) Linear(_ context.Context, layer int, out, in []byte, _ int32) error {
	dst, x := tensor.View[float32](out), tensor.View[float32](in)
	pl, slices := o.plan.Layers[layer], o.layers[layer].slices
	results := make([][]float32, len(slices))
	for s, slice := range slices {
		results[s] = make([]float32, pl.Slice(s).OutputLen())
		slice.Run(nil, tensor.Bytes(results[s]), in, nil)
	}
	var sums []float32 // Σ_i |W_i|·|x|
	var solution parity.Solution
	missing, decode := o.decoded[layer]
	if decode {
		have := make([]bool, len(slices))
		for s := range have {
			have[s] = s != missing
		}
		if err := o.code.Solve(&solution, have); err != nil {
			return err
		}
		sums = make([]float32, len(results[o.plan.Data]))
		o.layers[layer].absolute.Run(nil, tensor.Bytes(sums), tensor.Bytes(abs(x)), nil)
	}
	size := pl.Height(o.plan.Data) * pl.Linear.Inner // of a parity at one outer index
	for outer := range pl.Linear.Outer {
		rows := make([][]float32, o.plan.Data)
		var others [][]float32
		for s := range o.plan.Data {
			begin, end := pl.Rows(s)
			base := outer * pl.Linear.Rows
			rows[s] = dst[(base+begin)*pl.Linear.Inner : (base+end)*pl.Linear.Inner]
			n := len(rows[s])
			copy(rows[s], results[s][outer*n:(outer+1)*n])
			if s != missing {
				others = append(others, rows[s])
			}
		}
		if !decode {
			continue
		}
		recovered := rows[missing]
		computed := append([]float32(nil), recovered...)
		others = append(others, results[o.plan.Data][outer*size:(outer+1)*size])
		solution.Recover([][]float32{recovered}, others)
		// As if all of a sum were another slice's: these count the most.
		sumAbs := make([]float64, o.plan.Data)
		for i, want := range computed {
			// sums was computed in float32 from weights that were rounded: it may
			// be too small by K+1 roundings.
			sumAbs[(missing+1)%o.plan.Data] = float64(sums[outer*size+i]) * (1 + float64(pl.Linear.Cols+1)/(1<<23))
			bound := solution.Bound(0, pl.Linear.Cols, sumAbs)
			if diff := math.Abs(float64(recovered[i]) - float64(want)); !(diff <= bound) {
				return fmt.Errorf("layer %s: decoded %g, computed %g: off by %g, bound %g", pl.Node, recovered[i], want, diff, bound)
			}
		}
	}
	return nil
}
