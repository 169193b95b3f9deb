package engine

import (
	"starling/internal/graph"
	"starling/internal/kernel"
)

// softmax emits a Softmax: over one axis from opset 13 on; before, over all
// dimensions from axis (1 if absent) to the last, as if they were one.
func (c *compiler) softmax(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	axis := 1
	if c.g.Opset >= 13 {
		axis = -1
	}
	axis = n.Attrs.Int("axis", axis)
	if axis < 0 {
		axis += len(shape)
	}
	o := &softmaxOp{x: x, outer: shape[:axis].Elements(), axis: shape[axis:].Elements(), inner: 1}
	if c.g.Opset >= 13 {
		o.axis, o.inner = shape[axis], shape[axis+1:].Elements()
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type softmaxOp struct{ dst, x, outer, axis, inner int }

func (o *softmaxOp) run(s *Session) {
	kernel.Softmax(s.f32(o.dst), s.f32(o.x), o.outer, o.axis, o.inner)
}

// batchNorm emits a BatchNormalization (opset 9 and later) that infers.
func (c *compiler) batchNorm(n *graph.Node) error {
	in, err := c.floats(n.Inputs[:5]...)
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	o := &batchNormOp{in: [5]int(in), n: shape[0], c: shape[1], hw: shape[2:].Elements(), epsilon: n.Attrs.Float("epsilon", 1e-5)}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(in, o.dst)...)
	return nil
}

type batchNormOp struct {
	dst      int
	in       [5]int // x, scale, bias, mean, variance
	n, c, hw int
	epsilon  float32
}

func (o *batchNormOp) run(s *Session) {
	kernel.BatchNorm(s.f32(o.dst), s.f32(o.in[0]), s.f32(o.in[1]), s.f32(o.in[2]), s.f32(o.in[3]), s.f32(o.in[4]), o.n, o.c, o.hw, o.epsilon)
}

// lrn emits an LRN (opset 1): local response normalisation across channels.
func (c *compiler) lrn(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	o := &lrnOp{
		x: x, n: shape[0], c: shape[1], hw: shape[2:].Elements(), size: n.Attrs.Int("size", 1),
		alpha: n.Attrs.Float("alpha", 1e-4), beta: n.Attrs.Float("beta", 0.75), bias: n.Attrs.Float("bias", 1),
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type lrnOp struct {
	dst, x            int
	n, c, hw, size    int
	alpha, beta, bias float32
}

func (o *lrnOp) run(s *Session) {
	kernel.LRN(s.f32(o.dst), s.f32(o.x), o.n, o.c, o.hw, o.size, o.alpha, o.beta, o.bias)
}
