package graph

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"starling/internal/tensor"
)

// kind is the kind of an attribute, named for messages.
type kind string

const (
	kindInt     kind = "int"
	kindFloat   kind = "float"
	kindString  kind = "string"
	kindInts    kind = "ints"
	kindFloats  kind = "floats"
	kindStrings kind = "strings"
	kindTensor  kind = "tensor"
	kindGraph   kind = "graph"
)

func kindOf(v any) kind {
	switch v := v.(type) {
	case int64:
		return kindInt
	case float32:
		return kindFloat
	case string:
		return kindString
	case []int64:
		return kindInts
	case []float32:
		return kindFloats
	case []string:
		return kindStrings
	case *tensor.Tensor:
		return kindTensor
	case *Subgraph:
		return kindGraph
	case Opaque:
		return kind(v)
	default:
		return kind(fmt.Sprintf("%T", v))
	}
}

// attr is what an operator takes as one attribute.
type attr struct {
	kind     kind
	required bool
	from, to int // opsets that have it; 0 means no bound
}

// operator is a row of the table: all that validation knows of an operator.
type operator struct {
	minInputs, maxInputs int   // maxInputs -1: any number
	outputs              int   // the most it has, -1: any number; 0 stands for 1
	types                types // of the inputs that are computed with; none stands for float32
	other                int   // from this input on, infer checks the types itself; 0: it checks none
	finite               bool
	empty                bool // makes something of operands without elements
	attrs                map[string]attr
	infer                func(*call) (Info, error) // returns the first output's type
	expand               expand                    // instead of infer: what the operator is written as
}

// types is a set of element types.
type types uint32

func setOf(list ...tensor.DType) types {
	var s types
	for _, t := range list {
		s |= 1 << t
	}
	return s
}

var (
	floating = setOf(tensor.Float32, tensor.Float64)
	integers = setOf(tensor.Int64, tensor.Int32, tensor.Int16, tensor.Int8, tensor.Uint64, tensor.Uint32, tensor.Uint16, tensor.Uint8)
	signed   = floating | setOf(tensor.Int64, tensor.Int32, tensor.Int16, tensor.Int8)
	numeric  = floating | integers
	logical  = setOf(tensor.Bool)
	anyType  = numeric | logical | setOf(tensor.Float16, tensor.BFloat16)
)

// String lists the set in the order of element types, for messages.
func (s types) String() string {
	var names []string
	for t := tensor.Float32; t <= tensor.BFloat16; t++ {
		if s&(1<<t) != 0 {
			names = append(names, t.String())
		}
	}
	return strings.Join(names, ", ")
}

// call is one node at hand with the types of its inputs.
type call struct {
	graph *Graph
	node  *Node
	in    []Info // parallel to node.Inputs; zero where left out
	more  []Info // infer's place for the types of the second output and those after it
}

// has reports whether input i is given.
func (c *call) has(i int) bool { return i < len(c.in) && c.node.Inputs[i] != "" }

// shape is the shape of input i.
func (c *call) shape(i int) tensor.Shape { return c.in[i].Shape }

// axis resolves the attribute of that name, with a default, against rank; a
// negative axis counts from the end. limit is rank or, where one past the last
// axis is allowed, rank+1.
func (c *call) axis(def, rank, limit int) (int, error) {
	a := c.node.Attrs.Int("axis", def)
	if a < -rank || a >= limit {
		return 0, fmt.Errorf("axis %d is outside rank %d", a, rank)
	}
	if a < 0 {
		a += rank
	}
	return a, nil
}

func (op *operator) arity() string {
	switch {
	case op.maxInputs < 0:
		return fmt.Sprintf("at least %d", op.minInputs)
	case op.minInputs == op.maxInputs:
		return fmt.Sprint(op.minInputs)
	default:
		return fmt.Sprintf("%d to %d", op.minInputs, op.maxInputs)
	}
}

// computes reports whether input i is an operand, whose type is one of op.types.
func (op *operator) computes(i int) bool { return op.other == 0 || i < op.other }

// allows returns an error unless input i may have that type. All operands have
// the type of the first.
func (op *operator) allows(i int, in []Info, name string) error {
	set := op.types
	if set == 0 {
		set = setOf(tensor.Float32)
	}
	switch typ := in[i].Type; {
	case set&(1<<typ) == 0 && set == setOf(tensor.Float32):
		return fmt.Errorf("input %q is %v: only float32 is computed", name, typ)
	case set&(1<<typ) == 0:
		return fmt.Errorf("input %q is %v, want one of %v", name, typ, set)
	}
	return op.alike(i, in, name)
}

// alike returns an error unless input i has the type of the first.
func (op *operator) alike(i int, in []Info, name string) error {
	if in[i].Type != in[0].Type {
		return fmt.Errorf("input %q is %v, but the first is %v", name, in[i].Type, in[0].Type)
	}
	return nil
}

// own marks that infer checks the types of all inputs itself.
const own = -1

func (op *operator) checkAttrs(n *Node, opset int) error {
	for _, name := range slices.Sorted(maps.Keys(n.Attrs)) {
		value := n.Attrs[name]
		a, ok := op.attrs[name]
		if !ok || opset < a.from || (a.to > 0 && opset > a.to) {
			return fmt.Errorf("attribute %q is unknown to %s in opset %d", name, n.Op, opset)
		}
		if k := kindOf(value); k != a.kind {
			return fmt.Errorf("attribute %q is of kind %s, want %s", name, k, a.kind)
		}
		var ints []int64
		switch v := value.(type) {
		case int64:
			ints = []int64{v}
		case []int64:
			ints = v
		}
		for _, x := range ints {
			if x < math.MinInt32 || x > math.MaxInt32 {
				return fmt.Errorf("attribute %q: %d does not fit 32 bits", name, x)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(op.attrs)) {
		if _, ok := n.Attrs[name]; !ok && op.attrs[name].required {
			return fmt.Errorf("attribute %q is missing", name)
		}
	}
	return nil
}

// operators is the table: see the parts.
var operators map[string]*operator

// In init, because operators that are written as others lead back to the table.
func init() {
	operators = map[string]*operator{}
	for _, part := range []map[string]*operator{layers, elementwise, moves, reductions, composites, quantised} {
		maps.Copy(operators, part)
	}
}
