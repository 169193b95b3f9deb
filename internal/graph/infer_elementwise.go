package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// inferBroadcast: operators on any number of operands, ONNX opset 7 (numpy
// broadcasting).
func inferBroadcast(c *call) (Info, error) {
	s := c.shape(0)
	for i := 1; i < len(c.in); i++ {
		if c.node.Inputs[i] == "" {
			return Info{}, fmt.Errorf("input %d is left out", i)
		}
		other := c.graph.OperandShape(c.node, i)
		legacy := c.graph.Opset < 7 && c.node.Attrs.Int("broadcast", 0) != 0
		if c.graph.Opset < 7 && (!legacy && !s.Equal(other) || legacy && !broadcastsTo(other, s)) {
			return Info{}, fmt.Errorf("shapes %v and %v differ, which opset %d does not allow", s, c.shape(i), c.graph.Opset)
		}
		var err error
		if s, err = broadcast(s, other); err != nil {
			return Info{}, err
		}
	}
	return Info{c.in[0].Type, s}, nil
}

// OperandShape is the shape with which input i of an elementwise node is
// broadcast: its own or, before opset 7, with dimensions of 1 after those that
// the axis attribute places (ONNX Add 6), for a PRelu's slope beside the channels.
func (g *Graph) OperandShape(n *Node, i int) tensor.Shape {
	first, s := g.Infos[n.Input(0)].Shape, g.Infos[n.Input(i)].Shape
	if i == 0 || g.Opset >= 7 {
		return s
	}
	axis := len(first) - len(s)
	switch {
	case n.Op == "PRelu" && len(s) == 1 && len(first) > 1:
		axis = 1
	case n.Attrs.Int("broadcast", 0) != 0:
		if axis = n.Attrs.Int("axis", axis); axis < 0 {
			axis += len(first)
		}
	}
	return append(slices.Clone(s), slices.Repeat([]int{1}, max(0, min(len(first), len(first)-axis-len(s))))...)
}

// inferCompare: Equal and the orders.
func inferCompare(c *call) (Info, error) {
	out, err := inferBroadcast(c)
	out.Type = tensor.Bool
	return out, err
}

func inferPredicate(c *call) (Info, error) { return Info{tensor.Bool, c.shape(0)}, nil }

func inferBitShift(c *call) (Info, error) {
	if d := c.node.Attrs.String("direction", ""); d != "LEFT" && d != "RIGHT" {
		return Info{}, fmt.Errorf("direction %q, want LEFT or RIGHT", d)
	}
	return inferBroadcast(c)
}

// inferMod: the remainder with the divisor's sign, for floats from opset 28 on, or
// as C's fmod.
func inferMod(c *call) (Info, error) {
	if c.graph.Opset < 28 && floating&(1<<c.in[0].Type) != 0 && c.node.Attrs.Int("fmod", 0) == 0 {
		return Info{}, fmt.Errorf("fmod 0 with operands of %v", c.in[0].Type)
	}
	return inferBroadcast(c)
}

// inferPow: the exponent may be of another type (ONNX Pow 12).
func inferPow(c *call) (Info, error) {
	if t := c.in[1].Type; numeric&(1<<t) == 0 {
		return Info{}, fmt.Errorf("exponent %q is %v, want one of %v", c.node.Inputs[1], t, numeric)
	}
	return inferBroadcast(c)
}

// inferPRelu: the slope stretches to x.
func inferPRelu(c *call) (Info, error) {
	if !broadcastsTo(c.graph.OperandShape(c.node, 1), c.shape(0)) {
		return Info{}, fmt.Errorf("slope of shape %v does not broadcast to %v", c.shape(1), c.shape(0))
	}
	return c.in[0], nil
}

// inferWhere: condition bool, x and y of one type, all three broadcast.
func inferWhere(c *call) (Info, error) {
	if c.in[0].Type != tensor.Bool {
		return Info{}, fmt.Errorf("condition %q is %v, not bool", c.node.Inputs[0], c.in[0].Type)
	}
	if c.in[1].Type != c.in[2].Type {
		return Info{}, fmt.Errorf("inputs %q and %q are %v and %v", c.node.Inputs[1], c.node.Inputs[2], c.in[1].Type, c.in[2].Type)
	}
	s, err := broadcast(c.shape(1), c.shape(2))
	if err == nil {
		s, err = broadcast(s, c.shape(0))
	}
	return Info{c.in[1].Type, s}, err
}

// inferClip: bounds are attributes up to opset 10, then inputs, each a scalar of
// x's type that may be computed.
func inferClip(c *call) (Info, error) {
	if c.graph.Opset < 11 && len(c.in) > 1 {
		return Info{}, fmt.Errorf("%d inputs, want 1 in opset %d", len(c.in), c.graph.Opset)
	}
	for i := 1; i < len(c.in); i++ {
		if c.has(i) && c.shape(i).Elements() != 1 {
			return Info{}, fmt.Errorf("bound %q of shape %v is not a scalar", c.node.Inputs[i], c.shape(i))
		}
	}
	if lo, hi, ok := c.graph.ClipBounds(c.node); ok && (math.IsNaN(float64(lo)) || math.IsNaN(float64(hi))) {
		return Info{}, fmt.Errorf("a bound is NaN")
	}
	return c.in[0], nil
}

// ClipBounds returns the bounds of a Clip of float32 in a prepared graph, the
// lowest and the highest float32 where left out: attributes before opset 11,
// inputs from then on (ONNX Clip 6, 11). It is not ok if one of them is computed
// or the type another.
func (g *Graph) ClipBounds(n *Node) (lo, hi float32, ok bool) {
	lo = n.Attrs.Float("min", -math.MaxFloat32)
	hi = n.Attrs.Float("max", math.MaxFloat32)
	for i, bound := range []*float32{&lo, &hi} {
		name := n.Input(1 + i)
		if name == "" {
			continue
		}
		t := g.Constants[name]
		if t == nil || t.Type != tensor.Float32 {
			return 0, 0, false
		}
		*bound = t.F32()[0]
	}
	return lo, hi, g.Infos[n.Input(0)].Type == tensor.Float32
}

// ONNX's numbers of element types (TensorProto.DataType), which some attributes
// hold.
var onnxTypes = map[int]tensor.DType{
	1: tensor.Float32, 2: tensor.Uint8, 3: tensor.Int8, 4: tensor.Uint16, 5: tensor.Int16, 6: tensor.Int32, 7: tensor.Int64,
	9: tensor.Bool, 10: tensor.Float16, 11: tensor.Float64, 12: tensor.Uint32, 13: tensor.Uint64, 16: tensor.BFloat16,
}

func typeOf(number int) (tensor.DType, error) {
	t, ok := onnxTypes[number]
	if !ok {
		return 0, fmt.Errorf("element type %d is not supported", number)
	}
	return t, nil
}

// inferCast: opset 6; saturate concerns 8-bit floats only.
func inferCast(c *call) (Info, error) {
	t, err := typeOf(c.node.Attrs.Int("to", 0))
	return Info{t, c.shape(0)}, err
}

func inferCastLike(c *call) (Info, error) {
	if anyType&(1<<c.in[1].Type) == 0 {
		return Info{}, fmt.Errorf("input %q has no element type", c.node.Inputs[1])
	}
	return Info{c.in[1].Type, c.shape(0)}, nil
}
