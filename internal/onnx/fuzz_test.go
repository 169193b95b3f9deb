package onnx

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"starling/internal/graph"
	"starling/internal/onnx/onnxpb"
)

// seed adds b, halves of it and copies with single bits turned.
func seed(f *testing.F, b []byte) {
	f.Helper()
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(b[len(b)/2:])
	for i := 3; i < len(b); i += max(len(b)/16, 1) {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		f.Add(c)
	}
}

// oneLine fails the test if an error is no single line.
func oneLine(t *testing.T, err error) {
	t.Helper()
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("not one line: %q", err)
	}
}

func FuzzDecode(f *testing.F) {
	seed(f, model(f, nil))
	g := small(f)
	g.Constants["fc"] = floats(12, 2) // smaller files fuzz faster
	seed(f, encode(f, g))
	f.Add(model(f, func(m *onnxpb.ModelProto) { m.Graph.Node[0].OpType = proto.String("Erf") }))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeBytes(b)
		if g != nil {
			var text strings.Builder
			if err := g.Format(&text); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			oneLine(t, err)
			var u *graph.UnsupportedError
			if errors.As(err, &u) && (g == nil || len(g.Unsupported()) == 0) {
				t.Errorf("no graph to show for %v", err)
			}
			return
		}
		for _, n := range g.Nodes {
			if flops := graph.FLOPs(g, n); flops < 0 {
				t.Errorf("node %q: %d FLOPs", n.Name, flops)
			}
		}
		file := encode(t, g)
		back, err := DecodeBytes(file)
		if err != nil {
			t.Fatalf("what was written does not read: %v", err)
		}
		if !bytes.Equal(file, encode(t, back)) {
			t.Error("a second writing differs")
		}
	})
}

func FuzzDecodeTensor(f *testing.F) {
	for _, p := range []*onnxpb.TensorProto{
		raw("w", []int64{2, 1}, "12345678"),
		{DataType: proto.Int32(1), Dims: []int64{2}, FloatData: []float32{1, -2}},
		{DataType: proto.Int32(3), Dims: []int64{2}, Int32Data: []int32{1, -1}},
		{DataType: proto.Int32(7), Dims: []int64{2}, Int64Data: []int64{1, -1}},
		external("w", []int64{2}, "location", "w.bin", "offset", "4"),
	} {
		b, err := marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		seed(f, b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeTensor(b)
		if err != nil {
			oneLine(t, err)
			return
		}
		if len(x.Data) != x.Shape.Elements()*x.Type.Size() {
			t.Errorf("%d bytes for %v%v", len(x.Data), x.Type, x.Shape)
		}
	})
}
