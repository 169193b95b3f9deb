package engine

import (
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// einsum emits an Einsum (opset 12): a loop over the labels of the result, and
// for each of its elements over the others, summed in float64.
func (c *compiler) einsum(n *graph.Node) error {
	shapes := make([]tensor.Shape, len(n.Inputs))
	for i, name := range n.Inputs {
		shapes[i] = c.shape(name)
	}
	var in []int
	for _, name := range n.Inputs {
		at, err := c.value(name)
		if err != nil {
			return err
		}
		in = append(in, at)
	}
	e, err := graph.EinsumOf(n.Attrs.String("equation", ""), shapes)
	if err != nil {
		return err
	}
	o := einsum{in: in}
	order := e.Output
	of := make([]bool, len(e.Sizes))
	for _, label := range order {
		of[label] = true
	}
	o.outer = len(order)
	for label := range e.Sizes {
		if !of[label] {
			order = append(order[:len(order):len(order)], label)
		}
	}
	for _, label := range order {
		o.sizes = append(o.sizes, e.Sizes[label])
	}
	for i, labels := range e.Operands {
		steps := make([]int, len(order))
		for d, step := range rowMajor(shapes[i]) {
			for k, label := range order {
				if label == labels[d] && shapes[i][d] > 1 {
					steps[k] += step // a diagonal goes along several dimensions
				}
			}
		}
		o.steps = append(o.steps, steps)
	}
	o.at = c.buffer(8 * len(in) * (len(order) + 1))
	o.dst = c.define(n.Outputs[0])
	var op operator = &einsumOp[float32]{o}
	if c.info(n.Inputs[0]).Type == tensor.Float64 {
		op = &einsumOp[float64]{o}
	}
	c.emit(op, slices.Concat(in, []int{o.dst, o.at})...)
	return nil
}

// einsumOp loops over sizes; those from outer on are summed.
type einsumOp[T float] struct{ einsum }

type einsum struct {
	dst   int
	in    []int
	sizes []int
	steps [][]int // of each operand along each size
	outer int
	at    int // slot: where each operand stands, a row of int64 for each depth
}

func (o *einsumOp[T]) run(s *Session) {
	clear(view[int64](s, o.at)[:len(o.in)])
	o.dim(s, 0, view[T](s, o.dst))
}

func (o *einsumOp[T]) dim(s *Session, d int, dst []T) []T {
	if d == o.outer {
		dst[0] = T(o.sum(s, d))
		return dst[1:]
	}
	for i := range o.sizes[d] {
		o.move(s, d, i)
		dst = o.dim(s, d+1, dst)
	}
	return dst
}

// move puts every operand at index i of dimension d.
func (o *einsum) move(s *Session, d, i int) {
	at, n := view[int64](s, o.at), len(o.in)
	for k := range o.in {
		at[(d+1)*n+k] = at[d*n+k] + int64(i*o.steps[k][d])
	}
}

func (o *einsumOp[T]) sum(s *Session, d int) float64 {
	n := len(o.in)
	at := view[int64](s, o.at)[d*n : (d+1)*n]
	switch left := len(o.sizes) - d; {
	case left == 0:
		product := 1.0
		for k, slot := range o.in {
			product *= float64(view[T](s, slot)[at[k]])
		}
		return product
	case left == 1 && n == 2:
		a, b, as, bs := view[T](s, o.in[0])[at[0]:], view[T](s, o.in[1])[at[1]:], o.steps[0][d], o.steps[1][d]
		sum := 0.0
		for i := range o.sizes[d] {
			sum += float64(float64(a[i*as]) * float64(b[i*bs]))
		}
		return sum
	}
	sum := 0.0
	for i := range o.sizes[d] {
		o.move(s, d, i)
		sum += float64(o.sum(s, d+1))
	}
	return sum
}
