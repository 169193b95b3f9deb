package graph

import (
	"fmt"
	"maps"
	"slices"

	"starling/internal/tensor"
)

// A Stage is a run of the graph of which one value goes in, constants aside, and
// one comes out: what can be computed in another place.
type Stage struct {
	Nodes         []*Node // in the graph's order
	Input, Output Value
}

// StageDomain is the domain of the nodes that stand for stages; see Fold.
const StageDomain = "starling"

// StageOf returns all nodes through which what node to gives depends on the value
// that node from reads, in a prepared graph: branches that begin at that value are
// part of it. The error says why they are no stage.
func (g *Graph) StageOf(from, to string) (*Stage, error) {
	first, last := g.node(from), g.node(to)
	for _, end := range []struct {
		name string
		node *Node
	}{{from, first}, {to, last}} {
		if end.node == nil {
			return nil, fmt.Errorf("node %s is not in the model: starling inspect lists its nodes", end.name)
		}
	}
	var input string
	for _, name := range first.Inputs {
		switch {
		case name == "" || g.Constants[name] != nil || name == input:
		case input != "":
			return nil, fmt.Errorf("node %s takes two values, %q and %q: a stage takes one", from, input, name)
		default:
			input = name
		}
	}
	if input == "" {
		return nil, fmt.Errorf("node %s takes no value that is computed", from)
	}
	s := &Stage{Nodes: g.between(input, last), Input: Value{Name: input, Info: g.Infos[input]}}
	if !slices.Contains(s.Nodes, first) {
		return nil, fmt.Errorf("node %s does not depend on node %s", to, from)
	}
	return s, g.seal(s, last)
}

func (g *Graph) node(name string) *Node {
	at := slices.IndexFunc(g.Nodes, func(n *Node) bool { return n.Name == name })
	if at < 0 {
		return nil
	}
	return g.Nodes[at]
}

// between lists the nodes that depend on a value and that last depends on, last
// included.
func (g *Graph) between(value string, last *Node) []*Node {
	depends := map[string]bool{value: true}
	var after []*Node
	for _, n := range g.Nodes {
		if slices.ContainsFunc(n.Inputs, func(name string) bool { return depends[name] }) {
			after = append(after, n)
			for _, name := range n.Outputs {
				depends[name] = name != ""
			}
		}
	}
	needed := map[string]bool{}
	var nodes []*Node
	for _, n := range slices.Backward(after) {
		if n != last && !slices.ContainsFunc(n.Outputs, func(name string) bool { return needed[name] }) {
			continue
		}
		nodes = append(nodes, n)
		for _, name := range n.Inputs {
			needed[name] = name != ""
		}
	}
	slices.Reverse(nodes)
	return nodes
}

// seal finds the output of a stage that ends with node last, and says if more
// goes in or comes out.
func (g *Graph) seal(s *Stage, last *Node) error {
	inside := map[*Node]bool{}
	made := map[string]*Node{}
	for _, n := range s.Nodes {
		inside[n] = true
		for _, name := range n.Inputs {
			if name != "" && name != s.Input.Name && made[name] == nil && g.Constants[name] == nil {
				return fmt.Errorf("node %s also takes %q, which is computed outside: a stage takes one value, here %q", n.Name, name, s.Input.Name)
			}
		}
		for _, name := range n.Outputs {
			made[name] = n
		}
	}
	wanted := slices.Clone(g.Outputs)
	for _, n := range g.Nodes {
		if !inside[n] {
			wanted = append(wanted, n.Inputs...)
		}
	}
	output := ""
	for _, name := range wanted {
		switch n := made[name]; {
		case n == nil || name == "" || name == output:
		case n != last:
			return fmt.Errorf("%q of node %s is also needed outside: a stage gives one value, that of node %s", name, n.Name, last.Name)
		case output != "":
			return fmt.Errorf("node %s gives two values, %q and %q: a stage gives one", last.Name, output, name)
		default:
			output = name
		}
	}
	if output == "" {
		return fmt.Errorf("nothing takes what node %s gives", last.Name)
	}
	s.Output = Value{Name: output, Info: g.Infos[output]}
	return nil
}

// Cut returns a stage of the graph as a graph of its own, which shares the
// constants. It is to be prepared.
func (g *Graph) Cut(s *Stage) *Graph {
	own := &Graph{Opset: g.Opset, Inputs: []Value{s.Input}, Outputs: []string{s.Output.Name}, Constants: map[string]*tensor.Tensor{}}
	for _, n := range s.Nodes {
		for _, name := range n.Inputs {
			if t := g.Constants[name]; t != nil {
				own.Constants[name] = t
			}
		}
		own.Nodes = append(own.Nodes, &Node{
			Name: n.Name, Op: n.Op, Domain: n.Domain, Attrs: maps.Clone(n.Attrs),
			Inputs: slices.Clone(n.Inputs), Outputs: slices.Clone(n.Outputs),
		})
	}
	return own
}

// Fold returns the prepared graph with one node in the place of each stage. It has
// the name of the stage's first node and is of StageDomain: such a graph can't be
// prepared again.
func (g *Graph) Fold(stages ...*Stage) *Graph {
	folded := *g
	folded.Nodes = nil
	of := map[*Node]*Stage{}
	for _, s := range stages {
		for _, n := range s.Nodes {
			of[n] = s
		}
	}
	for _, n := range g.Nodes {
		switch s := of[n]; {
		case s == nil:
			folded.Nodes = append(folded.Nodes, n)
		case n == s.Nodes[0]:
			folded.Nodes = append(folded.Nodes, &Node{
				Name: n.Name, Op: "Stage", Domain: StageDomain, Inputs: []string{s.Input.Name}, Outputs: []string{s.Output.Name},
			})
		}
	}
	return &folded
}
