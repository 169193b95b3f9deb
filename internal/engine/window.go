package engine

import (
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// pool emits a MaxPool or AveragePool (opset 12 and 19).
func (c *compiler) pool(n *graph.Node) error {
	if c.info(n.Inputs[0]).Type != tensor.Float32 {
		return c.wholePool(n)
	}
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	if len(shape) > 4 || len(n.Outputs) > 1 {
		return c.plainPool(n)
	}
	w, err := graph.WindowOf(n, shape[2:], nil)
	if err != nil {
		return err
	}
	shape, w = plane(shape), planeWindow(w)
	geometry := kernel.Pool2D{
		N: shape[0], C: shape[1], H: shape[2], W: shape[3],
		KH: w.Kernel[0], KW: w.Kernel[1], StrideH: w.Strides[0], StrideW: w.Strides[1],
		PadTop: w.PadBegin[0], PadLeft: w.PadBegin[1], PadBottom: w.PadEnd[0], PadRight: w.PadEnd[1],
		DilationH: w.Dilations[0], DilationW: w.Dilations[1],
		OH: w.Out[0], OW: w.Out[1], CountIncludePad: n.Attrs.Int("count_include_pad", 0) != 0,
	}
	o := &poolOp{x: x}
	if n.Op == "MaxPool" {
		o.pooling = kernel.NewMaxPool(geometry)
	} else {
		o.pooling = kernel.NewAveragePool(geometry)
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type poolOp struct {
	dst, x  int
	pooling *kernel.Pooling
}

func (o *poolOp) run(s *Session) { o.pooling.Run(s.program.pool, s.f32(o.dst), s.f32(o.x)) }

// globalPool emits a GlobalAveragePool (opset 1).
func (c *compiler) globalPool(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	o := &globalPoolOp{x: x, nc: shape[:2].Elements(), hw: shape[2:].Elements()}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type globalPoolOp struct{ dst, x, nc, hw int }

func (o *globalPoolOp) run(s *Session) {
	kernel.GlobalAveragePool(s.program.pool, s.f32(o.dst), s.f32(o.x), o.nc, o.hw)
}

// globalMax emits a GlobalMaxPool (opset 1).
func (c *compiler) globalMax(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	nc, size := shape[:2].Elements(), shape[2:].Elements()
	o := reduceOp{x: x, kind: "ReduceMax", kept: []int{nc}, keptSteps: []int{size}, dims: []int{size}, steps: []int{1}, count: size}
	o.dst = c.define(n.Outputs[0])
	c.emit(reducer[float32](o), o.dst, x)
	return nil
}
