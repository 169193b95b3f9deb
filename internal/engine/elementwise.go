package engine

import (
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// bounds are the limits of a Relu or a Clip.
func (c *compiler) bounds(n *graph.Node) (lo, hi float32) {
	if n.Op == "Relu" {
		return 0, posInf
	}
	return c.g.ClipBounds(n)
}

// clamp emits a Relu or Clip that is not part of the layer before it.
func (c *compiler) clamp(n *graph.Node) error {
	lo, hi := c.bounds(n)
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	dst := c.define(n.Outputs[0])
	c.emit(&clampOp{dst: dst, x: x, lo: lo, hi: hi}, dst, x)
	return nil
}

type clampOp struct {
	dst, x int
	lo, hi float32
}

func (o *clampOp) run(s *Session) { kernel.Clamp(s.f32(o.dst), s.f32(o.x), o.lo, o.hi) }

// binary emits an Add or Mul (opset 7 and later, numpy broadcasting).
func (c *compiler) binary(n *graph.Node) error {
	in, err := c.floats(n.Inputs[0], n.Inputs[1])
	if err != nil {
		return err
	}
	dst := c.define(n.Outputs[0])
	op := newBinary(n.Op, dst, in[0], in[1], c.shape(n.Outputs[0]), c.shape(n.Inputs[0]), c.shape(n.Inputs[1]))
	c.emit(op, dst, in[0], in[1])
	return nil
}

// binaryOp is dst = a + b or a·b, operands broadcast; dst may be the same slot
// as an operand of its shape.
type binaryOp struct {
	mul          bool
	dst, a, b    int
	dims         []int // of dst, those merged that all three step through as one
	aStep, bStep []int // elements from one index of a dimension to the next; 0 where broadcast
}

// newBinary is the step of an Add or Mul over slots of these shapes.
func newBinary(op string, dst, a, b int, dstShape, aShape, bShape tensor.Shape) *binaryOp {
	o := &binaryOp{mul: op == "Mul", dst: dst, a: a, b: b}
	as, bs := strides(aShape, dstShape, 1), strides(bShape, dstShape, 1)
	for d, size := range dstShape {
		last := len(o.dims) - 1
		switch {
		case size == 1:
		case last >= 0 && o.aStep[last] == as[d]*size && o.bStep[last] == bs[d]*size:
			o.dims[last], o.aStep[last], o.bStep[last] = o.dims[last]*size, as[d], bs[d]
		default:
			o.dims, o.aStep, o.bStep = append(o.dims, size), append(o.aStep, as[d]), append(o.bStep, bs[d])
		}
	}
	if len(o.dims) == 0 {
		o.dims, o.aStep, o.bStep = []int{1}, []int{1}, []int{1}
	}
	return o
}

func (o *binaryOp) run(s *Session) { o.dim(0, s.f32(o.dst), s.f32(o.a), s.f32(o.b)) }

// dim computes dimension d and those inside, and returns the rest of dst.
func (o *binaryOp) dim(d int, dst, a, b []float32) []float32 {
	size, as, bs := o.dims[d], o.aStep[d], o.bStep[d]
	if d < len(o.dims)-1 {
		for i := range size {
			dst = o.dim(d+1, dst, a[i*as:], b[i*bs:])
		}
		return dst
	}
	row := dst[:size]
	if as == 0 { // both operators commute
		a, b, bs = b, a, 0
	}
	switch {
	case o.mul && bs != 0:
		kernel.Mul(row, a[:size], b[:size])
	case o.mul:
		for i, v := range a[:size] {
			row[i] = v * b[0]
		}
	case bs != 0:
		kernel.Add(row, a[:size], b[:size])
	default:
		for i, v := range a[:size] {
			row[i] = v + b[0]
		}
	}
	return dst[size:]
}

// broadcastShape is the shape that a and b broadcast to; they must be
// compatible.
func broadcastShape(a, b tensor.Shape) tensor.Shape {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := append(tensor.Shape{}, a...)
	for i, size := range b {
		if d := len(a) - len(b) + i; size != 1 {
			out[d] = size
		}
	}
	return out
}

// strides returns, for each dimension of out, how many elements of a tensor of
// that shape, whose elements are unit wide, lie between one index and the next;
// 0 where the tensor is broadcast.
func strides(shape, out tensor.Shape, unit int) []int {
	steps := make([]int, len(out))
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] != 1 {
			steps[len(out)-len(shape)+i] = unit
		}
		unit *= shape[i]
	}
	return steps
}
