//go:build check

package coordinator_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// Every layer of every trained model that can be split, alone, with its weights
// and what it is given in a run of random inputs, in every manner: see patterns.
//
// This is not all that TestEveryPattern has. A layer is cut in each manner into
// those k and r slices, or k with copies, whose turn it is, in an order drawn
// anew for each model, as many as it has layers and manners; of layers of one
// geometry in a model the first is taken; and of the sets of dead workers 64 of
// a small layer are drawn, of one that moves a million values 8.
func TestEveryModel(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(modelFile(t, "lenet5_mnist.onnx")), "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			r := random(t)
			var turns []plan.Options
			for _, layer := range layersOf(t, r, file) {
				for _, split := range kinds[1:] {
					if len(turns) == 0 {
						turns = ways(8, 3)
						r.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
					}
					opt := turns[0]
					opt.Split = split
					if _, err := plan.New(layer.g, opt); err != nil {
						continue // not in this manner
					}
					turns = turns[1:]
					patterns(t, r, layer.g, layer.in, opt, min(64, max(4, 8_000_000/layer.values)))
				}
			}
		})
	}
}

// alone is a graph of one layer and its input.
type alone struct {
	g      *graph.Graph
	in     *tensor.Tensor
	values int // that it reads and gives
}

func layersOf(t *testing.T, r *rand.Rand, file string) (all []alone) {
	t.Helper()
	g := simplified(t, file)
	seen := map[engine.Linear]bool{}
	var nodes []*graph.Node
	for _, n := range g.Nodes {
		if l, _, err := engine.LinearOf(g, n); err == nil && !seen[l] && l.Integers == (engine.Integers{}) {
			seen[l] = true
			nodes = append(nodes, n)
		}
	}
	program, err := engine.Compile(withOutputs(t, g, nodes), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var in []*tensor.Tensor
	for _, v := range g.Inputs {
		x := tensor.New(v.Type, v.Shape...)
		if v.Type == tensor.Float32 {
			x = normal(r, v.Shape...)
		} else {
			for i := range tensor.View[int64](x.Data) {
				tensor.View[int64](x.Data)[i] = r.Int64N(512)
			}
		}
		in = append(in, x)
	}
	values, err := program.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		t.Fatal(err)
	}
	values = values[len(g.Outputs):]
	for i, n := range nodes {
		l, w, err := engine.LinearOf(g, n)
		if err != nil {
			t.Fatal(err)
		}
		x := values[i].Clone()
		one := &graph.Node{Name: n.Name, Op: n.Op, Inputs: []string{"x", "w"}, Outputs: []string{"y"}, Attrs: n.Attrs}
		weights := g.Constants[n.Inputs[1]]
		if l.Op != "Conv" {
			x.Shape = tensor.Shape{l.Outer, l.Cols}
			one.Op, one.Attrs = "Gemm", graph.Attrs{"transB": int64(1)}
			weights = tensor.FromSlice(tensor.View[float32](w), l.Rows, l.Cols)
		}
		weights = weights.Clone() // the file is mapped as long as its graph is there
		single := &graph.Graph{
			Opset: g.Opset, Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: x.Shape}}},
			Outputs: []string{"y"}, Nodes: []*graph.Node{one}, Constants: map[string]*tensor.Tensor{"w": weights},
		}
		if err := single.Prepare(); err != nil {
			t.Fatal(err)
		}
		all = append(all, alone{single, x, l.InputLen() + l.OutputLen()})
	}
	return all
}

// withOutputs is a graph that also gives what nodes read.
func withOutputs(t *testing.T, g *graph.Graph, nodes []*graph.Node) *graph.Graph {
	t.Helper()
	more := *g
	more.Outputs = append([]string(nil), g.Outputs...)
	for _, n := range nodes {
		more.Outputs = append(more.Outputs, n.Inputs[0])
	}
	return &more
}
