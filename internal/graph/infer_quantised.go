package graph

import (
	"fmt"

	"starling/internal/tensor"
)

var (
	octets = setOf(tensor.Uint8, tensor.Int8)
	quanta = octets | setOf(tensor.Uint16, tensor.Int16)
)

// input checks that input i is given and of one of these types.
func (c *call) input(i int, set types) (Info, error) {
	if !c.has(i) {
		return Info{}, fmt.Errorf("input %d is left out", i)
	}
	in := c.in[i]
	if set&(1<<in.Type) == 0 {
		return in, fmt.Errorf("input %q is %v, want one of %v", c.node.Inputs[i], in.Type, set)
	}
	if err := in.check(); err != nil {
		return in, fmt.Errorf("input %q: %w", c.node.Inputs[i], err)
	}
	return in, nil
}

// single says whether a parameter is one value.
func single(s tensor.Shape) bool { return len(s) <= 1 && s.Elements() == 1 }

// parameter checks that input i, a scale or zero point, is of that type, and one
// value or a vector of many.
func (c *call) parameter(i int, typ tensor.DType, many int) error {
	in, err := c.input(i, setOf(typ))
	if err != nil {
		return err
	}
	if !single(in.Shape) && !in.Shape.Equal(tensor.Shape{many}) {
		return fmt.Errorf("input %q of shape %v, want one value or [%d]", c.node.Inputs[i], in.Shape, many)
	}
	return nil
}

// sub is c with these of its inputs.
func (c *call) sub(inputs ...int) *call {
	s := &call{graph: c.graph, node: c.node}
	for _, i := range inputs {
		if c.has(i) {
			s.in = append(s.in, c.in[i])
		}
	}
	return s
}

// convBytes is the shape of the convolution of inputs x and w, of bytes, and bias.
func (c *call) convBytes(x, w int, bias ...int) (tensor.Shape, error) {
	for _, i := range []int{x, w} {
		if _, err := c.input(i, octets); err != nil {
			return nil, err
		}
	}
	out, err := inferConv(c.sub(append([]int{x, w}, bias...)...))
	return out.Shape, err
}

// inferConvInteger: x, w, zero point of x, zero points of w (ONNX ConvInteger 10).
func inferConvInteger(c *call) (Info, error) {
	shape, err := c.convBytes(0, 1)
	if err != nil {
		return Info{}, err
	}
	if err := c.zeros(2, 0, 1); err != nil {
		return Info{}, err
	}
	return Info{tensor.Int32, shape}, c.zeros(3, 1, c.shape(1)[0])
}

// zeros checks the zero points in input i of input of, if they are given.
func (c *call) zeros(i, of, many int) error {
	if !c.has(i) {
		return nil
	}
	return c.parameter(i, c.in[of].Type, many)
}

// inferMatMulInteger: a, b, zero points of a and b (ONNX MatMulInteger 10).
func inferMatMulInteger(c *call) (Info, error) {
	shape, rows, cols, err := c.matMulBytes(0, 1)
	if err != nil {
		return Info{}, err
	}
	if err := c.zeros(2, 0, rows); err != nil {
		return Info{}, err
	}
	return Info{tensor.Int32, shape}, c.zeros(3, 1, cols)
}

// matMulBytes is the shape of the product of inputs a and b, of bytes, and how many
// parameters they may have: one for each row of a if it is a matrix, and for each
// column of b.
func (c *call) matMulBytes(a, b int) (shape tensor.Shape, rows, cols int, err error) {
	for _, i := range []int{a, b} {
		if _, err := c.input(i, octets); err != nil {
			return nil, 0, 0, err
		}
	}
	out, err := inferMatMul(c.sub(a, b))
	rows, cols = 1, 1
	if s := c.shape(a); len(s) == 2 {
		rows = s[0]
	}
	if s := c.shape(b); len(s) > 1 {
		cols = s[len(s)-1]
	}
	return out.Shape, rows, cols, err
}

// inferQLinearConv: x, its scale and zero point, w, its scales and zero points,
// scale and zero point of y, bias (ONNX QLinearConv 10).
func inferQLinearConv(c *call) (Info, error) {
	shape, err := c.convBytes(0, 3, 8)
	if err != nil {
		return Info{}, err
	}
	if c.has(8) && c.in[8].Type != tensor.Int32 {
		return Info{}, fmt.Errorf("bias %q is %v, want int32", c.node.Inputs[8], c.in[8].Type)
	}
	return c.qLinear(shape, 1, c.shape(3)[0])
}

// inferQLinearMatMul: a, its scale and zero point, b, its scale and zero point, scale
// and zero point of y (ONNX QLinearMatMul 10, 21).
func inferQLinearMatMul(c *call) (Info, error) {
	shape, rows, cols, err := c.matMulBytes(0, 3)
	if err != nil {
		return Info{}, err
	}
	return c.qLinear(shape, rows, cols)
}

// qLinear checks the scales and zero points, of which the first and second operand
// may have that many, and is the result, of that shape.
func (c *call) qLinear(shape tensor.Shape, rows, cols int) (Info, error) {
	y, err := c.input(7, octets)
	if err != nil {
		return Info{}, err
	}
	for _, p := range []struct {
		input int
		typ   tensor.DType
		many  int
	}{
		{1, tensor.Float32, rows},
		{2, c.in[0].Type, rows},
		{4, tensor.Float32, cols},
		{5, c.in[3].Type, cols},
		{6, tensor.Float32, 1},
		{7, y.Type, 1},
	} {
		if err := c.parameter(p.input, p.typ, p.many); err != nil {
			return Info{}, err
		}
	}
	return Info{y.Type, shape}, nil
}

// inferDynamicQuantize: y, its scale and its zero point (ONNX DynamicQuantizeLinear 11).
func inferDynamicQuantize(c *call) (Info, error) {
	c.more = []Info{float32Of(), {tensor.Uint8, tensor.Shape{}}}
	return Info{tensor.Uint8, c.shape(0)}, nil
}

// quantaTypes are the numbers of element types in ONNX (TensorProto.DataType).
var quantaTypes = map[int]tensor.DType{2: tensor.Uint8, 3: tensor.Int8, 4: tensor.Uint16, 5: tensor.Int16}

// inferQuantize: saturate(round(x / scale) + zero point), of the type of the zero
// point or output_dtype, or else uint8 (ONNX QuantizeLinear 10, 13, 21).
func inferQuantize(c *call) (Info, error) {
	x, err := c.input(0, setOf(tensor.Float32))
	if err != nil {
		return Info{}, err
	}
	if p := c.node.Attrs.Int("precision", 0); p > 1 || p < 0 {
		return Info{}, fmt.Errorf("precision %d is not supported: only float32 (1) is computed", p)
	}
	typ := tensor.Uint8
	number := c.node.Attrs.Int("output_dtype", 0)
	if number != 0 {
		known := false
		if typ, known = quantaTypes[number]; !known {
			return Info{}, fmt.Errorf("output_dtype %d is not supported", number)
		}
	}
	if c.has(2) {
		zero, err := c.input(2, quanta)
		if err != nil {
			return Info{}, err
		}
		if number != 0 && typ != zero.Type {
			return Info{}, fmt.Errorf("zero point %q is %v, but output_dtype says %v", c.node.Inputs[2], zero.Type, typ)
		}
		typ = zero.Type
	}
	return Info{typ, x.Shape}, c.scales(x.Shape)
}

// inferDequantize: (x - zero point)·scale (ONNX DequantizeLinear 10, 13, 21).
func inferDequantize(c *call) (Info, error) {
	x, err := c.input(0, quanta|setOf(tensor.Int32))
	if err != nil {
		return Info{}, err
	}
	// TensorProto.FLOAT is 1; 0 means the type of the scale.
	if d := c.node.Attrs.Int("output_dtype", 0); d > 1 || d < 0 {
		return Info{}, fmt.Errorf("output_dtype %d is not supported: only float32 (1) is computed", d)
	}
	if c.has(2) && c.in[2].Type != x.Type {
		return Info{}, fmt.Errorf("zero point %q is %v, want the type of %q, %v", c.node.Inputs[2], c.in[2].Type, c.node.Inputs[0], x.Type)
	}
	return float32Of(x.Shape...), c.scales(x.Shape)
}

// scales checks inputs 1 and 2, the scale and zero point of a tensor: one value,
// one for every index of an axis, or one for every block of an axis.
func (c *call) scales(x tensor.Shape) error {
	scale, err := c.input(1, setOf(tensor.Float32))
	if err != nil {
		return err
	}
	if c.has(2) && !c.shape(2).Equal(scale.Shape) && !(single(c.shape(2)) && single(scale.Shape)) {
		return fmt.Errorf("zero point %q of shape %v, want that of the scale, %v", c.node.Inputs[2], c.shape(2), scale.Shape)
	}
	block := c.node.Attrs.Int("block_size", 0)
	if single(scale.Shape) && block == 0 {
		return nil
	}
	axis, err := c.axis(1, len(x), len(x))
	if err != nil {
		return err
	}
	want := tensor.Shape{x[axis]}
	if block < 0 {
		return fmt.Errorf("block_size %d", block)
	}
	if block > 0 {
		want = append(tensor.Shape{}, x...)
		want[axis] = (x[axis] + block - 1) / block
	}
	if !scale.Shape.Equal(want) {
		return fmt.Errorf("scale of shape %v for axis %d of %v, want %v", scale.Shape, axis, x, want)
	}
	return nil
}
