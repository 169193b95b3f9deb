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
	dst, known := c.slots[n.Outputs[0]]
	if !known {
		dst = c.define(n.Outputs[0])
	}
	o := &concatOp{dst: dst, outer: info.Shape[:axis].Elements()}
	slots := []int{dst}
	at := 0
	for _, name := range n.Inputs {
		x, err := c.value(name)
		if err != nil {
			return err
		}
		size := c.shape(name)[axis:].Elements() * info.Type.Size()
		if s := &c.p.slots[x]; !s.part || s.whole != dst || s.at != at || o.outer != 1 {
			o.pieces = append(o.pieces, piece{x, at, size})
			slots = append(slots, x)
		}
		at += size
	}
	o.bytes = at
	if len(o.pieces) > 0 {
		c.emit(o, slots...)
	}
	return nil
}

// before is the number of bytes before a value in the output of a Concat, which
// must be one piece of it.
func (c *compiler) before(n *graph.Node, value string) (bytes int, ok bool) {
	info := c.info(n.Outputs[0])
	axis := n.Attrs.Int("axis", 1)
	if axis < 0 {
		axis += len(info.Shape)
	}
	if info.Shape[:axis].Elements() != 1 {
		return 0, false
	}
	found, at := 0, 0
	for _, name := range n.Inputs {
		if name == value {
			found, bytes = found+1, at
		}
		at += c.shape(name).Elements() * info.Type.Size()
	}
	return bytes, found == 1
}

// concatOp puts outer times the pieces that are not there already behind each
// other: bytes in all.
type concatOp struct {
	dst, outer, bytes int
	pieces            []piece
}

// piece is what of slot x goes to byte at, outer times.
type piece struct{ x, at, bytes int }

func (o *concatOp) run(s *Session) {
	dst := s.data[o.dst]
	for i := range o.outer {
		for _, p := range o.pieces {
			copy(dst[i*o.bytes+p.at:][:p.bytes], s.data[p.x][i*p.bytes:])
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
	c.permute(n.Outputs[0], x, info.Type.Size(), info.Shape, perm)
	return nil
}

// permute emits the definition of a value as x, of that shape, with its
// dimensions in another order.
func (c *compiler) permute(name string, x, elementBytes int, shape tensor.Shape, perm []int) {
	o := &transposeOp{x: x, elementBytes: elementBytes}
	from := strides(shape, shape, 1)
	sizes, steps := make([]int, len(perm)), make([]int, len(perm))
	for i, d := range perm {
		sizes[i], steps[i] = shape[d], from[d]
	}
	dims, merged := merge(sizes, steps)
	o.dims, o.steps = dims, merged[0]
	o.dst = c.define(name)
	c.emit(o, o.dst, x)
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

// depth emits a DepthToSpace (opset 13) or SpaceToDepth (opset 28): blocks of b·b
// channels lie beside each other in space.
func (c *compiler) depth(n *graph.Node) error {
	info, b := c.info(n.Inputs[0]), n.Attrs.Int("blocksize", 1)
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	s := info.Shape
	var shape tensor.Shape
	var perm []int
	switch apart := n.Attrs.String("mode", "DCR") == "DCR"; {
	case n.Op == "SpaceToDepth":
		shape, perm = tensor.Shape{s[0], s[1], s[2] / b, b, s[3] / b, b}, []int{0, 3, 5, 1, 2, 4}
		if !apart {
			perm = []int{0, 1, 3, 5, 2, 4}
		}
	case apart:
		shape, perm = tensor.Shape{s[0], b, b, s[1] / (b * b), s[2], s[3]}, []int{0, 3, 4, 1, 5, 2}
	default:
		shape, perm = tensor.Shape{s[0], s[1] / (b * b), b, b, s[2], s[3]}, []int{0, 1, 4, 2, 5, 3}
	}
	c.permute(n.Outputs[0], x, info.Type.Size(), shape, perm)
	return nil
}
