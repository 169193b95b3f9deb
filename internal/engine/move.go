package engine

import (
	"starling/internal/graph"
	"starling/internal/tensor"
)

// copyOp is dst = x, bytes.
type copyOp struct{ dst, x int }

func (o *copyOp) run(s *Session) { copy(s.data[o.dst], s.data[o.x]) }

// concat emits a Concat (opset 11; opset 1 to 3 had axis 1 by default) of any type.
func (c *compiler) concat(n *graph.Node) error {
	info := c.info(n.Outputs[0])
	axis := n.Attrs.Int("axis", 1)
	if axis < 0 {
		axis += len(info.Shape)
	}
	o := &concatOp{outer: info.Shape[:axis].Elements()}
	for _, name := range n.Inputs {
		x, err := c.value(name)
		if err != nil {
			return err
		}
		o.x = append(o.x, x)
		o.bytes = append(o.bytes, c.shape(name)[axis:].Elements()*info.Type.Size())
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(o.x, o.dst)...)
	return nil
}

// concatOp puts outer times one piece of each x behind each other.
type concatOp struct {
	dst, outer int
	x, bytes   []int // slots, and sizes of their pieces
}

func (o *concatOp) run(s *Session) {
	dst := s.data[o.dst]
	for i := range o.outer {
		for j, x := range o.x {
			size := o.bytes[j]
			copy(dst[:size], s.data[x][i*size:])
			dst = dst[size:]
		}
	}
}

// transpose emits a Transpose (opset 1) of any type.
func (c *compiler) transpose(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	perm := n.Attrs.Ints("perm", nil)
	if perm == nil {
		for d := len(info.Shape) - 1; d >= 0; d-- {
			perm = append(perm, d)
		}
	}
	o := &transposeOp{x: x, elementBytes: info.Type.Size()}
	steps := strides(info.Shape, info.Shape, 1)
	for _, d := range perm {
		size, step, last := info.Shape[d], steps[d], len(o.dims)-1
		switch {
		case size == 1:
		case last >= 0 && o.steps[last] == step*size:
			o.dims[last], o.steps[last] = o.dims[last]*size, step
		default:
			o.dims, o.steps = append(o.dims, size), append(o.steps, step)
		}
	}
	if len(o.dims) == 0 {
		o.dims, o.steps = []int{1}, []int{1}
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

// transposeOp copies x so that dst has these dimensions, each of which steps
// through x by so many elements.
type transposeOp struct {
	dst, x       int
	elementBytes int
	dims, steps  []int
}

func (o *transposeOp) run(s *Session) {
	dst, x := s.data[o.dst], s.data[o.x]
	switch o.elementBytes {
	case 1:
		permute(dst, x, o.dims, o.steps)
	case 2:
		permute(tensor.View[uint16](dst), tensor.View[uint16](x), o.dims, o.steps)
	case 4:
		permute(tensor.View[uint32](dst), tensor.View[uint32](x), o.dims, o.steps)
	case 8:
		permute(tensor.View[uint64](dst), tensor.View[uint64](x), o.dims, o.steps)
	}
}

// permute fills dst dimension by dimension and returns what is left of it.
func permute[T any](dst, x []T, dims, steps []int) []T {
	size, step := dims[0], steps[0]
	if len(dims) > 1 {
		for i := range size {
			dst = permute(dst, x[i*step:], dims[1:], steps[1:])
		}
		return dst
	}
	for i := range dst[:size] {
		dst[i] = x[i*step]
	}
	return dst[size:]
}
