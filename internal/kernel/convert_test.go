package kernel

import (
	"math"
	"testing"

	"starling/internal/tensor"
)

// halves returns values near every half: itself, halfway to the next one, and a
// little to either side of that, and what is beyond.
func halves() []float32 {
	x := []float32{inf, -inf, float32(math.NaN()), 65504, 65519.996, 65520, 65536, math.MaxFloat32, math.SmallestNonzeroFloat32, 0x1p-25, 0x1.000002p-25}
	for h := range 0x7c00 {
		v, next := tensor.FromFloat16(uint16(h)), tensor.FromFloat16(uint16(h+1))
		if h == 0x7bff {
			next = 65536
		}
		middle := v + (next-v)/2
		for _, w := range []float32{v, middle, math.Nextafter32(middle, -inf), math.Nextafter32(middle, inf)} {
			x = append(x, w, -w)
		}
	}
	return x
}

// Every half, and every place where rounding turns, at every level.
func TestHalf(t *testing.T) {
	x := halves()
	want := make([]uint16, len(x))
	for i, v := range x {
		want[i] = tensor.ToFloat16(float64(v))
	}
	all := make([]uint16, 1<<16)
	exact := make([]float32, len(all))
	for i := range all {
		all[i] = uint16(i)
		exact[i] = tensor.FromFloat16(uint16(i))
	}
	for _, level := range levels() {
		atLevel(t, level, func() {
			got := make([]uint16, len(x))
			ToHalf(got, x, 1)
			for i, h := range got {
				if nan := x[i] != x[i]; h != want[i] && !(nan && h&0x7e00 == 0x7e00) {
					t.Errorf("%s: %v is half %04x, want %04x", level, x[i], h, want[i])
				}
			}
			back := make([]float32, len(all))
			FromHalf(back, all, 1)
			compareBits(t, level, back, exact)
		})
	}
}

// Lengths and scales, against plain code, and the bits of every level against
// those of the portable one.
func TestConversions(t *testing.T) {
	r := newRand(t)
	for n := range 70 {
		o := r.IntN(8)
		x := wild(r, n+o)[o:]
		h := make([]uint16, n+o)[o:]
		b := make([]byte, n+o)[o:]
		for i := range h {
			h[i], b[i] = uint16(r.Uint32()), byte(r.Uint32())
		}
		tame := uniform(r, n+o)[o:]
		scale := float32(math.Ldexp(1, r.IntN(40)-20))
		var least, most, magnitude float32
		for i, v := range tame {
			least, most = min(least, v), max(most, v)
			magnitude = max(magnitude, v, -v)
			if r.IntN(9) == 0 {
				x[i] = float32(math.Ldexp(float64(v), r.IntN(60)-40)) // all of half's range
			}
		}
		toHalf, fromHalf := make([]uint16, n), make([]float32, n)
		toHalfPortable(toHalf, x, scale)
		fromHalfPortable(fromHalf, h, scale)
		for _, level := range levels() {
			atLevel(t, level, func() {
				got := make([]uint16, n)
				ToHalf(got, x, scale)
				for i := range got {
					if got[i] != toHalf[i] && x[i] == x[i] {
						t.Errorf("%s: %v·%v is half %04x, portably %04x", level, x[i], scale, got[i], toHalf[i])
					}
				}
				back := make([]float32, n)
				FromHalf(back, h, scale)
				compareBits(t, level+" from half", back, fromHalf)
				if a, b := Extremes(tame); a != least || b != most {
					t.Errorf("%s: extremes of %d elements are %v, %v, want %v, %v", level, n, a, b, least, most)
				}
				if m := Magnitude(tame); m != magnitude {
					t.Errorf("%s: magnitude of %d elements %v, want %v", level, n, m, magnitude)
				}
				for _, signed := range []bool{false, true} {
					zero := int32(r.IntN(256))
					if signed {
						zero -= 128
					}
					o := Output{Signed: signed, Zero: zero}
					want, got := make([]byte, n), make([]byte, n)
					quantizePortable(want, x, scale/100, o.limits())
					QuantizeBytes(got, x, scale/100, signed, zero)
					if string(got) != string(want) {
						t.Errorf("%s: quantized otherwise than portably: signed %v, zero %d, scale %v: % x from % x", level, signed, zero, scale/100, got, want)
					}
					dequantizePortable(fromHalf, b, signed, scale, zero)
					DequantizeBytes(back, Bytes{Data: b, Signed: signed, Zero: zero}, scale)
					compareBits(t, level+" dequantize", back, fromHalf)
					fromHalfPortable(fromHalf, h, scale)
				}
			})
		}
	}
}

func TestMagnitude(t *testing.T) {
	nan := float32(math.NaN())
	x := make([]float32, 100)
	for _, c := range []struct{ put, want float32 }{{0, 0}, {-3, 3}, {-inf, inf}, {inf, inf}, {nan, nan}, {math.SmallestNonzeroFloat32, math.SmallestNonzeroFloat32}} {
		for i := range x {
			x[i] = c.put
			for _, level := range levels() {
				atLevel(t, level, func() {
					if got := Magnitude(x); !sameBits(got, c.want) {
						t.Errorf("%s: %v at %d: magnitude %v", level, c.put, i, got)
					}
				})
			}
			x[i] = 0
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	const n = 1 << 16
	x, h, bytes := uniform(newRand(b), n), make([]uint16, n), make([]byte, n)
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(4 * n)
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
	y := make([]float32, n)
	run("copy", func() { copy(y, x) })
	run("to half", func() { ToHalf(h, x, 1) })
	run("from half", func() { FromHalf(x, h, 1) })
	run("magnitude", func() { Magnitude(x) })
	run("extremes", func() { Extremes(x) })
	run("quantize", func() { QuantizeBytes(bytes, x, 0.01, false, 128) })
	run("dequantize", func() { DequantizeBytes(x, Bytes{Data: bytes, Zero: 128}, 0.01) })
}
