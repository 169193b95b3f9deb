package onnx

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"starling/internal/graph"
	"starling/internal/onnx/onnxpb"
	"starling/internal/tensor"
)

var fromONNX = map[onnxpb.TensorProto_DataType]tensor.DType{
	onnxpb.TensorProto_FLOAT:    tensor.Float32,
	onnxpb.TensorProto_UINT8:    tensor.Uint8,
	onnxpb.TensorProto_INT8:     tensor.Int8,
	onnxpb.TensorProto_UINT16:   tensor.Uint16,
	onnxpb.TensorProto_INT16:    tensor.Int16,
	onnxpb.TensorProto_INT32:    tensor.Int32,
	onnxpb.TensorProto_INT64:    tensor.Int64,
	onnxpb.TensorProto_BOOL:     tensor.Bool,
	onnxpb.TensorProto_FLOAT16:  tensor.Float16,
	onnxpb.TensorProto_DOUBLE:   tensor.Float64,
	onnxpb.TensorProto_UINT32:   tensor.Uint32,
	onnxpb.TensorProto_UINT64:   tensor.Uint64,
	onnxpb.TensorProto_BFLOAT16: tensor.BFloat16,
}

var toONNX = func() map[tensor.DType]onnxpb.TensorProto_DataType {
	m := map[tensor.DType]onnxpb.TensorProto_DataType{}
	for o, t := range fromONNX {
		m[t] = o
	}
	return m
}()

func dtype(number int32) (tensor.DType, error) {
	o := onnxpb.TensorProto_DataType(number)
	t, ok := fromONNX[o]
	if !ok {
		return 0, fmt.Errorf("element type %v is not supported", o)
	}
	return t, nil
}

// leastMapped is the least size of raw_data that stays in a mapped file. What is
// smaller is copied, and so aligned.
const leastMapped = 1 << 16

// unaligned says whether this CPU reads numbers at any address. In a file they
// lie anywhere.
const unaligned = runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"

// keep returns elements that lie in a mapping, and the mapping, or else an
// aligned copy and nil.
func keep(b []byte, m *tensor.Mapping) ([]byte, *tensor.Mapping) {
	if m != nil && len(b) >= leastMapped && (unaligned || tensor.Aligned[float64](b)) {
		return b, m
	}
	data := tensor.Alloc(len(b))
	copy(data, b)
	return data, nil
}

// tensor reads the TensorProto that ends at position end, which is in the file.
func (d *decoder) tensor(end int64) (string, *tensor.Tensor, error) {
	var raw []byte
	var mapping *tensor.Mapping
	hasRaw := false
	rest, err := d.split(end, maxFileBytes, map[protowire.Number]func(int64) error{
		9: func(end int64) error { // TensorProto.raw_data
			hasRaw = true
			raw, mapping = keep(d.next(end), d.mapping)
			return nil
		},
	})
	if err != nil {
		return "", nil, err
	}
	p := &onnxpb.TensorProto{}
	if err := d.unmarshal(rest, p); err != nil {
		return "", nil, err
	}
	if err := checkName(p.GetName()); err != nil {
		return "", nil, err
	}
	t, err := d.build(p, raw, mapping, hasRaw)
	if err != nil {
		return "", nil, fmt.Errorf("tensor %q: %w", p.GetName(), err)
	}
	return p.GetName(), t, nil
}

// build makes the tensor that p describes. raw, of mapping, stands for p.RawData.
func (d *decoder) build(p *onnxpb.TensorProto, raw []byte, mapping *tensor.Mapping, hasRaw bool) (*tensor.Tensor, error) {
	typ, err := dtype(p.GetDataType())
	if err != nil {
		return nil, err
	}
	if p.Segment != nil {
		return nil, errors.New("segmented tensors are not supported")
	}
	shape, err := shapeOf(p.Dims)
	if err != nil {
		return nil, err
	}
	if err := shape.Check(typ.Size(), graph.MaxTensorBytes); err != nil {
		return nil, err
	}
	n := shape.Elements()
	stores := 0
	for _, used := range []bool{
		hasRaw, len(p.FloatData) > 0, len(p.Int32Data) > 0, len(p.Int64Data) > 0,
		len(p.DoubleData) > 0, len(p.Uint64Data) > 0, p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL,
	} {
		if used {
			stores++
		}
	}
	if stores > 1 {
		return nil, errors.New("its elements are stored more than once")
	}
	var data []byte
	switch {
	case p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL:
		data, mapping, err = d.ext.read(p.ExternalData, int64(n)*int64(typ.Size()))
	case hasRaw:
		data = raw
	default:
		data, err = typedData(p, typ, n)
	}
	if err != nil {
		return nil, err
	}
	if want := n * typ.Size(); len(data) != want {
		return nil, fmt.Errorf("%d bytes of elements, want %d for %v%v", len(data), want, typ, shape)
	}
	if typ == tensor.Bool {
		for i, b := range data {
			if b > 1 {
				return nil, fmt.Errorf("element %d is no bool: %d", i, b)
			}
		}
	}
	return &tensor.Tensor{Type: typ, Shape: shape, Data: data, Mapping: mapping}, nil
}

func shapeOf(dims []int64) (tensor.Shape, error) {
	if len(dims) > maxRank {
		return nil, fmt.Errorf("%d dimensions, limit %d", len(dims), maxRank)
	}
	shape := make(tensor.Shape, len(dims))
	for i, v := range dims {
		if v < 0 || v > math.MaxInt32 {
			return nil, fmt.Errorf("dimension %d, want 0 to %d", v, math.MaxInt32)
		}
		shape[i] = int(v)
	}
	return shape, nil
}

// typedData takes the n elements from the field that TensorProto has for typ.
func typedData(p *onnxpb.TensorProto, typ tensor.DType, n int) ([]byte, error) {
	switch typ {
	case tensor.Float32:
		return aligned(tensor.Bytes(p.FloatData)), nil
	case tensor.Float64:
		return aligned(tensor.Bytes(p.DoubleData)), nil
	case tensor.Int64:
		return aligned(tensor.Bytes(p.Int64Data)), nil
	case tensor.Uint64:
		return aligned(tensor.Bytes(p.Uint64Data)), nil
	case tensor.Int32:
		return aligned(tensor.Bytes(p.Int32Data)), nil
	case tensor.Uint32:
		return narrow[uint32](p.Uint64Data, n)
	case tensor.Int16:
		return narrow[int16](p.Int32Data, n)
	case tensor.Int8:
		return narrow[int8](p.Int32Data, n)
	case tensor.Uint16, tensor.Float16, tensor.BFloat16: // the latter as bits
		return narrow[uint16](p.Int32Data, n)
	default: // Uint8, Bool
		return narrow[uint8](p.Int32Data, n)
	}
}

// narrow returns the bytes of n values in a smaller integer type.
func narrow[To int8 | uint8 | int16 | uint16 | uint32, From int32 | uint64](values []From, n int) ([]byte, error) {
	if len(values) != n {
		return nil, fmt.Errorf("%d elements, want %d", len(values), n)
	}
	data := tensor.Alloc(n * int(unsafe.Sizeof(To(0))))
	for i, v := range values {
		x := To(v)
		if From(x) != v {
			return nil, fmt.Errorf("element %d is out of range: %d", i, v)
		}
		tensor.View[To](data)[i] = x
	}
	return data, nil
}

// aligned returns b, or a copy of it if it does not start at tensor.Align;
// large buffers do.
func aligned(b []byte) []byte {
	if len(b) == 0 || uintptr(unsafe.Pointer(&b[0]))%tensor.Align == 0 {
		return b
	}
	c := tensor.Alloc(len(b))
	copy(c, b)
	return c
}
