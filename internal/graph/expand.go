package graph

import (
	"fmt"
	"slices"

	"starling/internal/tensor"
)

// expansion writes a node as nodes of other operators, which are checked and
// inferred as they are added. The first error sticks.
type expansion struct {
	p     *preparation
	node  *Node
	nodes []*Node // those that take the node's place
	err   error
}

// expand is what an operator that is written as others has in place of infer.
type expand func(c *call, e *expansion) error

// add adds a node with one output and returns that output's name.
func (e *expansion) add(op string, attrs Attrs, inputs ...string) string {
	return e.into("", op, attrs, inputs...)
}

// output adds a node that makes output i of the expanded one; none if it is left
// out.
func (e *expansion) output(i int, op string, attrs Attrs, inputs ...string) {
	if i < len(e.node.Outputs) && e.node.Outputs[i] != "" {
		e.into(e.node.Outputs[i], op, attrs, inputs...)
	}
}

func (e *expansion) into(out, op string, attrs Attrs, inputs ...string) string {
	if out == "" {
		out = e.name(e.node.Name)
		e.p.users[out] = []*Node{nil}
	}
	e.take(&Node{Name: e.name(e.node.Name + "/" + op), Op: op, Inputs: inputs, Outputs: []string{out}, Attrs: attrs})
	return out
}

// take adds a node with names of its own.
func (e *expansion) take(n *Node) {
	if e.err != nil {
		return
	}
	if e.p.added++; e.p.added > maxAdded {
		e.err = fmt.Errorf("written as more than %d nodes", maxAdded)
		return
	}
	list, err := e.p.node(n)
	if err != nil {
		e.err = fmt.Errorf("written as %s: %w", n.Op, err)
	}
	e.nodes = append(e.nodes, list...)
}

// name is a new name that begins so.
func (e *expansion) name(begin string) string {
	for {
		name := fmt.Sprintf("%s/%d", begin, e.p.next[begin])
		e.p.next[begin]++
		if !e.p.names[name] {
			e.p.names[name] = true
			return name
		}
	}
}

// maxMade limits the elements of constants that nodes are written with, of a graph.
const maxMade = 1 << 23

// room is for making a constant of so many elements; the error sticks where there
// is none.
func (e *expansion) room(dims ...int) error {
	n := tensor.Shape(dims)
	if err := n.Check(1, int64(maxMade-e.p.made)); err != nil {
		e.fail("constants of more than %d elements: %w", maxMade, err)
	} else {
		e.p.made += n.Elements()
	}
	return e.err
}

// sequence adds a vector of int64 that begins so, each one more than the last.
func (e *expansion) sequence(first, count int) string {
	if e.room(count) != nil {
		return ""
	}
	t := tensor.New(tensor.Int64, count)
	for i := range tensor.Of[int64](t) {
		setInteger(t, i, int64(first+i))
	}
	return e.constant(t)
}

// constant adds a constant and returns its name.
func (e *expansion) constant(t *tensor.Tensor) string {
	name := e.name(e.node.Name)
	e.p.g.Constants[name], e.p.g.Infos[name] = t, Info{t.Type, t.Shape}
	return name
}

func (e *expansion) scalar(v float32) string { return e.constant(tensor.FromSlice([]float32{v})) }

// ints adds a vector of int64.
func (e *expansion) ints(values ...int) string {
	t := tensor.New(tensor.Int64, len(values))
	for i, v := range values {
		setInteger(t, i, int64(v))
	}
	return e.constant(t)
}

// shape is the shape of a value that has been added.
func (e *expansion) shape(name string) tensor.Shape { return e.p.g.Infos[name].Shape }

func (e *expansion) reshape(x string, dims ...int) string {
	if e.p.g.Opset < 5 {
		return e.add("Reshape", Attrs{"shape": int64s(dims...)}, x)
	}
	return e.add("Reshape", nil, x, e.ints(dims...))
}

func (e *expansion) transpose(x string, perm ...int) string {
	return e.add("Transpose", Attrs{"perm": int64s(perm...)}, x)
}

// reduce adds a Reduce operator along axes, which stay as dimensions of 1.
func (e *expansion) reduce(op, x string, axes ...int) string {
	last := 17
	if op == "ReduceSum" {
		last = 12
	}
	if e.p.g.Opset <= last {
		return e.add(op, Attrs{"axes": int64s(axes...)}, x)
	}
	return e.add(op, nil, x, e.ints(axes...))
}

// cut adds a Slice along one axis.
func (e *expansion) cut(x string, axis, from, to, step int) string {
	if e.p.g.Opset < 10 {
		return e.add("Slice", Attrs{"starts": int64s(from), "ends": int64s(to), "axes": int64s(axis)}, x)
	}
	return e.add("Slice", nil, x, e.ints(from), e.ints(to), e.ints(axis), e.ints(step))
}

// concat puts values together along an axis.
func (e *expansion) concat(axis int, values ...string) string {
	return e.add("Concat", Attrs{"axis": int64(axis)}, values...)
}

func int64s(values ...int) []int64 {
	list := make([]int64, len(values))
	for i, v := range values {
		list[i] = int64(v)
	}
	return list
}

// narrow are the types that are computed as float32 and rounded after each
// operator.
var narrow = setOf(tensor.Float16, tensor.BFloat16)

// widens reports whether the operator takes float32 where a narrow type is given.
func (op *operator) widens(in []Info) bool {
	set := op.types
	if set == 0 {
		set = setOf(tensor.Float32)
	}
	return set&narrow == 0 && set&setOf(tensor.Float32) != 0 &&
		slices.ContainsFunc(in, func(i Info) bool { return narrow&(1<<i.Type) != 0 })
}

// The numbers of element types in ONNX (TensorProto.DataType).
const (
	numberOfFloat32  = 1
	numberOfFloat16  = 10
	numberOfBFloat16 = 16
)

// widen writes a node on narrow floats as one on float32 between Casts.
func widen(c *call, e *expansion) error {
	wide := *c.node
	wide.Name = e.name(c.node.Name + "/" + c.node.Op)
	wide.Inputs, wide.Outputs = slices.Clone(c.node.Inputs), slices.Clone(c.node.Outputs)
	back := tensor.Invalid
	for i, in := range c.in {
		if narrow&(1<<in.Type) == 0 {
			continue
		}
		if back == tensor.Invalid {
			back = in.Type
		}
		wide.Inputs[i] = e.add("Cast", Attrs{"to": int64(numberOfFloat32)}, c.node.Inputs[i])
	}
	for i, out := range c.node.Outputs {
		if out != "" {
			wide.Outputs[i] = e.name(c.node.Name)
			e.p.users[wide.Outputs[i]] = e.p.users[out]
		}
	}
	e.take(&wide)
	if e.err != nil {
		return e.err
	}
	number := map[tensor.DType]int64{tensor.Float16: numberOfFloat16, tensor.BFloat16: numberOfBFloat16}[back]
	for i, name := range wide.Outputs {
		switch {
		case name == "":
		case e.p.g.Infos[name].Type == tensor.Float32:
			e.output(i, "Cast", Attrs{"to": number}, name)
		default:
			e.output(i, "Identity", nil, name)
		}
	}
	return nil
}
