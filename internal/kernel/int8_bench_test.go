package kernel

import (
	"slices"
	"testing"
)

// eachSchemeBench runs f for every scheme for bytes of this CPU.
func eachSchemeBench(b *testing.B, name string, f func(b *testing.B)) {
	for _, s := range schemesOf(false) {
		b.Run(label("%s/%s", name, s.name), func(b *testing.B) {
			forced = [2]*scheme{s, nil}
			defer func() { forced = [2]*scheme{} }()
			f(b)
		})
	}
}

func BenchmarkQuantDense(b *testing.B) {
	r := newRand(b)
	for _, s := range append(products, products[0]) {
		w := Weights{Data: randomBytes(r, s.m*s.k), Signed: true}
		x := Bytes{Data: randomBytes(r, s.n*s.k), Zero: 117}
		out := Output{Bytes: make([]byte, s.m*s.n), Zero: 128, Scale: slices.Repeat([]float32{1e-3}, s.m)}
		eachSchemeBench(b, label("%dx%dx%d", s.n, s.k, s.m), func(b *testing.B) {
			d := NewQuantDense(w, s.m, s.k, s.n)
			b.ReportAllocs()
			seconds := loop(b, func() { d.Run(nil, out, x, s.n, nil) })
			b.ReportMetric(2*float64(s.m)*float64(s.n)*float64(s.k)/seconds/1e9, "GOP/s")
		})
	}
}

func BenchmarkQuantConv(b *testing.B) {
	r := newRand(b)
	depthwise := func(c, size, stride int) Conv2D {
		g := conv2D(c, size, size, c, 3, stride, 1)
		g.Groups = c
		return g
	}
	layers := map[string]Conv2D{
		"c1": conv2D(3, 224, 224, 64, 7, 2, 3), "r4s2": conv2D(256, 28, 28, 512, 3, 2, 1), "r5": conv2D(512, 7, 7, 512, 3, 1, 1),
		"dw112": depthwise(32, 112, 1), "dw112s2": depthwise(96, 112, 2), "dw14": depthwise(512, 14, 1), "dw7": depthwise(960, 7, 1),
	}
	for _, s := range products {
		layers[s.name] = s.conv
	}
	for name, g := range layers {
		w := Weights{Data: randomBytes(r, g.M*g.K()), Signed: true}
		x := Bytes{Data: randomBytes(r, g.C*g.H*g.W), Zero: 117}
		out := Output{Bytes: make([]byte, g.M*g.OH*g.OW), Zero: 128, Scale: slices.Repeat([]float32{1e-3}, g.M)}
		eachSchemeBench(b, name, func(b *testing.B) {
			c := NewQuantConv(g, w, g.M)
			b.ReportAllocs()
			seconds := loop(b, func() { c.Run(nil, out, x, nil) })
			b.ReportMetric(2*float64(g.M*g.OH*g.OW)*float64(g.K())/seconds/1e9, "GOP/s")
			b.ReportMetric(1e3*seconds, "ms")
		})
	}
}

// BenchmarkQuantGemv reports the speed at which weights are read.
func BenchmarkQuantGemv(b *testing.B) {
	r := newRand(b)
	for _, s := range []struct{ rows, k int }{{4096, 9216}, {4096, 4096}, {1000, 1280}} {
		w := Weights{Data: randomBytes(r, s.rows*s.k), Signed: true}
		x := Bytes{Data: randomBytes(r, s.k), Zero: 117}
		d := NewQuantDense(w, s.rows, s.k, 1)
		out := Output{Bytes: make([]byte, s.rows), Zero: 128, Scale: slices.Repeat([]float32{1e-3}, s.rows)}
		b.Run(label("%dx%d", s.rows, s.k), func(b *testing.B) {
			b.ReportAllocs()
			seconds := loop(b, func() { d.Run(nil, out, x, 1, nil) })
			b.ReportMetric(float64(s.rows*s.k)/seconds/1e9, "GB/s")
		})
	}
}
