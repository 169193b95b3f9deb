package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf8"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Bounds of a stage.
const (
	maxStageSize   = 1 << 20 // bytes of its JSON
	maxStageNodes  = 1 << 14
	maxStageValues = 1 << 30 // bytes of what goes in, out and between
	maxRank        = 64
)

// Stage describes a stage, a graph of one input and one output; doc.go has its
// format. Its constants are the slice's weights.
type Stage struct {
	Opset     int        `json:"opset"`
	Input     typeMeta   `json:"input"`
	Constants []typeMeta `json:"constants"`
	Nodes     []nodeMeta `json:"nodes"`
	Output    int        `json:"output"`
}

type typeMeta struct {
	Type  tensor.DType `json:"type"`
	Shape tensor.Shape `json:"shape"`
}

type nodeMeta struct {
	Op    string              `json:"op"`
	In    []int               `json:"in"`
	Out   []int               `json:"out"`
	Attrs map[string]attrMeta `json:"attrs,omitzero"`
}

// attrMeta is one attribute: exactly one field is set.
type attrMeta struct {
	Int     *int64     `json:"int,omitzero"`
	Ints    *[]int64   `json:"ints,omitzero"`
	Float   *float32   `json:"float,omitzero"`
	Floats  *[]float32 `json:"floats,omitzero"`
	String  *string    `json:"string,omitzero"`
	Strings *[]string  `json:"strings,omitzero"`
}

// describeStage describes a stage of a prepared graph and lists the bytes of its constants,
// in the order in which they are written.
func describeStage(g *graph.Graph, s *graph.Stage) (*Stage, [][]byte, error) {
	d := &Stage{Opset: g.Opset, Input: typeMeta{s.Input.Type, s.Input.Shape}, Constants: []typeMeta{}}
	var constants [][]byte
	numbers := map[string]int{"": -1, s.Input.Name: 0}
	for _, n := range s.Nodes {
		for _, name := range n.Inputs {
			t := g.Constants[name]
			if _, known := numbers[name]; known || t == nil {
				continue
			}
			constants = append(constants, t.Data)
			numbers[name] = len(constants)
			d.Constants = append(d.Constants, typeMeta{t.Type, t.Shape})
		}
	}
	next := 1 + len(constants)
	for _, n := range s.Nodes {
		m := nodeMeta{Op: n.Op, In: []int{}, Out: []int{}}
		for _, name := range n.Inputs {
			m.In = append(m.In, numbers[name])
		}
		for _, name := range n.Outputs {
			if name != "" {
				numbers[name] = next
				next++
			}
			m.Out = append(m.Out, numbers[name])
		}
		for name, value := range n.Attrs {
			a, err := describeAttr(value)
			if err != nil {
				return nil, nil, fmt.Errorf("node %s (%s): attribute %s: %w", n.Name, n.Op, name, err)
			}
			if m.Attrs == nil {
				m.Attrs = map[string]attrMeta{}
			}
			m.Attrs[name] = a
		}
		d.Nodes = append(d.Nodes, m)
	}
	d.Output = numbers[s.Output.Name]
	return d, constants, nil
}

func describeAttr(value any) (a attrMeta, err error) {
	text := func(list ...string) {
		for _, s := range list {
			if !utf8.ValidString(s) {
				err = fmt.Errorf("%q is no text", s)
			}
		}
	}
	finite := func(list ...float32) {
		for _, f := range list {
			if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
				err = fmt.Errorf("%v is no finite number", f)
			}
		}
	}
	switch v := value.(type) {
	case int64:
		a.Int = &v
	case []int64:
		v = append([]int64{}, v...) // never null
		a.Ints = &v
	case float32:
		a.Float = &v
		finite(v)
	case []float32:
		v = append([]float32{}, v...)
		a.Floats = &v
		finite(v...)
	case string:
		a.String = &v
		text(v)
	case []string:
		v = append([]string{}, v...)
		a.Strings = &v
		text(v...)
	default:
		err = errors.New("is neither number nor text: such a node can't be in a stage")
	}
	return a, err
}

// value is the attribute; nil unless exactly one field is set.
func (a attrMeta) value() (v any) {
	n := 0
	set := func(is bool, to func() any) {
		if is {
			n++
			v = to()
		}
	}
	set(a.Int != nil, func() any { return *a.Int })
	set(a.Ints != nil, func() any { return *a.Ints })
	set(a.Float != nil, func() any { return *a.Float })
	set(a.Floats != nil, func() any { return *a.Floats })
	set(a.String != nil, func() any { return *a.String })
	set(a.Strings != nil, func() any { return *a.Strings })
	if n != 1 {
		return nil
	}
	return v
}

// size is the number of bytes of an element type and shape.
func (m *typeMeta) size() (int, error) {
	if m.Type.Size() == 0 || len(m.Shape) > maxRank {
		return 0, fmt.Errorf("%v of %d dimensions", m.Type, len(m.Shape))
	}
	if err := m.Shape.Check(m.Type.Size(), graph.MaxTensorBytes); err != nil {
		return 0, err
	}
	return m.Shape.Elements() * m.Type.Size(), nil
}

// UnmarshalJSON refuses a description that is too long or has too many nodes before
// more is made of it.
func (d *Stage) UnmarshalJSON(raw []byte) error {
	if len(raw) > maxStageSize {
		return fmt.Errorf("a stage of %d bytes: the limit is %d", len(raw), maxStageSize)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	type plain Stage
	if err := dec.Decode((*plain)(d)); err != nil {
		return err
	}
	if n := len(d.Nodes); n == 0 || n > maxStageNodes {
		return fmt.Errorf("a stage of %d nodes: there are 1 to %d", n, maxStageNodes)
	}
	return nil
}

// weightBytes is the length of the constants as they lie in a file. The error says
// which of them cannot be.
func (d *Stage) weightBytes() (n int64, err error) {
	for i := range d.Constants {
		size, err := d.Constants[i].size()
		if err != nil {
			return 0, fmt.Errorf("constant %d: %w", i+1, err)
		}
		n = (n+tensor.Align-1)&^(tensor.Align-1) + int64(size)
	}
	return n, nil
}

// Graph is the stage as a prepared graph. Its constants are views of weights, those
// of the slice.
func (d *Stage) Graph(weights []byte) (*graph.Graph, error) {
	constants := make([][]byte, len(d.Constants))
	at := 0
	for i := range constants {
		size, err := d.Constants[i].size()
		if err != nil {
			return nil, err
		}
		at = (at + tensor.Align - 1) &^ (tensor.Align - 1)
		constants[i] = weights[at : at+size : at+size]
		at += size
	}
	return d.graph(constants)
}

// graph is Graph of constants that need not lie together. The error says why the
// stage cannot be.
func (d *Stage) graph(constants [][]byte) (*graph.Graph, error) {
	if n, err := d.Input.size(); err != nil || n == 0 {
		return nil, errors.Join(fmt.Errorf("an input of %d bytes", n), err)
	}
	g := &graph.Graph{
		Opset: d.Opset, Constants: map[string]*tensor.Tensor{}, Outputs: []string{valueName(d.Output)},
		Inputs: []graph.Value{{Name: valueName(0), Info: graph.Info{Type: d.Input.Type, Shape: d.Input.Shape}}},
	}
	for i, data := range constants {
		c := &d.Constants[i]
		g.Constants[valueName(i+1)] = &tensor.Tensor{Type: c.Type, Shape: c.Shape, Data: data}
	}
	for i := range d.Nodes {
		n, err := d.Nodes[i].node(i)
		if err != nil {
			return nil, err
		}
		g.Nodes = append(g.Nodes, n)
	}
	if err := g.Prepare(); err != nil {
		return nil, err
	}
	return g, bounded(g)
}

// node is node number i of a stage.
func (m *nodeMeta) node(i int) (*graph.Node, error) {
	n := &graph.Node{Name: fmt.Sprintf("n%d", i), Op: m.Op, Attrs: graph.Attrs{}}
	for _, v := range m.In {
		n.Inputs = append(n.Inputs, valueName(v))
	}
	for _, v := range m.Out {
		n.Outputs = append(n.Outputs, valueName(v))
	}
	for name, a := range m.Attrs {
		if n.Attrs[name] = a.value(); n.Attrs[name] == nil {
			return nil, fmt.Errorf("node %q: attribute %q has not one value", n.Name, name)
		}
	}
	return n, nil
}

func valueName(number int) string {
	if number < 0 {
		return ""
	}
	return fmt.Sprintf("v%d", number)
}

// bounded says whether the values of a prepared graph, constants aside, are within
// the limit.
func bounded(g *graph.Graph) error {
	sum := int64(0)
	for name, info := range g.Infos {
		if g.Constants[name] == nil {
			sum += int64(info.Shape.Elements()) * int64(info.Type.Size())
		}
		if sum > maxStageValues {
			return fmt.Errorf("its values have more than %d bytes", maxStageValues)
		}
	}
	if g.Infos[g.Outputs[0]].Shape.Elements() == 0 {
		return errors.New("an output without elements")
	}
	return nil
}

// checksum is the CRC-32C of pieces that follow each other in a file.
func checksum(pieces ...[]byte) (crc uint32) {
	var zeros [tensor.Align]byte
	at := 0
	for _, p := range pieces {
		gap := -at & (tensor.Align - 1)
		crc = crc32.Update(crc32.Update(crc, castagnoli, zeros[:gap]), castagnoli, p)
		at += gap + len(p)
	}
	return crc
}
