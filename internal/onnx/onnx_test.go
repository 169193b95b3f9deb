package onnx

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"starling/internal/graph"
	"starling/internal/onnx/onnxpb"
	"starling/internal/tensor"
)

func floats(dims ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(i) / 8
	}
	return t
}

// small is a prepared graph with attributes and constants of several kinds.
func small(t testing.TB) *graph.Graph {
	t.Helper()
	g := &graph.Graph{
		Name: "small", Opset: 13,
		Domains:  map[string]int{"com.example": 2},
		Metadata: map[string]string{"task": "test", "empty": ""},
		Inputs:   []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 2, 4, 4}}}},
		Outputs:  []string{"y", "p"},
		Constants: map[string]*tensor.Tensor{
			"w":     tensor.FromSlice([]int8{1, -2, 3, -4, 5, -6}, 3, 2, 1, 1),
			"scale": tensor.FromSlice([]float32{1, 2, 3}, 3),
			"b":     floats(3),
			"s":     tensor.FromSlice([]int64{1, -1}, 2),
			"fc":    floats(12, 100),
			"true":  tensor.FromSlice([]bool{true, false}, 2),
			"empty": tensor.New(tensor.Float32, 0),
		},
		Nodes: []*graph.Node{
			{Name: "dq", Op: "DequantizeLinear", Inputs: []string{"w", "scale"}, Outputs: []string{"wf"}, Attrs: graph.Attrs{"axis": int64(0)}},
			{
				Name: "conv", Op: "Conv", Inputs: []string{"x", "wf", "b"}, Outputs: []string{"c"},
				Attrs: graph.Attrs{"auto_pad": "SAME_LOWER", "strides": []int64{2, 2}},
			},
			{Name: "pool", Op: "GlobalAveragePool", Inputs: []string{"c"}, Outputs: []string{"p"}, Attrs: graph.Attrs{}},
			{Name: "flat", Op: "Reshape", Inputs: []string{"c", "s"}, Outputs: []string{"f"}, Attrs: graph.Attrs{}},
			{Name: "fc", Op: "Gemm", Inputs: []string{"f", "fc"}, Outputs: []string{"y"}, Attrs: graph.Attrs{"alpha": float32(0.5)}},
		},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

func encode(t testing.TB, g *graph.Graph) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	g := small(t)
	file := encode(t, g)
	back, err := DecodeBytes(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, back) {
		t.Errorf("got %+v\nwant %+v", back, g)
	}
	if !bytes.Equal(file, encode(t, back)) {
		t.Error("a second writing differs")
	}
	path := filepath.Join(t.TempDir(), "small.onnx")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if back, err = Decode(path, nil); err != nil || !reflect.DeepEqual(g, back) {
		t.Errorf("from a file: %v", err)
	}
	for name, c := range back.Constants {
		if len(c.Data) > 0 && !tensor.Aligned[uint64](c.Data) {
			t.Errorf("constant %q is not aligned", name)
		}
	}
}

func TestAttributesRoundTrip(t *testing.T) {
	g := small(t)
	attrs := graph.Attrs{
		"i": int64(-1), "f": float32(math.Pi), "s": "text", "t": floats(2, 3),
		"is": []int64{1, math.MinInt64}, "fs": []float32{1, 2}, "ss": []string{"a", ""},
		"no ints": []int64{}, "no floats": []float32{}, "no strings": []string{},
	}
	g.Nodes[0].Attrs = attrs
	back, err := ParseBytes(encode(t, g))
	if err != nil {
		t.Fatal(err)
	}
	if got := back.Nodes[0].Attrs; !reflect.DeepEqual(got, attrs) {
		t.Errorf("got %v, want %v", got, attrs)
	}
	g.Nodes[0].Attrs = graph.Attrs{"body": graph.Opaque("GRAPH")}
	err = Encode(&bytes.Buffer{}, g)
	if want := `write model: node "dq" (DequantizeLinear): attribute "body" of kind GRAPH cannot be written`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// model is a graph of one Relu as protobuf, changed by edit.
func model(t testing.TB, edit func(*onnxpb.ModelProto)) []byte {
	t.Helper()
	value := func(name string) *onnxpb.ValueInfoProto {
		return valueMessage(name, graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 2}})
	}
	m := &onnxpb.ModelProto{
		IrVersion:   proto.Int64(3),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(13)}},
		Graph: &onnxpb.GraphProto{
			Name:   proto.String("relu"),
			Input:  []*onnxpb.ValueInfoProto{value("x")},
			Output: []*onnxpb.ValueInfoProto{value("y")},
			Node:   []*onnxpb.NodeProto{{OpType: proto.String("Relu"), Input: []string{"x"}, Output: []string{"y"}}},
		},
	}
	if edit != nil {
		edit(m)
	}
	b, err := marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func raw(name string, dims []int64, data string) *onnxpb.TensorProto {
	return &onnxpb.TensorProto{Name: &name, DataType: proto.Int32(1), Dims: dims, RawData: []byte(data)}
}

func TestDecodeForms(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*onnxpb.ModelProto)
		check func(*graph.Graph) bool
	}{
		{"plain", nil, func(g *graph.Graph) bool {
			return g.Nodes[0].Name == "Relu_0" && g.Opset == 13 && g.Infos["y"].String() == "float32[1,2]"
		}},
		{"free dimensions become 1", func(m *onnxpb.ModelProto) {
			dims := m.Graph.Input[0].GetType().GetTensorType().Shape
			dims.Dim = []*onnxpb.TensorShapeProto_Dimension{
				{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "N"}},
				{},
				{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: -1}},
				{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 7}},
			}
		}, func(g *graph.Graph) bool { return g.Infos["y"].String() == "float32[1,1,1,7]" }},
		{"an initializer that is an input is a constant", func(m *onnxpb.ModelProto) {
			m.Graph.Input = append(m.Graph.Input, valueMessage("w", graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1}}))
			m.Graph.Initializer = []*onnxpb.TensorProto{raw("w", []int64{1}, "\x00\x00\x80\x3f")}
		}, func(g *graph.Graph) bool { return len(g.Inputs) == 1 && g.Constants["w"].F32()[0] == 1 }},
		{"both names of the default domain", func(m *onnxpb.ModelProto) {
			m.OpsetImport = []*onnxpb.OperatorSetIdProto{{Domain: proto.String("ai.onnx"), Version: proto.Int64(12)}}
			m.Graph.Node[0].Domain = proto.String("ai.onnx")
		}, func(g *graph.Graph) bool { return g.Opset == 12 && g.Nodes[0].Domain == "" }},
		{"node names are made unique", func(m *onnxpb.ModelProto) {
			node := func(name, in, out string) *onnxpb.NodeProto {
				return &onnxpb.NodeProto{Name: &name, OpType: proto.String("Relu"), Input: []string{in}, Output: []string{out}}
			}
			m.Graph.Node = []*onnxpb.NodeProto{
				node("a", "x", "1"), node("a", "1", "2"), node("a_0", "2", "3"), node("", "3", "4"), node("", "4", "y"),
			}
		}, func(g *graph.Graph) bool {
			var names []string
			for _, n := range g.Nodes {
				names = append(names, n.Name)
			}
			return strings.Join(names, " ") == "a a_1 a_0 Relu_0 Relu_1"
		}},
		{"tensor attribute", func(m *onnxpb.ModelProto) {
			m.Graph.Node = append(m.Graph.Node, &onnxpb.NodeProto{
				OpType: proto.String("Constant"), Output: []string{"k"},
				Attribute: []*onnxpb.AttributeProto{{
					Name: proto.String("value"), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: raw("", []int64{1}, "\x00\x00\x80\x3f"),
				}},
			})
		}, func(g *graph.Graph) bool { return len(g.Nodes) == 1 && g.Constants["k"].F32()[0] == 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := DecodeBytes(model(t, c.edit))
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(g) {
				var b strings.Builder
				_ = g.Format(&b)
				t.Error(b.String())
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	tensors := func(list ...*onnxpb.TensorProto) []byte {
		return model(t, func(m *onnxpb.ModelProto) { m.Graph.Initializer = list })
	}
	nested := func(m *onnxpb.ModelProto) {
		for range maxDepth {
			m.Graph.Node[0].Attribute = []*onnxpb.AttributeProto{{Name: proto.String("g"), G: proto.Clone(m.Graph).(*onnxpb.GraphProto)}}
		}
	}
	attr := func(a ...*onnxpb.AttributeProto) []byte {
		return model(t, func(m *onnxpb.ModelProto) { m.Graph.Node[0].Attribute = a })
	}
	good := model(t, nil)
	segment := raw("w", []int64{1}, "1234")
	segment.Segment = &onnxpb.TensorProto_Segment{}
	twice := raw("w", []int64{1}, "1234")
	twice.FloatData = []float32{1}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"text", []byte("this is no model\n"), "read model: not a valid ONNX file: damaged protobuf"},
		{"empty", nil, "read model: it holds no graph: not an ONNX model"},
		{"cut off", good[:len(good)-3], "read model: not a valid ONNX file: it is cut off or damaged"},
		{"two graphs", append(bytes.Clone(good), good...), "read model: the model holds two graphs"},
		{"no opset", model(t, func(m *onnxpb.ModelProto) { m.OpsetImport = nil }), "model: opset 0 of the default domain is not supported: convert the model to one of 1 to 28"},
		{"opset -1", model(t, func(m *onnxpb.ModelProto) { m.OpsetImport[0].Version = proto.Int64(-1) }), `read model: opset -1 of domain "" is no version`},
		{"raw data too short", tensors(raw("w", []int64{2}, "1234")), `read model: initializer: tensor "w": 4 bytes of elements, want 8 for float32[2]`},
		{"no data", tensors(&onnxpb.TensorProto{Name: proto.String("w"), DataType: proto.Int32(1), Dims: []int64{2}}), `read model: initializer: tensor "w": 0 bytes of elements, want 8 for float32[2]`},
		{"negative dimension", tensors(raw("w", []int64{-1}, "1234")), `read model: initializer: tensor "w": dimension -1, want 0 to 2147483647`},
		{"terabytes", tensors(raw("w", []int64{1 << 20, 1 << 20}, "1234")), `read model: initializer: tensor "w": impossible shape [1048576,1048576]: 4398046511104 bytes, limit 2147479552`},
		{"overflow", tensors(raw("w", []int64{1 << 30, 1 << 30, 1 << 30}, "1234")), `read model: initializer: tensor "w": impossible shape [1073741824,1073741824,1073741824]: size overflows`},
		{"many dimensions", tensors(raw("w", make([]int64, 33), "")), `read model: initializer: tensor "w": 33 dimensions, limit 32`},
		{"type", tensors(&onnxpb.TensorProto{Name: proto.String("w"), DataType: proto.Int32(8)}), `read model: initializer: tensor "w": element type STRING is not supported`},
		{"same name", tensors(raw("w", []int64{1}, "1234"), raw("w", []int64{1}, "1234")), `read model: initializer "w" is defined twice`},
		{"no name", tensors(raw("", []int64{1}, "1234")), `read model: an initializer has no name`},
		{"segment", tensors(segment), `read model: initializer: tensor "w": segmented tensors are not supported`},
		{"stored twice", tensors(twice), `read model: initializer: tensor "w": its elements are stored more than once`},
		{"long name", tensors(raw(strings.Repeat("n", 1025), []int64{1}, "1234")), `read model: initializer: name "` + strings.Repeat("n", 40) + `"… of 1025 bytes, limit 1024`},
		{"line break", tensors(raw("a\nb", []int64{1}, "1234")), `read model: initializer: name "a\nb" has control characters`},
		{"external data", tensors(external("w", []int64{1}, "location", "w.bin")), `read model: initializer: tensor "w": its elements are in another file: read the model from its folder, by name`},
		{"nesting", model(t, nested), "read model: more than 64 levels of messages"},
		{"attribute twice", attr(intAttr("a"), intAttr("a")), `read model: node "Relu_0" (Relu): attribute "a" is set twice`},
		{"attribute of a function", attr(&onnxpb.AttributeProto{Name: proto.String("a"), RefAttrName: proto.String("b")}), `read model: node "Relu_0" (Relu): attribute "a" refers to a function's attribute outside of a function`},
		{"attribute without tensor", attr(&onnxpb.AttributeProto{Name: proto.String("a"), Type: onnxpb.AttributeProto_TENSOR.Enum()}), `read model: node "Relu_0" (Relu): attribute "a" is a tensor without one`},
		{"subgraph", attr(&onnxpb.AttributeProto{Name: proto.String("a"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: &onnxpb.GraphProto{}}), `model: node "Relu_0" (Relu): attribute "a" is unknown to Relu in opset 13`},
		{"no subgraph", attr(&onnxpb.AttributeProto{Name: proto.String("a"), Type: onnxpb.AttributeProto_GRAPH.Enum()}), `read model: node "Relu_0" (Relu): attribute "a" is a graph without one`},
		{"sparse", model(t, func(m *onnxpb.ModelProto) { m.Graph.SparseInitializer = []*onnxpb.SparseTensorProto{{}} }), "read model: sparse initializers are not supported"},
		{"input without shape", model(t, func(m *onnxpb.ModelProto) { m.Graph.Input[0].Type = nil }), `read model: graph input "x": it is no tensor with a shape`},
		{"undefined value", model(t, func(m *onnxpb.ModelProto) { m.Graph.Node[0].Input[0] = "q" }), `model: node "Relu_0" (Relu): input "q" is not defined`},
		{"many messages", manyNodes(), "read model: more than 524288 messages and strings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodeBytes(c.file)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func intAttr(name string) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: &name, Type: onnxpb.AttributeProto_INT.Enum()}
}

// manyNodes is a model of 1 MiB that claims half a million empty nodes.
func manyNodes() []byte {
	nodes := bytes.Repeat(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), 0), maxFields+1)
	b := protowire.AppendTag(nil, 7, protowire.BytesType)
	return append(protowire.AppendVarint(b, uint64(len(nodes))), nodes...)
}

func TestDecodeRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.onnx")
	if _, err := Decode(missing, nil); err == nil || err.Error() != "read model "+missing+": no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Decode(dir, nil); err == nil || err.Error() != "read model "+dir+": not a regular file" {
		t.Errorf("folder: %v", err)
	}
	large := filepath.Join(dir, "large.onnx")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<31); err != nil {
		t.Skipf("no sparse files: %v", err)
	}
	want := "read model " + large + ": 2147483648 bytes, limit 2147483647: keep the weights in external data files"
	if _, err := Decode(large, nil); err == nil || err.Error() != want {
		t.Errorf("large file: %v", err)
	}
}

// A length that a file claims costs no memory unless the bytes are there.
func TestClaimedSizesAreNotAllocated(t *testing.T) {
	field := func(num protowire.Number, size uint64, content []byte) []byte {
		return append(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), size), content...)
	}
	claim := func(nums ...protowire.Number) []byte {
		var b []byte
		for i := range nums {
			b = field(nums[len(nums)-1-i], 1<<40, b)
		}
		return b
	}
	honest := model(t, func(m *onnxpb.ModelProto) {
		m.Graph.Initializer = []*onnxpb.TensorProto{{Name: proto.String("w"), DataType: proto.Int32(1), Dims: []int64{1 << 28}}}
	})
	for _, c := range []struct {
		name string
		file []byte
	}{
		{"graph", claim(7)},
		{"initializer", claim(7, 5)},
		{"raw_data", claim(7, 5, 9)},
		{"float_data", claim(7, 5, 4)},
		{"metadata", claim(14)},
		{"raw_data in honest messages", field(7, 14, field(5, 12, field(9, 1<<40, []byte("12345"))))},
		{"dims", honest},
		{"int8 dims without data", func() []byte {
			return model(t, func(m *onnxpb.ModelProto) {
				m.Graph.Initializer = []*onnxpb.TensorProto{{Name: proto.String("w"), DataType: proto.Int32(3), Dims: []int64{1 << 30}, Int32Data: []int32{1}}}
			})
		}()},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeBytes(c.file)
		runtime.ReadMemStats(&after)
		if err == nil || len(c.file) > 200 {
			t.Fatalf("%s: error %v for %d bytes", c.name, err, len(c.file))
		}
		// The read buffer is 64 KiB; the rest is small change.
		if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
			t.Errorf("%s: %d bytes allocated for a file of %d", c.name, got, len(c.file))
		}
	}
}

// Decoding takes the weights' size once, besides the file.
func TestDecodeMemory(t *testing.T) {
	const size = 32 << 20
	g := small(t)
	g.Constants["big"] = tensor.New(tensor.Float32, size/4)
	path := filepath.Join(t.TempDir(), "big.onnx")
	if err := os.WriteFile(path, encode(t, g), 0o600); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Decode(path, nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size+size/8 {
		t.Errorf("%d bytes allocated for weights of %d", got, size)
	}
}

func TestFreeDimensions(t *testing.T) {
	b := model(t, func(m *onnxpb.ModelProto) {
		m.Graph.Input[0].GetType().GetTensorType().Shape.Dim = []*onnxpb.TensorShapeProto_Dimension{
			{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}},
			{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 7}},
			{},
			{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "seq"}},
		}
	})
	path := filepath.Join(t.TempDir(), "free.onnx")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dims map[string]int
		want string // of the output, or of the error
	}{
		{nil, "float32[1,7,1,1]"},
		{map[string]int{"seq": 5, "x.2": 3}, "float32[1,7,3,5]"},
		{map[string]int{"time": 5}, `it has no free dimension "time": there are batch, seq, x.2`},
		{map[string]int{"seq": 0}, `size 0 of free dimension "seq" is not from 1 to 2147483647`},
		{map[string]int{"seq": math.MaxInt32, "batch": math.MaxInt32}, `graph input "x": `},
	} {
		g, err := Decode(path, c.dims)
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "model "+path+": ")
		} else {
			got = g.Infos["y"].String()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %q, want %q", c.dims, got, c.want)
		}
	}
}
