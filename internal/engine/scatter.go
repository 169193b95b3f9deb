package engine

import (
	"fmt"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// elementsOp copies pieces between x and places in it that indices name: place i
// begins base[i] pieces in, and depth indices lead on from there.
type elementsOp struct {
	dst, x, indices int // for a scatter, x are the updates and dst is written in places
	typ             tensor.DType
	base            []int // of each place, in elements of the indexed tensor
	sizes, steps    []int // of the axes that indices are for; steps in elements
	piece           int   // elements of a place
	elementBytes    int
	scatter         bool
	combine         func(dst, x []byte) // of a scatter; nil copies
}

func (o *elementsOp) run(s *Session) {
	dst, x, indices := s.data[o.dst], s.data[o.x], s.data[o.indices]
	bytes := o.piece * o.elementBytes
	for i, at := range o.base {
		for k, size := range o.sizes {
			v, err := indexOf(indices, o.typ, i*len(o.sizes)+k, size)
			if err != nil {
				s.err = err
				return
			}
			at += v * o.steps[k]
		}
		at *= o.elementBytes
		switch {
		case !o.scatter:
			copy(dst[i*bytes:(i+1)*bytes], x[at:])
		case o.combine == nil:
			copy(dst[at:at+bytes], x[i*bytes:])
		default:
			o.combine(dst[at:at+bytes], x[i*bytes:(i+1)*bytes])
		}
	}
}

// rowMajor are the distances between indices of each dimension, in elements.
func rowMajor(shape tensor.Shape) []int {
	steps := make([]int, len(shape))
	step := 1
	for d := len(shape) - 1; d >= 0; d-- {
		steps[d] = step
		step *= shape[d]
	}
	return steps
}

// corners lists, in order, where each coordinate of a shape lies when dimensions
// are steps apart.
func corners(shape tensor.Shape, steps []int) []int {
	list := []int{0}
	for d, size := range shape {
		next := make([]int, 0, len(list)*size)
		for _, at := range list {
			for i := range size {
				next = append(next, at+i*steps[d])
			}
		}
		list = next
	}
	return list
}

// elements emits a GatherElements, GatherND, ScatterElements or ScatterND (opsets
// 13 and 18).
func (c *compiler) elements(n *graph.Node) error {
	info, at := c.info(n.Inputs[0]), c.info(n.Inputs[1])
	var in []int
	for _, name := range n.Inputs {
		slot, err := c.value(name)
		if err != nil {
			return err
		}
		in = append(in, slot)
	}
	o := &elementsOp{x: in[0], indices: in[1], typ: at.Type, elementBytes: info.Type.Size(), piece: 1}
	steps := rowMajor(info.Shape)
	switch n.Op {
	case "GatherElements", "ScatterElements", "Scatter":
		axis, err := graph.Axis(n, 0, len(info.Shape))
		if err != nil {
			return err
		}
		others := slices.Clone(steps)
		others[axis] = 0
		o.base = corners(at.Shape, others)
		o.sizes, o.steps = []int{info.Shape[axis]}, []int{steps[axis]}
	default:
		batch, last := n.Attrs.Int("batch_dims", 0), len(at.Shape)-1
		depth := at.Shape[last]
		places := slices.Clone(steps[:batch])
		o.base = corners(at.Shape[:last], append(places, make([]int, last-batch)...))
		o.sizes, o.steps = info.Shape[batch:batch+depth], steps[batch:batch+depth]
		o.piece = info.Shape[batch+depth:].Elements()
	}
	o.dst = c.define(n.Outputs[0])
	if len(in) == 2 {
		c.emit(o, o.dst, o.x, o.indices)
		return nil
	}
	if reduction := n.Attrs.String("reduction", "none"); reduction != "none" {
		if o.combine = combineBytes(reduction, info.Type); o.combine == nil {
			return fmt.Errorf("reduction %q is not supported for %v", reduction, info.Type)
		}
	}
	c.emit(&copyOp{dst: o.dst, x: o.x}, o.dst, o.x)
	o.scatter, o.x = true, in[2]
	c.emit(o, o.dst, o.x, o.indices)
	return nil
}

// combineBytes is dst = dst ∘ x, nil for types that have none.
func combineBytes(reduction string, typ tensor.DType) func(dst, x []byte) {
	switch typ {
	case tensor.Float32:
		return combineOf[float32](reduction)
	case tensor.Float64:
		return combineOf[float64](reduction)
	case tensor.Int64:
		return combineOf[int64](reduction)
	case tensor.Int32:
		return combineOf[int32](reduction)
	case tensor.Int8:
		return combineOf[int8](reduction)
	case tensor.Uint8:
		return combineOf[uint8](reduction)
	}
	return nil
}

func combineOf[T number](reduction string) func(dst, x []byte) {
	row := arithmetic[T](map[string]string{"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}[reduction])
	return func(dst, x []byte) {
		d := tensor.View[T](dst)
		row(d, d, tensor.View[T](x), 1, 1)
	}
}
