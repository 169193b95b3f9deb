package engine_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0 picks one")

// random returns a generator whose seed is printed if the test fails.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat with -seed %d", seed, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// fill returns a tensor of uniform values in [-1, 1).
func fill(r *rand.Rand, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	x := t.F32()
	for i := range x {
		x[i] = 2*r.Float32() - 1
	}
	return t
}

// builder makes graphs in code.
type builder struct {
	g graph.Graph
	r *rand.Rand
}

func newBuilder(r *rand.Rand) *builder {
	return &builder{g: graph.Graph{Opset: 13, Constants: map[string]*tensor.Tensor{}}, r: r}
}

// input adds an input of float32 and returns its name.
func (b *builder) input(shape ...int) string {
	name := fmt.Sprintf("in%d", len(b.g.Inputs))
	b.g.Inputs = append(b.g.Inputs, graph.Value{Name: name, Info: graph.Info{Type: tensor.Float32, Shape: shape}})
	return name
}

// weights adds a constant of random values and returns its name.
func (b *builder) weights(shape ...int) string { return b.constant(fill(b.r, shape...)) }

func (b *builder) constant(t *tensor.Tensor) string {
	name := fmt.Sprintf("c%d", len(b.g.Constants))
	b.g.Constants[name] = t
	return name
}

// node adds a node and returns its output's name.
func (b *builder) node(op string, attrs graph.Attrs, inputs ...string) string {
	name := fmt.Sprintf("%s%d", op, len(b.g.Nodes))
	b.g.Nodes = append(b.g.Nodes, &graph.Node{Name: name, Op: op, Inputs: inputs, Outputs: []string{name + "_y"}, Attrs: attrs})
	return name + "_y"
}

// graph ends with these outputs and prepares.
func (b *builder) graph(t testing.TB, outputs ...string) *graph.Graph {
	t.Helper()
	b.g.Outputs = outputs
	if err := b.g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return &b.g
}

// inputs fills a tensor for every input of a graph.
func inputs(r *rand.Rand, g *graph.Graph) []*tensor.Tensor {
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		in[i] = fillOf(r, v.Type, v.Shape...)
	}
	return in
}

// fillOf is fill for any type: small numbers, and bools.
func fillOf(r *rand.Rand, typ tensor.DType, shape ...int) *tensor.Tensor {
	if typ == tensor.Float32 {
		return fill(r, shape...)
	}
	t := tensor.New(typ, shape...)
	for i := range t.Shape.Elements() {
		switch v := r.IntN(3); typ {
		case tensor.Float64:
			tensor.Of[float64](t)[i] = 2*r.Float64() - 1
		case tensor.Bool:
			t.Data[i] = byte(v & 1)
		default:
			t.Data[i*typ.Size()] = byte(v)
		}
	}
	return t
}

func compile(t testing.TB, g *graph.Graph, opt engine.Options) *engine.Program {
	t.Helper()
	p, err := engine.Compile(g, opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run returns copies of a graph's outputs.
func run(t testing.TB, g *graph.Graph, opt engine.Options, remote engine.Remote, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	out, err := compile(t, g, opt).NewSession().Run(context.Background(), remote, in)
	if err != nil {
		t.Fatal(err)
	}
	return clones(out)
}

func clones(list []*tensor.Tensor) []*tensor.Tensor {
	out := make([]*tensor.Tensor, len(list))
	for i, t := range list {
		out[i] = t.Clone()
	}
	return out
}

// same fails the test unless both lists have the same types, shapes and bits.
func same(t testing.TB, what string, got, want []*tensor.Tensor) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d outputs, want %d", what, len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.Type != w.Type || !g.Shape.Equal(w.Shape) {
			t.Fatalf("%s: output %d is %v %v, want %v %v", what, i, g.Type, g.Shape, w.Type, w.Shape)
		}
		if string(g.Data) != string(w.Data) {
			t.Fatalf("%s: output %d differs", what, i)
		}
	}
}

// nodeByNode runs each node of a graph in a graph of its own, which fuses nothing.
func nodeByNode(t testing.TB, g *graph.Graph, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	values := map[string]*tensor.Tensor{}
	for i, v := range g.Inputs {
		values[v.Name] = in[i]
	}
	for _, n := range g.Nodes {
		one := &graph.Graph{Opset: g.Opset, Constants: map[string]*tensor.Tensor{}, Nodes: []*graph.Node{n}, Outputs: n.Outputs}
		var operands []*tensor.Tensor
		for _, name := range n.Inputs {
			switch v := values[name]; {
			case g.Constants[name] != nil:
				one.Constants[name] = g.Constants[name]
			case !slices.Contains(operands, v):
				one.Inputs = append(one.Inputs, graph.Value{Name: name, Info: graph.Info{Type: v.Type, Shape: v.Shape}})
				operands = append(operands, v)
			}
		}
		if err := one.Prepare(); err != nil {
			t.Fatal(err)
		}
		values[n.Outputs[0]] = run(t, one, engine.Options{}, nil, operands)[0]
	}
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, name := range g.Outputs {
		out[i] = values[name]
	}
	return out
}
