// Package rewrite makes a graph smaller and faster to run without changing what
// it computes. Each rule is small, in a file of its own, and stated there with
// what it may change: all but one leave every output bit as it was; folding a
// batch normalisation into a convolution rounds differently.
package rewrite

import (
	"fmt"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// A rule rewrites every place of the graph where it applies and says whether
// there was any. It keeps g.Infos right for the values that remain.
type rule struct {
	name  string
	apply func(g *graph.Graph) (changed bool, err error)
}

func rules() []rule {
	return []rule{
		{"fold constants", foldConstants},
		{"fold batch normalisation", foldBatchNorm},
		{"fold pads", foldPads},
		{"lower transposes", lowerTransposes},
		{"merge transposes", mergeTransposes},
		{"remove identities", removeIdentities},
		{"remove what is dead", removeDead},
	}
}

// Simplify applies all rules until none of them applies. g must be prepared and
// is prepared again afterwards; its inputs and the names and order of its
// outputs stay. Constants are replaced, never written. After an error g is not
// to be used.
func Simplify(g *graph.Graph) error {
	for changed := true; changed; {
		changed = false
		for _, r := range rules() {
			c, err := r.apply(g)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			changed = changed || c
		}
	}
	return g.Prepare()
}

// isOutput reports whether the graph answers with a value.
func isOutput(g *graph.Graph, name string) bool { return slices.Contains(g.Outputs, name) }

// replaceInput makes every node that reads a value read another one.
func replaceInput(g *graph.Graph, name, by string) {
	for _, n := range g.Nodes {
		for i := range n.Inputs {
			if n.Inputs[i] == name {
				n.Inputs[i] = by
			}
		}
	}
}

// addConstant adds a constant under that name, lengthened until it is new, and
// returns the name.
func addConstant(g *graph.Graph, name string, t *tensor.Tensor) string {
	name = newName(g, name)
	g.Constants[name] = t
	g.Infos[name] = graph.Info{Type: t.Type, Shape: t.Shape}
	return name
}

// newName lengthens the name of a value until it is new.
func newName(g *graph.Graph, name string) string {
	for {
		if _, taken := g.Infos[name]; !taken {
			return name
		}
		name += "_"
	}
}
