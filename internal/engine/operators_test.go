package engine_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// one is a graph of one node; inputs whose names begin with "in" are a request's.
type one struct {
	name  string
	build func(b *builder) string
}

func ints(v ...int64) []int64 { return v }

func shapeOf(v ...int64) *tensor.Tensor { return tensor.FromSlice(v, len(v)) }

func scalar(v float32) *tensor.Tensor { return tensor.FromSlice([]float32{v}) }

func conv(x []int, w []int, bias bool, attrs graph.Attrs) func(b *builder) string {
	return func(b *builder) string {
		in := []string{b.input(x...), b.weights(w...)}
		if bias {
			in = append(in, b.weights(w[0]))
		}
		return b.node("Conv", attrs, in...)
	}
}

// gemm has operands that are inputs (true) or constants of the graph.
func gemm(a, w, c []int, aIn, wIn, cIn bool, attrs graph.Attrs) func(b *builder) string {
	return func(b *builder) string {
		operand := func(in bool, shape []int) string {
			if in {
				return b.input(shape...)
			}
			return b.weights(shape...)
		}
		in := []string{operand(aIn, a), operand(wIn, w)}
		if c != nil {
			in = append(in, operand(cIn, c))
		}
		return b.node("Gemm", attrs, in...)
	}
}

// plain is an operator over inputs of these shapes.
func plain(op string, attrs graph.Attrs, shapes ...[]int) func(b *builder) string {
	return func(b *builder) string {
		var in []string
		for _, s := range shapes {
			in = append(in, b.input(s...))
		}
		return b.node(op, attrs, in...)
	}
}

func opset(n int, build func(b *builder) string) func(b *builder) string {
	return func(b *builder) string {
		b.g.Opset = n
		return build(b)
	}
}

func dequantize[T tensor.Element](x []T, shape []int, scale []float32, zero []T, attrs graph.Attrs) func(b *builder) string {
	return func(b *builder) string {
		x := tensor.FromSlice(x, shape...)
		in := []string{"", b.constant(tensor.FromSlice(scale, len(scale)))}
		if zero != nil {
			in = append(in, b.constant(tensor.FromSlice(zero, len(zero))))
		}
		in[0] = b.constant(x)
		return b.node("DequantizeLinear", attrs, in...)
	}
}

var ones = []one{
	{"conv 3x3", conv([]int{1, 3, 9, 8}, []int{5, 3, 3, 3}, true, nil)},
	{"conv of a batch, strides, pads on each side, no bias", conv([]int{2, 4, 11, 9}, []int{7, 4, 3, 2}, false,
		graph.Attrs{"strides": ints(2, 3), "pads": ints(1, 0, 2, 1)})},
	{"conv dilated", conv([]int{1, 2, 12, 12}, []int{3, 2, 3, 3}, true, graph.Attrs{"dilations": ints(2, 3), "pads": ints(2, 2, 2, 2)})},
	{"conv 1x1", conv([]int{1, 20, 7, 7}, []int{9, 20, 1, 1}, true, nil)},
	{"conv in groups", conv([]int{2, 6, 7, 7}, []int{4, 3, 3, 3}, true, graph.Attrs{"group": int64(2), "pads": ints(1, 1, 1, 1)})},
	{"conv depthwise", conv([]int{1, 6, 9, 7}, []int{6, 1, 3, 3}, true, graph.Attrs{"group": int64(6), "auto_pad": "SAME_UPPER", "strides": ints(2, 2)})},
	{"conv with a bias from the request", func(b *builder) string {
		return b.node("Conv", nil, b.input(1, 2, 5, 5), b.weights(3, 2, 3, 3), b.input(3))
	}},
	{"gemm", gemm([]int{1, 37}, []int{37, 11}, []int{11}, true, false, false, nil)},
	{"gemm transB, batch, alpha, beta", gemm([]int{3, 40}, []int{9, 40}, []int{1, 9}, true, false, false,
		graph.Attrs{"transB": int64(1), "alpha": float32(0.5), "beta": float32(-2)})},
	{"gemm without C", gemm([]int{4, 5}, []int{5, 6}, nil, true, false, false, graph.Attrs{"alpha": float32(3)})},
	{"gemm C a column", gemm([]int{4, 5}, []int{5, 6}, []int{4, 1}, true, false, false, nil)},
	{"gemm C a matrix", gemm([]int{4, 5}, []int{5, 6}, []int{4, 6}, true, false, false, graph.Attrs{"beta": float32(0.25)})},
	{"gemm C a scalar", gemm([]int{4, 5}, []int{5, 6}, []int{}, true, false, true, nil)},
	{"gemm C of one element", gemm([]int{4, 5}, []int{5, 6}, []int{1}, true, false, false, nil)},
	{"gemm square, C a column", gemm([]int{4, 5}, []int{5, 4}, []int{4, 1}, true, false, false, nil)},
	{"gemm all from the request", gemm([]int{4, 5}, []int{5, 6}, []int{6}, true, true, true, graph.Attrs{"beta": float32(2)})},
	{"gemm transA", gemm([]int{5, 4}, []int{5, 6}, []int{6}, true, false, false, graph.Attrs{"transA": int64(1)})},
	{"gemm transA, transB", gemm([]int{5, 4}, []int{6, 5}, nil, true, true, false, graph.Attrs{"transA": int64(1), "transB": int64(1)})},
	{"gemm with constant A", gemm([]int{4, 5}, []int{5, 6}, nil, false, true, false, nil)},
	{"matmul with weights", func(b *builder) string { return b.node("MatMul", nil, b.input(2, 3, 8), b.weights(8, 5)) }},
	{"matmul with a vector of weights", func(b *builder) string { return b.node("MatMul", nil, b.input(3, 8), b.weights(8)) }},
	{"matmul of a vector", func(b *builder) string { return b.node("MatMul", nil, b.input(8), b.weights(8, 5)) }},
	{"matmul with weights on the left", func(b *builder) string { return b.node("MatMul", nil, b.weights(4, 8), b.input(8, 5)) }},
	{"matmul with a stack of weights", func(b *builder) string { return b.node("MatMul", nil, b.input(2, 3, 8), b.weights(2, 8, 5)) }},
	{"matmul of vectors", plain("MatMul", nil, []int{8}, []int{8})},
	{"matmul, left broadcast", plain("MatMul", nil, []int{3, 8}, []int{2, 8, 4})},
	{"matmul, both broadcast", plain("MatMul", nil, []int{2, 1, 3, 8}, []int{1, 4, 8, 5})},
	{"matmul, batch broadcast on the right", plain("MatMul", nil, []int{4, 3, 8}, []int{8})},
	{"relu", plain("Relu", nil, []int{3, 7})},
	{"clip by attributes", opset(10, plain("Clip", graph.Attrs{"min": float32(-0.5), "max": float32(0.25)}, []int{40}))},
	{"clip by inputs", func(b *builder) string {
		return b.node("Clip", nil, b.input(40), b.constant(scalar(-0.25)), b.constant(scalar(0.5)))
	}},
	{"clip from above", func(b *builder) string { return b.node("Clip", nil, b.input(40), "", b.constant(scalar(0.5))) }},
	{"max pool", plain("MaxPool", graph.Attrs{"kernel_shape": ints(2, 3), "strides": ints(2, 2)}, []int{1, 3, 9, 8})},
	{"max pool, ceil, pads", plain("MaxPool", graph.Attrs{"kernel_shape": ints(3, 3), "strides": ints(2, 2), "pads": ints(1, 1, 1, 1), "ceil_mode": int64(1)}, []int{2, 3, 8, 8})},
	{"max pool dilated", plain("MaxPool", graph.Attrs{"kernel_shape": ints(2, 2), "dilations": ints(2, 3)}, []int{1, 2, 8, 8})},
	{"average pool", plain("AveragePool", graph.Attrs{"kernel_shape": ints(3, 3), "pads": ints(1, 1, 1, 1)}, []int{1, 2, 6, 7})},
	{"average pool, pads count, ceil", plain("AveragePool", graph.Attrs{
		"kernel_shape": ints(3, 3), "strides": ints(2, 2), "pads": ints(1, 1, 1, 1), "ceil_mode": int64(1), "count_include_pad": int64(1),
	}, []int{1, 2, 8, 8})},
	{"global average pool", plain("GlobalAveragePool", nil, []int{2, 3, 5, 6})},
	{"concat", plain("Concat", graph.Attrs{"axis": int64(1)}, []int{2, 3, 4}, []int{2, 1, 4}, []int{2, 5, 4})},
	{"concat from the end", plain("Concat", graph.Attrs{"axis": int64(-1)}, []int{2, 3}, []int{2, 1})},
	{"concat, opset 3", opset(3, plain("Concat", nil, []int{2, 3}, []int{2, 1}))},
	{"add", plain("Add", nil, []int{2, 3, 4}, []int{2, 3, 4})},
	{"add of a channel", plain("Add", nil, []int{2, 3, 4, 5}, []int{3, 1, 1})},
	{"add, left broadcast", plain("Add", nil, []int{4}, []int{2, 3, 4})},
	{"add, both broadcast", plain("Add", nil, []int{2, 1, 4}, []int{3, 1})},
	{"add of single elements", plain("Add", nil, []int{1, 1}, []int{1})},
	{"mul", plain("Mul", nil, []int{2, 3, 4}, []int{2, 3, 4})},
	{"mul by a scalar", plain("Mul", nil, []int{2, 3}, []int{})},
	{"mul, alternating broadcast", plain("Mul", nil, []int{2, 1, 3, 1}, []int{1, 4, 1, 5})},
	{"flatten", plain("Flatten", graph.Attrs{"axis": int64(2)}, []int{2, 3, 4})},
	{"reshape", func(b *builder) string { return b.node("Reshape", nil, b.input(2, 3, 4), b.constant(shapeOf(0, -1))) }},
	{"softmax", plain("Softmax", nil, []int{2, 3, 5})},
	{"softmax inside", plain("Softmax", graph.Attrs{"axis": int64(1)}, []int{2, 3, 5})},
	{"softmax, opset 12", opset(12, plain("Softmax", nil, []int{2, 3, 5}))},
	{"batch normalisation", func(b *builder) string {
		variance := fill(b.r, 3)
		for i, v := range variance.F32() {
			variance.F32()[i] = v*v + 0.1
		}
		return b.node("BatchNormalization", graph.Attrs{"epsilon": float32(1e-3)}, b.input(2, 3, 4, 5), b.weights(3), b.weights(3), b.weights(3), b.constant(variance))
	}},
	{"lrn", plain("LRN", graph.Attrs{"size": int64(5), "alpha": float32(0.1), "beta": float32(0.75), "bias": float32(2)}, []int{2, 7, 3, 3})},
	{"lrn of even size", plain("LRN", graph.Attrs{"size": int64(4), "alpha": float32(0.5)}, []int{1, 7, 3, 3})},
	{"dropout", opset(11, plain("Dropout", graph.Attrs{"ratio": float32(0.5)}, []int{2, 3}))},
	{"identity", plain("Identity", nil, []int{2, 3})},
	{"transpose", plain("Transpose", nil, []int{2, 3, 4})},
	{"transpose, perm", plain("Transpose", graph.Attrs{"perm": ints(0, 2, 3, 1)}, []int{2, 3, 4, 5})},
	{"transpose of single elements", plain("Transpose", nil, []int{1, 1})},
	{"dequantize int8", dequantize([]int8{-128, 0, 127, 5}, []int{2, 2}, []float32{0.1}, []int8{-3}, nil)},
	{"dequantize uint8 by axis", dequantize([]uint8{255, 0, 7, 9, 100, 3}, []int{2, 3, 1}, []float32{0.1, 2, -3}, []uint8{255, 0, 4}, nil)},
	{"dequantize uint8 by the first axis", dequantize([]uint8{255, 0, 7, 9, 100, 3}, []int{2, 3}, []float32{0.1, 2}, []uint8{0, 128}, graph.Attrs{"axis": int64(-2)})},
	{"dequantize int32, extremes", dequantize([]int32{math.MinInt32, math.MaxInt32, 0}, []int{3}, []float32{1e-3}, []int32{math.MaxInt32}, nil)},
	{"dequantize int32 without zero point", dequantize([]int32{1 << 20, -5}, []int{2}, []float32{3}, nil, nil)},
	{"dequantize int16", dequantize([]int16{-32768, 32767}, []int{2}, []float32{3}, []int16{1}, nil)},
	{"dequantize uint16", dequantize([]uint16{65535, 1}, []int{2}, []float32{3}, []uint16{65535}, nil)},
}

// operands are the values of the only node's inputs.
func operands(g *graph.Graph, in []*tensor.Tensor) []*tensor.Tensor {
	values := make([]*tensor.Tensor, len(g.Nodes[0].Inputs))
	for i, name := range g.Nodes[0].Inputs {
		values[i] = g.Constants[name]
		for j, v := range g.Inputs {
			if v.Name == name {
				values[i] = in[j]
			}
		}
	}
	return values
}

func TestOperatorsAgreeWithFloat64(t *testing.T) {
	pool := kernel.NewPool(2)
	defer pool.Close()
	r := random(t)
	for _, c := range ones {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(r)
			g := b.graph(t, c.build(b))
			in := inputs(r, g)
			want := reference(g, g.Nodes[0], operands(g, in))
			got := run(t, g, engine.Options{Pool: pool}, nil, in)[0]
			check(t, got, want)
			same(t, "one thread", run(t, g, engine.Options{}, nil, in), []*tensor.Tensor{got})
		})
	}
}

func TestEvalComputesNodesOfConstants(t *testing.T) {
	r := random(t)
	for _, c := range ones {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(r)
			g := b.graph(t, c.build(b))
			values := operands(g, inputs(r, g))
			got, err := engine.Eval(g, g.Nodes[0], values)
			if err != nil {
				t.Fatal(err)
			}
			check(t, got[0], reference(g, g.Nodes[0], values))
		})
	}
}

func check(t *testing.T, got *tensor.Tensor, want *exact) {
	t.Helper()
	if got.Type != tensor.Float32 || !got.Shape.Equal(want.shape) {
		t.Fatalf("%v %v, want float32 %v", got.Type, got.Shape, want.shape)
	}
	for i, v := range got.F32() {
		// Not >, so that a NaN fails.
		if diff := math.Abs(float64(v) - want.y[i]); !(diff <= want.bound[i]) {
			t.Fatalf("element %d is %v, want %v: differs by %g, bound %g", i, v, want.y[i], diff, want.bound[i])
		}
	}
}

// Types that validation does not let through to these operators today, but that
// they move.
func TestConcatAndTransposeMoveEveryType(t *testing.T) {
	for _, typ := range []tensor.DType{tensor.Uint8, tensor.Float16, tensor.Int32, tensor.Int64} {
		t.Run(typ.String(), func(t *testing.T) {
			size := typ.Size()
			x := tensor.New(typ, 2, 3)
			for i := range x.Data {
				x.Data[i] = byte(i)
			}
			g := &graph.Graph{Opset: 13, Infos: map[string]graph.Info{
				"x": {Type: typ, Shape: tensor.Shape{2, 3}}, "t": {Type: typ, Shape: tensor.Shape{3, 2}}, "c": {Type: typ, Shape: tensor.Shape{2, 6}},
			}}
			element := func(i int) string { return string(x.Data[i*size : (i+1)*size]) }
			got, err := engine.Eval(g, &graph.Node{Op: "Transpose", Inputs: []string{"x"}, Outputs: []string{"t"}}, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			if want := element(0) + element(3) + element(1) + element(4) + element(2) + element(5); string(got[0].Data) != want {
				t.Errorf("transposed %v, want %v", got[0].Data, []byte(want))
			}
			got, err = engine.Eval(g, &graph.Node{Op: "Concat", Inputs: []string{"x", "x"}, Outputs: []string{"c"}, Attrs: graph.Attrs{"axis": int64(1)}}, []*tensor.Tensor{x, x})
			if err != nil {
				t.Fatal(err)
			}
			top, bottom := string(x.Data[:3*size]), string(x.Data[3*size:])
			if string(got[0].Data) != top+top+bottom+bottom {
				t.Errorf("concatenated %v", got[0].Data)
			}
		})
	}
}

func TestActivationIsFusedOnlyWhereNobodySees(t *testing.T) {
	r := random(t)
	relu := func(b *builder, x string) string { return b.node("Relu", nil, x) }
	for _, c := range []struct {
		name  string
		build func(b *builder, y string) []string // outputs after a layer's output y
	}{
		{"relu alone", func(b *builder, y string) []string { return []string{relu(b, y)} }},
		{"clip", func(b *builder, y string) []string {
			return []string{b.node("Clip", nil, y, b.constant(scalar(-0.1)), b.constant(scalar(0.2)))}
		}},
		{"the layer's output is the graph's too", func(b *builder, y string) []string { return []string{y, relu(b, y)} }},
		{"two readers", func(b *builder, y string) []string { return []string{relu(b, y), b.node("Identity", nil, y)} }},
		{"two relus", func(b *builder, y string) []string { return []string{relu(b, relu(b, y))} }},
		{"something added", func(b *builder, y string) []string {
			other := []int{4, 6}
			if strings.HasPrefix(y, "Conv") {
				other = []int{1, 3, 3, 3}
			}
			return []string{relu(b, b.node("Add", nil, b.input(other...), y))}
		}},
		{"relu of a view", func(b *builder, y string) []string { return []string{relu(b, b.node("Flatten", nil, y))} }},
	} {
		for _, layer := range []string{"Conv", "Gemm", "biased Gemm", "scaled Gemm", "MatMul", "dynamic"} {
			t.Run(fmt.Sprint(c.name, " after ", layer), func(t *testing.T) {
				b := newBuilder(r)
				var y string
				switch layer {
				case "Conv":
					y = b.node("Conv", nil, b.input(1, 2, 5, 5), b.weights(3, 2, 3, 3), b.weights(3))
				case "Gemm":
					y = b.node("Gemm", nil, b.input(4, 5), b.weights(5, 6), b.weights(4, 1))
				case "biased Gemm":
					y = b.node("Gemm", graph.Attrs{"beta": float32(0.3)}, b.input(4, 5), b.weights(5, 6), b.weights(6))
				case "scaled Gemm":
					y = b.node("Gemm", graph.Attrs{"alpha": float32(0.3)}, b.input(4, 5), b.weights(5, 6), b.weights(1, 6))
				case "MatMul":
					y = b.node("MatMul", nil, b.input(4, 5), b.weights(5, 6))
				default:
					y = b.node("MatMul", nil, b.input(4, 5), b.input(5, 6))
				}
				g := b.graph(t, c.build(b, y)...)
				in := inputs(r, g)
				same(t, "fused", run(t, g, engine.Options{}, nil, in), nodeByNode(t, g, in))
			})
		}
	}
}
