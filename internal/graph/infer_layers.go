package graph

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"starling/internal/tensor"
)

// vectors checks that inputs from the second on are vectors of that many.
func (c *call) vectors(size int) error {
	for i := 1; i < len(c.in); i++ {
		if !c.shape(i).Equal(tensor.Shape{size}) {
			return fmt.Errorf("input %q of shape %v, want [%d]", c.node.Inputs[i], c.shape(i), size)
		}
	}
	return nil
}

// inferInstanceNorm: x [N,C,…], scale and bias [C].
func inferInstanceNorm(c *call) (Info, error) {
	if err := featuresOf(c.shape(0), 1); err != nil {
		return Info{}, err
	}
	return c.in[0], c.vectors(c.shape(0)[1])
}

// inferGroupNorm: x [N,C,…]; scale and bias [C], up to opset 20 [groups].
func inferGroupNorm(c *call) (Info, error) {
	x, groups := c.shape(0), c.node.Attrs.Int("num_groups", 0)
	if err := featuresOf(x, 0); err != nil {
		return Info{}, err
	}
	if groups < 1 || x[1]%groups != 0 {
		return Info{}, fmt.Errorf("%d groups of the channels of %v", groups, x)
	}
	if c.graph.Opset < 21 {
		return c.in[0], c.vectors(groups)
	}
	return c.in[0], c.vectors(x[1])
}

// inferLayerNorm: y, and mean and inverse deviation with normalised axes of 1.
func inferLayerNorm(c *call) (Info, error) {
	x := c.shape(0)
	axis, err := Axis(c.node, -1, len(x))
	if err != nil {
		return Info{}, err
	}
	for i := 1; i < len(c.in); i++ {
		if !broadcastsTo(c.shape(i), x[axis:]) {
			return Info{}, fmt.Errorf("input %q of shape %v does not broadcast to %v", c.node.Inputs[i], c.shape(i), x[axis:])
		}
	}
	stats := slices.Clone(x)
	for i := range stats[axis:] {
		stats[axis+i] = 1
	}
	c.more = []Info{float32Of(stats...), float32Of(stats...)}
	return c.in[0], nil
}

func inferLpNorm(c *call) (Info, error) {
	if p := c.node.Attrs.Int("p", 2); p != 1 && p != 2 {
		return Info{}, fmt.Errorf("p %d, want 1 or 2", p)
	}
	_, err := Axis(c.node, -1, len(c.shape(0)))
	return c.in[0], err
}

// inferRecurrent: x [T,B,I], weights [D,gates·H,I], recurrent weights
// [D,gates·H,H], bias [D,2·gates·H], lengths [B] int32, states [D,B,H], peepholes
// [D,3·H] → [T,D,B,H] and the last states (ONNX RNN, GRU, LSTM 14; layout 1 puts
// the batch first).
func inferRecurrent(c *call) (Info, error) {
	x, w := c.shape(0), c.shape(1)
	gates := map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}[c.node.Op]
	if len(x) != 3 || len(w) != 3 || w[1]%gates != 0 {
		return Info{}, fmt.Errorf("input of shape %v and weights of shape %v", x, w)
	}
	batchFirst := c.node.Attrs.Int("layout", 0) != 0
	steps, batch, hidden := x[0], x[1], w[1]/gates
	if batchFirst {
		steps, batch = batch, steps
	}
	directions, ok := map[string]int{"forward": 1, "reverse": 1, "bidirectional": 2}[c.node.Attrs.String("direction", "forward")]
	if !ok || w[0] != directions {
		return Info{}, fmt.Errorf("direction %q for weights of shape %v", c.node.Attrs.String("direction", "forward"), w)
	}
	if size := c.node.Attrs.Int("hidden_size", hidden); size != hidden {
		return Info{}, fmt.Errorf("hidden_size %d for weights of shape %v", size, w)
	}
	state := tensor.Shape{directions, batch, hidden}
	if batchFirst {
		state = tensor.Shape{batch, directions, hidden}
	}
	for i, want := range []tensor.Shape{
		nil,
		{directions, gates * hidden, x[2]},
		{directions, gates * hidden, hidden},
		{directions, 2 * gates * hidden},
		{batch},
		state, state,
		{directions, 3 * hidden},
	} {
		if i == 0 || !c.has(i) {
			continue
		}
		typ := tensor.Float32
		if i == 4 {
			typ = tensor.Int32
		}
		if !c.shape(i).Equal(want) || c.in[i].Type != typ {
			return Info{}, fmt.Errorf("input %q is %v, want %v%v", c.node.Inputs[i], c.in[i], typ, want)
		}
	}
	c.more = []Info{float32Of(state...), float32Of(state...)}
	if batchFirst {
		return float32Of(batch, steps, directions, hidden), nil
	}
	return float32Of(steps, directions, batch, hidden), nil
}

// Einsum is an equation with a number for each label: those of the operands'
// and of the result's dimensions. Operand dimensions of 1 within an ellipsis
// broadcast.
type Einsum struct {
	Operands [][]int
	Output   []int
	Sizes    []int // of each label
}

// EinsumOf reads an equation over operands of these shapes (ONNX Einsum 12).
func EinsumOf(equation string, shapes []tensor.Shape) (*Einsum, error) {
	left, right, explicit := strings.Cut(strings.ReplaceAll(equation, " ", ""), "->")
	terms := strings.Split(left, ",")
	if len(terms) != len(shapes) {
		return nil, fmt.Errorf("equation %q has %d terms for %d operands", equation, len(terms), len(shapes))
	}
	const dots = "..."
	widest := 0 // dimensions that an ellipsis stands for
	for i, term := range terms {
		if before, after, ok := strings.Cut(term, dots); ok {
			n := len(shapes[i]) - len(before) - len(after)
			if n < 0 {
				return nil, fmt.Errorf("term %q of equation %q for an operand of shape %v", term, equation, shapes[i])
			}
			widest = max(widest, n)
		}
	}
	e := &Einsum{Sizes: slices.Repeat([]int{1}, widest)} // labels 0 … widest-1 are the ellipsis's
	names, times := map[rune]int{}, map[rune]int{}
	labels := func(term string, size func(d int) int) ([]int, error) {
		var list []int
		rank := len(term)
		before, after, ok := strings.Cut(term, dots)
		n := 0
		if ok {
			n = widest
			if size != nil {
				n = size(-1) - len(before) - len(after)
			}
			rank = len(before) + n + len(after)
		}
		add := func(part string) error {
			for _, name := range part {
				if (name < 'a' || name > 'z') && (name < 'A' || name > 'Z') {
					return fmt.Errorf("equation %q: %q is no label", equation, name)
				}
				at, known := names[name]
				if !known {
					if size == nil {
						return fmt.Errorf("equation %q: label %q of the result is in no term", equation, name)
					}
					at, names[name] = len(e.Sizes), len(e.Sizes)
					e.Sizes = append(e.Sizes, 1)
				}
				list = append(list, at)
				times[name]++
			}
			return nil
		}
		if err := add(before); err != nil {
			return nil, err
		}
		if ok {
			for i := widest - n; i < widest; i++ {
				list = append(list, i)
			}
			if err := add(after); err != nil {
				return nil, err
			}
		}
		if size != nil {
			if size(-1) != rank {
				return nil, fmt.Errorf("term %q of equation %q for an operand of %d dimensions", term, equation, size(-1))
			}
			for d, at := range list {
				switch s := size(d); {
				case e.Sizes[at] == 1:
					e.Sizes[at] = s
				case s != e.Sizes[at] && s != 1:
					return nil, fmt.Errorf("equation %q: a label is both %d and %d", equation, e.Sizes[at], s)
				}
			}
		}
		return list, nil
	}
	for i, term := range terms {
		list, err := labels(term, func(d int) int {
			if d < 0 {
				return len(shapes[i])
			}
			return shapes[i][d]
		})
		if err != nil {
			return nil, err
		}
		e.Operands = append(e.Operands, list)
	}
	if !explicit { // the ellipsis, then labels that come once, in order
		var once []rune
		for name, n := range times {
			if n == 1 {
				once = append(once, name)
			}
		}
		slices.Sort(once)
		if right = string(once); widest > 0 {
			right = dots + right
		}
	}
	var err error
	e.Output, err = labels(right, nil)
	if err == nil && len(e.Output) > 0 {
		seen := slices.Clone(e.Output)
		slices.Sort(seen)
		if len(slices.Compact(seen)) != len(e.Output) {
			err = fmt.Errorf("equation %q: the result has a label twice", equation)
		}
	}
	return e, err
}

func inferEinsum(c *call) (Info, error) {
	shapes := make([]tensor.Shape, len(c.in))
	for i := range c.in {
		if shapes[i] = c.shape(i); !c.has(i) {
			return Info{}, fmt.Errorf("input %d is left out", i)
		}
	}
	e, err := EinsumOf(c.node.Attrs.String("equation", ""), shapes)
	if err != nil {
		return Info{}, err
	}
	out := make(tensor.Shape, len(e.Output))
	for i, label := range e.Output {
		out[i] = e.Sizes[label]
	}
	return Info{c.in[0].Type, out}, nil
}

// Resized says how a Resize or Upsample changes one axis: its new size, the
// factor, and the region of interest in shares of the old size.
type Resized struct {
	Out        int
	Scale      float64
	Start, End float64
}

// ResizeOf resolves a Resize or Upsample of x (ONNX Upsample 7, 9, Resize 10, 11,
// 18).
func (g *Graph) ResizeOf(n *Node, x tensor.Shape) ([]Resized, error) {
	at := 2 // the input of scales
	if n.Op == "Upsample" || g.Opset < 11 {
		at = 1
	}
	var scales, roi []float64
	if factors, ok := n.Attrs["scales"].([]float32); ok {
		for _, f := range factors {
			scales = append(scales, float64(f))
		}
	}
	read := func(i int, list *[]float64) error {
		if n.Input(i) == "" {
			return nil
		}
		t, err := g.constant(n, i, "scales")
		if err != nil {
			return err
		}
		if floating&(1<<t.Type) == 0 || len(t.Shape) != 1 {
			return fmt.Errorf("scales %q are %v%v, want a vector of float32", n.Input(i), t.Type, t.Shape)
		}
		for k := range t.Shape[0] {
			*list = append(*list, numberOf(t, k))
		}
		return nil
	}
	if err := read(at, &scales); err != nil {
		return nil, err
	}
	if at == 2 && n.Attrs.String("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		if err := read(1, &roi); err != nil {
			return nil, err
		}
	}
	var sizes []int
	var err error
	if at == 2 {
		if sizes, err = g.Ints(n, 3, "sizes"); err != nil {
			return nil, err
		}
	}
	axes := n.Attrs.Ints("axes", nil)
	if axes == nil {
		for i := range x {
			axes = append(axes, i)
		}
	}
	if _, err := axesIn(axes, len(x)); err != nil {
		return nil, err
	}
	if len(scales) == 0 && len(sizes) == 0 || len(scales)+len(sizes) != len(axes) || len(roi) != 0 && len(roi) != 2*len(axes) {
		return nil, fmt.Errorf("scales %v, sizes %v and region %v for %d axes", scales, sizes, roi, len(axes))
	}
	out := make([]Resized, len(x))
	for i, d := range x {
		out[i] = Resized{Out: d, Scale: 1, End: 1}
	}
	policy := n.Attrs.String("keep_aspect_ratio_policy", "stretch")
	shared := 0.0
	for i, size := range sizes {
		a, _ := axisIn(axes[i], len(x)) // checked above
		s := float64(size) / float64(x[a])
		if i == 0 || (policy == "not_larger" && s < shared) || (policy == "not_smaller" && s > shared) {
			shared = s
		}
	}
	for i, a := range axes {
		a, _ := axisIn(a, len(x))
		r := &out[a]
		size := 0.0
		switch {
		case len(sizes) == 0:
			r.Scale = scales[i]
			size = math.Floor(float64(float32(x[a]) * float32(scales[i])))
		case policy == "stretch":
			size = float64(sizes[i])
			r.Scale = size / float64(x[a])
		default:
			r.Scale = shared
			size = math.Floor(shared*float64(x[a]) + 0.5)
		}
		if roi != nil {
			r.Start, r.End = roi[i], roi[len(axes)+i]
			if len(sizes) == 0 {
				size = math.Floor(float64(x[a]) * (r.End - r.Start) * r.Scale)
			}
		}
		if !(r.Scale > 0) || math.IsInf(r.Scale, 0) || !(size >= 1 && size <= math.MaxInt32) || r.Start-r.Start != 0 || r.End-r.End != 0 {
			return nil, fmt.Errorf("axis %d of %v times %v", a, x, r.Scale)
		}
		r.Out = int(size)
	}
	return out, nil
}

func inferResize(c *call) (Info, error) {
	resized, err := c.graph.ResizeOf(c.node, c.shape(0))
	if err != nil {
		return Info{}, err
	}
	out := make(tensor.Shape, len(resized))
	for i, r := range resized {
		out[i] = r.Out
	}
	return shaped(c.in[0], out...), nil
}
