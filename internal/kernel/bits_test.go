package kernel

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"testing"
)

// TestBitsAreTheSameEverywhere holds the results of fixed inputs to digests
// found once, on amd64 with AVX2: every level of every processor must give them,
// or a flock of unlike devices would not agree.
func TestBitsAreTheSameEverywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	values := func(n int) []float32 { // exact in float32, from -1 to 1
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.Uint32()>>8)*0x1p-23 - 1
		}
		return x
	}
	conv := func(g Conv2D) func([]float32) []float32 {
		w, x := values(g.M*g.K()), values(g.N*g.C*g.H*g.W)
		return func([]float32) []float32 {
			dst := make([]float32, g.N*g.M*g.OH*g.OW)
			NewConv(g, w, g.M).Run(nil, dst, x, After{}, nil)
			return dst
		}
	}
	w, x := values(37*203), values(9*203)
	for _, c := range []struct {
		name, sum string
		f         func([]float32) []float32
	}{
		{"gemv", "e0a040e19dcea492", func(dst []float32) []float32 { Gemv(nil, dst[:37], w, x, 37, 203); return dst[:37] }},
		{"gemm", "91326be1a39d9b9a", func(dst []float32) []float32 { Pack(w, 37, 203).Gemm(nil, dst, x, 9, After{}, nil); return dst[:9*37] }},
		{"conv 3×3, pads", "19026a786666e9fb", conv(Conv2D{N: 1, C: 5, H: 13, W: 11, M: 7, KH: 3, KW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, DilationH: 1, DilationW: 1, Groups: 1, OH: 13, OW: 11})},
		{"conv 5×5, stride 2", "d0d5e969b8236dce", conv(Conv2D{N: 2, C: 3, H: 17, W: 19, M: 8, KH: 5, KW: 5, StrideH: 2, StrideW: 2, DilationH: 1, DilationW: 1, Groups: 1, OH: 7, OW: 8})},
		{"conv 3×3, groups", "2b84998b4ef5022e", conv(Conv2D{N: 1, C: 6, H: 9, W: 9, M: 8, KH: 3, KW: 3, StrideH: 1, StrideW: 1, DilationH: 2, DilationW: 2, Groups: 2, OH: 5, OW: 5})},
		{"depthwise", "d371c748c7aebccf", conv(Conv2D{N: 1, C: 6, H: 14, W: 15, M: 6, KH: 3, KW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, DilationH: 1, DilationW: 1, Groups: 6, OH: 14, OW: 15})},
		{"depthwise, stride 2", "3c3dbb05baa7947a", conv(Conv2D{N: 1, C: 3, H: 21, W: 37, M: 3, KH: 3, KW: 3, StrideH: 2, StrideW: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, DilationH: 1, DilationW: 1, Groups: 3, OH: 11, OW: 19})},
		{"depthwise, narrow", "90c6e9eae04cf46a", conv(Conv2D{N: 2, C: 3, H: 7, W: 7, M: 3, KH: 3, KW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, DilationH: 1, DilationW: 1, Groups: 3, OH: 7, OW: 7})},
		{"average pool", "f4561d984c5e2eb4", func(dst []float32) []float32 {
			NewAveragePool(Pool2D{N: 1, C: 3, H: 11, W: 13, KH: 3, KW: 3, StrideH: 2, StrideW: 2, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, DilationH: 1, DilationW: 1, OH: 6, OW: 7}).Run(nil, dst, x)
			return dst[:3*6*7]
		}},
		{"softmax", "0dacd7d4ddd07e6f", func(dst []float32) []float32 { Softmax(nil, dst, x, 1, 203, 9); return dst[:9*203] }},
	} {
		for _, level := range levels() {
			atLevel(t, level, func() {
				h := sha256.New()
				for _, v := range c.f(make([]float32, 9*203)) {
					h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
				}
				if sum := hex.EncodeToString(h.Sum(nil)[:8]); sum != c.sum {
					t.Errorf("%s, %s: digest %s, want %s", c.name, level, sum, c.sum)
				}
			})
		}
	}
}
