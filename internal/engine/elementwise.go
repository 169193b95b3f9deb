package engine

import (
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// bounds are the limits of a Relu or Clip of float32; not ok if they are computed
// or the node is none.
func (c *compiler) bounds(n *graph.Node) (lo, hi float32, ok bool) {
	switch n.Op {
	case "Relu":
		return 0, posInf, c.info(n.Inputs[0]).Type == tensor.Float32
	case "Clip":
		return c.g.ClipBounds(n)
	}
	return 0, 0, false
}

// clamp emits a Relu or Clip that is not part of the layer before it.
func (c *compiler) clamp(n *graph.Node) error {
	lo, hi, ok := c.bounds(n)
	if !ok && n.Op == "Relu" {
		return c.unary(n)
	}
	if !ok {
		return c.clip(n)
	}
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	dst := c.define(n.Outputs[0])
	c.emit(&clampOp{dst: dst, x: x, lo: lo, hi: hi}, dst, x)
	return nil
}

// clip emits a Clip of any type, with bounds that may be computed: min(max(x,
// low), high), opset 13; those that are attributes are float32's.
func (c *compiler) clip(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	from := x
	dst := c.define(n.Outputs[0])
	for i, op := range []string{"Max", "Min"} {
		name := n.Input(1 + i)
		bound := -1
		switch attr, given := n.Attrs[[]string{"min", "max"}[i]].(float32); {
		case name != "":
			if bound, err = c.value(name); err != nil {
				return err
			}
		case given && info.Type == tensor.Float64:
			bound = c.addSlot(slot{input: -1, constant: tensor.Bytes([]float64{float64(attr)})})
		}
		if bound < 0 {
			continue
		}
		step := c.combine(n, op, info.Type, dst, from, bound, info.Shape, info.Shape, tensor.Shape{})
		c.emit(step, dst, from, bound)
		from = dst
	}
	if from == x {
		c.emit(&copyOp{dst: dst, x: x}, dst, x)
	}
	return nil
}

type clampOp struct {
	dst, x int
	lo, hi float32
}

func (o *clampOp) run(s *Session) { kernel.Clamp(s.f32(o.dst), s.f32(o.x), o.lo, o.hi) }

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
