package onnx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"starling/internal/onnx/onnxpb"
	"starling/internal/tensor"
)

// external is a tensor whose elements are in another file; pairs are the
// entries of external_data.
func external(name string, dims []int64, pairs ...string) *onnxpb.TensorProto {
	p := &onnxpb.TensorProto{
		Name: &name, DataType: proto.Int32(1), Dims: dims,
		DataLocation: onnxpb.TensorProto_EXTERNAL.Enum(),
	}
	for i := 0; i < len(pairs); i += 2 {
		p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return p
}

func TestTypedData(t *testing.T) {
	type T = onnxpb.TensorProto
	for _, c := range []struct {
		name string
		p    *T
		want string // type, shape and bytes, or an error
	}{
		{"float", &T{DataType: proto.Int32(1), Dims: []int64{2}, FloatData: []float32{1, -2}}, "float32[2] 0000803f000000c0"},
		{"scalar", &T{DataType: proto.Int32(1), FloatData: []float32{1}}, "float32[] 0000803f"},
		{"double", &T{DataType: proto.Int32(11), Dims: []int64{1}, DoubleData: []float64{1}}, "float64[1] 000000000000f03f"},
		{"uint8", &T{DataType: proto.Int32(2), Dims: []int64{2}, Int32Data: []int32{1, 255}}, "uint8[2] 01ff"},
		{"int8", &T{DataType: proto.Int32(3), Dims: []int64{2}, Int32Data: []int32{1, -1}}, "int8[2] 01ff"},
		{"uint16", &T{DataType: proto.Int32(4), Dims: []int64{1}, Int32Data: []int32{65535}}, "uint16[1] ffff"},
		{"int16", &T{DataType: proto.Int32(5), Dims: []int64{1}, Int32Data: []int32{-2}}, "int16[1] feff"},
		{"int32", &T{DataType: proto.Int32(6), Dims: []int64{1}, Int32Data: []int32{-2}}, "int32[1] feffffff"},
		{"int64", &T{DataType: proto.Int32(7), Dims: []int64{1}, Int64Data: []int64{-2}}, "int64[1] feffffffffffffff"},
		{"bool", &T{DataType: proto.Int32(9), Dims: []int64{2}, Int32Data: []int32{1, 0}}, "bool[2] 0100"},
		{"float16", &T{DataType: proto.Int32(10), Dims: []int64{1}, Int32Data: []int32{0x3c00}}, "float16[1] 003c"},
		{"bfloat16", &T{DataType: proto.Int32(16), Dims: []int64{1}, Int32Data: []int32{0x3f80}}, "bfloat16[1] 803f"},
		{"uint32", &T{DataType: proto.Int32(12), Dims: []int64{1}, Uint64Data: []uint64{1<<32 - 1}}, "uint32[1] ffffffff"},
		{"uint64", &T{DataType: proto.Int32(13), Dims: []int64{1}, Uint64Data: []uint64{1<<64 - 1}}, "uint64[1] ffffffffffffffff"},
		{"raw", &T{DataType: proto.Int32(5), Dims: []int64{1, 2}, RawData: []byte{1, 2, 3, 4}}, "int16[1,2] 01020304"},
		{"empty", &T{DataType: proto.Int32(1), Dims: []int64{0, 3}}, "float32[0,3] "},
		{"out of range", &T{DataType: proto.Int32(3), Dims: []int64{1}, Int32Data: []int32{128}}, `read tensor: tensor "": element 0 is out of range: 128`},
		{"uint32 out of range", &T{DataType: proto.Int32(12), Dims: []int64{1}, Uint64Data: []uint64{1 << 32}}, `read tensor: tensor "": element 0 is out of range: 4294967296`},
		{"too many", &T{DataType: proto.Int32(3), Dims: []int64{1}, Int32Data: []int32{1, 2}}, `read tensor: tensor "": 2 elements, want 1`},
		{"wrong field", &T{DataType: proto.Int32(1), Dims: []int64{1}, Int32Data: []int32{1}}, `read tensor: tensor "": 0 bytes of elements, want 4 for float32[1]`},
		{"no bool", &T{DataType: proto.Int32(9), Dims: []int64{1}, RawData: []byte{2}}, `read tensor: tensor "": element 0 is no bool: 2`},
		{"no type", &T{}, `read tensor: tensor "": element type UNDEFINED is not supported`},
		{"unknown type", &T{DataType: proto.Int32(99)}, `read tensor: tensor "": element type 99 is not supported`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := marshal(c.p)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			x, err := DecodeTensor(b)
			if err != nil {
				got = err.Error()
			} else {
				got = describe(x)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func describe(x *tensor.Tensor) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, v := range x.Data {
		b.WriteByte(digits[v>>4])
		b.WriteByte(digits[v&15])
	}
	return x.Type.String() + x.Shape.String() + " " + b.String()
}

func TestExternalData(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "model")
	write := func(name, data string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outer, "secret"), "12345678")
	write(filepath.Join(dir, "w.bin"), "....\x00\x00\x80\x3f\x00\x00\x00\x40")
	write(filepath.Join(dir, "sub", "w.bin"), "\x00\x00\x80\x3f\x00\x00\x00\x40")
	if err := os.Symlink(filepath.Join("..", "secret"), filepath.Join(dir, "link")); err != nil {
		t.Skipf("no symbolic links: %v", err)
	}
	for _, c := range []struct {
		name  string
		pairs []string
		want  string // the error, after the tensor's name
	}{
		{"at an offset", []string{"location", "w.bin", "offset", "4", "length", "8"}, ""},
		{"to the end", []string{"location", "w.bin", "offset", "4"}, ""},
		{"in a folder", []string{"location", "sub/w.bin", "checksum", "0"}, ""},
		{"up", []string{"location", "../secret"}, `external data: location "../secret" is not a file in the model's folder`},
		{"up within", []string{"location", "sub/../../secret"}, `external data: location "sub/../../secret" is not a file in the model's folder`},
		{"absolute", []string{"location", "/etc/passwd"}, `external data: location "/etc/passwd" is not a file in the model's folder`},
		{"no location", nil, `external data: location "" is not a file in the model's folder`},
		{"link", []string{"location", "link"}, `external data "link": path escapes from parent`},
		{"folder", []string{"location", "sub"}, `external data "sub": not a regular file`},
		{"missing", []string{"location", "v.bin"}, `external data "v.bin": no such file or directory`},
		{"beyond the end", []string{"location", "w.bin", "offset", "8", "length", "8"}, `external data "w.bin": 8 bytes at 8, but the file has 12`},
		{"offset overflow", []string{"location", "w.bin", "offset", "9223372036854775807", "length", "8"}, `external data "w.bin": 8 bytes at 9223372036854775807, but the file has 12`},
		{"offset behind the end", []string{"location", "w.bin", "offset", "100"}, `external data "w.bin": 0 bytes of elements, want 8`},
		{"negative offset", []string{"location", "w.bin", "offset", "-4"}, `external data: bad offset "-4"`},
		{"no number", []string{"location", "w.bin", "length", "x"}, `external data: bad length "x"`},
		{"wrong length", []string{"location", "w.bin", "length", "12"}, `external data "w.bin": 12 bytes of elements, want 8`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "m.onnx")
			write(path, string(model(t, func(m *onnxpb.ModelProto) {
				m.Graph.Initializer = []*onnxpb.TensorProto{external("w", []int64{2}, c.pairs...)}
			})))
			g, err := Decode(path, nil)
			if c.want != "" {
				want := `read model ` + path + `: initializer: tensor "w": ` + c.want
				if err == nil || err.Error() != want {
					t.Errorf("got  %v\nwant %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if w := g.Constants["w"].F32(); w[0] != 1 || w[1] != 2 {
				t.Errorf("elements %v", w)
			}
		})
	}
}
