package kernel

import (
	"sync"
	"testing"
	"time"
)

// peak is measured once, when the first benchmark asks.
var peak = sync.OnceValue(peakFlops)

// peakFlops measures the float operations per second of one thread that does
// nothing but fused multiply-adds.
func peakFlops() float64 {
	best := 0.0
	for range 20 {
		start := time.Now()
		flops := PeakFlops(nil, 1<<22)
		best = max(best, float64(flops)/time.Since(start).Seconds())
	}
	return best
}

// BenchmarkRead reads as many weights as BenchmarkGemv, in one stream, and does no
// more.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{4096 * 9216, 4096 * 4096, 1024 * 9216} {
		data := make([]byte, 4*n)
		for i := range data {
			data[i] = 1 // pages that were never written are all the same one
		}
		clear(data)
		b.Run(label("%d", n), func(b *testing.B) {
			seconds := loop(b, func() { PeakRead(nil, data) })
			b.ReportMetric(float64(4*n)/seconds/1e9, "GB/s")
		})
	}
}

// loop runs f for b and returns the seconds of its fastest run, which other
// processes on the machine disturb least.
func loop(b *testing.B, f func()) float64 {
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best.Seconds()
}

// reportFlops reports the speed of a run and its ratio to the peak of as many
// threads, flops being its work.
func reportFlops(b *testing.B, flops, seconds float64, threads int) {
	b.Helper()
	speed := flops / seconds
	b.ReportMetric(speed/1e9, "GFLOP/s")
	b.ReportMetric(100*speed/(peak()*float64(threads)), "%peak")
}

func BenchmarkPeak(b *testing.B) {
	for b.Loop() {
		peakFlops()
	}
	b.ReportMetric(peakFlops()/1e9, "GFLOP/s")
}

// products are M×N×K as filters × cells × products of an element: AlexNet c2
// and c3, VGG conv3_1 and a pointwise layer.
var products = []struct {
	name    string
	m, k, n int
	conv    Conv2D
}{
	{"192x1600x729", 192, 1600, 729, conv2D(64, 27, 27, 192, 5, 1, 2)},
	{"384x1728x169", 384, 1728, 169, conv2D(192, 13, 13, 384, 3, 1, 1)},
	{"256x1152x3136", 256, 1152, 3136, conv2D(128, 56, 56, 256, 3, 1, 1)},
	{"256x64x3136", 256, 64, 3136, conv2D(64, 56, 56, 256, 1, 1, 0)},
}

func eachThreads(b *testing.B, name string, f func(b *testing.B, p *Pool)) {
	for _, threads := range []int{1, 2} {
		p := NewPool(threads)
		b.Run(label("%s/%dthreads", name, threads), func(b *testing.B) {
			b.ReportAllocs()
			f(b, p)
		})
		p.Close()
	}
}

// BenchmarkTiles is the product of operands that are already packed.
func BenchmarkTiles(b *testing.B) {
	r := newRand(b)
	t := tilesOfLevel()
	m, n, k := t.blockM, t.blockN, t.blockK
	x, w, c := uniform(r, m*k), uniform(r, n*k), make([]float32, m*n)
	reportFlops(b, 2*float64(m*n*k), loop(b, func() { t.multiply(c, n, x, w, m, n, k, false, ending{}, nil) }), 1)
}

func BenchmarkGemm(b *testing.B) {
	r := newRand(b)
	for _, s := range products {
		w, x, dst := Pack(uniform(r, s.m*s.k), s.m, s.k), uniform(r, s.n*s.k), make([]float32, s.m*s.n)
		eachThreads(b, s.name, func(b *testing.B, p *Pool) {
			seconds := loop(b, func() { w.Gemm(p, dst, x, s.n, After{}, nil) })
			reportFlops(b, 2*float64(s.m*s.n*s.k), seconds, p.Threads())
		})
	}
}

// BenchmarkPointwise is the product of BenchmarkGemm with the operands in the
// order of a convolution.
func BenchmarkPointwise(b *testing.B) {
	r := newRand(b)
	for _, s := range products {
		g := conv2D(s.k, 1, s.n, s.m, 1, 1, 0)
		benchmarkConv(b, s.name, g, NewConv(g, uniform(r, s.m*s.k), s.m), uniform(r, s.k*s.n))
	}
}

func BenchmarkConv(b *testing.B) {
	r := newRand(b)
	depthwise := func(c, size, stride int) Conv2D {
		g := conv2D(c, size, size, c, 3, stride, 1)
		g.Groups = c
		return g
	}
	layers := []struct {
		name string
		g    Conv2D
	}{
		{"alexnet-c1", conv2D(3, 224, 224, 64, 11, 4, 2)},
		{"vgg-c1_1", conv2D(3, 224, 224, 64, 3, 1, 1)},
		{"vgg-c1_2", conv2D(64, 224, 224, 64, 3, 1, 1)},
		{"vgg-c5_1", conv2D(512, 14, 14, 512, 3, 1, 1)},
		{"resnet-c5", conv2D(512, 7, 7, 512, 3, 1, 1)},
		{"depthwise-112", depthwise(32, 112, 1)},
		{"depthwise-112-s2", depthwise(96, 112, 2)},
		{"depthwise-7", depthwise(960, 7, 1)},
	}
	for _, s := range products {
		layers = append(layers, struct {
			name string
			g    Conv2D
		}{s.name, s.conv})
	}
	for _, l := range layers {
		benchmarkConv(b, l.name, l.g, NewConv(l.g, uniform(r, l.g.M*l.g.K()), l.g.M), uniform(r, l.g.C*l.g.H*l.g.W))
	}
}

func benchmarkConv(b *testing.B, name string, g Conv2D, c *Conv, x []float32) {
	dst := make([]float32, g.M*g.OH*g.OW)
	eachThreads(b, name, func(b *testing.B, p *Pool) {
		seconds := loop(b, func() { c.Run(p, dst, x, After{}, nil) })
		reportFlops(b, 2*float64(g.M*g.OH*g.OW)*float64(g.K()), seconds, p.Threads())
	})
}

// BenchmarkGemv reports the speed at which weights are read; BenchmarkRead is its yardstick.
func BenchmarkGemv(b *testing.B) {
	r := newRand(b)
	for _, s := range []struct{ rows, k int }{{4096, 9216}, {4096, 4096}, {1024, 9216}, {64, 400}} {
		w, x, dst := uniform(r, s.rows*s.k), uniform(r, s.k), make([]float32, s.rows)
		eachThreads(b, label("%dx%d", s.rows, s.k), func(b *testing.B, p *Pool) {
			seconds := loop(b, func() { Gemv(p, dst, w, x, s.rows, s.k) })
			b.ReportMetric(float64(4*s.rows*s.k)/seconds/1e9, "GB/s")
		})
	}
}

func BenchmarkElementwise(b *testing.B) {
	r := newRand(b)
	const n = 1 << 14
	x, dst := uniform(r, n), uniform(r, n)
	pool := NewMaxPool(Pool2D{N: 1, C: 16, H: 32, W: 32, KH: 2, KW: 2, StrideH: 2, StrideW: 2, DilationH: 1, DilationW: 1, OH: 16, OW: 16})
	for name, f := range map[string]func(){
		"sub":     func() { Sub(dst, x) },
		"scaled":  func() { AddScaled(dst, x, 0.3) },
		"add":     func() { Add(dst, x, x) },
		"bias":    func() { BiasAct(nil, dst, x[:16], 1, 16, n/16, 0, 6) },
		"softmax": func() { Softmax(nil, dst, x, 1, n, 1) },
		"lrn":     func() { LRN(dst, x, 1, 16, n/16, 5, 1e-4, 0.75, 1) },
		"maxpool2": func() {
			pool.Run(nil, dst, x)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(4 * n)
			for b.Loop() {
				f()
			}
		})
	}
}

// tiny is a job of many empty blocks.
type tiny struct{}

func (tiny) runBlock(int) {}

// BenchmarkPool is the cost of handing work out: back to back, and after a pause
// in which the pool's goroutines fall asleep.
func BenchmarkPool(b *testing.B) {
	p := NewPool(2)
	defer p.Close()
	b.Run("busy", func(b *testing.B) {
		for b.Loop() {
			p.run(tiny{}, 8)
		}
	})
	b.Run("idle", func(b *testing.B) {
		var spent time.Duration
		for b.Loop() {
			time.Sleep(time.Millisecond)
			start := time.Now()
			p.run(tiny{}, 8)
			spent += time.Since(start)
		}
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/run")
	})
}
