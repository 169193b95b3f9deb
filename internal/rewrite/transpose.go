package rewrite

import (
	"slices"
	"strings"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// mergeTransposes makes one of two Transposes in a row, and a Reshape or Identity,
// which cost nothing, of one that moves no element: exact.
func mergeTransposes(g *graph.Graph) (bool, error) {
	makers := makersOf(g)
	changed := false
	for _, n := range g.Nodes {
		if n.Op != "Transpose" {
			continue
		}
		if first := makers[n.Inputs[0]]; first != nil && first.Op == "Transpose" {
			before, after := permOf(g, first), permOf(g, n)
			perm := make([]int64, len(after))
			for i, p := range after {
				perm[i] = int64(before[p])
			}
			n.Inputs[0], n.Attrs = first.Inputs[0], graph.Attrs{"perm": perm}
			changed = true
		}
		x, perm := g.Infos[n.Inputs[0]].Shape, permOf(g, n)
		moved := slices.DeleteFunc(slices.Clone(perm), func(p int) bool { return x[p] == 1 })
		switch {
		case slices.IsSorted(perm):
			n.Op, n.Attrs = "Identity", nil
		case slices.IsSorted(moved) && g.Opset >= 5:
			shape := tensor.New(tensor.Int64, len(x))
			for i, p := range perm {
				tensor.Of[int64](shape)[i] = int64(x[p])
			}
			n.Op, n.Attrs = "Reshape", nil
			n.Inputs = append(n.Inputs[:1:1], addConstant(g, n.Name+"_shape", shape))
		default:
			continue
		}
		changed = true
	}
	return changed, nil
}

// permOf is which axis of its input each axis of a Transpose's output is.
func permOf(g *graph.Graph, n *graph.Node) []int {
	rank := len(g.Infos[n.Inputs[0]].Shape)
	back := make([]int, rank)
	for i := range back {
		back[i] = rank - 1 - i
	}
	return n.Attrs.Ints("perm", back)
}

// elementwise are the operators that lowerTransposes passes.
var elementwise = strings.Fields("Abs Add Ceil Clip Cos Div Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Max Min Mish Mul Neg " +
	"Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Swish Tanh")

// lowerTransposes moves a Transpose behind the elementwise operator that alone
// reads it, whose other operands are single elements or transposed in the same
// way, so that it may meet one that undoes it, and an activation its layer: exact.
func lowerTransposes(g *graph.Graph) (bool, error) {
	makers, readers := makersOf(g), g.Consumers()
	nodes := make([]*graph.Node, 0, len(g.Nodes))
	moved := map[*graph.Node]bool{}
	for _, n := range g.Nodes {
		nodes = append(nodes, n)
		if g.Opset < 7 || !slices.Contains(elementwise, n.Op) {
			continue
		}
		var first *graph.Node
		sources, passes := slices.Clone(n.Inputs), true
		for i, name := range n.Inputs {
			t := makers[name]
			switch {
			case name == "":
			case t != nil && t.Op == "Transpose" && len(readers[name]) == 1 && !isOutput(g, name):
				if first == nil {
					first = t
				}
				passes = passes && slices.Equal(permOf(g, t), permOf(g, first))
				sources[i] = t.Inputs[0]
			default:
				s := g.Infos[name].Shape
				passes = passes && len(s) <= 1 && s.Elements() == 1
			}
		}
		if first == nil || !passes {
			continue
		}
		perm, out := permOf(g, first), n.Outputs[0]
		if len(perm) == 0 {
			continue
		}
		shape := make(tensor.Shape, len(perm))
		for i, p := range perm {
			shape[p] = g.Infos[out].Shape[i]
		}
		plain := newName(g, n.Name+"_plain")
		g.Infos[plain] = graph.Info{Type: g.Infos[out].Type, Shape: shape}
		n.Inputs, n.Outputs[0] = sources, plain
		first.Inputs[0], first.Outputs[0] = plain, out
		makers[plain], makers[out] = n, first
		readers[plain] = []*graph.Node{first}
		nodes, moved[first] = append(nodes, first), true
	}
	if len(moved) == 0 {
		return false, nil
	}
	// Each one that moved stands at its old place and, last, at its new one.
	g.Nodes = nodes[:0]
	for i, n := range nodes {
		if !moved[n] || !slices.Contains(nodes[i+1:], n) {
			g.Nodes = append(g.Nodes, n)
		}
	}
	return true, nil
}
