package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// preparation is the state of infer.
type preparation struct {
	g      *Graph
	users  map[string][]*Node // of each value; nil stands for the graph itself, or a node to come
	finite map[string]bool    // constants already checked
	names  map[string]bool    // of values and nodes
	later  map[string]bool    // values of nodes to come
	next   map[string]int     // the number to try next for a name that begins so
	added  int                // nodes that took the place of others
	made   int                // elements of constants that these came with
}

// maxAdded limits the nodes that are written in place of others, those of bodies
// counted when they are copied too: a Loop is as many bodies as it takes turns.
const maxAdded = 1 << 16

// infer validates every node, writes those that are defined by others as these,
// and fills g.Infos. Nodes that are unsupported, and those that depend on them,
// are passed over.
func (g *Graph) infer() error {
	p := &preparation{g: g, users: g.Consumers(), finite: map[string]bool{}, names: map[string]bool{}, later: map[string]bool{}, next: map[string]int{}}
	g.Infos = map[string]Info{}
	for name, t := range g.Constants {
		g.Infos[name], p.names[name] = Info{t.Type, t.Shape}, true
	}
	for _, in := range g.Inputs {
		g.Infos[in.Name], p.names[in.Name] = in.Info, true
	}
	for _, out := range g.Outputs {
		p.users[out] = append(p.users[out], nil)
	}
	for _, n := range g.Nodes {
		p.readInside(n)
		p.names[n.Name] = true
		for _, out := range n.Outputs {
			p.names[out], p.later[out] = true, true
		}
	}
	g.makers, g.known = map[string]*Node{}, 0
	defer func() { g.makers = nil }()
	var nodes []*Node
	var err error
	for i, n := range g.Nodes {
		var list []*Node
		if list, err = p.node(n); err != nil {
			err = fmt.Errorf("node %q (%s): %w", n.Name, n.Op, err)
			nodes = append(nodes, g.Nodes[i:]...) // so that Prepare may be tried again
			break
		}
		nodes = append(nodes, list...)
		p.passed(n)
	}
	// Nodes whose values shapes depend on have become constants.
	g.Nodes = slices.DeleteFunc(nodes, func(n *Node) bool {
		return slices.ContainsFunc(n.Outputs, func(name string) bool { return g.Constants[name] != nil })
	})
	return err
}

// passed says that what follows may read a node's outputs.
func (p *preparation) passed(n *Node) {
	for _, out := range n.Outputs {
		delete(p.later, out)
	}
}

// readInside counts a node as reader of what its subgraphs read.
func (p *preparation) readInside(n *Node) {
	for _, v := range n.Attrs {
		body, ok := v.(*Subgraph)
		if !ok {
			continue
		}
		for _, inner := range body.Nodes {
			for _, name := range inner.Inputs {
				p.users[name] = append(p.users[name], inner)
			}
			p.readInside(inner)
		}
		for _, name := range body.Outputs {
			p.users[name] = append(p.users[name], n)
		}
	}
}

// node checks a node and adds the types of its outputs to g.Infos. It returns the
// nodes that compute them: n, or those that it is written as.
func (p *preparation) node(n *Node) ([]*Node, error) {
	op := p.g.operator(n)
	in, known := p.g.inputInfos(n)
	if op == nil || !known {
		return []*Node{n}, nil
	}
	for len(in) > 0 && n.Inputs[len(in)-1] == "" {
		in = in[:len(in)-1]
	}
	n.Inputs = n.Inputs[:len(in)]
	if len(in) < op.minInputs || (op.maxInputs >= 0 && len(in) > op.maxInputs) {
		return nil, fmt.Errorf("%d inputs, want %s", len(in), op.arity())
	}
	c := &call{graph: p.g, node: n, in: in}
	if op.widens(in) {
		for i, name := range n.Inputs {
			if name != "" && op.computes(i) {
				if err := op.alike(i, in, name); err != nil {
					return nil, err
				}
			}
		}
		return p.expand(c, widen)
	}
	if err := p.checkInputs(c, op); err != nil {
		return nil, err
	}
	if err := op.checkAttrs(n, p.g.Opset); err != nil {
		return nil, err
	}
	if err := p.trimOutputs(n, op); err != nil {
		return nil, err
	}
	if op.expand != nil {
		return p.expand(c, op.expand)
	}
	first, err := op.infer(c)
	if err != nil {
		return nil, err
	}
	return []*Node{n}, p.define(c, op, append([]Info{first}, c.more...))
}

// expand is the nodes that a node is written as.
func (p *preparation) expand(c *call, write expand) ([]*Node, error) {
	e := &expansion{p: p, node: c.node}
	err := write(c, e)
	if err == nil {
		err = e.err
	}
	return e.nodes, err
}

func (p *preparation) checkInputs(c *call, op *operator) error {
	for i, name := range c.node.Inputs {
		if name == "" {
			if i < op.minInputs {
				return fmt.Errorf("input %d is left out", i)
			}
			continue
		}
		if op.computes(i) {
			if err := op.allows(i, c.in, name); err != nil {
				return err
			}
		}
		if op.finite && !p.finite[name] {
			if err := checkFinite(p.g.Constants[name]); err != nil {
				return fmt.Errorf("constant %q: %w", name, err)
			}
			p.finite[name] = true
		}
	}
	return nil
}

// trimOutputs takes away outputs that nobody reads at the end, which need not be
// computed, unless they say how many parts there are.
func (p *preparation) trimOutputs(n *Node, op *operator) error {
	most := max(op.outputs, 1)
	for i, out := range n.Outputs {
		if op.outputs >= 0 && i >= most && len(p.users[out]) > 0 {
			return fmt.Errorf("output %q is used, but only %d of %s can be", out, most, n.Op)
		}
	}
	for last := len(n.Outputs) - 1; last > 0 && op.outputs >= 0 && len(p.users[n.Outputs[last]]) == 0; last-- {
		n.Outputs = n.Outputs[:last]
	}
	if n.Outputs[0] == "" && len(n.Outputs) == 1 {
		return fmt.Errorf("the first output is left out")
	}
	return nil
}

// define takes over the types of a node's outputs. Values without elements are
// constants.
func (p *preparation) define(c *call, op *operator, infos []Info) error {
	g, n := p.g, c.node
	if len(infos) < len(n.Outputs) {
		return fmt.Errorf("%d outputs, want at most %d", len(n.Outputs), len(infos))
	}
	full := ""
	for i, name := range n.Outputs {
		if name == "" {
			continue
		}
		if err := infos[i].check(); err != nil {
			return fmt.Errorf("result: %w", err)
		}
		g.Infos[name] = infos[i]
		g.makers[name] = n
		if infos[i].Shape.Elements() > 0 {
			full = name
		}
	}
	switch n.Op {
	case "Shape", "Size":
		g.Constants[n.Outputs[0]] = sizesOf(n, c.in[0].Shape)
		return nil
	case "NonZero": // of a constant, for the result's shape
		_, err := g.value(n.Outputs[0])
		return err
	}
	if full == "" {
		for i, name := range n.Outputs {
			if name != "" {
				g.Constants[name] = tensor.New(infos[i].Type, infos[i].Shape...)
			}
		}
		return nil
	}
	for i, name := range n.Inputs {
		if name != "" && op.computes(i) && !op.empty && c.in[i].Shape.Elements() == 0 {
			return fmt.Errorf("input %q of shape %v is empty", name, c.in[i].Shape)
		}
	}
	return nil
}

// check says whether a value can be held: a known element type, within
// MaxTensorBytes.
func (i Info) check() error {
	if i.Type.Size() == 0 {
		return fmt.Errorf("no element type")
	}
	return i.Shape.Check(i.Type.Size(), MaxTensorBytes)
}

// inputInfos returns the types of n's inputs, the zero Info for one left out;
// not ok if one is not known.
func (g *Graph) inputInfos(n *Node) (infos []Info, ok bool) {
	infos = make([]Info, len(n.Inputs))
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		if infos[i], ok = g.Infos[name]; !ok {
			return nil, false
		}
	}
	return infos, true
}

// sizesOf is the value of a Shape or Size node.
func sizesOf(n *Node, x tensor.Shape) *tensor.Tensor {
	if n.Op == "Size" {
		return tensor.FromSlice([]int64{int64(x.Elements())})
	}
	from, to := shapeRange(n, len(x))
	t := tensor.New(tensor.Int64, max(0, to-from))
	for i := range tensor.Of[int64](t) {
		setInteger(t, i, int64(x[from+i]))
	}
	return t
}

// checkedBytes is how much of a mapped constant is in memory while it is checked.
const checkedBytes = 1 << 20

// checkFinite looks for NaN and Inf among float32 elements: one of them in a
// slice would spread to every result decoded from it. A nil t is fine.
func checkFinite(t *tensor.Tensor) error {
	if t == nil || t.Type != tensor.Float32 {
		return nil
	}
	const exponent = 0x7f800000 // all ones in NaN and Inf (IEEE 754 §3.4)
	for seen := 0; seen < len(t.Data); seen += checkedBytes {
		for i, bits := range tensor.View[uint32](t.Data[seen:min(seen+checkedBytes, len(t.Data))]) {
			if bits&exponent == exponent {
				return fmt.Errorf("element %d is %v: train or export the model again", seen/4+i, math.Float32frombits(bits))
			}
		}
		t.Drop() // only looked at
	}
	return nil
}
