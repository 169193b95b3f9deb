//go:build check

package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/onnx/onnxpb"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// run is the outcome of a case as the manifest has it, and whether the case is of
// the default domain's operators on tensors of numbers. A wrong result fails the
// test, it is no outcome; but one that is outside the tolerance by rounding alone,
// as 0 for a wanted 2e-7, is listed as inexact and does not count as passed.
func run(t *testing.T, dir string) (outcome string, numeric bool) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	m := &onnxpb.ModelProto{}
	if err := proto.Unmarshal(file, m); err != nil {
		t.Fatal(err)
	}
	numeric = isNumeric(m)
	sets, err := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	if err != nil || len(sets) == 0 {
		t.Fatalf("no data: %v", err)
	}
	for _, set := range sets {
		outcome, err = runSet(t, file, set)
		if err != nil {
			return "not supported: " + strings.TrimSpace(err.Error()), numeric
		}
	}
	return outcome, numeric
}

// isNumeric reports whether all nodes are of the default domain and all inputs
// and outputs tensors, of anything but strings.
func isNumeric(m *onnxpb.ModelProto) bool {
	for _, n := range m.GetGraph().GetNode() {
		if d := n.GetDomain(); d != "" && d != "ai.onnx" {
			return false
		}
	}
	for _, v := range slices.Concat(m.GetGraph().GetInput(), m.GetGraph().GetOutput()) {
		tt := v.GetType().GetTensorType()
		if tt == nil || onnxpb.TensorProto_DataType(tt.GetElemType()) == onnxpb.TensorProto_STRING {
			return false
		}
	}
	return true
}

// runSet runs a model on one of its data sets, as it is and simplified.
func runSet(t *testing.T, file []byte, set string) (outcome string, err error) {
	t.Helper()
	plain, in, fixed, err := load(t, file, set)
	if err != nil {
		return "", err
	}
	simple, _, _, err := load(t, file, set)
	if err != nil {
		return "", err
	}
	if err := rewrite.Simplify(simple); err != nil {
		return "", err
	}
	want := tensors(t, set, "output")
	var first []*tensor.Tensor
	for _, g := range []*graph.Graph{plain, simple} {
		p, err := engine.Compile(g, engine.Options{})
		if err != nil {
			return "", err
		}
		got, err := p.NewSession().Run(context.Background(), nil, in)
		if err != nil {
			return "", err
		}
		if len(got) != len(want) {
			t.Fatalf("%d outputs, want %d", len(got), len(want))
		}
		for i := range want {
			switch err := compare(selected(plain, got[i]), want[i]); {
			case err == nil:
			case rounding(got[i], want[i]):
				return "inexact: " + err.Error(), nil
			default:
				t.Errorf("output %d: %v", i, err)
			}
			if g == simple && string(got[i].Data) != string(first[i].Data) && exact(plain) {
				t.Errorf("output %d: simplified, it has other bits", i)
			}
		}
		first = got
	}
	if len(fixed) > 0 {
		return "pass with " + strings.Join(fixed, ", "), nil
	}
	return "pass", nil
}

// rounding reports whether float tensors differ by two units in the last place of
// the largest element at most: what is wanted is not more exact than that.
func rounding(got, want *tensor.Tensor) bool {
	unit, ok := map[tensor.DType]float64{tensor.Float32: 1.0 / (1 << 23), tensor.Float16: 1.0 / (1 << 10)}[want.Type]
	if !ok || got.Type != want.Type || !got.Shape.Equal(want.Shape) {
		return false
	}
	most, worst := 0.0, 0.0
	for i := range want.Shape.Elements() {
		g, _ := number(got, i)
		w, _ := number(want, i)
		most, worst = max(most, math.Abs(w)), max(worst, math.Abs(g-w))
	}
	return worst <= 2*unit*most // false for NaN
}

// selected leaves out the rows of −1 after the boxes that a NonMaxSuppression has
// found: shapes are fixed, so there are as many rows as there can be boxes.
func selected(g *graph.Graph, t *tensor.Tensor) *tensor.Tensor {
	if len(g.Nodes) != 1 || g.Nodes[0].Op != "NonMaxSuppression" {
		return t
	}
	rows := tensor.Of[int64](t)
	for len(rows) > 0 && rows[len(rows)-1] == -1 {
		rows = rows[:len(rows)-3]
	}
	return tensor.FromSlice(rows, len(rows)/3, 3)
}

// exact reports whether no rule applies that rounds otherwise.
func exact(g *graph.Graph) bool {
	return !slices.ContainsFunc(g.Nodes, func(n *graph.Node) bool { return n.Op == "BatchNormalization" })
}

// load prepares a model for the inputs of a data set: their shapes are known, and
// values that shapes depend on become constants, which fixed names. The inputs
// that remain are returned in order.
func load(t *testing.T, file []byte, set string) (g *graph.Graph, in []*tensor.Tensor, fixed []string, err error) {
	t.Helper()
	g, err = onnx.ParseBytes(file)
	if err != nil {
		return nil, nil, nil, err
	}
	in = tensors(t, set, "input")
	if len(in) != len(g.Inputs) {
		t.Fatalf("%d inputs, the model takes %d", len(in), len(g.Inputs))
	}
	values := map[string]*tensor.Tensor{}
	for i, v := range g.Inputs {
		g.Inputs[i].Shape = in[i].Shape
		values[v.Name] = in[i]
	}
	for {
		err = g.Prepare()
		var dynamic *graph.DynamicError
		if err == nil || !errors.As(err, &dynamic) {
			break
		}
		before := len(fixed)
		for _, name := range dynamic.Inputs {
			if i := slices.IndexFunc(g.Inputs, func(v graph.Value) bool { return v.Name == name }); i >= 0 {
				g.Inputs = slices.Delete(g.Inputs, i, i+1)
				g.Constants[name] = values[name]
				fixed = append(fixed, name)
			}
		}
		if len(fixed) == before {
			break
		}
	}
	in = nil
	for _, v := range g.Inputs {
		in = append(in, values[v.Name])
	}
	return g, in, fixed, err
}

// tensors reads NAME_0.pb and so on.
func tensors(t *testing.T, set, name string) []*tensor.Tensor {
	t.Helper()
	var list []*tensor.Tensor
	for i := 0; ; i++ {
		b, err := os.ReadFile(filepath.Join(set, fmt.Sprintf("%s_%d.pb", name, i)))
		if errors.Is(err, os.ErrNotExist) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		x, err := onnx.DecodeTensor(b)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, x)
	}
}

// The tolerances of ONNX's own runner, onnx/backend/test/runner/__init__.py:
// |got − want| ≤ atol + rtol·|want|; whatever is no float is equal.
const (
	rtol      = 1e-3
	rtolBrain = 1.0 / (1 << 6) // of bfloat16
	atol      = 1e-7
)

func compare(got, want *tensor.Tensor) error {
	if got.Type != want.Type || !got.Shape.Equal(want.Shape) {
		return fmt.Errorf("%v%v, want %v%v", got.Type, got.Shape, want.Type, want.Shape)
	}
	tolerance := rtol
	if want.Type == tensor.BFloat16 {
		tolerance = rtolBrain
	}
	size := want.Type.Size()
	for i := range want.Shape.Elements() {
		if string(got.Data[i*size:(i+1)*size]) == string(want.Data[i*size:(i+1)*size]) {
			continue
		}
		g, float := number(got, i)
		w, _ := number(want, i)
		if math.IsNaN(g) && math.IsNaN(w) || g == w && float {
			continue
		}
		// Not >, so that a NaN fails.
		if !float || !(math.Abs(g-w) <= atol+tolerance*math.Abs(w)) {
			return fmt.Errorf("element %d is %v, want %v", i, g, w)
		}
	}
	return nil
}

// number is element i as a float64, and whether its type is a float.
func number(t *tensor.Tensor, i int) (v float64, float bool) {
	switch t.Type {
	case tensor.Float32:
		return float64(tensor.Of[float32](t)[i]), true
	case tensor.Float64:
		return tensor.Of[float64](t)[i], true
	case tensor.Float16:
		return half(tensor.View[uint16](t.Data)[i], 10), true
	case tensor.BFloat16:
		return half(tensor.View[uint16](t.Data)[i], 7), true
	case tensor.Int64:
		return float64(tensor.Of[int64](t)[i]), false
	case tensor.Uint64:
		return float64(tensor.Of[uint64](t)[i]), false
	case tensor.Int32:
		return float64(tensor.Of[int32](t)[i]), false
	case tensor.Uint32:
		return float64(tensor.Of[uint32](t)[i]), false
	case tensor.Int16:
		return float64(tensor.Of[int16](t)[i]), false
	case tensor.Uint16:
		return float64(tensor.Of[uint16](t)[i]), false
	case tensor.Int8:
		return float64(tensor.Of[int8](t)[i]), false
	}
	return float64(t.Data[i]), false
}

// half is the value of a float of 16 bits with so many for the fraction.
func half(bits uint16, fraction int) float64 {
	width := 15 - fraction // of the exponent
	exponent, f := int(bits>>fraction)&(1<<width-1), float64(bits&(1<<fraction-1))
	bias := 1<<(width-1) - 1
	v := math.Ldexp(f, 1-bias-fraction)
	switch {
	case exponent == 1<<width-1 && f != 0:
		return math.NaN()
	case exponent == 1<<width-1:
		v = math.Inf(1)
	case exponent > 0:
		v = math.Ldexp(1+math.Ldexp(f, -fraction), exponent-bias)
	}
	if bits>>15 != 0 {
		return -v
	}
	return v
}
