package graph

import (
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"starling/internal/tensor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// f32 is a float32 input's type.
func f32(dims ...int) Info { return Info{tensor.Float32, dims} }

// ramp is a constant of 0, 1, 2, ….
func ramp(dims ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(i)
	}
	return t
}

// one is a graph of a single node over inputs x0, x1, … and constants, with
// the output y.
func one(opset int, op string, attrs Attrs, inputs ...any) *Graph {
	g := &Graph{Name: op, Opset: opset, Outputs: []string{"y"}, Constants: map[string]*tensor.Tensor{}}
	n := &Node{Name: "n", Op: op, Outputs: []string{"y"}, Attrs: attrs}
	for i, in := range inputs {
		name := "x" + string(rune('0'+i))
		switch in := in.(type) {
		case Info:
			g.Inputs = append(g.Inputs, Value{Name: name, Info: in})
		case *tensor.Tensor:
			g.Constants[name] = in
		case nil:
			name = ""
		}
		n.Inputs = append(n.Inputs, name)
	}
	g.Nodes = []*Node{n}
	return g
}

func ints(v ...int64) []int64 { return v }

func vector(v ...int64) *tensor.Tensor { return tensor.FromSlice(v, len(v)) }

func scalar(v float32) *tensor.Tensor { return tensor.FromSlice([]float32{v}) }

// Results derived by hand from the ONNX operator specifications.
func TestInference(t *testing.T) {
	x := f32(1, 4, 9, 9)
	u8 := func(dims ...int) *tensor.Tensor { return tensor.New(tensor.Uint8, dims...) }
	for _, c := range []struct {
		name   string
		opset  int
		op     string
		attrs  Attrs
		inputs []any
		want   string
	}{
		{"conv", 13, "Conv", nil, []any{x, ramp(8, 4, 3, 3), ramp(8)}, "[1,8,7,7]"},
		{"conv depthwise", 13, "Conv", Attrs{"group": int64(4), "pads": ints(1, 1, 1, 1)}, []any{x, ramp(8, 1, 3, 3)}, "[1,8,9,9]"},
		{"conv in two groups", 13, "Conv", Attrs{"group": int64(2)}, []any{x, ramp(6, 2, 1, 1)}, "[1,6,9,9]"},
		{"conv of computed weights", 13, "Conv", nil, []any{x, f32(2, 4, 9, 9)}, "[1,2,1,1]"},
		{"gemm", 13, "Gemm", nil, []any{f32(2, 3), ramp(3, 5), ramp(5)}, "[2,5]"},
		{"gemm transposed", 13, "Gemm", Attrs{"transA": int64(1), "transB": int64(1)}, []any{f32(3, 2), ramp(5, 3), ramp(2, 1)}, "[2,5]"},
		{"gemm without C", 11, "Gemm", nil, []any{f32(2, 3), ramp(3, 5)}, "[2,5]"},
		{"gemm scalar C", 7, "Gemm", nil, []any{f32(2, 3), ramp(3, 5), scalar(1)}, "[2,5]"},
		{"matmul", 13, "MatMul", nil, []any{f32(2, 3), ramp(3, 5)}, "[2,5]"},
		{"matmul batches", 13, "MatMul", nil, []any{f32(7, 1, 2, 3), f32(6, 3, 5)}, "[7,6,2,5]"},
		{"matmul row", 13, "MatMul", nil, []any{f32(3), ramp(6, 3, 5)}, "[6,5]"},
		{"matmul column", 13, "MatMul", nil, []any{f32(6, 2, 3), ramp(3)}, "[6,2]"},
		{"matmul vectors", 13, "MatMul", nil, []any{f32(3), ramp(3)}, "[]"},
		{"relu", 6, "Relu", nil, []any{x}, "[1,4,9,9]"},
		{"clip by attributes", 6, "Clip", Attrs{"min": float32(0), "max": float32(6)}, []any{x}, "[1,4,9,9]"},
		{"clip by inputs", 11, "Clip", nil, []any{x, nil, scalar(6)}, "[1,4,9,9]"},
		{"max pool", 12, "MaxPool", Attrs{"kernel_shape": ints(3, 2), "strides": ints(2, 3)}, []any{x}, "[1,4,4,3]"},
		{"average pool", 19, "AveragePool", Attrs{"kernel_shape": ints(2, 2), "dilations": ints(2, 4)}, []any{x}, "[1,4,7,5]"},
		{"global pool", 13, "GlobalAveragePool", nil, []any{x}, "[1,4,1,1]"},
		{"concat", 13, "Concat", Attrs{"axis": int64(1)}, []any{x, x, f32(1, 1, 9, 9)}, "[1,9,9,9]"},
		{"concat from the end", 13, "Concat", Attrs{"axis": int64(-1)}, []any{x, x}, "[1,4,9,18]"},
		{"concat by default", 1, "Concat", nil, []any{x, x}, "[1,8,9,9]"},
		{"add broadcast", 7, "Add", nil, []any{f32(4, 1, 9), f32(3, 1, 5, 1)}, "[3,4,5,9]"},
		{"mul with scalar", 7, "Mul", nil, []any{scalar(2), x}, "[1,4,9,9]"},
		{"flatten", 13, "Flatten", nil, []any{f32(2, 3, 4)}, "[2,12]"},
		{"flatten at 0", 13, "Flatten", Attrs{"axis": int64(0)}, []any{f32(2, 3, 4)}, "[1,24]"},
		{"flatten at the end", 13, "Flatten", Attrs{"axis": int64(3)}, []any{f32(2, 3, 4)}, "[24,1]"},
		{"flatten from the end", 13, "Flatten", Attrs{"axis": int64(-1)}, []any{f32(2, 3, 4)}, "[6,4]"},
		{"reshape 0 and -1", 13, "Reshape", nil, []any{f32(2, 3, 4), vector(0, -1)}, "[2,12]"},
		{"reshape to scalar", 13, "Reshape", nil, []any{f32(1, 1), vector()}, "[]"},
		{"reshape by attribute", 1, "Reshape", Attrs{"shape": ints(4, 6)}, []any{f32(2, 3, 4)}, "[4,6]"},
		{"softmax", 13, "Softmax", nil, []any{f32(2, 3)}, "[2,3]"},
		{"batch norm", 9, "BatchNormalization", nil, []any{x, ramp(4), ramp(4), ramp(4), ramp(4)}, "[1,4,9,9]"},
		{"lrn", 13, "LRN", Attrs{"size": int64(5)}, []any{x}, "[1,4,9,9]"},
		{"dropout", 12, "Dropout", nil, []any{x, scalar(0.5), tensor.FromSlice([]bool{false})}, "[1,4,9,9]"},
		{"dequantize", 10, "DequantizeLinear", nil, []any{u8(3, 2), scalar(0.1), u8()}, "[3,2]"},
		{"dequantize by axis", 13, "DequantizeLinear", Attrs{"axis": int64(-2)}, []any{u8(3, 2), ramp(3), u8(3)}, "[3,2]"},
		{"identity", 13, "Identity", nil, []any{x}, "[1,4,9,9]"},
		{"transpose", 13, "Transpose", Attrs{"perm": ints(0, 2, 3, 1)}, []any{f32(1, 2, 3, 4)}, "[1,3,4,2]"},
		{"transpose by default", 13, "Transpose", nil, []any{f32(1, 2, 3)}, "[3,2,1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := one(c.opset, c.op, c.attrs, c.inputs...)
			if err := g.Prepare(); err != nil {
				t.Fatal(err)
			}
			if got := g.Infos["y"].String(); got != "float32"+c.want {
				t.Errorf("got %s, want float32%s", got, c.want)
			}
		})
	}
}

func TestPrepareRefuses(t *testing.T) {
	x := f32(1, 4, 9, 9)
	nan := ramp(3, 5)
	nan.F32()[7] = float32(math.NaN())
	inf := ramp(3, 5)
	inf.F32()[14] = float32(math.Inf(-1))
	half := tensor.New(tensor.Float16, 3, 5)
	node := func(op, name, in, out string) *Node {
		return &Node{Name: name, Op: op, Inputs: []string{in}, Outputs: []string{out}}
	}
	with := func(nodes ...*Node) *Graph {
		return &Graph{Opset: 13, Inputs: []Value{{Name: "x", Info: f32(1, 2)}}, Outputs: []string{"y"}, Nodes: nodes}
	}
	mask := one(13, "Relu", nil, x)
	mask.Nodes[0].Outputs = []string{"y", "mask"}
	mask.Outputs = []string{"y", "mask"}
	for _, c := range []struct {
		name  string
		graph *Graph
		want  string // the whole message, or with … its ends
	}{
		{"cycle", with(node("Relu", "a", "y", "z"), node("Relu", "b", "z", "y")), `node "a" (Relu): input "y" is made only later, by node "b": …`},
		{"undefined", with(node("Relu", "a", "q", "y")), `node "a" (Relu): input "q" is not defined`},
		{"defined twice", with(node("Relu", "a", "x", "y"), node("Relu", "b", "x", "y")), `node "b" (Relu): value "y" is defined twice`},
		{"shadows the input", with(node("Relu", "a", "x", "x")), `node "a" (Relu): value "x" is defined twice`},
		{"node names", with(node("Relu", "a", "x", "z"), node("Relu", "a", "z", "y")), `node name "a" (Relu) is used twice or empty`},
		{"no such output", with(node("Relu", "a", "x", "z")), `graph output "y" is not defined`},
		{"opset too new", one(99, "Relu", nil, x), `opset 99 of the default domain is not supported: convert the model to one of 1 to 28`},
		{"no opset", one(0, "Relu", nil, x), `opset 0 …`},
		{"NaN", one(13, "Gemm", nil, f32(2, 3), nan), `node "n" (Gemm): constant "x1": element 7 is NaN: train or export the model again`},
		{"Inf", one(13, "MatMul", nil, f32(2, 3), inf), `node "n" (MatMul): constant "x1": element 14 is -Inf: …`},
		{"float16", one(13, "Gemm", nil, f32(2, 3), half), `node "n" (Gemm): input "x1" is float16, but the first is float32`},
		{"addition of bools", one(13, "Add", nil, Info{tensor.Bool, tensor.Shape{2}}, Info{tensor.Bool, tensor.Shape{2}}), `node "n" (Add): input "x0" is bool, want one of float32, uint8, int8, …`},
		{"addition of two types", one(13, "Add", nil, Info{tensor.Int64, tensor.Shape{2}}, f32(2)), `node "n" (Add): input "x1" is float32, but the first is int64`},
		{"second output used", mask, `node "n" (Relu): output "mask" is used, but only 1 of Relu can be`},
		{"training dropout", one(12, "Dropout", nil, x, scalar(0.5), tensor.FromSlice([]bool{true})), `…training mode "x2" is not a constant false: …`},
		{"training norm", one(14, "BatchNormalization", Attrs{"training_mode": int64(1)}, x, ramp(4), ramp(4), ramp(4), ramp(4)), `…export the model for inference`},
		{"old broadcasting", one(6, "Add", Attrs{"broadcast": int64(1), "axis": int64(2)}, x, ramp(4)), `node "n" (Add): shapes [1,4,9,9] and [4] differ, which opset 6 does not allow`},
		{"no old broadcasting", one(6, "Add", nil, x, ramp(9)), `node "n" (Add): shapes [1,4,9,9] and [9] differ, which opset 6 does not allow`},
		{"attribute of another opset", one(7, "Add", Attrs{"broadcast": int64(1)}, x, ramp(4)), `node "n" (Add): attribute "broadcast" is unknown to Add in opset 7`},
		{"attribute kind", one(13, "Softmax", Attrs{"axis": "1"}, x), `node "n" (Softmax): attribute "axis" is of kind string, want int`},
		{"attribute beyond 32 bits", one(13, "Softmax", Attrs{"axis": int64(1) << 40}, x), `node "n" (Softmax): attribute "axis": 1099511627776 does not fit 32 bits`},
		{"attribute missing", one(13, "LRN", nil, x), `node "n" (LRN): attribute "size" is missing`},
		{"too many inputs", one(13, "Relu", nil, x, x), `node "n" (Relu): 2 inputs, want 1`},
		{"input left out", one(13, "Gemm", nil, f32(2, 3), nil, ramp(5)), `node "n" (Gemm): input 1 is left out`},
		{"groups", one(13, "Conv", Attrs{"group": int64(3)}, x, ramp(6, 1, 1, 1)), `node "n" (Conv): group 3 does not fit input [1,4,9,9] and weights [6,1,1,1]`},
		{"conv without space", one(13, "Conv", nil, f32(1, 4), ramp(6, 4)), `…want [N,C,…] with at least 1 dimensions after`},
		{"one-dimensional weights", one(13, "Conv", nil, f32(1, 4, 9, 9), ramp(6, 4, 1)), `…weights of shape [6,4,1] for input [1,4,9,9]…`},
		{"inner sizes", one(13, "MatMul", nil, f32(2, 3), ramp(4, 5)), `…inner sizes 3 and 4 of [2,3] and [4,5] differ`},
		{"reshape mismatch", one(13, "Reshape", nil, f32(2, 3), vector(4, -1)), `…[2,3] does not reshape to [4 -1]: 6 elements`},
		{"reshape zero kept", one(14, "Reshape", Attrs{"allowzero": int64(1)}, f32(2, 3), vector(0, 6)), `…does not reshape to [0 6]: 6 elements`},
		{"reshape overflow", one(13, "Reshape", nil, f32(2, 3), vector(1<<30, 1<<30, 1<<30)), `…impossible shape…`},
		{"reshape by a value", one(13, "Reshape", nil, f32(2, 3), Info{tensor.Int64, tensor.Shape{1}}), `…only a constant shape is supported`},
		{"huge product", one(13, "MatMul", nil, f32(1<<20, 1), f32(1, 1<<20)), `node "n" (MatMul): result: impossible shape…`},
		{"empty constant", one(13, "MatMul", nil, ramp(2, 0), ramp(0, 3)), `node "n" (MatMul): input "x0" of shape [2,0] is empty`},
		{"clip by a vector", one(13, "Clip", nil, x, f32(2)), `…bound "x1" of shape [2] is not a scalar`},
		{"clip by NaN", one(13, "Clip", nil, x, scalar(float32(math.NaN()))), `…a bound is NaN`},
		{"permutation", one(13, "Transpose", Attrs{"perm": ints(0, 0)}, f32(2, 3)), `…perm [0 0] is no permutation of the axes of [2,3]`},
		{"scale", one(13, "DequantizeLinear", nil, tensor.New(tensor.Uint8, 3, 2), ramp(3)), `…scale of shape [3] for axis 1 of [3,2], want [2]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.graph.Prepare()
			if err == nil {
				t.Fatal("no error")
			}
			if !matches(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

// matches compares s with a pattern whose parts, between each …, come in order.
func matches(s, pattern string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(s, parts[0]) || !strings.HasSuffix(s, parts[len(parts)-1]) {
		return false
	}
	for _, p := range parts {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return s == "" || strings.HasSuffix(pattern, "…")
}

func TestUnsupportedNodesAreAllNamed(t *testing.T) {
	g := &Graph{
		Opset: 13, Domains: map[string]int{"com.example": 3},
		Inputs: []Value{{Name: "x", Info: f32(1, 2)}}, Outputs: []string{"y"},
		Nodes: []*Node{
			{Name: "r", Op: "Relu", Inputs: []string{"x"}, Outputs: []string{"a"}},
			{Name: "e", Op: "StringNormalizer", Inputs: []string{"a"}, Outputs: []string{"b"}},
			{Name: "s", Op: "Relu", Inputs: []string{"b"}, Outputs: []string{"c"}},
			{Name: "f", Op: "Relu", Domain: "com.example", Inputs: []string{"c"}, Outputs: []string{"y"}},
		},
	}
	err := g.Prepare()
	var u *UnsupportedError
	if !errors.As(err, &u) {
		t.Fatalf("error %v", err)
	}
	if want := (UnsupportedError{Op: "StringNormalizer", Node: "e", Opset: 13}); *u != want {
		t.Errorf("first is %+v, want %+v", *u, want)
	}
	want := `node "e": operator StringNormalizer (opset 13) is not supported; 2 unsupported nodes in all: StringNormalizer, com.example.Relu`
	if err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	list := g.Unsupported()
	if len(list) != 2 || list[1].Opset != 3 || list[1].Domain != "com.example" {
		t.Errorf("list %v", list)
	}
	if g.Infos["a"].String() != "float32[1,2]" || g.Infos["c"].Type != tensor.Invalid {
		t.Errorf("infos %v", g.Infos)
	}
}

func TestConstantNodes(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		want  string
	}{
		{"value", ramp(2, 3), "float32[2,3]"},
		{"value_float", float32(1), "float32[]"},
		{"value_floats", []float32{1, 2}, "float32[2]"},
		{"value_int", int64(1), "int64[]"},
		{"value_ints", ints(1, math.MaxInt64), "int64[2]"},
		{"value_string", "s", ""},
		{"value", float32(1), ""},
	} {
		g := one(13, "Relu", nil, f32(1))
		g.Nodes = append([]*Node{{Name: "c", Op: "Constant", Outputs: []string{"k"}, Attrs: Attrs{c.name: c.value}}}, g.Nodes...)
		err := g.Prepare()
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: error %v", c.name, err)
		}
		if err == nil && (g.Infos["k"].String() != c.want || len(g.Nodes) != 1) {
			t.Errorf("%s: %v, %d nodes left", c.name, g.Infos["k"], len(g.Nodes))
		}
	}
}

func TestClipBounds(t *testing.T) {
	for _, c := range []struct {
		name   string
		graph  *Graph
		lo, hi float32
	}{
		{"attributes", one(6, "Clip", Attrs{"min": float32(-1), "max": float32(6)}, f32(1)), -1, 6},
		{"inputs", one(13, "Clip", nil, f32(1), scalar(-2), scalar(3)), -2, 3},
		{"one left out", one(13, "Clip", nil, f32(1), nil, scalar(3)), -math.MaxFloat32, 3},
		{"none", one(13, "Clip", nil, f32(1)), -math.MaxFloat32, math.MaxFloat32},
	} {
		if err := c.graph.Prepare(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if lo, hi, ok := c.graph.ClipBounds(c.graph.Nodes[0]); !ok || lo != c.lo || hi != c.hi {
			t.Errorf("%s: [%v, %v], want [%v, %v]", c.name, lo, hi, c.lo, c.hi)
		}
	}
}

func TestFLOPs(t *testing.T) {
	for _, c := range []struct {
		name  string
		graph *Graph
		want  int64
	}{
		{"conv", one(13, "Conv", nil, f32(1, 4, 9, 9), ramp(8, 4, 3, 3)), 2 * 8 * 7 * 7 * 4 * 3 * 3},
		{"depthwise", one(13, "Conv", Attrs{"group": int64(4)}, f32(1, 4, 9, 9), ramp(4, 1, 3, 3)), 2 * 4 * 7 * 7 * 3 * 3},
		{"gemm", one(13, "Gemm", Attrs{"transA": int64(1)}, f32(3, 2), ramp(3, 5)), 2 * 2 * 3 * 5},
		{"matmul", one(13, "MatMul", nil, f32(7, 2, 3), ramp(3, 5)), 2 * 7 * 2 * 3 * 5},
		{"relu", one(13, "Relu", nil, f32(7)), 0},
	} {
		if err := c.graph.Prepare(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := FLOPs(c.graph, c.graph.Nodes[0]); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// small is a graph with most of what Format prints.
func small() *Graph {
	return &Graph{
		Name: "small", Opset: 13, Metadata: map[string]string{"made": "by hand", "a": "1"},
		Inputs:  []Value{{Name: "image", Info: f32(1, 1, 5, 5)}},
		Outputs: []string{"probabilities"},
		Constants: map[string]*tensor.Tensor{
			"conv.weight": ramp(2, 1, 3, 3), "conv.bias": ramp(2), "fc.weight": ramp(3, 8), "six": scalar(6),
		},
		Nodes: []*Node{
			{
				Name: "conv", Op: "Conv", Inputs: []string{"image", "conv.weight", "conv.bias"}, Outputs: []string{"c"},
				Attrs: Attrs{"auto_pad": "SAME_UPPER", "strides": ints(1, 1)},
			},
			{Name: "clip", Op: "Clip", Inputs: []string{"c", "", "six"}, Outputs: []string{"d"}},
			{
				Name: "pool", Op: "MaxPool", Inputs: []string{"d"}, Outputs: []string{"p", "unused"},
				Attrs: Attrs{"kernel_shape": ints(2, 2), "strides": ints(2, 2)},
			},
			{Name: "shape", Op: "Constant", Outputs: []string{"s"}, Attrs: Attrs{"value_ints": ints(1, -1)}},
			{Name: "reshape", Op: "Reshape", Inputs: []string{"p", "s"}, Outputs: []string{"f"}},
			{
				Name: "fc", Op: "Gemm", Inputs: []string{"f", "fc.weight", ""}, Outputs: []string{"l"},
				Attrs: Attrs{"transB": int64(1), "alpha": float32(0.5)},
			},
			{Name: "softmax", Op: "Softmax", Inputs: []string{"l"}, Outputs: []string{"probabilities"}},
		},
	}
}

func TestFormat(t *testing.T) {
	prepared := small()
	if err := prepared.Prepare(); err != nil {
		t.Fatal(err)
	}
	again := prepared.Prepare()
	if again != nil {
		t.Fatalf("a second Prepare: %v", again)
	}
	for _, c := range []struct {
		file  string
		graph *Graph
	}{
		{"small.txt", prepared},
		{"unprepared.txt", small()},
	} {
		var b strings.Builder
		if err := c.graph.Format(&b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", c.file)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s differs; got\n%s", path, b.String())
		}
	}
}

func TestDropoutThatDropsNothing(t *testing.T) {
	training := tensor.FromSlice([]bool{true})
	for _, c := range []struct {
		ratio float32
		fails bool
	}{{0, false}, {0.5, true}} {
		g := one(13, "Dropout", nil, f32(2, 3), tensor.FromSlice([]float32{c.ratio}), training)
		if err := g.Prepare(); (err != nil) != c.fails {
			t.Errorf("ratio %v: %v", c.ratio, err)
		}
	}
}
