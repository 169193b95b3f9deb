//go:build check

package conformance_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/tensor"
)

// reference runs a model's file in ONNX Runtime and returns its first output; an
// input with one leading axis more than the model's is a batch, run in turn.
func reference(t *testing.T, model string, in []*tensor.Tensor, more ...string) *tensor.Tensor {
	t.Helper()
	runtime := os.Getenv("STARLING_ORT")
	if runtime == "" {
		t.Skip("no ONNX Runtime: STARLING_ORT is not set (tools/check/all sets it)")
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "out.npy")
	args := append([]string{filepath.Join("..", "..", "tools", "check", "ort.mjs"), model, "--output", out}, more...)
	for i, x := range in {
		file := filepath.Join(dir, string(rune('a'+i))+".npy")
		if err := os.WriteFile(file, npy(x), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--input", file)
	}
	cmd := exec.Command("node", args...)
	cmd.Env = append(os.Environ(), "STARLING_ORT="+runtime)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ONNX Runtime: %v\n%s", err, said)
	}
	answer, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	y, err := input.ReadNPY(answer, 1<<24)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// npy is a file of float32 or int64 in NumPy's format, version 1.
func npy(x *tensor.Tensor) []byte {
	descr := map[tensor.DType]string{tensor.Float32: "<f4", tensor.Int64: "<i8"}[x.Type]
	shape := strings.Trim(x.Shape.String(), "[]") + ","
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape)
	head := dict + strings.Repeat(" ", 63-(10+len(dict))%64) + "\n" // the data begins at a multiple of 64
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), byte(len(head)>>8))
	return append(append(b, head...), x.Data...)
}

// written is a file of a graph.
func written(t *testing.T, g *graph.Graph) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "model.onnx")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.Encode(f, g); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// bound is by how much the outputs y of two programs that compute a graph in
// float32 may differ.
//
// u = 2^-24, γ_n = n·u/(1−n·u). A sum of K products has K roundings in any order,
// so it is off by at most γ_K·Σ|w||x| (Higham, "Accuracy and Stability of Numerical
// Algorithms", section 3.1). Σ|w||x| is about √K times a sum whose terms have signs
// of their own, but roundings have too, and K of them add up to about √K·u rather
// than K·u (Higham and Mary 2019, "A new approach to probabilistic rounding error
// analysis"). Together: γ_K times the values of the layer. Activations, pools and
// normalisations pass errors on without making them larger in relation to the
// largest value, and so do layers in the mean; so at the end the shares of all
// nodes add up: Σ γ_{K}·max|y|, for each of the two programs.
func bound(g *graph.Graph, y *tensor.Tensor) float64 {
	const u = 1.0 / (1 << 24)
	largest, shares := 0.0, 0.0
	for _, v := range y.F32() {
		largest = max(largest, math.Abs(float64(v)))
	}
	for _, n := range g.Nodes {
		k := float64(roundings(g, n))
		shares += k * u / (1 - k*u)
	}
	return 2 * shares * largest
}

// roundings counts those that one output element of a node goes through, in any
// order of summation. A function like tanh is off by four units at most, in the
// libraries that ONNX Runtime has for it: eight roundings.
func roundings(g *graph.Graph, n *graph.Node) int {
	in, out := g.Infos[n.Input(0)].Shape, g.Infos[n.Outputs[0]].Shape
	const function = 8
	switch n.Op {
	case "Conv", "ConvTranspose": // and a bias
		w := g.Infos[n.Input(1)].Shape
		return w.Elements()/w[0] + 1
	case "Gemm":
		return in.Elements()/out[0] + 1
	case "MatMul":
		return in[len(in)-1]
	case "LSTM": // both products and the biases, three functions in a row, the cell, the state
		w := g.Infos[n.Input(1)].Shape
		return w[2] + w[1]/4 + 2 + 3*function + 4
	case "GlobalAveragePool", "AveragePool":
		k := tensor.Shape(n.Attrs.Ints("kernel_shape", in[2:]))
		return k.Elements() + 1
	case "ReduceMean", "ReduceSum", "ReduceL2":
		return in.Elements()/out.Elements() + 2
	case "Softmax", "LogSoftmax":
		return in[len(in)-1] + function + 2
	case "LayerNormalization", "RMSNormalization": // mean and mean square; difference, root, quotient, scale, shift
		return 2*in[len(in)-1] + 6
	case "LRN": // squares, their sum, scale, offset, a power, a quotient
		return 2*n.Attrs.Int("size", 1) + 12
	case "BatchNormalization": // sum, root (of 2 at most), quotient, product, sum; folded: two more
		return 8
	case "Sigmoid", "Tanh", "Exp", "Log", "Erf", "Pow", "Gelu", "Softplus":
		return function
	case "Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "DequantizeLinear", "HardSwish", "HardSigmoid":
		return 2
	}
	return 0 // moves or selects
}
