package rewrite

import (
	"slices"

	"starling/internal/graph"
)

// removeIdentities takes out Identity and Dropout, which passes its input on in
// inference: exact. One stays if a graph's output would lose its name by it,
// because its input is one too, or a graph's input, or a constant.
func removeIdentities(g *graph.Graph) (bool, error) {
	makers := map[string]*graph.Node{}
	kept := make([]*graph.Node, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		x, y := n.Input(0), n.Outputs[0]
		switch maker := makers[x]; {
		case n.Op != "Identity" && n.Op != "Dropout" || len(n.Outputs) > 1:
		case !isOutput(g, y):
			replaceInput(g, y, x)
			continue
		case maker != nil && !isOutput(g, x):
			maker.Outputs[slices.Index(maker.Outputs, x)] = y
			makers[y] = maker
			replaceInput(g, x, y)
			continue
		}
		for _, name := range n.Outputs {
			makers[name] = n
		}
		kept = append(kept, n)
	}
	changed := len(kept) < len(g.Nodes)
	g.Nodes = kept
	return changed, nil
}
