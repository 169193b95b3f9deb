package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"starling/internal/tensor"
)

// MaxTensorBytes is the size limit of one tensor. The page below 2 GiB leaves
// room for aligning a buffer whose size is an int of 32 bits.
const MaxTensorBytes int64 = 1<<31 - 4096

// The opsets of the default domain that the operator table describes: from
// the first one to the last that left every operator in the table as it was
// (checked against the schemas of ONNX 1.23.2).
const (
	MinOpset = 1
	MaxOpset = 28
)

// UnsupportedError is a node whose operator Starling does not know.
type UnsupportedError struct {
	Op     string
	Domain string // "" is the default ONNX domain
	Node   string
	Opset  int // of Domain; 0 if the model does not import it
}

func (e *UnsupportedError) Error() string {
	domain := ""
	if e.Domain != "" {
		domain = fmt.Sprintf(" of domain %q", e.Domain)
	}
	return fmt.Sprintf("node %q: operator %s%s (opset %d) is not supported", e.Node, e.Op, domain, e.Opset)
}

// unsupportedErrors is one error for all unsupported nodes of a graph; errors.As
// finds the first.
type unsupportedErrors []*UnsupportedError

func (l unsupportedErrors) Error() string {
	if len(l) == 1 {
		return l[0].Error()
	}
	const maxListed = 8 // of operators in one message
	ops := map[string]bool{}
	for _, e := range l {
		ops[strings.TrimPrefix(e.Domain+"."+e.Op, ".")] = true
	}
	names := slices.Sorted(maps.Keys(ops))
	more := ""
	if len(names) > maxListed {
		more = fmt.Sprintf(" and %d more", len(names)-maxListed)
		names = names[:maxListed]
	}
	return fmt.Sprintf("%v; %d unsupported nodes in all: %s%s", l[0], len(l), strings.Join(names, ", "), more)
}

func (l unsupportedErrors) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}

// Unsupported lists the nodes whose operators Starling does not know, in the
// graph's order. It needs no Prepare.
func (g *Graph) Unsupported() []*UnsupportedError {
	var list []*UnsupportedError
	for _, n := range g.Nodes {
		if g.operator(n) != nil {
			continue
		}
		opset := g.Opset
		if n.Domain != "" {
			opset = g.Domains[n.Domain]
		}
		list = append(list, &UnsupportedError{Op: n.Op, Domain: n.Domain, Node: n.Name, Opset: opset})
	}
	return list
}

// operator is n's row of the table, nil if it has none.
func (g *Graph) operator(n *Node) *operator {
	if n.Domain != "" {
		return nil
	}
	return operators[n.Op]
}

// Consumers maps a value's name to the nodes that read it, in the graph's
// order; a node that reads a value twice is listed twice.
func (g *Graph) Consumers() map[string][]*Node {
	users := map[string][]*Node{}
	for _, n := range g.Nodes {
		for _, name := range n.Inputs {
			if name != "" {
				users[name] = append(users[name], n)
			}
		}
	}
	return users
}

// Prepare makes the graph fit to run: Constant nodes become Constants, and so do
// the shapes of values and what is computed of them for other shapes; unused
// optional outputs are dropped, the package's invariants are checked and Infos
// is filled. It may be called again after a change. If operators are
// unsupported the error wraps an *UnsupportedError for each, and Infos has
// what can be known without them.
func (g *Graph) Prepare() error {
	if g.Opset < MinOpset || g.Opset > MaxOpset {
		return fmt.Errorf("opset %d of the default domain is not supported: convert the model to one of %d to %d",
			g.Opset, MinOpset, MaxOpset)
	}
	if err := g.liftConstants(); err != nil {
		return err
	}
	if err := g.checkConstants(); err != nil {
		return err
	}
	if err := g.checkNames(); err != nil {
		return err
	}
	err := g.infer()
	if list := g.Unsupported(); len(list) > 0 {
		return unsupportedErrors(list)
	}
	return err
}

// liftConstants moves the values of Constant nodes into g.Constants.
func (g *Graph) liftConstants() error {
	if g.Constants == nil {
		g.Constants = map[string]*tensor.Tensor{}
	}
	kept := make([]*Node, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		if n.Op != "Constant" || n.Domain != "" {
			kept = append(kept, n)
			continue
		}
		t, err := constantOf(n)
		if err != nil {
			return fmt.Errorf("node %q (Constant): %w", n.Name, err)
		}
		if _, ok := g.Constants[n.Outputs[0]]; ok {
			return fmt.Errorf("node %q (Constant): value %q is defined twice", n.Name, n.Outputs[0])
		}
		g.Constants[n.Outputs[0]] = t
	}
	g.Nodes = kept
	return nil
}

// constantOf is the value of a Constant node (ONNX opset 1, 12).
func constantOf(n *Node) (*tensor.Tensor, error) {
	if len(n.Outputs) != 1 || len(n.Inputs) != 0 || len(n.Attrs) != 1 {
		return nil, fmt.Errorf("%d inputs, %d outputs and %d attributes, want 0, 1 and 1",
			len(n.Inputs), len(n.Outputs), len(n.Attrs))
	}
	for name, value := range n.Attrs {
		switch v := value.(type) {
		case *tensor.Tensor:
			if name == "value" {
				return v, nil
			}
		case float32:
			if name == "value_float" {
				return tensor.FromSlice([]float32{v}), nil
			}
		case []float32:
			if name == "value_floats" {
				return tensor.FromSlice(v, len(v)), nil
			}
		case int64:
			if name == "value_int" {
				return tensor.FromSlice([]int64{v}), nil
			}
		case []int64:
			if name == "value_ints" {
				return tensor.FromSlice(v, len(v)), nil
			}
		}
		return nil, fmt.Errorf("attribute %q of kind %s is not supported", name, kindOf(value))
	}
	panic("graph: unreachable")
}

func (g *Graph) checkConstants() error {
	for _, name := range slices.Sorted(maps.Keys(g.Constants)) {
		t := g.Constants[name]
		if name == "" {
			return fmt.Errorf("a constant has no name")
		}
		size := t.Type.Size()
		if size == 0 {
			return fmt.Errorf("constant %q has no element type", name)
		}
		if err := t.Shape.Check(size, MaxTensorBytes); err != nil {
			return fmt.Errorf("constant %q: %w", name, err)
		}
		if want := t.Shape.Elements() * size; len(t.Data) != want {
			return fmt.Errorf("constant %q: %d bytes for %v%v, want %d", name, len(t.Data), t.Type, t.Shape, want)
		}
	}
	return nil
}

// checkNames checks that every value is defined once and before its use, and
// that node names are unique.
func (g *Graph) checkNames() error {
	makers := map[string]*Node{} // nil for inputs and constants
	for name := range g.Constants {
		makers[name] = nil
	}
	for _, in := range g.Inputs {
		if _, ok := makers[in.Name]; ok || in.Name == "" {
			return fmt.Errorf("graph input %q is defined twice or has no name", in.Name)
		}
		makers[in.Name] = nil
		if err := in.Info.check(); err != nil {
			return fmt.Errorf("graph input %q: %w", in.Name, err)
		}
	}
	defined := maps.Clone(makers)
	names := map[string]bool{}
	for _, n := range g.Nodes {
		if names[n.Name] || n.Name == "" {
			return fmt.Errorf("node name %q (%s) is used twice or empty", n.Name, n.Op)
		}
		names[n.Name] = true
		if len(n.Outputs) == 0 {
			return fmt.Errorf("node %q (%s) has no output", n.Name, n.Op)
		}
		for _, out := range n.Outputs {
			if _, ok := makers[out]; ok {
				return fmt.Errorf("node %q (%s): value %q is defined twice", n.Name, n.Op, out)
			}
			if out != "" {
				makers[out] = n
			}
		}
	}
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			if _, ok := defined[in]; ok || in == "" {
				continue
			}
			if m := makers[in]; m != nil {
				return fmt.Errorf("node %q (%s): input %q is made only later, by node %q: the graph has a cycle or is not in topological order", n.Name, n.Op, in, m.Name)
			}
			return fmt.Errorf("node %q (%s): input %q is not defined", n.Name, n.Op, in)
		}
		for _, out := range n.Outputs {
			defined[out] = n
		}
	}
	if len(g.Outputs) == 0 {
		return fmt.Errorf("the graph has no output")
	}
	seen := map[string]bool{}
	for _, out := range g.Outputs {
		if _, ok := makers[out]; !ok {
			return fmt.Errorf("graph output %q is not defined", out)
		}
		if seen[out] {
			return fmt.Errorf("graph output %q is listed twice", out)
		}
		seen[out] = true
	}
	return nil
}
