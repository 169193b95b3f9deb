package onnx

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"starling/internal/graph"
	"starling/internal/onnx/onnxpb"
	"starling/internal/tensor"
)

// irVersion is that of written files: 8 (2021) has all that is written and
// every current reader knows it.
const irVersion = 8

// Encode writes the prepared graph g as an ONNX file whose constants are
// initializers with raw_data, ordered by name. Constants go from their tensors
// to w without a copy. A graph beyond 2 GiB is an error before anything is
// written; other errors are those of w.
func Encode(w io.Writer, g *graph.Graph) error {
	head, body, err := messages(g)
	if err != nil {
		return fmt.Errorf("write model: %w", err)
	}
	names := slices.Sorted(maps.Keys(g.Constants))
	heads := make([][]byte, len(names)) // TensorProtos up to raw_data's bytes
	size := uint64(len(body))
	for i, name := range names {
		t := g.Constants[name]
		if heads[i], err = tensorHead(name, t); err != nil {
			return fmt.Errorf("write model: %w", err)
		}
		size += uint64(len(heads[i])) + uint64(len(t.Data))
	}
	head = protowire.AppendTag(head, 7, protowire.BytesType) // ModelProto.graph
	head = protowire.AppendVarint(head, size)
	if size += uint64(len(head)); size > maxFileBytes {
		return fmt.Errorf("write model: %d bytes, limit %d", size, maxFileBytes)
	}
	b := bufio.NewWriterSize(w, 1<<16)
	// A bufio.Writer keeps its first error and returns it from Flush.
	_, _ = b.Write(head)
	_, _ = b.Write(body)
	for i, name := range names {
		_, _ = b.Write(heads[i])
		_, _ = b.Write(g.Constants[name].Data)
	}
	return b.Flush()
}

// tensorHead is one GraphProto.initializer field without the bytes of its
// raw_data, which come last.
func tensorHead(name string, t *tensor.Tensor) ([]byte, error) {
	fields, err := marshal(tensorMessage(name, t))
	if err != nil {
		return nil, err
	}
	fields = protowire.AppendTag(fields, 9, protowire.BytesType) // TensorProto.raw_data
	fields = protowire.AppendVarint(fields, uint64(len(t.Data)))
	b := protowire.AppendTag(nil, 5, protowire.BytesType) // GraphProto.initializer
	b = protowire.AppendVarint(b, uint64(len(fields)+len(t.Data)))
	return append(b, fields...), nil
}

// tensorMessage is t without its elements.
func tensorMessage(name string, t *tensor.Tensor) *onnxpb.TensorProto {
	p := &onnxpb.TensorProto{DataType: proto.Int32(int32(toONNX[t.Type]))}
	if name != "" {
		p.Name = &name
	}
	for _, d := range t.Shape {
		p.Dims = append(p.Dims, int64(d))
	}
	return p
}

func marshal(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// messages are the fields of the ModelProto before its graph, and those of the
// GraphProto before its initializers.
func messages(g *graph.Graph) (head, body []byte, err error) {
	model := &onnxpb.ModelProto{
		IrVersion:    proto.Int64(irVersion),
		ProducerName: proto.String("starling"),
		OpsetImport:  []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(int64(g.Opset))}},
	}
	for _, d := range slices.Sorted(maps.Keys(g.Domains)) {
		model.OpsetImport = append(model.OpsetImport,
			&onnxpb.OperatorSetIdProto{Domain: proto.String(d), Version: proto.Int64(int64(g.Domains[d]))})
	}
	for _, k := range slices.Sorted(maps.Keys(g.Metadata)) {
		model.MetadataProps = append(model.MetadataProps,
			&onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(g.Metadata[k])})
	}
	p := &onnxpb.GraphProto{Name: proto.String(g.Name)}
	for _, in := range g.Inputs {
		p.Input = append(p.Input, valueMessage(in.Name, in.Info))
	}
	for _, out := range g.Outputs {
		p.Output = append(p.Output, valueMessage(out, g.Infos[out]))
	}
	for _, n := range g.Nodes {
		m := &onnxpb.NodeProto{Name: proto.String(n.Name), OpType: proto.String(n.Op), Input: n.Inputs, Output: n.Outputs}
		if n.Domain != "" {
			m.Domain = proto.String(n.Domain)
		}
		for _, k := range slices.Sorted(maps.Keys(n.Attrs)) {
			a, err := attrMessage(k, n.Attrs[k])
			if err != nil {
				return nil, nil, fmt.Errorf("node %q (%s): %w", n.Name, n.Op, err)
			}
			m.Attribute = append(m.Attribute, a)
		}
		p.Node = append(p.Node, m)
	}
	if head, err = marshal(model); err != nil {
		return nil, nil, err
	}
	body, err = marshal(p)
	return head, body, err
}

func valueMessage(name string, i graph.Info) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for _, d := range i.Shape {
		shape.Dim = append(shape.Dim, &onnxpb.TensorShapeProto_Dimension{
			Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)},
		})
	}
	return &onnxpb.ValueInfoProto{Name: &name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(toONNX[i.Type])), Shape: shape},
	}}}
}

func attrMessage(name string, value any) (*onnxpb.AttributeProto, error) {
	a := &onnxpb.AttributeProto{Name: &name}
	switch v := value.(type) {
	case float32:
		a.Type, a.F = onnxpb.AttributeProto_FLOAT.Enum(), &v
	case int64:
		a.Type, a.I = onnxpb.AttributeProto_INT.Enum(), &v
	case string:
		a.Type, a.S = onnxpb.AttributeProto_STRING.Enum(), []byte(v)
	case []float32:
		a.Type, a.Floats = onnxpb.AttributeProto_FLOATS.Enum(), v
	case []int64:
		a.Type, a.Ints = onnxpb.AttributeProto_INTS.Enum(), v
	case []string:
		a.Type = onnxpb.AttributeProto_STRINGS.Enum()
		for _, s := range v {
			a.Strings = append(a.Strings, []byte(s))
		}
	case *tensor.Tensor:
		a.Type, a.T = onnxpb.AttributeProto_TENSOR.Enum(), tensorMessage("", v)
		a.T.RawData = v.Data
	default:
		return nil, fmt.Errorf("attribute %q of kind %v cannot be written", name, v)
	}
	return a, nil
}
