package rewrite

import (
	"slices"

	"starling/internal/graph"
)

// removeDead takes out nodes and constants that no output depends on: exact.
func removeDead(g *graph.Graph) (bool, error) {
	alive := map[string]bool{}
	for _, name := range g.Outputs {
		alive[name] = true
	}
	isAlive := func(n *graph.Node) bool {
		return slices.ContainsFunc(n.Outputs, func(name string) bool { return name != "" && alive[name] })
	}
	for _, n := range slices.Backward(g.Nodes) {
		if isAlive(n) {
			for _, name := range n.Inputs {
				alive[name] = true
			}
		}
	}
	before := len(g.Nodes) + len(g.Constants)
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *graph.Node) bool { return !isAlive(n) })
	for name := range g.Constants {
		if !alive[name] {
			delete(g.Constants, name)
			delete(g.Infos, name)
		}
	}
	return len(g.Nodes)+len(g.Constants) < before, nil
}
