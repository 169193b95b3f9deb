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

// Every layer of every trained model that can be split, alone,
// with its weights and what it is given in a run of random inputs, in every manner,
// over workers: see patterns.
//
// Every k, r and set of lost workers is in TestDecodeModels. Here a layer is cut in
// each manner into those k and r slices, or k with copies, whose turn it is, in an
// order drawn anew for each model; of layers of one geometry in a model the first is
// taken; and of the sets of dead workers 8 of a small layer are drawn, of one that
// moves a million values 2.
func TestEveryModel(t *testing.T) {
	for _, file := range modelFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			r := random(t)
			var turns []plan.Options
			g := simplified(t, file)
			for _, layer := range layersIn(t, g, randomInputs(r, g)) {
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
					patterns(t, r, layer.g, layer.in, opt, min(8, max(2, 2_000_000/layer.values)))
				}
			}
		})
	}
}

// modelFiles are all models of the folder of modelFile.
func modelFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(modelFile(t, "lenet5_mnist.onnx")), "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// randomInputs are normal numbers, and whole ones below 512.
func randomInputs(r *rand.Rand, g *graph.Graph) (in []*tensor.Tensor) {
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
	return in
}

// alone is a graph of one layer and its input.
type alone struct {
	g      *graph.Graph
	in     *tensor.Tensor
	values int // that it reads and gives
}

// layersIn are the layers of a graph that can be split, of each geometry the first, and what
// they are given when it runs.
func layersIn(t *testing.T, g *graph.Graph, in []*tensor.Tensor) (all []alone) {
	t.Helper()
	seen := map[engine.Linear]bool{}
	var nodes []*graph.Node
	for _, n := range g.Nodes {
		l, _, err := engine.LinearOf(g, n)
		l.Integers.Zero = 0
		if err == nil && !seen[l] {
			seen[l] = true
			nodes = append(nodes, n)
		}
	}
	program, err := engine.Compile(withOutputs(t, g, nodes), engine.Options{})
	if err != nil {
		t.Fatal(err)
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
		one := &graph.Node{Name: n.Name, Op: n.Op, Inputs: append([]string{"x"}, n.Inputs[1:]...), Outputs: []string{"y"}, Attrs: n.Attrs}
		constants := map[string]*tensor.Tensor{}
		switch {
		case l.Integers != (engine.Integers{}):
			for _, name := range n.Inputs[1:] {
				constants[name] = g.Constants[name].Clone() // the file is mapped as long as its graph is there
			}
		case l.Op == "Conv":
			one.Inputs = []string{"x", "w"} // without bias
			constants["w"] = g.Constants[n.Inputs[1]].Clone()
		default:
			x.Shape = tensor.Shape{l.Outer, l.Cols}
			one.Op, one.Inputs, one.Attrs = "Gemm", []string{"x", "w"}, graph.Attrs{"transB": int64(1)}
			constants["w"] = tensor.FromSlice(tensor.View[float32](w), l.Rows, l.Cols).Clone()
		}
		single := &graph.Graph{
			Opset: g.Opset, Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: x.Type, Shape: x.Shape}}},
			Outputs: []string{"y"}, Nodes: []*graph.Node{one}, Constants: constants,
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
