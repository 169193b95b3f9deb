package rewrite

import (
	"starling/internal/engine"
	"starling/internal/graph"
)

// foldConstants replaces nodes whose inputs are all constant by their value, as
// the engine would compute it: exact.
func foldConstants(g *graph.Graph) (bool, error) {
	kept := make([]*graph.Node, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		inputs, ok := engine.ConstantInputs(g, n)
		if !ok {
			kept = append(kept, n)
			continue
		}
		outputs, err := engine.Eval(g, n, inputs)
		if err != nil {
			return false, err
		}
		for _, t := range inputs {
			if t != nil {
				t.Drop()
			}
		}
		for i, t := range outputs {
			if t != nil {
				g.Constants[n.Outputs[i]] = t
			}
		}
	}
	changed := len(kept) < len(g.Nodes)
	g.Nodes = kept
	return changed, nil
}
