package rewrite

import (
	"maps"
	"math"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// foldPads puts a Pad with zeros, of spatial axes only, into each Conv that reads
// it: exact, for a product with a zero adds nothing.
func foldPads(g *graph.Graph) (bool, error) {
	makers := makersOf(g)
	changed := false
	for _, conv := range g.Nodes {
		if conv.Op != "Conv" || conv.Attrs.String("auto_pad", "NOTSET") != "NOTSET" {
			continue
		}
		pad := makers[conv.Inputs[0]]
		if pad == nil || !padsZeros(g, pad) {
			continue
		}
		x := g.Infos[pad.Inputs[0]].Shape
		begin, end, err := g.PadsOf(pad, x)
		if err != nil {
			return false, err
		}
		all := slices.Concat(begin[2:], end[2:])
		if slices.Max(begin[:2]) != 0 || slices.Max(end[:2]) != 0 || slices.Min(slices.Concat(begin, end)) < 0 {
			continue
		}
		for i, p := range conv.Attrs.Ints("pads", make([]int, len(all))) {
			all[i] = min(all[i]+p, math.MaxInt32)
		}
		pads := make([]int64, len(all))
		for i, p := range all {
			pads[i] = int64(p)
		}
		conv.Attrs = maps.Clone(conv.Attrs)
		if conv.Attrs == nil {
			conv.Attrs = graph.Attrs{}
		}
		conv.Attrs["pads"] = pads
		conv.Inputs[0] = pad.Inputs[0]
		changed = true
	}
	return changed, nil
}

// padsZeros reports whether a node is a Pad with a constant 0 of float32.
func padsZeros(g *graph.Graph, n *graph.Node) bool {
	if n.Op != "Pad" || n.Attrs.String("mode", "constant") != "constant" || n.Attrs.Float("value", 0) != 0 ||
		g.Infos[n.Inputs[0]].Type != tensor.Float32 || len(g.Infos[n.Inputs[0]].Shape) < 3 {
		return false
	}
	value := g.Constants[n.Input(2)]
	return n.Input(2) == "" || value != nil && math.Float32bits(value.F32()[0]) == 0
}

// makersOf maps values to the nodes whose first output they are.
func makersOf(g *graph.Graph) map[string]*graph.Node {
	makers := map[string]*graph.Node{}
	for _, n := range g.Nodes {
		makers[n.Outputs[0]] = n
	}
	return makers
}
