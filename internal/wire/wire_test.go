package wire_test

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"

	"starling/internal/kernel"
	"starling/internal/tensor"
	"starling/internal/wire"
)

var seed = flag.Uint64("seed", 1, "of the random values")

func values(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * scale)
		switch r.IntN(20) {
		case 0:
			x[i] = 0
		case 1:
			x[i] *= 1e-6
		case 2:
			x[i] *= 30
		}
	}
	return x
}

// there and back; nil if the encoding cannot hold x.
func travel(e wire.Encoding, x []float32) []float32 {
	b := tensor.Alloc(e.Size(len(x)))
	if !e.Encode(b, x) {
		return nil
	}
	y := make([]float32, len(x))
	e.Decode(y, b)
	return y
}

// The bounds that the package comment promises, whatever the magnitude.
func TestErrors(t *testing.T) {
	t.Logf("seed %d", *seed)
	r := rand.New(rand.NewPCG(*seed, 1))
	for _, scale := range []float64{1e-37, 1e-20, 1e-3, 1, 1e4, 1e20, 1e36} {
		for _, n := range []int{0, 1, 7, 255, 256, 257, 1000} {
			x := values(r, n, scale)
			if n == 1000 {
				for i := range 300 {
					x[i] = max(x[i], 0)
				}
			}
			var most float64
			for _, v := range x {
				most = max(most, math.Abs(float64(v)))
			}
			if y := travel(wire.F32, x); string(tensor.Bytes(y)) != string(tensor.Bytes(x)) {
				t.Errorf("%d values are others as f32", n)
			}
			for i, y := range travel(wire.F16, x) {
				v := float64(x[i])
				if err := math.Abs(float64(y) - v); err > math.Abs(v)/(1<<11)+max(most, 0x1p-112)*0x1p-39 {
					t.Errorf("f16: %v of a largest %v arrives as %v", v, most, y)
				}
			}
			for i, y := range travel(wire.Int8, x) {
				from := i / 256 * 256
				low, high := kernel.Extremes(x[from:min(from+256, n)])
				span := float64(high) - float64(low)
				// Beside half a step, quotient and product round: 255 steps by 2⁻²⁴ each.
				if err := math.Abs(float64(y) - float64(x[i])); err > span/510*(1+1e-4)+math.SmallestNonzeroFloat32*255 {
					t.Errorf("int8: %v between %v and %v arrives as %v", x[i], low, high, y)
				}
				if x[i] == 0 && y != 0 {
					t.Errorf("int8: 0 arrives as %v", y)
				}
			}
		}
	}
}

// What an encoding cannot hold it refuses; a constant and the ends of its range
// it holds.
func TestRange(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		put  float32
		held bool
	}{
		{nan, false},
		{inf, false},
		{-inf, false},
		{math.MaxFloat32, false},
		{-math.MaxFloat32, false},
		{math.MaxFloat32 / 2, true},
		{65520, true},
		{math.SmallestNonzeroFloat32, true},
		{0, true},
	} {
		for n := range 300 {
			x := make([]float32, n+1)
			x[n] = c.put
			for _, e := range []wire.Encoding{wire.F32, wire.F16, wire.Int8} {
				y := travel(e, x)
				if want := e == wire.F32 || c.held; (y != nil) != want {
					t.Fatalf("%v holds %v: %v, want %v", e, c.put, y != nil, want)
				}
				if y != nil && e != wire.F32 && math.Abs(float64(y[n]-c.put)) > math.Abs(float64(c.put))/500+1e-40 {
					t.Errorf("%v: %v arrives as %v", e, c.put, y[n])
				}
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range wire.Names() {
		e, err := wire.Parse(name)
		if err != nil || e.String() != name || !e.Valid() {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
	if e, err := wire.Parse(""); e != wire.F32 || err != nil {
		t.Errorf("the default is %v, %v", e, err)
	}
	if _, err := wire.Parse("f8"); err == nil {
		t.Error("f8 is an encoding")
	}
	if e := wire.Encoding(len(wire.Names())); e.Valid() {
		t.Errorf("%v is valid", e)
	}
}

// Any bytes are values, and values that an encoding gave travel again.
func FuzzDecode(f *testing.F) {
	for e := range len(wire.Names()) {
		f.Add(uint8(e), []byte("\x00\x00\x80\x3f\x80 some bytes of values"))
	}
	f.Fuzz(func(t *testing.T, number uint8, b []byte) {
		e := wire.Encoding(number % uint8(len(wire.Names())))
		n := 0
		for e.Size(n+1) <= len(b) {
			n++
		}
		aligned := tensor.Alloc(max(len(b), e.Size(n)))
		copy(aligned, b)
		x := make([]float32, n)
		e.Decode(x, aligned[:e.Size(n)])
		if most := kernel.Magnitude(x); travel(e, x) == nil && most <= math.MaxFloat32/2 {
			t.Errorf("%v refuses %v", e, x)
		}
	})
}

func BenchmarkEncoding(b *testing.B) {
	const n = 1 << 14
	x := values(rand.New(rand.NewPCG(1, 1)), n, 1)
	for _, name := range wire.Names() {
		e, err := wire.Parse(name)
		if err != nil {
			b.Fatal(err)
		}
		buf, y := tensor.Alloc(e.Size(n)), make([]float32, n)
		b.Run(name+"/encode", func(b *testing.B) {
			b.SetBytes(4 * n)
			b.ReportAllocs()
			for b.Loop() {
				e.Encode(buf, x)
			}
		})
		b.Run(name+"/decode", func(b *testing.B) {
			b.SetBytes(4 * n)
			b.ReportAllocs()
			for b.Loop() {
				e.Decode(y, buf)
			}
		})
	}
}
