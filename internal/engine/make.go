package engine

import (
	"fmt"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// fixed makes a node's output a constant.
func (c *compiler) fixed(name string, t *tensor.Tensor) error {
	c.slots[name] = c.addSlot(slot{input: -1, constant: t.Data})
	return nil
}

// made emits what is known before any request: ConstantOfShape (opset 9), Range
// (opset 11), EyeLike (opset 9).
func (c *compiler) made(n *graph.Node) error {
	info := c.info(n.Outputs[0])
	t := tensor.New(info.Type, info.Shape...)
	switch n.Op {
	case "ConstantOfShape":
		if value := n.Attrs.Tensor("value"); value != nil {
			fillWith(t.Data, value.Data)
		}
	case "EyeLike":
		one := tensor.Alloc(8)
		put8 := [1]uint8{1}
		castInteger(info.Type, one, put8[:])
		size, k := info.Type.Size(), n.Attrs.Int("k", 0)
		for row := range info.Shape[0] {
			if col := row + k; col >= 0 && col < info.Shape[1] {
				copy(t.Data[(row*info.Shape[1]+col)*size:], one[:size])
			}
		}
	case "Range":
		start, delta := c.g.Constants[n.Inputs[0]], c.g.Constants[n.Inputs[2]]
		switch info.Type {
		case tensor.Float32:
			progress[float32](t, start, delta)
		case tensor.Float64:
			progress[float64](t, start, delta)
		case tensor.Int64:
			progress[int64](t, start, delta)
		case tensor.Int32:
			progress[int32](t, start, delta)
		case tensor.Int16:
			progress[int16](t, start, delta)
		default:
			return fmt.Errorf("operator is not supported for %v", info.Type)
		}
	}
	return c.fixed(n.Outputs[0], t)
}

func progress[T interface {
	tensor.Element
	number
}](t, start, delta *tensor.Tensor) {
	first, step := tensor.Of[T](start)[0], tensor.Of[T](delta)[0]
	dst := tensor.Of[T](t)
	for i := range dst {
		// In float64 the product is exact, or it is an integer's.
		if isFloat[T]() {
			dst[i] = T(float64(first) + float64(float64(i)*float64(step)))
		} else {
			dst[i] = first + T(i)*step
		}
	}
}

// dropout emits a Dropout in inference: the input, and a mask that is all true.
func (c *compiler) dropout(n *graph.Node) error {
	if len(n.Outputs) > 1 && n.Outputs[1] != "" {
		mask := tensor.New(tensor.Bool, c.shape(n.Outputs[1])...)
		fillWith(mask.Data, []byte{1})
		if err := c.fixed(n.Outputs[1], mask); err != nil {
			return err
		}
	}
	if n.Outputs[0] == "" {
		return nil
	}
	return c.view(n)
}

// triangle emits a Trilu (opset 14).
func (c *compiler) triangle(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	o := &triangleOp{x: x, upper: n.Attrs.Int("upper", 1) != 0, elementBytes: info.Type.Size()}
	k, err := c.g.Ints(n, 1, "k")
	if err != nil {
		return err
	}
	rank := len(info.Shape)
	if len(k) == 1 {
		// Beyond the matrix a diagonal says the same however far it is off.
		o.k = min(max(k[0], -info.Shape[rank-2]-1), info.Shape[rank-1]+1)
	}
	o.count, o.rows, o.cols = info.Shape[:rank-2].Elements(), info.Shape[rank-2], info.Shape[rank-1]
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

// triangleOp keeps what lies on and above, or on and below, diagonal k.
type triangleOp struct {
	dst, x            int
	upper             bool
	k                 int
	count, rows, cols int
	elementBytes      int
}

func (o *triangleOp) run(s *Session) {
	dst, x := s.data[o.dst], s.data[o.x]
	copy(dst, x)
	for i := range o.count * o.rows {
		row := dst[i*o.cols*o.elementBytes : (i+1)*o.cols*o.elementBytes]
		at := i%o.rows + o.k // the diagonal's column
		if o.upper {
			clear(row[:min(max(at, 0), o.cols)*o.elementBytes])
		} else {
			clear(row[min(max(at+1, 0), o.cols)*o.elementBytes:])
		}
	}
}

// oneHot emits a OneHot (opset 11): an index outside the depth sets nothing.
func (c *compiler) oneHot(n *graph.Node) error {
	out, at := c.info(n.Outputs[0]), c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	values, err := c.value(n.Inputs[2])
	if err != nil {
		return err
	}
	axis := n.Attrs.Int("axis", -1)
	if axis < 0 {
		axis += len(out.Shape)
	}
	indices := x
	if at.Type != tensor.Int64 {
		indices = c.buffer(8 * at.Shape.Elements())
		c.emit(&castOp{dst: indices, x: x, from: at.Type, to: tensor.Int64}, indices, x)
	}
	o := &oneHotOp{indices: indices, values: values, elementBytes: out.Type.Size()}
	o.outer, o.depth, o.inner = lanes(out.Shape, axis)
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, indices, values)
	return nil
}

type oneHotOp struct {
	dst, indices, values int
	outer, depth, inner  int
	elementBytes         int
}

func (o *oneHotOp) run(s *Session) {
	dst, values, size := s.data[o.dst], s.data[o.values], o.elementBytes
	fillWith(dst, values[:size])
	for i, v := range view[int64](s, o.indices)[:o.outer*o.inner] {
		if v < 0 {
			v += int64(o.depth)
		}
		if v >= 0 && v < int64(o.depth) {
			at := (i/o.inner*o.depth+int(v))*o.inner + i%o.inner
			copy(dst[at*size:], values[size:2*size])
		}
	}
}
