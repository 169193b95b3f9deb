package tensor

import (
	"errors"
	"math"
	"testing"
	"unsafe"
)

func TestCheckRefusesImpossibleShapes(t *testing.T) {
	for _, c := range []struct {
		name  string
		shape Shape
		size  int
		limit int64
		ok    bool
	}{
		{"scalar", Shape{}, 4, 4, true},
		{"fits exactly", Shape{2, 3}, 4, 24, true},
		{"one byte over", Shape{2, 3}, 4, 23, false},
		{"negative", Shape{2, -1}, 4, 1 << 40, false},
		{"product overflows", Shape{1 << 30, 1 << 30, 1 << 30}, 4, math.MaxInt64, false},
		{"overflow hidden behind a zero", Shape{0, 1 << 30, 1 << 30, 1 << 30}, 4, 1, false},
		{"empty", Shape{0, 5}, 4, 0, true},
	} {
		err := c.shape.Check(c.size, c.limit)
		if (err == nil) != c.ok {
			t.Errorf("%s: Check(%v) = %v, want ok %v", c.name, c.shape, err, c.ok)
		}
		if err != nil && !errors.Is(err, ErrShape) {
			t.Errorf("%s: %v does not wrap ErrShape", c.name, err)
		}
	}
}

func TestAllocIsAligned(t *testing.T) {
	check := func(n int) {
		t.Helper()
		b := Alloc(n)
		if len(b) != n || cap(b) != n {
			t.Fatalf("Alloc(%d) has %d bytes, room for %d", n, len(b), cap(b))
		}
		if n > 0 && uintptr(unsafe.Pointer(&b[0]))%Align != 0 {
			t.Fatalf("Alloc(%d) is not aligned", n)
		}
	}
	for n := range 300 {
		check(n)
	}
	for _, n := range []int{hugePage - Align, hugePage, 2*hugePage - 1, 2 * hugePage, 5*hugePage + 1} {
		check(n)
	}
}

func TestViewsShareMemory(t *testing.T) {
	x := New(Float32, 2, 2)
	x.F32()[3] = 1.5
	if got := View[uint32](x.Data)[3]; got != math.Float32bits(1.5) {
		t.Errorf("bits %x", got)
	}
	c := x.Clone()
	c.F32()[3] = 2
	if x.F32()[3] != 1.5 {
		t.Error("a clone shares memory with its origin")
	}
	y := FromSlice([]int64{7, 8}, 2)
	if y.Type != Int64 || Of[int64](y)[1] != 8 || len(y.Data) != 16 {
		t.Errorf("FromSlice: %+v", y)
	}
	if Aligned[float32](x.Data[1:]) || !Aligned[float32](x.Data[4:]) {
		t.Error("Aligned is wrong about odd addresses")
	}
}

func TestWrongViewPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("viewing int64 as float32 did not panic")
		}
	}()
	New(Int64, 1).F32()
}

func TestStrings(t *testing.T) {
	if s := (Shape{1, 3, 224}).String(); s != "[1,3,224]" {
		t.Error(s)
	}
	if Float32.String() != "float32" || DType(99).String() != "dtype 99" || DType(99).Size() != 0 {
		t.Error("dtype names")
	}
}
