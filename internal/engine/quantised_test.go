package engine_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

func f32s(shape []int, v ...float32) *tensor.Tensor { return tensor.FromSlice(v, shape...) }
func u8s(shape []int, v ...uint8) *tensor.Tensor    { return tensor.FromSlice(v, shape...) }
func s8s(shape []int, v ...int8) *tensor.Tensor     { return tensor.FromSlice(v, shape...) }
func i32s(shape []int, v ...int32) *tensor.Tensor   { return tensor.FromSlice(v, shape...) }

var quantisedCases = []struct {
	name, op string
	attrs    graph.Attrs
	in       []*tensor.Tensor
	want     []*tensor.Tensor
}{
	{
		"halves go to even and all saturates", "QuantizeLinear", nil,
		[]*tensor.Tensor{f32s([]int{9}, -1.5, -0.5, 0.5, 1.5, 2.5, 1000, -1000, float32(math.NaN()), float32(math.Inf(1))), f32s(nil, 1), u8s(nil, 128)},
		[]*tensor.Tensor{u8s([]int{9}, 126, 128, 128, 130, 130, 255, 0, 0, 255)},
	},
	{
		"an axis, signed", "QuantizeLinear",
		graph.Attrs{"axis": int64(0)},
		[]*tensor.Tensor{f32s([]int{2, 2}, 1, 2, 3, -400), f32s([]int{2}, 0.5, 2), s8s([]int{2}, 1, -2)},
		[]*tensor.Tensor{s8s([]int{2, 2}, 3, 5, 0, -128)},
	},
	{
		"blocks", "QuantizeLinear",
		graph.Attrs{"axis": int64(1), "block_size": int64(2)},
		[]*tensor.Tensor{f32s([]int{1, 3}, 1, 2, 3), f32s([]int{1, 2}, 0.5, 2), u8s([]int{1, 2}, 0, 7)},
		[]*tensor.Tensor{u8s([]int{1, 3}, 2, 4, 9)},
	},
	{
		"int16", "QuantizeLinear", nil,
		[]*tensor.Tensor{f32s([]int{3}, -70000, 2.5, 70000), f32s(nil, 1), tensor.FromSlice([]int16{3})},
		[]*tensor.Tensor{tensor.FromSlice([]int16{-32768, 5, 32767}, 3)},
	},
	{
		"blocks of an axis before the last", "DequantizeLinear",
		graph.Attrs{"axis": int64(0), "block_size": int64(2)},
		[]*tensor.Tensor{s8s([]int{3, 2}, 1, 2, 3, 4, 5, 6), f32s([]int{2, 2}, 1, 10, 100, 1000), s8s([]int{2, 2}, 0, 1, 2, 3)},
		[]*tensor.Tensor{f32s([]int{3, 2}, 1, 10, 3, 30, 300, 3000)},
	},
	{ // the example of the operator's specification
		"uint8", "DynamicQuantizeLinear", nil,
		[]*tensor.Tensor{f32s([]int{6}, 0, 2, -3, -2.5, 1.34, 0.5)},
		[]*tensor.Tensor{u8s([]int{6}, 153, 255, 0, 26, 221, 179), f32s(nil, 0.0196078438), u8s(nil, 153)},
	},
	{ // the example of the operator's specification
		"zero points", "MatMulInteger", nil,
		[]*tensor.Tensor{u8s([]int{4, 3}, 11, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0), u8s([]int{3, 2}, 1, 4, 2, 5, 3, 6), u8s(nil, 12), u8s(nil, 0)},
		[]*tensor.Tensor{i32s([]int{4, 2}, -38, -83, -44, -98, -50, -113, -56, -128)},
	},
	{
		"a zero point for each row and column", "MatMulInteger", nil,
		[]*tensor.Tensor{s8s([]int{2, 1}, 5, 5), u8s([]int{1, 2}, 200, 100), s8s([]int{2}, 1, 3), u8s([]int{2}, 100, 99)},
		[]*tensor.Tensor{i32s([]int{2, 2}, 400, 4, 200, 2)},
	},
	{
		"stacks", "MatMulInteger", nil,
		[]*tensor.Tensor{u8s([]int{2, 1, 2}, 1, 2, 3, 4), s8s([]int{2, 2, 1}, 1, -1, 2, -2)},
		[]*tensor.Tensor{i32s([]int{2, 1, 1}, -1, -2)},
	},
	{ // the example of the operator's specification
		"no pads", "ConvInteger", nil,
		[]*tensor.Tensor{u8s([]int{1, 1, 3, 3}, 2, 3, 4, 5, 6, 7, 8, 9, 10), u8s([]int{1, 1, 2, 2}, 1, 1, 1, 1), u8s(nil, 1)},
		[]*tensor.Tensor{i32s([]int{1, 1, 2, 2}, 12, 16, 24, 28)},
	},
	{
		"a scale for each filter, and a bias", "QLinearConv", nil,
		[]*tensor.Tensor{
			u8s([]int{1, 1, 2, 2}, 1, 2, 3, 4), f32s(nil, 0.5), u8s(nil, 1), s8s([]int{2, 1, 1, 1}, 2, -3), f32s([]int{2}, 0.25, 0.25), s8s([]int{2}, 0, 0),
			f32s(nil, 0.5), u8s(nil, 10), i32s([]int{2}, 3, 0),
		},
		[]*tensor.Tensor{u8s([]int{1, 2, 2, 2}, 11, 11, 12, 12, 10, 9, 8, 8)},
	},
	{
		"pads are the zero point", "QLinearConv",
		graph.Attrs{"pads": []int64{0, 1, 0, 0}},
		[]*tensor.Tensor{
			u8s([]int{1, 1, 1, 2}, 7, 9), f32s(nil, 1), u8s(nil, 7), u8s([]int{1, 1, 1, 2}, 3, 2), f32s(nil, 1), u8s(nil, 1), f32s(nil, 1), s8s(nil, -1),
		},
		[]*tensor.Tensor{s8s([]int{1, 1, 1, 2}, -1, 1)},
	},
	{
		"a scale for each row", "QLinearMatMul", nil,
		[]*tensor.Tensor{
			u8s([]int{2, 1}, 2, 2), f32s([]int{2}, 1, 3), u8s([]int{2}, 0, 1), s8s([]int{1, 1}, 3), f32s(nil, 1), s8s(nil, 0), f32s(nil, 1), u8s(nil, 0),
		},
		[]*tensor.Tensor{u8s([]int{2, 1}, 6, 9)},
	},
}

// TestQuantisedOperators runs each case with constants for all but the first input,
// and with inputs only.
func TestQuantisedOperators(t *testing.T) {
	pool := kernel.NewPool(2)
	defer pool.Close()
	for _, c := range quantisedCases {
		for _, constants := range []bool{true, false} {
			g := &graph.Graph{Opset: 21, Constants: map[string]*tensor.Tensor{}}
			n := &graph.Node{Name: "n", Op: c.op, Attrs: c.attrs}
			var in []*tensor.Tensor
			for i, x := range c.in {
				name := string(rune('a' + i))
				n.Inputs = append(n.Inputs, name)
				if i > 0 && constants {
					g.Constants[name] = x
					continue
				}
				g.Inputs = append(g.Inputs, graph.Value{Name: name, Info: graph.Info{Type: x.Type, Shape: x.Shape}})
				in = append(in, x)
			}
			for i := range c.want {
				n.Outputs = append(n.Outputs, string(rune('y'-i)))
			}
			g.Nodes, g.Outputs = []*graph.Node{n}, n.Outputs
			if err := g.Prepare(); err != nil {
				t.Fatalf("%s, %s: %v", c.op, c.name, err)
			}
			p, err := engine.Compile(g, engine.Options{Pool: pool})
			if err != nil {
				t.Fatalf("%s, %s: %v", c.op, c.name, err)
			}
			got, err := p.NewSession().Run(context.Background(), nil, in)
			if err != nil {
				t.Fatalf("%s, %s: %v", c.op, c.name, err)
			}
			allocatesNothing(t, p, nil, in)
			for i, want := range c.want {
				if got[i].Type != want.Type || !got[i].Shape.Equal(want.Shape) || !slices.Equal(got[i].Data, want.Data) {
					t.Errorf("%s, %s, constants %v: output %d is %v%v %v, want %v%v %v", c.op, c.name, constants, i,
						got[i].Type, got[i].Shape, got[i].Data, want.Type, want.Shape, want.Data)
				}
			}
		}
	}
}
