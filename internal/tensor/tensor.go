// Package tensor holds dense tensors: an element type, a shape and row-major
// little-endian bytes. It computes nothing. Every machine that Starling runs
// on is little-endian, so bytes from a file or a frame are viewed in place as
// numbers; the views need the alignment that New and Alloc give.
package tensor

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// Align is the alignment in bytes of buffers made by Alloc: a cache line.
const Align = 64

// DType is the type of a tensor's elements.
type DType uint8

// The element types, named as in ONNX (TensorProto.DataType).
const (
	Invalid DType = iota
	Float32
	Uint8
	Int8
	Uint16
	Int16
	Int32
	Int64
	Bool
	Float16
	Float64
	Uint32
	Uint64
	BFloat16
)

var dtypes = [...]struct {
	name string
	size int
}{
	Invalid: {"invalid", 0}, Float32: {"float32", 4}, Uint8: {"uint8", 1}, Int8: {"int8", 1},
	Uint16: {"uint16", 2}, Int16: {"int16", 2}, Int32: {"int32", 4}, Int64: {"int64", 8},
	Bool: {"bool", 1}, Float16: {"float16", 2}, Float64: {"float64", 8}, Uint32: {"uint32", 4},
	Uint64: {"uint64", 8}, BFloat16: {"bfloat16", 2},
}

// Size is the number of bytes of one element; 0 for Invalid.
func (d DType) Size() int {
	if int(d) >= len(dtypes) {
		return 0
	}
	return dtypes[d].size
}

func (d DType) String() string {
	if int(d) >= len(dtypes) {
		return "dtype " + strconv.Itoa(int(d))
	}
	return dtypes[d].name
}

// Shape lists a tensor's dimensions, outermost first. An empty shape is a
// scalar of one element.
type Shape []int

// Elements is the product of the dimensions. The shape must have passed
// Check; a product that overflows is not noticed here.
func (s Shape) Elements() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// ErrShape is wrapped by the error for a shape that no tensor can have.
var ErrShape = errors.New("impossible shape")

// Check says whether the dimensions are non-negative and their product times
// elementSize fits limitBytes, without overflowing on the way.
func (s Shape) Check(elementSize int, limitBytes int64) error {
	n := int64(elementSize)
	zero := false
	for _, d := range s {
		if d < 0 {
			return fmt.Errorf("%w %v: negative dimension", ErrShape, s)
		}
		if d == 0 {
			zero = true
			continue
		}
		if n > math.MaxInt64/int64(d) {
			return fmt.Errorf("%w %v: size overflows", ErrShape, s)
		}
		n *= int64(d)
	}
	if !zero && n > limitBytes {
		return fmt.Errorf("%w %v: %d bytes, limit %d", ErrShape, s, n, limitBytes)
	}
	return nil
}

// Equal reports whether both shapes have the same dimensions.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }

// String formats the shape as [1,3,224,224].
func (s Shape) String() string {
	var b strings.Builder
	b.WriteByte('[')
	for i, d := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(d))
	}
	b.WriteByte(']')
	return b.String()
}

// Tensor is a dense row-major tensor. Data has exactly
// Shape.Elements()·Type.Size() bytes and is owned by whoever made it;
// a Tensor is not safe for writing from several goroutines.
type Tensor struct {
	Type    DType
	Shape   Shape
	Data    []byte
	Mapping *Mapping // the one that Data is a part of and must not be written then; nil for memory of its own
}

// New returns a zeroed tensor. The shape must have passed Check; it is copied.
func New(t DType, shape ...int) *Tensor {
	s := slices.Clone(Shape(shape))
	return &Tensor{Type: t, Shape: s, Data: Alloc(s.Elements() * t.Size())}
}

// FromSlice returns a tensor that views data, without copying it. It panics
// if the shape does not have len(data) elements.
func FromSlice[T Element](data []T, shape ...int) *Tensor {
	s := slices.Clone(Shape(shape))
	if s.Elements() != len(data) {
		panic(fmt.Sprintf("tensor: %d elements for shape %v", len(data), s))
	}
	return &Tensor{Type: typeOf[T](), Shape: s, Data: Bytes(data)}
}

// Alloc returns n zeroed bytes that start at a multiple of Align. The system is
// asked for a huge page wherever one lies within them. They do not begin at one:
// what is skipped for that may be memory that counts.
func Alloc(n int) []byte {
	if n == 0 {
		return nil
	}
	b := make([]byte, n+Align-1)
	start := uintptr(unsafe.Pointer(&b[0]))
	skip := -start & (Align - 1)
	from, to := -start&(hugePage-1), (start+uintptr(len(b)))&^(hugePage-1)-start
	if from+hugePage <= uintptr(len(b)) {
		preferHuge(b[from:to])
	}
	return b[skip : skip+uintptr(n) : skip+uintptr(n)]
}

// Element is a Go type that a tensor's bytes can be viewed as.
type Element interface {
	float32 | float64 | int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64 | bool
}

func typeOf[T Element]() DType {
	switch any(*new(T)).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int8:
		return Int8
	case uint8:
		return Uint8
	case int16:
		return Int16
	case uint16:
		return Uint16
	case int32:
		return Int32
	case uint32:
		return Uint32
	case int64:
		return Int64
	case uint64:
		return Uint64
	default:
		return Bool
	}
}

// Of views the tensor's bytes as its elements, without copying. It panics if
// T is not the tensor's type: the caller has validated types before.
func Of[T Element](t *Tensor) []T {
	if want := typeOf[T](); t.Type != want {
		panic(fmt.Sprintf("tensor: %v viewed as %v", t.Type, want))
	}
	return View[T](t.Data)
}

// F32 is Of[float32].
func (t *Tensor) F32() []float32 { return Of[float32](t) }

// View views bytes as elements of T, without copying; trailing bytes that do
// not fill an element are left out. data must be aligned for T.
func View[T Element](data []byte) []T {
	size := int(unsafe.Sizeof(*new(T)))
	if len(data) < size {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&data[0])), len(data)/size)
}

// Aligned reports whether View[T] may be used on data.
func Aligned[T Element](data []byte) bool {
	return len(data) == 0 || uintptr(unsafe.Pointer(&data[0]))%unsafe.Alignof(*new(T)) == 0
}

// Bytes views elements as their little-endian bytes, without copying.
func Bytes[T Element](data []T) []byte {
	if len(data) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(data)*int(unsafe.Sizeof(data[0])))
}

// Clone returns a copy that shares nothing with t.
func (t *Tensor) Clone() *Tensor {
	c := &Tensor{Type: t.Type, Shape: slices.Clone(t.Shape), Data: Alloc(len(t.Data))}
	copy(c.Data, t.Data)
	return c
}
