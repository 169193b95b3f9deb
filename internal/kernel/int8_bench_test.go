package kernel

import (
	"math"
	"slices"
	"testing"
	"time"
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

// BenchmarkWideWeights compares what a slice of bytes takes with one of the same
// size whose weights are int16, as they are or as two planes of bytes whose sums
// are put together. The three take turns; the best of each counts.
func BenchmarkWideWeights(b *testing.B) {
	r := newRand(b)
	for _, s := range []struct {
		name string
		conv Conv2D // or else a dense layer of one row
		k    int
	}{
		{"conv3x3", conv2D(128, 28, 28, 64, 3, 1, 1), 0}, {"conv1x1", conv2D(256, 14, 14, 128, 1, 1, 0), 0}, {"dense", Conv2D{}, 4096},
	} {
		rows, k, size, inputs := 1024, s.k, 1024, s.k
		if s.k == 0 {
			g := s.conv
			rows, k, size, inputs = g.M, g.K(), g.M*g.OH*g.OW, g.C*g.H*g.W
		}
		wide := make([]int16, rows*k)
		for i := range wide {
			wide[i] = int16(r.IntN(1000) - 500)
		}
		x := Bytes{Data: randomBytes(r, inputs), Zero: 117}
		sums, more := make([]int32, size), make([]int32, size)
		eachSchemeBench(b, s.name, func(b *testing.B) {
			layer := func(w Weights) func(to []int32) {
				if s.k == 0 {
					c := NewQuantConv(s.conv, w, rows)
					return func(to []int32) { c.Run(nil, Output{Sums: to}, x, nil) }
				}
				d := NewQuantDense(w, rows, k, 1)
				return func(to []int32) { d.Run(nil, Output{Sums: to}, x, 1, nil) }
			}
			plain, int16s := layer(Weights{Data: randomBytes(r, rows*k), Signed: true}), layer(Weights{Wide: wide})
			low, high := layer(Weights{Data: randomBytes(r, rows*k)}), layer(Weights{Data: randomBytes(r, rows*k), Signed: true})
			best := [3]float64{math.MaxFloat64, math.MaxFloat64, math.MaxFloat64}
			for b.Loop() {
				for i, f := range []func(){
					func() { plain(sums) },
					func() { int16s(sums) },
					func() {
						low(sums)
						high(more)
						for i, v := range more {
							sums[i] += v << 8
						}
					},
				} {
					begin := time.Now()
					f()
					best[i] = min(best[i], time.Since(begin).Seconds())
				}
			}
			b.ReportMetric(best[1]/best[0], "int16/int8")
			b.ReportMetric(best[2]/best[0], "planes/int8")
		})
	}
}
