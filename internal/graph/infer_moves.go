package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// shaped is x's type with another shape, whose dimensions are within 32 bits.
func shaped(x Info, dims ...int) Info { return Info{x.Type, dims} }

// inferShape: the dimensions from start to end, vector of int64 (ONNX Shape 15).
func inferShape(c *call) (Info, error) {
	from, to := shapeRange(c.node, len(c.shape(0)))
	return Info{tensor.Int64, tensor.Shape{max(0, to-from)}}, nil
}

func shapeRange(n *Node, rank int) (from, to int) {
	bound := func(v int) int {
		if v < 0 {
			v += rank
		}
		return min(max(v, 0), rank)
	}
	return bound(n.Attrs.Int("start", 0)), bound(n.Attrs.Int("end", rank))
}

func inferSize(*call) (Info, error) { return Info{tensor.Int64, tensor.Shape{}}, nil }

// inferSqueeze: without axes every dimension of 1 goes.
func inferSqueeze(c *call) (Info, error) {
	x := c.shape(0)
	axes, err := c.graph.attrOrInput(c.node, "axes", 12, 1)
	if err != nil {
		return Info{}, err
	}
	drop, err := axesIn(axes, len(x))
	if err != nil {
		return Info{}, err
	}
	out := tensor.Shape{}
	for i, d := range x {
		switch {
		case axes == nil && d == 1:
		case drop[i] && d != 1:
			return Info{}, fmt.Errorf("axis %d of %v is not 1", i, x)
		case !drop[i]:
			out = append(out, d)
		}
	}
	return shaped(c.in[0], out...), nil
}

// inferUnsqueeze: axes are those of the result.
func inferUnsqueeze(c *call) (Info, error) {
	x := c.shape(0)
	axes, err := c.graph.attrOrInput(c.node, "axes", 12, 1)
	if err != nil {
		return Info{}, err
	}
	if axes == nil {
		return Info{}, fmt.Errorf("axes are missing")
	}
	added, err := axesIn(axes, len(x)+len(axes))
	if err != nil {
		return Info{}, err
	}
	out := make(tensor.Shape, 0, len(added))
	for _, one := range added {
		if one {
			out = append(out, 1)
		} else {
			out, x = append(out, x[0]), x[1:]
		}
	}
	return shaped(c.in[0], out...), nil
}

func inferSlice(c *call) (Info, error) {
	_, _, count, err := c.graph.SliceOf(c.node, c.shape(0))
	return shaped(c.in[0], count...), err
}

func inferSplit(c *call) (Info, error) {
	x := c.shape(0)
	axis, sizes, err := c.graph.SplitOf(c.node, x)
	if err != nil {
		return Info{}, err
	}
	for _, size := range sizes {
		part := slices.Clone(x)
		part[axis] = size
		c.more = append(c.more, shaped(c.in[0], part...))
	}
	first := c.more[0]
	c.more = c.more[1:]
	return first, nil
}

// inferPad: the constant, input 2, may be computed.
func inferPad(c *call) (Info, error) {
	x, mode := c.shape(0), c.node.Attrs.String("mode", "constant")
	begin, end, err := c.graph.PadsOf(c.node, x)
	if err != nil {
		return Info{}, err
	}
	if c.has(2) && (c.in[2].Type != c.in[0].Type || c.shape(2).Elements() != 1) {
		return Info{}, fmt.Errorf("constant %q is %v, want one %v", c.node.Inputs[2], c.in[2], c.in[0].Type)
	}
	out := make(tensor.Shape, len(x))
	for i, d := range x {
		b, e := begin[i], end[i]
		size := int64(d) + int64(b) + int64(e)
		if size < 0 || size > math.MaxInt32 {
			return Info{}, fmt.Errorf("pads %d and %d for axis %d of %v", b, e, i, x)
		}
		switch mode {
		case "constant", "wrap":
		case "edge", "reflect":
			if mode == "reflect" && max(b, e) >= d {
				return Info{}, fmt.Errorf("pads %d and %d reflect beyond axis %d of %v", b, e, i, x)
			}
		default:
			return Info{}, fmt.Errorf("mode %q, want constant, reflect, edge or wrap", mode)
		}
		out[i] = int(size)
	}
	return shaped(c.in[0], out...), nil
}

// indexed checks that input 1 holds indices.
func (c *call) indexed() error {
	if t := c.in[1].Type; t != tensor.Int64 && t != tensor.Int32 {
		return fmt.Errorf("indices %q are %v, want int64 or int32", c.node.Inputs[1], t)
	}
	return nil
}

func inferGather(c *call) (Info, error) {
	x := c.shape(0)
	axis, err := Axis(c.node, 0, len(x))
	if err != nil {
		return Info{}, err
	}
	return shaped(c.in[0], slices.Concat(x[:axis], c.shape(1), x[axis+1:])...), c.indexed()
}

func inferGatherElements(c *call) (Info, error) {
	if err := c.alongside(1); err != nil {
		return Info{}, err
	}
	return shaped(c.in[0], c.shape(1)...), c.indexed()
}

// alongside checks that input i has the rank of x and, but for the axis
// attribute, no dimension greater than x's.
func (c *call) alongside(i int) error {
	x, s := c.shape(0), c.shape(i)
	axis, err := Axis(c.node, 0, len(x))
	if err != nil {
		return err
	}
	fits := len(s) == len(x)
	for d := range s {
		fits = fits && (d == axis || s[d] <= x[d])
	}
	if !fits {
		return fmt.Errorf("input %q of shape %v does not fit %v along axis %d", c.node.Inputs[i], s, x, axis)
	}
	return nil
}

// inferGatherND: indices [batch…,…,depth] → [batch…,…, x's dimensions after].
func inferGatherND(c *call) (Info, error) {
	x, at := c.shape(0), c.shape(1)
	batch := c.node.Attrs.Int("batch_dims", 0)
	if len(at) == 0 || batch < 0 || batch >= min(len(at), len(x)) || !x[:batch].Equal(at[:batch]) {
		return Info{}, fmt.Errorf("%d batch dimensions of %v and indices %v", batch, x, at)
	}
	depth := at[len(at)-1]
	if depth < 1 || depth > len(x)-batch {
		return Info{}, fmt.Errorf("indices of shape %v go deeper than %v", at, x)
	}
	return shaped(c.in[0], slices.Concat(at[:len(at)-1], x[batch+depth:])...), c.indexed()
}

// reduction checks how a Scatter combines.
func (c *call) reduction() error {
	if c.in[2].Type != c.in[0].Type {
		return fmt.Errorf("updates %q are %v, but the first input is %v", c.node.Inputs[2], c.in[2].Type, c.in[0].Type)
	}
	r := c.node.Attrs.String("reduction", "none")
	if !slices.Contains([]string{"none", "add", "mul", "max", "min"}, r) {
		return fmt.Errorf("reduction %q, want none, add, mul, max or min", r)
	}
	if r != "none" && numeric&(1<<c.in[0].Type) == 0 {
		return fmt.Errorf("reduction %q of %v", r, c.in[0].Type)
	}
	return c.indexed()
}

func inferScatterElements(c *call) (Info, error) {
	if err := c.alongside(1); err != nil {
		return Info{}, err
	}
	if !c.shape(1).Equal(c.shape(2)) {
		return Info{}, fmt.Errorf("indices of shape %v and updates of shape %v", c.shape(1), c.shape(2))
	}
	return c.in[0], c.reduction()
}

func inferScatterND(c *call) (Info, error) {
	x, at, updates := c.shape(0), c.shape(1), c.shape(2)
	if len(at) == 0 || at[len(at)-1] < 1 || at[len(at)-1] > len(x) {
		return Info{}, fmt.Errorf("indices of shape %v go deeper than %v", at, x)
	}
	if want := slices.Concat(at[:len(at)-1], x[at[len(at)-1]:]); !updates.Equal(want) {
		return Info{}, fmt.Errorf("updates of shape %v, want %v", updates, want)
	}
	return c.in[0], c.reduction()
}

// dims turns the value of a shape input into dimensions.
func dims(values []int64) (tensor.Shape, error) {
	out := make(tensor.Shape, len(values))
	for i, d := range values {
		if d < 0 || d > math.MaxInt32 {
			return nil, fmt.Errorf("dimension %d of %v", d, values)
		}
		out[i] = int(d)
	}
	return out, out.Check(1, MaxTensorBytes)
}

func inferExpand(c *call) (Info, error) {
	values, err := c.graph.integers(c.node, 1, "shape")
	if err != nil {
		return Info{}, err
	}
	want, err := dims(values)
	if err != nil {
		return Info{}, err
	}
	s, err := broadcast(c.shape(0), want)
	return shaped(c.in[0], s...), err
}

func inferTile(c *call) (Info, error) {
	repeats, err := c.graph.Ints(c.node, 1, "repeats")
	if err != nil {
		return Info{}, err
	}
	x := c.shape(0)
	if len(repeats) != len(x) {
		return Info{}, fmt.Errorf("repeats %v for %v", repeats, x)
	}
	out := make(tensor.Shape, len(x))
	for i, r := range repeats {
		size := int64(x[i]) * int64(r)
		if r < 0 || size > math.MaxInt32 {
			return Info{}, fmt.Errorf("repeats %v for %v", repeats, x)
		}
		out[i] = int(size)
	}
	return shaped(c.in[0], out...), nil
}

// inferRange: ⌈(limit − start)/delta⌉ values of the inputs' type, all constant.
func inferRange(c *call) (Info, error) {
	typ := c.in[0].Type
	var v [3]float64
	for i := range v {
		t, err := c.graph.constant(c.node, i, "bound")
		if err != nil {
			return Info{}, err
		}
		if t.Type != typ || numeric&(1<<typ) == 0 || t.Shape.Elements() != 1 {
			return Info{}, fmt.Errorf("bound %q is %v%v, want one number of the type of the others", c.node.Inputs[i], t.Type, t.Shape)
		}
		v[i] = numberOf(t, 0)
	}
	count := math.Ceil((v[1] - v[0]) / v[2])
	if !(math.Abs(count) <= math.MaxInt32) {
		return Info{}, fmt.Errorf("range from %v to %v by %v", v[0], v[1], v[2])
	}
	return Info{typ, tensor.Shape{max(0, int(count))}}, nil
}

func inferConstantOfShape(c *call) (Info, error) {
	values, err := c.graph.integers(c.node, 0, "shape")
	if err != nil {
		return Info{}, err
	}
	out := Info{Type: tensor.Float32}
	if t := c.node.Attrs.Tensor("value"); t != nil {
		if t.Shape.Elements() != 1 || anyType&(1<<t.Type) == 0 {
			return Info{}, fmt.Errorf("value of type %v and shape %v, want one element", t.Type, t.Shape)
		}
		out.Type = t.Type
	}
	out.Shape, err = dims(values)
	return out, err
}

func inferEyeLike(c *call) (Info, error) {
	if len(c.shape(0)) != 2 {
		return Info{}, fmt.Errorf("input of shape %v is no matrix", c.shape(0))
	}
	out := c.in[0]
	if number := c.node.Attrs.Int("dtype", 0); number != 0 {
		var err error
		if out.Type, err = typeOf(number); err != nil {
			return Info{}, err
		}
	}
	if numeric&(1<<out.Type) == 0 {
		return Info{}, fmt.Errorf("element type %v is not supported", out.Type)
	}
	return out, nil
}

// inferOneHot: indices of any number type, depth constant, values [off, on].
func inferOneHot(c *call) (Info, error) {
	depth, err := c.graph.constant(c.node, 1, "depth")
	if err != nil {
		return Info{}, err
	}
	if numeric&(1<<depth.Type) == 0 || depth.Shape.Elements() != 1 || numeric&(1<<c.in[0].Type) == 0 {
		return Info{}, fmt.Errorf("indices are %v and the depth is %v%v, want numbers and one number", c.in[0].Type, depth.Type, depth.Shape)
	}
	size := numberOf(depth, 0)
	if !(size >= 1 && size <= math.MaxInt32) {
		return Info{}, fmt.Errorf("depth %v", size)
	}
	if !c.shape(2).Equal(tensor.Shape{2}) {
		return Info{}, fmt.Errorf("values of shape %v, want [2]", c.shape(2))
	}
	x := c.shape(0)
	axis, err := axisIn(c.node.Attrs.Int("axis", -1), len(x)+1)
	if err != nil {
		return Info{}, err
	}
	return Info{c.in[2].Type, slices.Insert(slices.Clone(x), axis, int(size))}, nil
}

func inferTrilu(c *call) (Info, error) {
	if len(c.shape(0)) < 2 {
		return Info{}, fmt.Errorf("input of shape %v is no matrix", c.shape(0))
	}
	k, err := c.graph.Ints(c.node, 1, "k")
	if err == nil && c.has(1) && len(k) != 1 {
		err = fmt.Errorf("k has %d elements, want 1", len(k))
	}
	return c.in[0], err
}

// inferNonZero: how many there are must be known, so x must be.
func inferNonZero(c *call) (Info, error) {
	t, err := c.graph.constant(c.node, 0, "input")
	if err != nil {
		return Info{}, err
	}
	return Info{tensor.Int64, tensor.Shape{len(t.Shape), len(nonZero(t))}}, nil
}

// inferBitCast: the bits as another type of the same size.
func inferBitCast(c *call) (Info, error) {
	to, err := typeOf(c.node.Attrs.Int("to", 0))
	from := c.in[0].Type
	if err == nil && (to.Size() != from.Size() || to == tensor.Bool && from != to) {
		err = fmt.Errorf("the bits of %v are no %v", from, to)
	}
	return Info{to, c.shape(0)}, err
}

func inferDepthToSpace(c *call) (Info, error) {
	x, b := c.shape(0), c.node.Attrs.Int("blocksize", 0)
	if mode := c.node.Attrs.String("mode", "DCR"); mode != "DCR" && mode != "CRD" {
		return Info{}, fmt.Errorf("mode %q, want DCR or CRD", mode)
	}
	if len(x) != 4 || b < 1 || b > math.MaxInt16 || x[1]%(b*b) != 0 || int64(max(x[2], x[3]))*int64(b) > math.MaxInt32 {
		return Info{}, fmt.Errorf("blocksize %d does not fit %v", b, x)
	}
	return shaped(c.in[0], x[0], x[1]/(b*b), x[2]*b, x[3]*b), nil
}

func inferSpaceToDepth(c *call) (Info, error) {
	x, b := c.shape(0), c.node.Attrs.Int("blocksize", 0)
	if mode := c.node.Attrs.String("mode", "DCR"); mode != "DCR" && mode != "CRD" {
		return Info{}, fmt.Errorf("mode %q, want DCR or CRD", mode)
	}
	if len(x) != 4 || b < 1 || b > math.MaxInt16 || x[2]%b != 0 || x[3]%b != 0 || int64(x[1])*int64(b)*int64(b) > math.MaxInt32 {
		return Info{}, fmt.Errorf("blocksize %d does not fit %v", b, x)
	}
	return shaped(c.in[0], x[0], x[1]*b*b, x[2]/b, x[3]/b), nil
}
