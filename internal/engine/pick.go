package engine

import (
	"fmt"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// pick emits the definition of a value whose element [i,j,…] is x's element
// [index[0][i],index[1][j],…], or fill where an index is -1: a slot with one
// element, -1 for zero. x has that shape, as many dimensions as index.
func (c *compiler) pick(name string, x int, elementBytes int, shape tensor.Shape, index [][]int, fill int) {
	// Dimensions at the end that stay as they are count as one element.
	unit := elementBytes
	for len(index) > 0 && isRange(index[len(index)-1], shape[len(index)-1]) {
		unit *= shape[len(index)-1]
		index = index[:len(index)-1]
	}
	if len(index) == 0 {
		c.slots[name] = x
		return
	}
	o := &pickOp{x: x, fill: fill, elementBytes: elementBytes}
	step := unit
	for d := len(index) - 1; d >= 0; d-- {
		offsets := make([]int, len(index[d]))
		for i, at := range index[d] {
			if offsets[i] = -1; at >= 0 {
				offsets[i] = at * step
			}
		}
		if d == len(index)-1 {
			o.runs = runsOf(offsets, unit)
		} else {
			o.offsets = append(o.offsets, offsets)
		}
		step *= shape[d]
	}
	slices.Reverse(o.offsets)
	o.dst = c.define(name)
	slots := []int{o.dst, x}
	if fill >= 0 {
		slots = append(slots, fill)
	}
	c.emit(o, slots...)
}

// isRange reports whether list is 0, 1, … size-1.
func isRange(list []int, size int) bool {
	for i, v := range list {
		if v != i {
			return false
		}
	}
	return len(list) == size
}

func rangeOf(size int) []int {
	list := make([]int, size)
	for i := range list {
		list[i] = i
	}
	return list
}

// runsOf joins pieces of unit bytes that lie behind each other.
func runsOf(offsets []int, unit int) []run {
	var runs []run
	for _, at := range offsets {
		last := len(runs) - 1
		if last >= 0 && (at < 0 && runs[last].from < 0 || at >= 0 && runs[last].from >= 0 && at == runs[last].from+runs[last].bytes) {
			runs[last].bytes += unit
		} else {
			runs = append(runs, run{from: at, bytes: unit})
		}
	}
	return runs
}

// run is a piece of x, or of fill where from is -1.
type run struct{ from, bytes int }

// pickOp puts pieces of x together: for each combination of offsets, one of every
// list, the runs from their sum on.
type pickOp struct {
	dst, x, fill int // fill is -1 for zeros
	elementBytes int
	offsets      [][]int // in bytes, outermost first; -1 where all is fill
	runs         []run
}

func (o *pickOp) run(s *Session) {
	var fill []byte
	if o.fill >= 0 {
		fill = s.data[o.fill][:o.elementBytes]
	}
	o.dim(0, 0, s.data[o.dst], s.data[o.x], fill)
}

func (o *pickOp) dim(d, at int, dst, x, fill []byte) []byte {
	if d < len(o.offsets) {
		for _, offset := range o.offsets[d] {
			if at >= 0 && offset >= 0 {
				dst = o.dim(d+1, at+offset, dst, x, fill)
			} else {
				dst = o.dim(d+1, -1, dst, x, fill)
			}
		}
		return dst
	}
	for _, r := range o.runs {
		if at >= 0 && r.from >= 0 {
			copy(dst[:r.bytes], x[at+r.from:])
		} else {
			fillWith(dst[:r.bytes], fill)
		}
		dst = dst[r.bytes:]
	}
	return dst
}

// fillWith repeats one element, zeros where it is nil.
func fillWith(dst, element []byte) {
	if element == nil {
		clear(dst)
		return
	}
	for n := copy(dst, element); n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
}

// source is the slot, the type and a list of all indices of each dimension of a
// node's first input: what pick starts from.
func (c *compiler) source(n *graph.Node) (x int, info graph.Info, index [][]int, err error) {
	info = c.info(n.Inputs[0])
	for _, size := range info.Shape {
		index = append(index, rangeOf(size))
	}
	x, err = c.value(n.Inputs[0])
	return x, info, index, err
}

// slice emits a Slice (opset 13).
func (c *compiler) slice(n *graph.Node) error {
	x, info, index, err := c.source(n)
	if err != nil {
		return err
	}
	from, step, count, err := c.g.SliceOf(n, info.Shape)
	if err != nil {
		return err
	}
	for d := range index {
		index[d] = make([]int, count[d])
		for i := range index[d] {
			index[d][i] = from[d] + i*step[d]
		}
	}
	c.pick(n.Outputs[0], x, info.Type.Size(), info.Shape, index, -1)
	return nil
}

// divide emits a Split (opset 18).
func (c *compiler) divide(n *graph.Node) error {
	x, info, index, err := c.source(n)
	if err != nil {
		return err
	}
	axis, sizes, err := c.g.SplitOf(n, info.Shape)
	if err != nil {
		return err
	}
	all := index[axis]
	for i, name := range n.Outputs {
		if name != "" {
			part := slices.Clone(index)
			part[axis] = all[:sizes[i]]
			c.pick(name, x, info.Type.Size(), info.Shape, part, -1)
		}
		all = all[sizes[i]:]
	}
	return nil
}

// repeat emits an Expand (opset 13) or a Tile (opset 13): indices come again.
func (c *compiler) repeat(n *graph.Node) error {
	x, info, _, err := c.source(n)
	if err != nil {
		return err
	}
	out := c.shape(n.Outputs[0])
	shape := append(slices.Repeat(tensor.Shape{1}, len(out)-len(info.Shape)), info.Shape...)
	index := make([][]int, len(out))
	for d, size := range out {
		for i := range size {
			index[d] = append(index[d], i%shape[d])
		}
	}
	c.pick(n.Outputs[0], x, info.Type.Size(), shape, index, -1)
	return nil
}

// pad emits a Pad (opset 19).
func (c *compiler) pad(n *graph.Node) error {
	x, info, index, err := c.source(n)
	if err != nil {
		return err
	}
	begin, end, err := c.g.PadsOf(n, info.Shape)
	if err != nil {
		return err
	}
	mode := n.Attrs.String("mode", "constant")
	for d, size := range info.Shape {
		index[d] = index[d][:0:0]
		for i := -begin[d]; i < size+end[d]; i++ {
			index[d] = append(index[d], padded(mode, i, size))
		}
	}
	fill := -1
	switch name := n.Input(2); {
	case name != "":
		if fill, err = c.value(name); err != nil {
			return err
		}
	case n.Attrs.Float("value", 0) != 0 && info.Type == tensor.Float32:
		fill = c.addSlot(slot{input: -1, constant: tensor.Bytes([]float32{n.Attrs.Float("value", 0)})})
	case n.Attrs.Float("value", 0) != 0:
		return fmt.Errorf("attribute value for %v", info.Type)
	}
	c.pick(n.Outputs[0], x, info.Type.Size(), info.Shape, index, fill)
	return nil
}

// padded is which index of size stands at place i, -1 for none.
func padded(mode string, i, size int) int {
	if i >= 0 && i < size {
		return i
	}
	switch mode {
	case "edge":
		return min(max(i, 0), size-1)
	case "reflect":
		if i < 0 {
			return -i
		}
		return 2*(size-1) - i
	case "wrap":
		return ((i % size) + size) % size
	}
	return -1
}

// gather emits a Gather (opset 13): of constant indices as a pick.
func (c *compiler) gather(n *graph.Node) error {
	x, info, index, err := c.source(n)
	if err != nil {
		return err
	}
	axis, err := graph.Axis(n, 0, len(info.Shape))
	if err != nil {
		return err
	}
	size := info.Shape[axis]
	if t := c.g.Constants[n.Inputs[1]]; t != nil {
		index[axis] = make([]int, t.Shape.Elements())
		for i := range index[axis] {
			if index[axis][i], err = indexOf(t.Data, t.Type, i, size); err != nil {
				return err
			}
		}
		c.pick(n.Outputs[0], x, info.Type.Size(), info.Shape, index, -1)
		return nil
	}
	indices, err := c.value(n.Inputs[1])
	if err != nil {
		return err
	}
	o := &gatherOp{
		x: x, indices: indices, typ: c.info(n.Inputs[1]).Type, count: c.shape(n.Inputs[1]).Elements(), size: size,
		outer: info.Shape[:axis].Elements(), bytes: info.Shape[axis+1:].Elements() * info.Type.Size(),
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x, indices)
	return nil
}

// indexOf is element i of indices of int64 or int32, negative ones from the end; an
// error outside size.
func indexOf(data []byte, typ tensor.DType, i, size int) (int, error) {
	var v int64
	if typ == tensor.Int64 {
		v = tensor.View[int64](data)[i]
	} else {
		v = int64(tensor.View[int32](data)[i])
	}
	if v < -int64(size) || v >= int64(size) {
		return 0, fmt.Errorf("index %d is %d, outside an axis of %d", i, v, size)
	}
	if v < 0 {
		v += int64(size)
	}
	return int(v), nil
}

// gatherOp copies pieces of x [outer,size,bytes] that indices name.
type gatherOp struct {
	dst, x, indices           int
	typ                       tensor.DType
	outer, size, count, bytes int
}

func (o *gatherOp) run(s *Session) {
	dst, x := s.data[o.dst], s.data[o.x]
	for outer := range o.outer {
		for i := range o.count {
			at, err := indexOf(s.data[o.indices], o.typ, i, o.size)
			if err != nil {
				s.err = err
				return
			}
			copy(dst[:o.bytes], x[(outer*o.size+at)*o.bytes:])
			dst = dst[o.bytes:]
		}
	}
}
