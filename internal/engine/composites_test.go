package engine_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// solo prepares and runs a graph of one node named n, whose inputs are x0, x1 and
// so on: tensors are constants, values inputs of the graph.
func solo(t *testing.T, opset int, op string, attrs graph.Attrs, outputs int, operands []any, in ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	t.Helper()
	n := &graph.Node{Name: "n", Op: op, Attrs: attrs}
	g := &graph.Graph{Opset: opset, Constants: map[string]*tensor.Tensor{}, Nodes: []*graph.Node{n}}
	for i, v := range operands {
		name := fmt.Sprintf("x%d", i)
		switch v := v.(type) {
		case nil:
			name = ""
		case *tensor.Tensor:
			g.Constants[name] = v
		case graph.Info:
			g.Inputs = append(g.Inputs, graph.Value{Name: name, Info: v})
		}
		n.Inputs = append(n.Inputs, name)
	}
	for i := range outputs {
		n.Outputs = append(n.Outputs, fmt.Sprintf("y%d", i))
	}
	g.Outputs = n.Outputs
	if err := g.Prepare(); err != nil {
		return nil, err
	}
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		return nil, err
	}
	out, err := p.NewSession().Run(t.Context(), nil, in)
	return clones(out), err
}

func values(t *testing.T, x *tensor.Tensor) string {
	t.Helper()
	switch x.Type {
	case tensor.Float32:
		return fmt.Sprint(x.F32())
	case tensor.Int64:
		return fmt.Sprint(tensor.Of[int64](x))
	case tensor.Float16:
		list := make([]float32, x.Shape.Elements())
		for i, bits := range tensor.View[uint16](x.Data) {
			list[i] = tensor.FromFloat16(bits)
		}
		return fmt.Sprint(list)
	}
	t.Fatalf("values of %v", x.Type)
	return ""
}

func halves(list ...float64) *tensor.Tensor {
	x := tensor.New(tensor.Float16, len(list))
	for i, v := range list {
		tensor.View[uint16](x.Data)[i] = tensor.ToFloat16(v)
	}
	return x
}

func infoOf(x *tensor.Tensor) graph.Info { return graph.Info{Type: x.Type, Shape: x.Shape} }

func TestNarrowFloatsAreRoundedAfterEachOperator(t *testing.T) {
	x, y := halves(1, 0, -3, 60000), halves(1.0/4096, 0, 0.1, 60000)
	out, err := solo(t, 13, "Add", nil, 1, []any{infoOf(x), y}, x)
	if err != nil {
		t.Fatal(err)
	}
	// 1/4096 is half a unit of 1 in the last place and goes to the even one.
	if got, want := values(t, out[0]), "[1 0 -2.9003906 +Inf]"; out[0].Type != tensor.Float16 || got != want {
		t.Errorf("%v %s, want float16 %s", out[0].Type, got, want)
	}
}

func floatsOf(v ...float32) *tensor.Tensor { return tensor.FromSlice(v, len(v)) }

func node(op string, attrs graph.Attrs, out string, in ...string) *graph.Node {
	return &graph.Node{Name: out, Op: op, Inputs: in, Outputs: strings.Fields(out), Attrs: attrs}
}

func TestBodiesAreWrittenOut(t *testing.T) {
	x := floatsOf(1, 2, 3)
	double := &graph.Subgraph{Outputs: []string{"d"}, Nodes: []*graph.Node{node("Add", nil, "d", "x1", "x1")}}
	negative := &graph.Subgraph{Outputs: []string{"d"}, Nodes: []*graph.Node{node("Neg", nil, "d", "x1")}}
	branches := graph.Attrs{"then_branch": double, "else_branch": negative}
	for _, c := range []struct {
		yes  bool
		want string
	}{{true, "[2 4 6]"}, {false, "[-1 -2 -3]"}} {
		n := &graph.Node{Name: "n", Op: "If", Attrs: branches, Inputs: []string{"c"}, Outputs: []string{"y"}}
		g := &graph.Graph{
			Opset: 16, Nodes: []*graph.Node{n}, Outputs: []string{"y"},
			Constants: map[string]*tensor.Tensor{"c": tensor.FromSlice([]bool{c.yes})},
			Inputs:    []graph.Value{{Name: "x1", Info: infoOf(x)}},
		}
		if err := g.Prepare(); err != nil {
			t.Fatal(err)
		}
		if got := values(t, run(t, g, engine.Options{}, nil, []*tensor.Tensor{x})[0]); got != c.want {
			t.Errorf("If %v: %s, want %s", c.yes, got, c.want)
		}
	}
	// s = s + x, while the turn is below 2; each s is kept.
	turns := &graph.Subgraph{
		Inputs: []string{"i", "go", "s"}, Outputs: []string{"more", "sum", "sum2"},
		Constants: map[string]*tensor.Tensor{"two": tensor.FromSlice([]int64{2})},
		Nodes: []*graph.Node{
			node("Less", nil, "more", "i", "two"), node("Add", nil, "sum", "s", "x2"), node("Identity", nil, "sum2", "sum"),
		},
	}
	out, err := solo(t, 16, "Loop", graph.Attrs{"body": turns}, 2, []any{tensor.FromSlice([]int64{9}), nil, infoOf(x)}, x)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, out[0]) + values(t, out[1]); got != "[4 8 12][2 4 6 3 6 9 4 8 12]" || !out[1].Shape.Equal(tensor.Shape{3, 3}) {
		t.Errorf("Loop: %s %v", got, out[1].Shape)
	}
	// A running sum from the back.
	sums := &graph.Subgraph{
		Inputs: []string{"s", "x"}, Outputs: []string{"sum", "sum2"},
		Nodes: []*graph.Node{node("Add", nil, "sum", "s", "x"), node("Identity", nil, "sum2", "sum")},
	}
	zero := tensor.New(tensor.Float32)
	out, err = solo(t, 16, "Scan", graph.Attrs{"body": sums, "num_scan_inputs": int64(1), "scan_input_directions": ints(1)}, 2, []any{zero, infoOf(x)}, x)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, out[0]) + values(t, out[1]); got != "[6][3 5 6]" {
		t.Errorf("Scan: %s", got)
	}
}

func TestBodiesThatDependOnTheRequestAreRefused(t *testing.T) {
	body := &graph.Subgraph{Outputs: []string{"d"}, Nodes: []*graph.Node{node("Neg", nil, "d", "nowhere")}}
	circle := &graph.Subgraph{Outputs: []string{"d"}, Nodes: []*graph.Node{node("Neg", nil, "d", "e"), node("Abs", nil, "e", "d")}}
	twice := &graph.Subgraph{Outputs: []string{"d"}, Nodes: []*graph.Node{node("Neg", nil, "d", "x0"), node("Abs", nil, "d", "x0")}}
	inner := &graph.Subgraph{Outputs: []string{"f"}, Nodes: []*graph.Node{node("If", graph.Attrs{"then_branch": body, "else_branch": body}, "f", "x0")}}
	inner.Nodes[0].Attrs["then_branch"] = &graph.Subgraph{Outputs: []string{"g"}, Nodes: []*graph.Node{node("Neg", nil, "g", "h")}}
	inner.Nodes = append(inner.Nodes, node("Cast", graph.Attrs{"to": int64(1)}, "h", "x0"))
	forever := &graph.Subgraph{Inputs: []string{"i", "go"}, Outputs: []string{"go"}}
	for _, c := range []struct {
		op       string
		attrs    graph.Attrs
		outputs  int
		operands []any
		want     string
	}{
		{"If", graph.Attrs{"then_branch": body, "else_branch": body}, 1, []any{graph.Info{Type: tensor.Bool, Shape: tensor.Shape{}}}, `node "n" (If): condition "x0" is computed by the graph`},
		{"If", graph.Attrs{"then_branch": body, "else_branch": body}, 1, []any{tensor.FromSlice([]bool{true})}, `input "nowhere" is not defined`},
		{"If", graph.Attrs{"then_branch": circle, "else_branch": body}, 1, []any{tensor.FromSlice([]bool{true})}, `is not defined before it`},
		{"If", graph.Attrs{"then_branch": twice, "else_branch": body}, 1, []any{tensor.FromSlice([]bool{true})}, `value "d" is defined twice`},
		{"If", graph.Attrs{"then_branch": inner, "else_branch": body}, 1, []any{tensor.FromSlice([]bool{true})}, `is not defined before it`},
		{"If", graph.Attrs{"then_branch": body}, 1, []any{tensor.FromSlice([]bool{true})}, `attribute "else_branch" is missing`},
		{"Loop", graph.Attrs{"body": forever}, 0, []any{nil, tensor.FromSlice([]bool{true})}, `node "n" (Loop) has no output`},
		{"Loop", graph.Attrs{"body": body}, 1, []any{tensor.FromSlice([]int64{3})}, `a body of 0 inputs and 1 outputs`},
		{"Scan", graph.Attrs{"body": body, "num_scan_inputs": int64(5)}, 1, []any{floatsOf(1)}, `5 scan inputs, a body of 0 inputs`},
	} {
		if _, err := solo(t, 16, c.op, c.attrs, c.outputs, c.operands); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.op, err, c.want)
		}
	}
}

func TestTensorsWithoutElements(t *testing.T) {
	x := floatsOf(1, 2)
	none := tensor.New(tensor.Float32, 0)
	for _, c := range []struct {
		op       string
		attrs    graph.Attrs
		operands []any
		want     string
	}{
		{"Concat", graph.Attrs{"axis": int64(0)}, []any{none, infoOf(x), none}, "[1 2]"},
		{"Add", nil, []any{infoOf(x), tensor.New(tensor.Float32, 0, 2)}, "[]"},
		{"Slice", nil, []any{infoOf(x), shapeOf(2), shapeOf(1)}, "[]"},
	} {
		out, err := solo(t, 13, c.op, c.attrs, 1, c.operands, x)
		if err != nil {
			t.Fatal(err)
		}
		if got := values(t, out[0]); got != c.want {
			t.Errorf("%s: %s, want %s", c.op, got, c.want)
		}
	}
	for op, want := range map[string]float64{"ReduceSum": 0, "ReduceProd": 1, "ReduceMax": math.Inf(-1), "ReduceMin": math.Inf(1), "ReduceLogSumExp": math.Inf(-1)} {
		out, err := solo(t, 18, op, nil, 1, []any{none})
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(out[0].F32()[0]); got != want {
			t.Errorf("%s of nothing is %v, want %v", op, got, want)
		}
	}
	if _, err := solo(t, 13, "ArgMax", nil, 1, []any{tensor.New(tensor.Float32, 0, 2)}); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("ArgMax of nothing: error %v", err)
	}
}

// Three boxes, two of which are nearly the same; two classes of up to two boxes.
func TestBoxesThatOverlapAreSuppressed(t *testing.T) {
	boxes := tensor.FromSlice([]float32{0, 0, 1, 1, 0, 0.1, 1, 1.1, 5, 5, 6, 6}, 1, 3, 4)
	scores := tensor.FromSlice([]float32{0.8, 0.9, 0.3, 0.1, 0, 0}, 1, 2, 3)
	out, err := solo(t, 11, "NonMaxSuppression", nil, 1,
		[]any{infoOf(boxes), infoOf(scores), tensor.FromSlice([]int64{2}), scalar(0.5), scalar(0.05)}, boxes, scores)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := values(t, out[0]), "[0 0 1 0 0 2 0 1 0 -1 -1 -1]"; got != want {
		t.Errorf("selected %s, want %s", got, want)
	}
}

func TestGridsAreSampled(t *testing.T) {
	x := tensor.FromSlice([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	grid := tensor.FromSlice([]float32{-1, -1, 0, 0, 1, 1, 3, 0, float32(math.NaN()), 0}, 1, 1, 5, 2)
	for _, c := range []struct{ mode, padding, want string }{
		{"linear", "zeros", "[1 2.5 4 0 0]"},
		{"nearest", "border", "[1 1 4 2 1]"},
		{"linear", "reflection", "[1 2.5 4 2 2]"},
	} {
		out, err := solo(t, 20, "GridSample", graph.Attrs{"mode": c.mode, "padding_mode": c.padding, "align_corners": int64(1)}, 1, []any{infoOf(x), infoOf(grid)}, x, grid)
		if err != nil {
			t.Fatal(err)
		}
		if got := values(t, out[0]); got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.mode, c.padding, got, c.want)
		}
	}
}

func TestRegionsAreAligned(t *testing.T) {
	x := tensor.FromSlice([]float32{0, 1, 2, 3, 4, 5, 6, 7, 8}, 1, 1, 3, 3)
	regions := tensor.FromSlice([]float32{0.5, 0.5, 2.5, 2.5, -9, -9, -8, -8}, 2, 4)
	indices := tensor.FromSlice([]int64{0, 0}, 2)
	attrs := graph.Attrs{"output_height": int64(1), "output_width": int64(2), "sampling_ratio": int64(1)}
	in := []*tensor.Tensor{x, regions, indices}
	operands := []any{infoOf(x), infoOf(regions), infoOf(indices)}
	out, err := solo(t, 16, "RoiAlign", attrs, 1, operands, in...)
	if err != nil {
		t.Fatal(err)
	}
	// Half a pixel off, the region is [0,2]²: cells are sampled at (0.5, 1) and (1.5, 1).
	if got, want := values(t, out[0]), "[3.5 4.5 0 0]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	tensor.Of[int64](indices)[1] = 1
	if _, err := solo(t, 16, "RoiAlign", attrs, 1, []any{infoOf(x), regions, indices}, x); err == nil || !strings.Contains(err.Error(), "batch index 1 is 1, outside a batch of 1") {
		t.Errorf("a map that is not there: error %v", err)
	}
}

func TestBytesArePooled(t *testing.T) {
	x := tensor.FromSlice([]int8{-128, -5, 3, -7}, 1, 1, 1, 4)
	out, err := solo(t, 12, "MaxPool", graph.Attrs{"kernel_shape": ints(1, 2), "pads": ints(0, 1, 0, 0)}, 1, []any{infoOf(x)}, x)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(tensor.Of[int8](out[0])), "[-128 -5 3 3]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
