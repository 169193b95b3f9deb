package engine

import (
	"math"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// scaling says which scale and zero point belong to an element: those of the whole
// tensor, of each index of an axis, or of each block of an axis.
type scaling struct {
	x, scale, zero     int // slots; zero is -1 where left out
	outer, axis, inner int
	block              int // 0: one for each index of axis
}

// scaling resolves the inputs of a QuantizeLinear or DequantizeLinear (opset 21).
func (c *compiler) scaling(n *graph.Node) (o scaling, slots []int, err error) {
	shape := c.shape(n.Inputs[0])
	o = scaling{zero: -1, outer: 1, axis: 1, inner: shape.Elements(), block: n.Attrs.Int("block_size", 0)}
	if o.x, err = c.value(n.Inputs[0]); err != nil {
		return o, nil, err
	}
	if o.scale, err = c.float(n.Inputs[1]); err != nil {
		return o, nil, err
	}
	slots = []int{o.x, o.scale}
	if c.shape(n.Inputs[1]).Elements() > 1 || o.block > 0 {
		axis, err := graph.Axis(n, 1, len(shape))
		if err != nil {
			return o, nil, err
		}
		o.outer, o.axis, o.inner = shape[:axis].Elements(), shape[axis], shape[axis+1:].Elements()
	}
	if name := n.Input(2); name != "" {
		if o.zero, err = c.value(name); err != nil {
			return o, nil, err
		}
		slots = append(slots, o.zero)
	}
	return o, slots, nil
}

// each calls f for runs of elements that share a scale and zero point, number i.
func (o *scaling) each(f func(from, to, i int)) {
	for r := range o.outer {
		for a := range o.axis {
			from := (r*o.axis + a) * o.inner
			if o.block == 0 {
				f(from, from+o.inner, a)
				continue
			}
			blocks := (o.axis + o.block - 1) / o.block
			for i := range o.inner {
				f(from+i, from+i+1, (r*blocks+a/o.block)*o.inner+i)
			}
		}
	}
}

// dequantize emits a DequantizeLinear (opset 21): y = (x − zero point)·scale.
func (c *compiler) dequantize(n *graph.Node) error {
	s, slots, err := c.scaling(n)
	if err != nil {
		return err
	}
	o := &dequantizeOp{scaling: s, from: c.info(n.Inputs[0]).Type}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(slots, o.dst)...)
	return nil
}

type dequantizeOp struct {
	scaling
	dst  int
	from tensor.DType
}

func (o *dequantizeOp) run(s *Session) {
	var zero []byte
	if o.zero >= 0 {
		zero = s.data[o.zero]
	}
	dst, x, scale := s.f32(o.dst), s.data[o.x], s.f32(o.scale)
	switch o.from {
	case tensor.Int8, tensor.Uint8:
		o.each(func(from, to, i int) {
			kernel.DequantizeBytes(dst[from:to], kernel.Bytes{Data: x[from:to], Signed: isSigned(o.from), Zero: s.zero(o.zero, i, o.from)}, scale[i])
		})
	case tensor.Int16:
		dequantize(o, dst, tensor.View[int16](x), scale, tensor.View[int16](zero))
	case tensor.Uint16:
		dequantize(o, dst, tensor.View[uint16](x), scale, tensor.View[uint16](zero))
	case tensor.Int32:
		dequantize(o, dst, tensor.View[int32](x), scale, tensor.View[int32](zero))
	}
}

func dequantize[T int16 | uint16 | int32](o *dequantizeOp, dst []float32, x []T, scale []float32, zero []T) {
	o.each(func(from, to, n int) {
		z := int64(0)
		if len(zero) > 0 {
			z = int64(zero[n])
		}
		for i, v := range x[from:to] {
			dst[from+i] = float32(int64(v)-z) * scale[n]
		}
	})
}

// quantize emits a QuantizeLinear (opset 21): y = saturate(round(x / scale) + zero
// point), halves to even.
func (c *compiler) quantize(n *graph.Node) error {
	s, slots, err := c.scaling(n)
	if err != nil {
		return err
	}
	o := &quantizeOp{scaling: s, to: c.info(n.Outputs[0]).Type}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(slots, o.dst)...)
	return nil
}

type quantizeOp struct {
	scaling
	dst int
	to  tensor.DType
}

func (o *quantizeOp) run(s *Session) {
	dst, x, scale := s.data[o.dst], s.f32(o.x), s.f32(o.scale)
	switch o.to {
	case tensor.Int8, tensor.Uint8:
		o.each(func(from, to, i int) {
			kernel.QuantizeBytes(dst[from:to], x[from:to], scale[i], isSigned(o.to), s.zero(o.zero, i, o.to))
		})
	case tensor.Int16:
		quantize(s, o, tensor.View[int16](dst), x, scale, math.MinInt16, math.MaxInt16)
	case tensor.Uint16:
		quantize(s, o, tensor.View[uint16](dst), x, scale, 0, math.MaxUint16)
	}
}

func quantize[T int16 | uint16](s *Session, o *quantizeOp, dst []T, x, scale []float32, low, high float64) {
	var zero []T
	if o.zero >= 0 {
		zero = tensor.View[T](s.data[o.zero])
	}
	o.each(func(from, to, n int) {
		z := 0.0
		if len(zero) > 0 {
			z = float64(zero[n])
		}
		for i, v := range x[from:to] {
			y := math.RoundToEven(float64(v/scale[n])) + z
			if !(y > low) { // NaN too
				y = low
			}
			dst[from+i] = T(min(y, high))
		}
	})
}

// dynamicQuantize emits a DynamicQuantizeLinear (opset 11).
func (c *compiler) dynamicQuantize(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	o := &dynamicQuantizeOp{x: x, dst: c.define(n.Outputs[0])}
	slots := []int{x, o.dst}
	for i, at := range []*int{&o.scale, &o.zero} {
		if i+1 < len(n.Outputs) && n.Outputs[i+1] != "" {
			*at = c.define(n.Outputs[i+1])
		} else {
			*at = c.buffer(4)
		}
		slots = append(slots, *at)
	}
	c.emit(o, slots...)
	return nil
}

type dynamicQuantizeOp struct{ dst, scale, zero, x int }

func (o *dynamicQuantizeOp) run(s *Session) {
	x := s.f32(o.x)
	low, high := float32(0), float32(0)
	for _, v := range x {
		low, high = min(low, v), max(high, v)
	}
	scale := float32(high-low) / 255
	if high == low {
		scale = float32(1) / 255
	}
	zero := math.RoundToEven(min(max(float64(-low/scale), 0), 255))
	s.f32(o.scale)[0] = scale
	s.data[o.zero][0] = byte(zero)
	kernel.QuantizeBytes(s.data[o.dst], x, scale, false, int32(byte(zero)))
}
