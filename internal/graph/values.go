package graph

import (
	"fmt"
	"math"

	"starling/internal/tensor"
)

// Values that shapes depend on: constants, and what Prepare has computed of
// them and of the shapes of other values.

// value is the constant of that name. While shapes are inferred one that nodes
// compute from constants is computed and becomes a constant; nil if it depends
// on a request.
func (g *Graph) value(name string) (*tensor.Tensor, error) {
	if t := g.Constants[name]; t != nil || name == "" {
		return t, nil
	}
	n := g.makers[name]
	if n == nil {
		return nil, nil
	}
	in := make([]*tensor.Tensor, len(n.Inputs))
	for i, input := range n.Inputs {
		var err error
		if in[i], err = g.value(input); err != nil || (in[i] == nil && input != "") {
			return nil, err
		}
	}
	out, err := g.evaluate(n, in)
	if err != nil {
		return nil, fmt.Errorf("compute %q (node %q, %s): %w", name, n.Name, n.Op, err)
	}
	for i, t := range out {
		if n.Outputs[i] != "" {
			g.Constants[n.Outputs[i]] = t
		}
	}
	return g.Constants[name], nil
}

// DynamicError says that a shape depends on a value that only a request brings. If
// the inputs that it comes from are made constants, Prepare may be tried again.
type DynamicError struct {
	What   string // what the value is to a node
	Value  string
	Inputs []string // the inputs of the graph that it is computed from
}

func (e *DynamicError) Error() string {
	return fmt.Sprintf("%s %q is computed by the graph: only a constant %s is supported", e.What, e.Value, e.What)
}

// sources lists the graph's inputs that a value is computed from, while it is
// prepared.
func (g *Graph) sources(name string) []string {
	var list []string
	seen := map[string]bool{"": true}
	for names := []string{name}; len(names) > 0; {
		name, names = names[0], names[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		if n := g.makers[name]; n != nil {
			names = append(names, n.Inputs...)
		} else if g.Constants[name] == nil {
			list = append(list, name)
		}
	}
	return list
}

// constant is the value of input i, which what names in errors.
func (g *Graph) constant(n *Node, i int, what string) (*tensor.Tensor, error) {
	name := n.Input(i)
	t, err := g.value(name)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, &DynamicError{What: what, Value: name, Inputs: g.sources(name)}
	}
	return t, nil
}

// integers is the value of input i, a scalar or vector of int64 or int32.
func (g *Graph) integers(n *Node, i int, what string) ([]int64, error) {
	t, err := g.constant(n, i, what)
	if err != nil {
		return nil, err
	}
	if len(t.Shape) <= 1 {
		switch t.Type {
		case tensor.Int64:
			return tensor.Of[int64](t), nil
		case tensor.Int32:
			v := make([]int64, t.Shape.Elements())
			for i, x := range tensor.Of[int32](t) {
				v[i] = int64(x)
			}
			return v, nil
		}
	}
	return nil, fmt.Errorf("%s %q is %v%v, want a vector of int64", what, n.Input(i), t.Type, t.Shape)
}

// Ints is the value of input i of a node as ints, those beyond 32 bits cut off
// to the nearest that fits; nil if the input is left out.
func (g *Graph) Ints(n *Node, i int, what string) ([]int, error) {
	if n.Input(i) == "" {
		return nil, nil
	}
	v, err := g.integers(n, i, what)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(min(max(x, math.MinInt32), math.MaxInt32))
	}
	return out, nil
}

// attrOrInput is a list that an attribute holds up to opset last, input i from
// then on; nil where left out.
func (g *Graph) attrOrInput(n *Node, name string, last, i int) ([]int, error) {
	if g.Opset > last {
		return g.Ints(n, i, name)
	}
	if len(n.Inputs) > i {
		return nil, fmt.Errorf("%d inputs, want at most %d in opset %d", len(n.Inputs), i, g.Opset)
	}
	return n.Attrs.Ints(name, nil), nil
}

// axisIn resolves an axis, negative ones from the end, against rank.
func axisIn(axis, rank int) (int, error) {
	if axis < -rank || axis >= rank {
		return 0, fmt.Errorf("axis %d is outside rank %d", axis, rank)
	}
	if axis < 0 {
		axis += rank
	}
	return axis, nil
}

// Axis is the axis attribute of a node, with a default, resolved against rank.
func Axis(n *Node, def, rank int) (int, error) { return axisIn(n.Attrs.Int("axis", def), rank) }

// axesIn resolves distinct axes against rank: whether each axis is among them.
func axesIn(axes []int, rank int) ([]bool, error) {
	set := make([]bool, rank)
	for _, a := range axes {
		at, err := axisIn(a, rank)
		if err != nil {
			return nil, err
		}
		if set[at] {
			return nil, fmt.Errorf("axes %v name one twice", axes)
		}
		set[at] = true
	}
	return set, nil
}

// ReducedAxes says of each axis whether a Reduce node of a prepared graph sums
// it up (ONNX ReduceSum 13, the others 18; before, axes were an attribute).
func (g *Graph) ReducedAxes(n *Node, rank int) ([]bool, error) {
	last := 17
	if n.Op == "ReduceSum" {
		last = 12
	}
	axes, err := g.attrOrInput(n, "axes", last, 1)
	if err != nil {
		return nil, err
	}
	if len(axes) == 0 && n.Attrs.Int("noop_with_empty_axes", 0) == 0 {
		axes = make([]int, rank)
		for i := range axes {
			axes[i] = i
		}
	}
	return axesIn(axes, rank)
}

// SliceOf resolves a Slice node over x: along each axis, the first index, the
// step and how many there are (ONNX Slice 13; up to opset 9 by attributes).
func (g *Graph) SliceOf(n *Node, x tensor.Shape) (from, step, count []int, err error) {
	var lists [4][]int // starts, ends, axes, steps
	for i, name := range []string{"starts", "ends", "axes", "steps"} {
		if i == 3 && g.Opset < 10 {
			break
		}
		if lists[i], err = g.attrOrInput(n, name, 9, i+1); err != nil {
			return nil, nil, nil, err
		}
	}
	starts, ends, axes, steps := lists[0], lists[1], lists[2], lists[3]
	if axes == nil {
		for i := range starts {
			axes = append(axes, i)
		}
	}
	if steps == nil {
		for range starts {
			steps = append(steps, 1)
		}
	}
	if len(ends) != len(starts) || len(axes) != len(starts) || len(steps) != len(starts) {
		return nil, nil, nil, fmt.Errorf("%d starts, %d ends, %d axes and %d steps", len(starts), len(ends), len(axes), len(steps))
	}
	if _, err := axesIn(axes, len(x)); err != nil {
		return nil, nil, nil, err
	}
	from, step, count = make([]int, len(x)), make([]int, len(x)), make([]int, len(x))
	for i, size := range x {
		step[i], count[i] = 1, size
	}
	for i, a := range axes {
		a, _ := axisIn(a, len(x)) // checked above
		s := steps[i]
		if s == 0 {
			return nil, nil, nil, fmt.Errorf("the step along axis %d is 0", a)
		}
		// Negative indices count from the end; then both are cut off to the
		// tensor, for a negative step to its last element and before its first.
		low, high := 0, x[a]
		if s < 0 {
			low, high = -1, x[a]-1
		}
		bound := func(v int) int {
			if v < 0 {
				v += x[a]
			}
			return min(max(v, low), high)
		}
		b, e := bound(starts[i]), bound(ends[i])
		if s < 0 {
			b = max(b, 0)
		}
		from[a], step[a] = b, s
		// Steps may be as large as an int of 32 bits.
		if b < e && s > 0 {
			count[a] = (e-b-1)/s + 1
		} else if b > e && s < 0 {
			count[a] = (e-b+1)/s + 1
		} else {
			count[a] = 0
		}
		if count[a] <= 1 {
			step[a] = 1 // never taken, and it might be anything
		}
	}
	return from, step, count, nil
}

// SplitOf is how many indices of axis each output of a Split node has (ONNX
// Split 2, 13, 18).
func (g *Graph) SplitOf(n *Node, x tensor.Shape) (axis int, sizes []int, err error) {
	if axis, err = Axis(n, 0, len(x)); err != nil {
		return 0, nil, err
	}
	if sizes, err = g.attrOrInput(n, "split", 12, 1); err != nil {
		return 0, nil, err
	}
	if sizes == nil {
		parts := len(n.Outputs)
		each := (x[axis] + parts - 1) / parts
		for left := x[axis]; len(sizes) < parts; left -= each {
			sizes = append(sizes, min(each, left))
		}
		if want := n.Attrs.Int("num_outputs", parts); want != parts {
			return 0, nil, fmt.Errorf("num_outputs %d, but there are %d outputs", want, parts)
		}
	}
	sum := int64(0)
	for _, s := range sizes {
		if s < 0 {
			return 0, nil, fmt.Errorf("axis %d of %v does not split into %v", axis, x, sizes)
		}
		sum += int64(s)
	}
	if sum != int64(x[axis]) || len(sizes) != len(n.Outputs) {
		return 0, nil, fmt.Errorf("axis %d of %v does not split into %v for %d outputs", axis, x, sizes, len(n.Outputs))
	}
	return axis, sizes, nil
}

// PadsOf is by how much a Pad node lengthens each axis at its begin and end;
// negative ones cut off (ONNX Pad 2, 11, 18).
func (g *Graph) PadsOf(n *Node, x tensor.Shape) (begin, end []int, err error) {
	name := "pads"
	if g.Opset < 2 {
		name = "paddings"
	}
	pads, err := g.attrOrInput(n, name, 10, 1)
	if err != nil {
		return nil, nil, err
	}
	axes, err := g.Ints(n, 3, "axes")
	if err != nil {
		return nil, nil, err
	}
	if n.Input(3) == "" {
		for i := range x {
			axes = append(axes, i)
		}
	}
	if _, err := axesIn(axes, len(x)); err != nil {
		return nil, nil, err
	}
	if len(pads) != 2*len(axes) {
		return nil, nil, fmt.Errorf("pads %v for %d axes", pads, len(axes))
	}
	begin, end = make([]int, len(x)), make([]int, len(x))
	for i, a := range axes {
		a, _ := axisIn(a, len(x)) // checked above
		begin[a], end[a] = pads[i], pads[len(axes)+i]
	}
	return begin, end, nil
}
