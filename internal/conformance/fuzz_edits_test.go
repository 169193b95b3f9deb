package conformance_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"starling/internal/onnx/onnxpb"
)

// corpus are FuzzImport's models.
func corpus(f *testing.F) []*onnxpb.ModelProto {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", "FuzzImport", "*"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	var list []*onnxpb.ModelProto
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, quoted, _ := strings.Cut(string(text), "[]byte(")
		b, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
		if err != nil {
			f.Fatalf("%s: %v", file, err)
		}
		m := &onnxpb.ModelProto{}
		if proto.Unmarshal([]byte(b), m) == nil && len(m.GetGraph().GetNode()) > 0 {
			list = append(list, m)
		}
	}
	return list
}

// FuzzEdits takes a model of the corpus with some edits, four bytes each, all the
// way as FuzzImport does: what no mutation of bytes comes upon, because it would
// have to change lengths and values together.
func FuzzEdits(f *testing.F) {
	models := corpus(f)
	// A few: all of them are run before the first mutation, which any model may take
	// part in, and FuzzImport has them as they are.
	for i := 0; i < len(models); i += 32 {
		f.Add(uint16(i), []byte{3, 0, 0, 2, 4, 0, 1, 0})
	}
	f.Fuzz(func(t *testing.T, which uint16, edits []byte) {
		m := proto.CloneOf(models[int(which)%len(models)])
		for ; len(edits) >= 4; edits = edits[4:] {
			edit(m, models, edits[0], int(edits[1]), int(edits[2]), int(edits[3]))
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Skip(err) // a name that is no UTF-8
		}
		through(t, b)
	})
}

// odd are numbers that sizes, axes and attributes may be wrong by.
var odd = []int64{0, 1, -1, 2, 3, -2, 4, 7, 255, 1 << 16, 1<<31 - 1, -1 << 31, 1 << 40, math.MaxInt64, math.MinInt64}

func at[T any](list []T, i int) T { return list[i%len(list)] }

// edit changes one thing of a model: kind says what, a where, b and c how.
func edit(m *onnxpb.ModelProto, models []*onnxpb.ModelProto, kind byte, a, b, c int) {
	g := m.Graph
	n := at(g.Node, a)
	other := at(at(models, a+b).Graph.Node, c)
	switch kind % 10 {
	case 0:
		n.OpType = other.OpType
	case 1: // another value, or none
		names := []string{""}
		for _, v := range g.Input {
			names = append(names, v.GetName())
		}
		for _, v := range g.Initializer {
			names = append(names, v.GetName())
		}
		for _, v := range g.Node {
			names = append(names, v.Output...)
		}
		if b%8 == 7 {
			n.Input = append(n.Input, at(names, c))
		} else if len(n.Input) > 0 {
			n.Input[b%len(n.Input)] = at(names, c)
		}
	case 2:
		if len(n.Input) > 0 {
			n.Input = n.Input[:len(n.Input)-1]
		}
	case 3:
		if len(n.Attribute) > 0 {
			alter(at(n.Attribute, b), c)
		}
	case 4:
		if len(g.Input) > 0 {
			if shape := at(g.Input, a).GetType().GetTensorType().GetShape(); len(shape.GetDim()) > 0 {
				d := at(shape.Dim, b)
				d.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: at(odd, c)}
				if c%16 == 15 {
					shape.Dim = shape.Dim[1:]
				}
			}
		}
	case 5:
		if len(g.Input) > 0 {
			if tt := at(g.Input, a).GetType().GetTensorType(); tt != nil {
				tt.ElemType = proto.Int32(int32(b % 18))
			}
		}
	case 6:
		if len(n.Attribute) > 0 {
			n.Attribute = slices.Delete(n.Attribute, b%len(n.Attribute), b%len(n.Attribute)+1)
		}
	case 7:
		if len(other.Attribute) > 0 {
			n.Attribute = append(n.Attribute, proto.CloneOf(at(other.Attribute, b)))
		}
	case 8:
		for _, set := range m.OpsetImport {
			set.Version = proto.Int64(int64(1 + b%29))
		}
	case 9:
		if len(g.Initializer) > 0 {
			t := at(g.Initializer, a)
			switch {
			case b%4 == 0 && len(t.Dims) > 0:
				t.Dims[c%len(t.Dims)] = at(odd, c)
			case b%4 == 1:
				t.DataType = proto.Int32(int32(c % 18))
			case len(t.RawData) >= 8 && t.GetDataType() == int32(onnxpb.TensorProto_INT64):
				v := at(odd, c)
				for i := range 8 {
					t.RawData[b/4%(len(t.RawData)/8)*8+i] = byte(v >> (8 * i))
				}
			case len(t.RawData) > 0:
				t.RawData[b%len(t.RawData)] ^= byte(c)
			}
		}
	}
}

func alter(a *onnxpb.AttributeProto, c int) {
	switch {
	case a.I != nil:
		a.I = proto.Int64(at(odd, c))
	case len(a.Ints) > 0 && c%16 == 15:
		a.Ints = a.Ints[1:]
	case len(a.Ints) > 0:
		a.Ints[c/16%len(a.Ints)] = at(odd, c)
	case a.F != nil:
		a.F = proto.Float32(at([]float32{0, -1, 1, float32(math.NaN()), float32(math.Inf(1)), 1e38, -1e-38}, c))
	case a.S != nil:
		a.S = at([][]byte{nil, []byte("nearest"), []byte("wrap"), []byte("reverse"), []byte("bidirectional"), []byte("SAME_LOWER"), []byte("...")}, c)
	}
}
