package tensor_test

import (
	"math"
	"testing"

	"starling/internal/tensor"
)

// Every float16 and bfloat16 comes back from its value, and halfway between two
// neighbours the even one is taken.
func TestNarrowFloatsRoundToNearest(t *testing.T) {
	for _, c := range []struct {
		name  string
		from  func(uint16) float32
		to    func(float64) uint16
		inf   uint16
		below uint16 // the last before infinity
	}{
		{"float16", tensor.FromFloat16, tensor.ToFloat16, 0x7c00, 0x7bff},
		{"bfloat16", tensor.FromBFloat16, func(v float64) uint16 { return tensor.ToBFloat16(float32(v)) }, 0x7f80, 0x7f7f},
	} {
		t.Run(c.name, func(t *testing.T) {
			for bits := range 1 << 15 {
				b := uint16(bits)
				v := float64(c.from(b))
				if b > c.inf {
					if back := c.to(v); !math.IsNaN(v) || !math.IsNaN(float64(c.from(back))) {
						t.Fatalf("%#x is %v and comes back as %#x, want NaN", b, v, back)
					}
					continue
				}
				for _, sign := range []uint16{0, 1 << 15} {
					w := math.Copysign(v, 1-2*float64(sign>>15))
					if got := c.to(w); got != b|sign {
						t.Fatalf("%v is %#x, want %#x", w, got, b|sign)
					}
				}
				if b < c.below {
					if got, want := c.to((v+float64(c.from(b+1)))/2), b+b&1; got != want {
						t.Fatalf("halfway from %#x to the next is %#x, want %#x", b, got, want)
					}
				}
			}
		})
	}
}
