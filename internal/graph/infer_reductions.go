package graph

import (
	"fmt"

	"starling/internal/tensor"
)

func inferReduce(c *call) (Info, error) {
	x := c.shape(0)
	reduced, err := c.graph.ReducedAxes(c.node, len(x))
	if err != nil {
		return Info{}, err
	}
	return shaped(c.in[0], without(x, reduced, c.node)...), nil
}

// without is x with reduced axes 1 or, if the node does not keep them, gone.
func without(x tensor.Shape, reduced []bool, n *Node) tensor.Shape {
	keep := n.Attrs.Int("keepdims", 1) != 0
	out := tensor.Shape{}
	for i, d := range x {
		switch {
		case !reduced[i]:
			out = append(out, d)
		case keep:
			out = append(out, 1)
		}
	}
	return out
}

// inferArg: ArgMax and ArgMin, int64.
func inferArg(c *call) (Info, error) {
	x := c.shape(0)
	axis, err := Axis(c.node, 0, len(x))
	if err != nil {
		return Info{}, err
	}
	reduced := make([]bool, len(x))
	reduced[axis] = true
	return Info{tensor.Int64, without(x, reduced, c.node)}, nil
}

// inferTopK: values and their indices, int64.
func inferTopK(c *call) (Info, error) {
	x := c.shape(0)
	axis, err := Axis(c.node, -1, len(x))
	if err != nil {
		return Info{}, err
	}
	k := []int{c.node.Attrs.Int("k", 0)}
	if c.graph.Opset >= 10 {
		if len(c.in) < 2 {
			return Info{}, fmt.Errorf("1 input, want 2")
		}
		if k, err = c.graph.Ints(c.node, 1, "k"); err != nil {
			return Info{}, err
		}
	}
	if len(k) != 1 || k[0] < 1 || k[0] > x[axis] {
		return Info{}, fmt.Errorf("k %v of axis %d of %v", k, axis, x)
	}
	out := append(tensor.Shape{}, x...)
	out[axis] = k[0]
	c.more = []Info{{tensor.Int64, out}}
	return shaped(c.in[0], out...), nil
}

func inferCumSum(c *call) (Info, error) {
	axis, err := c.graph.Ints(c.node, 1, "axis")
	if err != nil {
		return Info{}, err
	}
	if len(axis) != 1 {
		return Info{}, fmt.Errorf("%d axes, want 1", len(axis))
	}
	_, err = axisIn(axis[0], len(c.shape(0)))
	return c.in[0], err
}
