package onnx

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/encoding/protowire"

	"starling/internal/graph"
	"starling/internal/onnx/onnxpb"
	"starling/internal/tensor"
)

// model reads the ModelProto that ends at position end.
func (d *decoder) model(end int64) (*graph.Graph, error) {
	g := &graph.Graph{
		Domains:   map[string]int{},
		Constants: map[string]*tensor.Tensor{},
		Infos:     map[string]graph.Info{},
		Metadata:  map[string]string{},
	}
	var body *onnxpb.GraphProto
	rest, err := d.split(end, maxStructureBytes, map[protowire.Number]func(int64) error{
		7: func(end int64) (err error) { // ModelProto.graph
			if body != nil {
				return errors.New("the model holds two graphs")
			}
			body, err = d.graph(end, g.Constants)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	head := &onnxpb.ModelProto{}
	if err := d.unmarshal(rest, head); err != nil {
		return nil, err
	}
	if body == nil {
		return nil, errors.New("it holds no graph: not an ONNX model")
	}
	if err := setHead(g, head); err != nil {
		return nil, err
	}
	if err := d.setBody(g, body); err != nil {
		return nil, err
	}
	return g, nil
}

// graph reads the GraphProto that ends at position end; its initializers
// become constants.
func (d *decoder) graph(end int64, constants map[string]*tensor.Tensor) (*onnxpb.GraphProto, error) {
	rest, err := d.split(end, maxStructureBytes, map[protowire.Number]func(int64) error{
		5: func(end int64) error { // GraphProto.initializer
			if d.fields--; d.fields < 0 {
				return errMany
			}
			name, t, err := d.tensor(end)
			if err != nil {
				return fmt.Errorf("initializer: %w", err)
			}
			if name == "" {
				return errors.New("an initializer has no name")
			}
			if constants[name] != nil {
				return fmt.Errorf("initializer %q is defined twice", name)
			}
			constants[name] = t
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	p := &onnxpb.GraphProto{}
	return p, d.unmarshal(rest, p)
}

// setHead takes operator sets and metadata over into g.
func setHead(g *graph.Graph, m *onnxpb.ModelProto) error {
	for _, set := range m.OpsetImport {
		v := set.GetVersion()
		if v < 1 || v > math.MaxInt32 {
			return fmt.Errorf("opset %d of domain %q is no version", v, set.GetDomain())
		}
		if err := checkName(set.GetDomain()); err != nil {
			return err
		}
		// The highest of several counts (ModelProto.opset_import).
		if d := domain(set.GetDomain()); d == "" {
			g.Opset = max(g.Opset, int(v))
		} else {
			g.Domains[d] = max(g.Domains[d], int(v))
		}
	}
	for _, e := range m.MetadataProps {
		g.Metadata[e.GetKey()] = e.GetValue()
	}
	return nil
}

// domain returns "" for both names of the default domain.
func domain(name string) string {
	if name == "ai.onnx" {
		return ""
	}
	return name
}

// checkName bounds a name and keeps line breaks and terminal escapes out of
// every message that shows it.
func checkName(name string) error {
	if len(name) > maxNameBytes {
		return fmt.Errorf("name %.40q… of %d bytes, limit %d", name, len(name), maxNameBytes)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("name %.40q has control characters", name)
	}
	return nil
}

func checkNames(lists ...[]string) error {
	for _, list := range lists {
		for _, name := range list {
			if err := checkName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// setBody takes inputs, outputs and nodes over into g.
func (d *decoder) setBody(g *graph.Graph, p *onnxpb.GraphProto) error {
	g.Name = p.GetName()
	if err := checkName(g.Name); err != nil {
		return err
	}
	if len(p.SparseInitializer) > 0 {
		return errors.New("sparse initializers are not supported")
	}
	for _, v := range p.Input {
		name := v.GetName()
		if err := checkName(name); err != nil {
			return err
		}
		if g.Constants[name] != nil {
			continue // before IR version 4 every initializer is an input too
		}
		info, free, err := inputInfo(name, v.GetType())
		if err != nil {
			return fmt.Errorf("graph input %q: %w", name, err)
		}
		g.Inputs = append(g.Inputs, graph.Value{Name: name, Info: info, Free: free})
	}
	for _, v := range p.Output {
		if err := checkName(v.GetName()); err != nil {
			return err
		}
		g.Outputs = append(g.Outputs, v.GetName())
	}
	var err error
	g.Nodes, err = d.nodes(p.Node)
	return err
}

func (d *decoder) nodes(list []*onnxpb.NodeProto) ([]*graph.Node, error) {
	names := nodeNames(list)
	var nodes []*graph.Node
	for i, n := range list {
		if err := checkNames([]string{n.GetName(), n.GetOpType(), n.GetDomain()}, n.Input, n.Output); err != nil {
			return nil, fmt.Errorf("node %d: %w", i, err)
		}
		attrs, err := d.attrs(n.Attribute)
		if err != nil {
			return nil, fmt.Errorf("node %q (%s): %w", names[i], n.GetOpType(), err)
		}
		nodes = append(nodes, &graph.Node{
			Name: names[i], Op: n.GetOpType(), Domain: domain(n.GetDomain()),
			Inputs: n.Input, Outputs: n.Output, Attrs: attrs,
		})
	}
	return nodes, nil
}

// subgraph takes over the body of a node.
func (d *decoder) subgraph(p *onnxpb.GraphProto) (*graph.Subgraph, error) {
	if len(p.SparseInitializer) > 0 {
		return nil, errors.New("sparse initializers are not supported")
	}
	s := &graph.Subgraph{Constants: map[string]*tensor.Tensor{}}
	for _, t := range p.Initializer {
		x, err := d.build(t, aligned(t.RawData), nil, t.RawData != nil)
		if err != nil {
			return nil, fmt.Errorf("initializer %.40q: %w", t.GetName(), err)
		}
		s.Constants[t.GetName()] = x
	}
	for _, v := range p.Input {
		if s.Constants[v.GetName()] == nil {
			s.Inputs = append(s.Inputs, v.GetName())
		}
	}
	for _, v := range p.Output {
		s.Outputs = append(s.Outputs, v.GetName())
	}
	if err := checkNames(s.Inputs, s.Outputs, slices.Collect(maps.Keys(s.Constants))); err != nil {
		return nil, err
	}
	var err error
	s.Nodes, err = d.nodes(p.Node)
	return s, err
}

// inputInfo is the type of a graph input and, if it has free dimensions, the name of
// each. One that the file gives no name is called INPUT.AXIS.
func inputInfo(name string, t *onnxpb.TypeProto) (graph.Info, []string, error) {
	tt := t.GetTensorType()
	if tt == nil || tt.Shape == nil {
		return graph.Info{}, nil, errors.New("it is no tensor with a shape")
	}
	typ, err := dtype(tt.GetElemType())
	if err != nil {
		return graph.Info{}, nil, err
	}
	dims := make([]int64, len(tt.Shape.Dim))
	var free []string
	for i, dim := range tt.Shape.Dim {
		// Exporters write 0 and -1 for a free dimension, too.
		if dims[i] = dim.GetDimValue(); dims[i] != 0 && dims[i] != -1 {
			continue
		}
		if free == nil {
			free = make([]string, len(dims))
		}
		dims[i], free[i] = 1, dim.GetDimParam()
		if free[i] == "" {
			free[i] = fmt.Sprintf("%s.%d", name, i)
		}
	}
	if err := checkNames(free); err != nil {
		return graph.Info{}, nil, err
	}
	shape, err := shapeOf(dims)
	return graph.Info{Type: typ, Shape: shape}, free, err
}

// nodeNames returns a unique name for every node: its own or, where that is
// empty or taken by an earlier node, one made from its operator or name.
func nodeNames(nodes []*onnxpb.NodeProto) []string {
	taken := map[string]bool{"": true}
	for _, n := range nodes {
		taken[n.GetName()] = true
	}
	names := make([]string, len(nodes))
	given := map[string]bool{"": true}
	next := map[string]int{}
	for i, n := range nodes {
		name := n.GetName()
		base := name
		if base == "" {
			base = n.GetOpType()
		}
		if given[name] {
			for taken[name] {
				name = base + "_" + strconv.Itoa(next[base])
				next[base]++
			}
			taken[name] = true
		}
		given[name] = true
		names[i] = name
	}
	return names
}

func (d *decoder) attrs(list []*onnxpb.AttributeProto) (graph.Attrs, error) {
	attrs := graph.Attrs{}
	for _, a := range list {
		name := a.GetName()
		if err := checkName(name); err != nil {
			return nil, err
		}
		if _, ok := attrs[name]; ok {
			return nil, fmt.Errorf("attribute %q is set twice", name)
		}
		if a.GetRefAttrName() != "" {
			return nil, fmt.Errorf("attribute %q refers to a function's attribute outside of a function", name)
		}
		// Lists are copied so that an empty one is not nil.
		switch a.GetType() {
		case onnxpb.AttributeProto_FLOAT:
			attrs[name] = a.GetF()
		case onnxpb.AttributeProto_INT:
			attrs[name] = a.GetI()
		case onnxpb.AttributeProto_STRING:
			attrs[name] = string(a.GetS())
		case onnxpb.AttributeProto_FLOATS:
			attrs[name] = append([]float32{}, a.Floats...)
		case onnxpb.AttributeProto_INTS:
			attrs[name] = append([]int64{}, a.Ints...)
		case onnxpb.AttributeProto_STRINGS:
			s := make([]string, len(a.Strings))
			for i, b := range a.Strings {
				s[i] = string(b)
			}
			attrs[name] = s
		case onnxpb.AttributeProto_TENSOR:
			if a.T == nil {
				return nil, fmt.Errorf("attribute %q is a tensor without one", name)
			}
			t, err := d.build(a.T, aligned(a.T.RawData), nil, a.T.RawData != nil)
			if err != nil {
				return nil, fmt.Errorf("attribute %q: %w", name, err)
			}
			attrs[name] = t
		case onnxpb.AttributeProto_GRAPH:
			if a.G == nil {
				return nil, fmt.Errorf("attribute %q is a graph without one", name)
			}
			body, err := d.subgraph(a.G)
			if err != nil {
				return nil, fmt.Errorf("attribute %q: %w", name, err)
			}
			attrs[name] = body
		default:
			attrs[name] = graph.Opaque(a.GetType().String())
		}
	}
	return attrs, nil
}
