package graph

import (
	"slices"
	"strings"
	"testing"

	"starling/internal/tensor"
)

// branching is x → a → {b, c} → sum → d → y, where d also takes a constant and e
// takes what c gives.
func branching(t *testing.T) *Graph {
	t.Helper()
	node := func(name, op string, outputs []string, inputs ...string) *Node {
		return &Node{Name: name, Op: op, Inputs: inputs, Outputs: outputs}
	}
	g := &Graph{
		Opset:     13,
		Inputs:    []Value{{Name: "x", Info: f32(2, 3)}, {Name: "z", Info: f32(2, 3)}},
		Constants: map[string]*tensor.Tensor{"w": ramp(3), "axis": vector(0)},
		Nodes: []*Node{
			node("a", "Relu", []string{"va"}, "x"),
			node("b", "Neg", []string{"vb"}, "va"),
			node("other", "Abs", []string{"vo"}, "z"),
			node("c", "Abs", []string{"vc"}, "va"),
			node("sum", "Add", []string{"vs"}, "vb", "vc"),
			node("d", "Mul", []string{"vd"}, "vs", "w"),
			node("e", "Add", []string{"ve"}, "vc", "vo"),
			{Name: "split", Op: "Split", Inputs: []string{"vd"}, Outputs: []string{"v1", "v2"}},
			node("join", "Concat", []string{"vj"}, "v1", "v2"),
		},
		Outputs: []string{"ve", "vj"},
	}
	g.Nodes[8].Attrs = Attrs{"axis": int64(0)}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestStageOf(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"a", "a", "a: x to va"},
		{"d", "join", "d split join: vs to vj"},
		{"sum", "d", "node sum takes two values"},
		{"b", "sum", `"vc" of node c is also needed outside: a stage gives one value, that of node sum`},
		{"b", "b", "b: va to vb"},
		{"a", "e", `node e also takes "vo", which is computed outside: a stage takes one value, here "x"`},
		{"e", "e", "node e takes two values"},
		{"d", "split", `node split gives two values, "v1" and "v2": a stage gives one`},
		{"join", "join", "node join takes two values"},
		{"d", "a", "node a does not depend on node d"},
		{"other", "d", "node d does not depend on node other"},
		{"nowhere", "d", "node nowhere is not in the model"},
		{"a", "nowhere", "node nowhere is not in the model"},
	} {
		g := branching(t)
		s, err := g.StageOf(c.from, c.to)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			for _, n := range s.Nodes {
				got += " " + n.Name
			}
			got = got[1:] + ": " + s.Input.Name + " to " + s.Output.Name
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s to %s: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// A stage that is cut out can be prepared and has the types that it had; what is
// left has one node in its place.
func TestCutAndFold(t *testing.T) {
	g := branching(t)
	g.Outputs = []string{"vj"}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *Node) bool { return n.Name == "e" })
	s, err := g.StageOf("c", "join") // and b, which reads the same
	if err != nil {
		t.Fatal(err)
	}
	own := g.Cut(s)
	if err := own.Prepare(); err != nil {
		t.Fatal(err)
	}
	if names(own) != "b c sum d split join" || len(own.Constants) != 1 || !own.Infos["vj"].Shape.Equal(g.Infos["vj"].Shape) {
		t.Errorf("cut: %s, %d constants, %v", names(own), len(own.Constants), own.Infos["vj"])
	}
	own.Nodes[0].Inputs[0] = "w"
	if g.Nodes[1].Inputs[0] != "va" {
		t.Error("what is cut out shares its nodes")
	}
	if folded := g.Fold(s); names(folded) != "a b other" || folded.Nodes[1].Domain != StageDomain || len(g.Nodes) != 8 {
		t.Errorf("folded: %s", names(folded))
	}
}

func names(g *Graph) string {
	var list []string
	for _, n := range g.Nodes {
		list = append(list, n.Name)
	}
	return strings.Join(list, " ")
}
