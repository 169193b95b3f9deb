// Package graph is the intermediate representation of a model: nodes that
// carry ONNX operator names, values known by name, constants held as tensors.
// It checks graphs and infers types and shapes; it neither reads files nor
// computes. After Prepare every graph satisfies: nodes are in topological
// order, every name is defined exactly once before it is used, every operator
// is known, its attributes have the right types, and Infos has the type and
// the fully known shape of every value.
package graph

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"starling/internal/tensor"
)

// Graph is one model. It is not safe for writing from several goroutines.
type Graph struct {
	Name    string
	Opset   int            // of the default ONNX domain
	Domains map[string]int // versions of the other operator domains

	Inputs    []Value  // what a request must bring, constants excluded
	Outputs   []string // what a request gets
	Nodes     []*Node
	Constants map[string]*tensor.Tensor // weights and other initializers
	Infos     map[string]Info           // filled by Prepare, constants and inputs included
	Metadata  map[string]string         // the file's metadata_props

	// While Prepare infers: who makes a value, and how many elements of values
	// have been computed.
	makers map[string]*Node
	known  int
}

// Value is a named tensor type.
type Value struct {
	Name string
	Info
	Free []string // of an input with free dimensions, the name of each, "" of another
}

// FreeNames lists the names of the free dimensions.
func (v Value) FreeNames() string {
	names := slices.DeleteFunc(slices.Clone(v.Free), func(name string) bool { return name == "" })
	return strings.Join(names, ", ")
}

// Info is the type of a value. An input's free dimensions are 1 or what SetDims says.
type Info struct {
	Type  tensor.DType
	Shape tensor.Shape
}

// Node is one operator. An empty string in Inputs or Outputs is an optional
// one that is left out. Prepare leaves every node at least one output.
type Node struct {
	Name    string // unique; given by the importer where the file has none
	Op      string // ONNX operator name
	Domain  string // "" is the default ONNX domain
	Inputs  []string
	Outputs []string
	Attrs   Attrs
}

// Attrs are a node's attributes. A value is an int64, float32, string,
// []int64, []float32, []string, *tensor.Tensor, *Subgraph or Opaque; Prepare has checked
// each against its operator, and that integers fit 32 bits, so the getters
// below do not fail afterwards.
type Attrs map[string]any

// Opaque stands for an attribute of a kind that no supported operator has and is
// that kind's ONNX name.
type Opaque string

// Subgraph is the body of an If, Loop or Scan. Its nodes also read values of the
// graph around it. Prepare puts them in place of the node, so that a prepared
// graph has none.
type Subgraph struct {
	Inputs, Outputs []string
	Nodes           []*Node
	Constants       map[string]*tensor.Tensor
}

// SetDims gives free dimensions of the inputs other sizes, by their names, before
// Prepare.
func (g *Graph) SetDims(sizes map[string]int) error {
	free := map[string]bool{}
	for _, in := range g.Inputs {
		for i, name := range in.Free {
			if name == "" {
				continue
			}
			free[name] = true
			if size, ok := sizes[name]; ok {
				in.Shape[i] = size
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		switch {
		case !free[name] && len(free) == 0:
			return fmt.Errorf("it has no free dimension %q, nor any other", name)
		case !free[name]:
			return fmt.Errorf("it has no free dimension %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(free)), ", "))
		case sizes[name] < 1 || sizes[name] > math.MaxInt32:
			return fmt.Errorf("size %d of free dimension %q is not from 1 to %d", sizes[name], name, math.MaxInt32)
		}
	}
	return nil
}

// Int returns the attribute, or def where it is absent or no int64.
func (a Attrs) Int(name string, def int) int {
	if v, ok := a[name].(int64); ok {
		return int(v)
	}
	return def
}

// Float returns the attribute, or def where it is absent or no float32.
func (a Attrs) Float(name string, def float32) float32 {
	if v, ok := a[name].(float32); ok {
		return v
	}
	return def
}

// String returns the attribute, or def where it is absent or no string.
func (a Attrs) String(name, def string) string {
	if v, ok := a[name].(string); ok {
		return v
	}
	return def
}

// Ints returns the attribute as ints, or def where it is absent or no []int64.
func (a Attrs) Ints(name string, def []int) []int {
	v, ok := a[name].([]int64)
	if !ok {
		return def
	}
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(x)
	}
	return out
}

// Tensor returns the attribute, or nil where it is absent or no tensor.
func (a Attrs) Tensor(name string) *tensor.Tensor {
	v, _ := a[name].(*tensor.Tensor)
	return v
}

// Input returns the name of input i, "" where it is left out.
func (n *Node) Input(i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}
