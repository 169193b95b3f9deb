package conformance_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"starling/internal/digits"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// Limits of what FuzzImport runs; larger models are only prepared.
const (
	maxFuzzNodes    = 1 << 10
	maxFuzzElements = 1 << 18 // of all values together
	maxFuzzWork     = 1 << 26 // floating-point operations
)

// FuzzImport takes bytes all the way: decoded, prepared, simplified, compiled and
// run, as they are and simplified. Whatever the bytes, the end is an error or
// outputs of the types that were inferred, the same bits both ways.
//
// The corpus in testdata is one small model of each operator, from ONNX's cases;
// the digits and, where there is the folder, small real models come on top.
func FuzzImport(f *testing.F) {
	f.Add(digits.Model)
	if dir := os.Getenv("STARLING_MODELS"); dir != "" {
		files, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			if len(b) < 1<<17 { // smaller files fuzz faster
				f.Add(b)
			}
		}
	}
	f.Fuzz(through)
}

func through(t *testing.T, b []byte) {
	g, err := onnx.DecodeBytes(b)
	if err != nil {
		oneLine(t, err)
		return
	}
	if !small(g) {
		return
	}
	plain := outputs(t, g)
	exact := !slices.ContainsFunc(g.Nodes, func(n *graph.Node) bool { return n.Op == "BatchNormalization" })
	if err := rewrite.Simplify(g); err != nil {
		oneLine(t, err)
		return
	}
	simple := outputs(t, g)
	if plain == nil || simple == nil || !exact {
		return
	}
	for i := range plain {
		if string(plain[i].Data) != string(simple[i].Data) {
			t.Errorf("output %d: simplified, it has other bits", i)
		}
	}
}

// oneLine fails the test if an error is no single line.
func oneLine(t *testing.T, err error) {
	t.Helper()
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("not one line: %q", err)
	}
}

// small reports whether a graph is within the limits.
func small(g *graph.Graph) bool {
	elements, work := 0, int64(0)
	for _, info := range g.Infos {
		if n := info.Shape.Elements(); n > maxFuzzElements {
			return false
		} else if elements += n; elements > maxFuzzElements {
			return false
		}
	}
	for _, n := range g.Nodes {
		if work += graph.FLOPs(g, n) + most(g, n); work > maxFuzzWork {
			return false
		}
	}
	return len(g.Nodes) <= maxFuzzNodes
}

// most is more than a node of other operators than graph.FLOPs knows computes: for
// each output a window, or every pair of elements of its operands.
func most(g *graph.Graph, n *graph.Node) int64 {
	outputs := int64(0)
	for _, name := range n.Outputs {
		outputs += int64(g.Infos[name].Shape.Elements())
	}
	for _, size := range n.Attrs.Ints("kernel_shape", nil) {
		if outputs *= int64(size); outputs > maxFuzzWork {
			return outputs
		}
	}
	switch n.Op {
	case "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN", "NonMaxSuppression", "TopK":
		pairs := int64(1)
		for _, name := range n.Inputs {
			if pairs *= int64(max(g.Infos[name].Shape.Elements(), 1)); pairs > maxFuzzWork {
				break
			}
		}
		return outputs + pairs
	}
	return outputs
}

// outputs runs a graph on inputs of small numbers; nil if it cannot be run.
func outputs(t *testing.T, g *graph.Graph) []*tensor.Tensor {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		oneLine(t, err)
		return nil
	}
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		in[i] = tensor.New(v.Type, v.Shape...)
		size := v.Type.Size()
		for k := range in[i].Data {
			if k%size == size-1 && v.Type != tensor.Bool { // the byte with a float's exponent
				in[i].Data[k] = byte(k / size % 3 * 0x20)
			} else if k%size == 0 {
				in[i].Data[k] = byte(k / size % 2)
			}
		}
	}
	out, err := p.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		oneLine(t, err)
		return nil
	}
	list := make([]*tensor.Tensor, len(out))
	for i, x := range out {
		if want := g.Infos[g.Outputs[i]]; x.Type != want.Type || !x.Shape.Equal(want.Shape) || len(x.Data) != x.Shape.Elements()*x.Type.Size() {
			t.Errorf("output %q is %v%v in %d bytes, want %v", g.Outputs[i], x.Type, x.Shape, len(x.Data), want)
		}
		list[i] = x.Clone()
	}
	return list
}
