package engine

import (
	"starling/internal/graph"
	"starling/internal/tensor"
)

// dequantize emits a DequantizeLinear (opset 13): y = (x − zero point)·scale, for
// the whole tensor or for each index of an axis.
func (c *compiler) dequantize(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	scale, err := c.float(n.Inputs[1])
	if err != nil {
		return err
	}
	o := &dequantizeOp{x: x, scale: scale, zero: -1, from: info.Type, outer: 1, axis: 1, inner: info.Shape.Elements()}
	slots := []int{x, scale}
	scales := c.shape(n.Inputs[1])
	if scales.Elements() > 1 {
		axis := n.Attrs.Int("axis", 1)
		if axis < 0 {
			axis += len(info.Shape)
		}
		o.outer, o.axis, o.inner = info.Shape[:axis].Elements(), info.Shape[axis], info.Shape[axis+1:].Elements()
	}
	if name := n.Input(2); name != "" {
		if o.zero, err = c.value(name); err != nil {
			return err
		}
		slots = append(slots, o.zero)
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(slots, o.dst)...)
	return nil
}

type dequantizeOp struct {
	dst, x, scale, zero int // slots; zero is -1 where left out
	from                tensor.DType
	outer, axis, inner  int // one scale and zero point for each index of axis
}

func (o *dequantizeOp) run(s *Session) {
	var zero []byte
	if o.zero >= 0 {
		zero = s.data[o.zero]
	}
	dst, x, scale := s.f32(o.dst), s.data[o.x], s.f32(o.scale)
	switch o.from {
	case tensor.Int8:
		dequantize(o, dst, tensor.View[int8](x), scale, tensor.View[int8](zero))
	case tensor.Uint8:
		dequantize(o, dst, x, scale, zero)
	case tensor.Int16:
		dequantize(o, dst, tensor.View[int16](x), scale, tensor.View[int16](zero))
	case tensor.Uint16:
		dequantize(o, dst, tensor.View[uint16](x), scale, tensor.View[uint16](zero))
	case tensor.Int32:
		dequantize(o, dst, tensor.View[int32](x), scale, tensor.View[int32](zero))
	}
}

func dequantize[T int8 | uint8 | int16 | uint16 | int32](o *dequantizeOp, dst []float32, x []T, scale []float32, zero []T) {
	for range o.outer {
		for a := range o.axis {
			z := int64(0)
			if len(zero) > 0 {
				z = int64(zero[a])
			}
			for i, v := range x[:o.inner] {
				dst[i] = float32(int64(v)-z) * scale[a]
			}
			dst, x = dst[o.inner:], x[o.inner:]
		}
	}
}
