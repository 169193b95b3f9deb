package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// pruned sets weights of w [rows,k] to zero, of one sign or the other, in blocks of
// high rows by wide columns, of which keep in 100 remain.
func pruned(r *rand.Rand, w []float32, rows, k, high, wide, keep int) []float32 {
	for r0 := 0; r0 < rows; r0 += high {
		for c0 := 0; c0 < k; c0 += wide {
			if r.IntN(100) < keep {
				continue
			}
			zero := float32(math.Copysign(0, float64(r.IntN(2))-0.5))
			for i := r0; i < min(r0+high, rows); i++ {
				for c := c0; c < min(c0+wide, k); c++ {
					w[i*k+c] = zero
				}
			}
		}
	}
	return w
}

// narrowInputs are inputs of which zeros may be left out or not: ordinary, with
// zeros of both signs, wild, and around the smallest that may be.
func narrowInputs(r *rand.Rand, n int) map[string][]float32 {
	zeros, edge := uniform(r, n), uniform(r, n)
	for i := range zeros {
		if r.IntN(2) == 0 {
			zeros[i] = float32(math.Copysign(0, float64(zeros[i])))
		}
		edge[i] *= float32(math.Ldexp(1, -r.IntN(150)))
	}
	return map[string][]float32{"ordinary": uniform(r, n), "zeros": zeros, "wild": wild(r, n), "faint": faint(r, n, 90), "edge": edge}
}

// TestSparseConv compares pruned filters with the plain chain.
func TestSparseConv(t *testing.T) {
	r := newRand(t)
	n, sparse := 40, 0
	if testing.Short() {
		n = 8
	}
	threads := pools(t)
	for range n {
		g := randomConv(r)
		w := pruned(r, uniform(r, g.M*g.K()), g.M, g.K(), size(r, 6), size(r, 9), r.IntN(80))
		if r.IntN(3) == 0 { // so small that sums of products round to zero
			for i := range w {
				w[i] *= float32(math.Ldexp(1, -r.IntN(140)))
			}
		}
		for what, x := range narrowInputs(r, g.N*g.C*g.H*g.W) {
			want := chainConv(g, w, x, g.M)
			for _, level := range levels() {
				atLevel(t, level, func() {
					if NewConv(g, w, g.M).sparse != nil {
						sparse++
					}
					p := threads[r.IntN(len(threads))]
					compareBits(t, label("%+v %s %s", g, level, what), runConv(g, p, w, x, g.M), want)
				})
			}
		}
	}
	if sparse == 0 && leavesZeros() {
		t.Error("no layer was found to be sparse")
	}
}

// TestSparseGemv compares pruned matrices with plain lanes.
func TestSparseGemv(t *testing.T) {
	r := newRand(t)
	threads := pools(t)
	sparse := 0
	for range 40 {
		rows, k := size(r, 150), size(r, 300)
		w := pruned(r, uniform(r, rows*k), rows, k, 1, 16, r.IntN(80))
		if r.IntN(3) == 0 {
			for i := range w {
				w[i] *= float32(math.Ldexp(1, -r.IntN(140)))
			}
		}
		for what, x := range narrowInputs(r, k) {
			want := laneGemv(w, x, rows, k)
			for _, level := range levels() {
				atLevel(t, level, func() {
					s := NewSparse(w, rows, k)
					if s == nil {
						return
					}
					sparse++
					from := r.IntN(rows + 1)
					to := from + r.IntN(rows-from+1)
					for _, part := range [][2]int{{0, rows}, {from, to}} {
						dst := make([]float32, part[1]-part[0])
						s.Gemv(threads[r.IntN(len(threads))], dst, x, part[0], part[1])
						compareBits(t, label("[%d,%d] rows %v %s %s", rows, k, part, level, what), dst, want[part[0]:part[1]])
					}
				})
			}
		}
	}
	if sparse == 0 && leavesZeros() {
		t.Error("no matrix was found to be sparse")
	}
}

// TestZerosThatCount holds inputs for which leaving out zeros would change the
// result, and ones that just allow it.
func TestZerosThatCount(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		name    string
		w, x    []float32
		may     bool
		differs bool // without the zero
	}{
		{"infinity", []float32{1, 0}, []float32{1, inf}, false, true},
		{"NaN", []float32{1, 0}, []float32{1, float32(math.NaN())}, false, true},
		{"a product that rounds to -0", []float32{0x1p-76, 0}, []float32{-0x1p-75, 1}, false, true},
		{"a sum that rounds to -0", []float32{1, 0x1.000002p-75, 0}, []float32{0x1p-149, -0x1p-74, 1}, false, true},
		{"the smallest input", []float32{0x1p-50, 0}, []float32{0x1p-53, 1}, true, false},
		{"just below it", []float32{0x1p-50, 0}, []float32{0x1.fffffep-54, 1}, false, false},
		{"a subnormal weight", []float32{0x1p-140, 0}, []float32{0x1p23, 1}, false, false},
		{"a subnormal weight, large inputs", []float32{0x1p-140, 0}, []float32{0x1p23, -0x1p30}, true, false},
		{"large weights, any input", []float32{0x1p24, 0}, []float32{0x1p-149, 0x1p-149}, true, false},
		{"zeros", []float32{0, 0}, []float32{0, float32(math.Copysign(0, -1))}, true, false},
	} {
		s := skippableFor(c.w)
		if s.holds(c.x) != c.may {
			t.Errorf("%s: zeros may be left out: %t, want %t", c.name, !c.may, c.may)
		}
		with, without := float32(0), float32(0)
		for i, w := range c.w {
			with = fma32(w, c.x[i], with)
			if w != 0 {
				without = fma32(w, c.x[i], without)
			}
		}
		if sameBits(with, without) == c.differs {
			t.Errorf("%s: %v with zeros, %v without", c.name, with, without)
		}
	}
}

func TestMagnitudes(t *testing.T) {
	r := newRand(t)
	for range 50 {
		x := wild(r, r.IntN(100))
		least, most := magnitudesPortable(x)
		for _, level := range levels() {
			atLevel(t, level, func() {
				if l, m := magnitudes(x); l != least || m != most {
					t.Errorf("%d elements, %s: %#x, %#x; want %#x, %#x", len(x), level, l, m, least, most)
				}
			})
		}
	}
}

// TestSparseDoesNotAllocate sees that neither way does, once warm.
func TestSparseDoesNotAllocate(t *testing.T) {
	if !leavesZeros() {
		t.Skip("this level leaves no zeros out")
	}
	r := newRand(t)
	g := conv2D(16, 12, 12, 18, 3, 1, 1)
	c := NewConv(g, pruned(r, uniform(r, g.M*g.K()), g.M, g.K(), 4, 1, 20), g.M)
	s := NewSparse(pruned(r, uniform(r, 90*100), 90, 100, 1, 16, 20), 90, 100)
	if c.sparse == nil || s == nil {
		t.Fatal("not found to be sparse")
	}
	dst := make([]float32, g.M*g.OH*g.OW)
	for what, x := range narrowInputs(r, g.C*g.H*g.W) {
		if n := testing.AllocsPerRun(10, func() {
			c.Run(nil, dst, x, After{}, nil)
			s.Gemv(nil, dst[:90], x[:100], 0, 90)
		}); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// BenchmarkSparse runs layers as they are, and with zeros left out whether that
// pays or not, in turn, and reports the ratio of their fastest runs. The
// thresholds come from it.
func BenchmarkSparse(b *testing.B) {
	if !leavesZeros() {
		b.Skip("this level leaves no zeros out")
	}
	r := newRand(b)
	ratio := func(b *testing.B, dense, sparse func()) {
		best := [2]time.Duration{time.Hour, time.Hour}
		for b.Loop() {
			for i, f := range []func(){dense, sparse} {
				start := time.Now()
				f()
				best[i] = min(best[i], time.Since(start))
			}
		}
		b.ReportMetric(float64(best[1])/float64(best[0]), "sparse/dense")
		b.ReportMetric(float64(best[0].Microseconds()), "dense-µs")
		b.ReportMetric(0, "ns/op")
	}
	for _, level := range levels()[1:] {
		for _, keep := range []int{10, 20, 50, 70, 80, 90, 100} {
			for _, l := range []struct {
				name string
				conv Conv2D
			}{
				{"conv3x3x256x13", conv2D(256, 13, 13, 256, 3, 1, 1)},
				{"conv3x3x512x7", conv2D(512, 7, 7, 512, 3, 1, 1)},
				{"conv1x1x256x14", conv2D(256, 14, 14, 1024, 1, 1, 0)},
				{"conv1x1x64x56", conv2D(64, 56, 56, 256, 1, 1, 0)},
			} {
				b.Run(label("%s/%s/keep%d", level, l.name, keep), func(b *testing.B) {
					g := l.conv
					w, x := pruned(r, uniform(r, g.M*g.K()), g.M, g.K(), 4, 1, keep), uniform(r, g.C*g.H*g.W)
					dst := make([]float32, g.M*g.OH*g.OW)
					atLevel(b, level, func() {
						dense, sparse := newConv(g, w, g.M, -1), newConv(g, w, g.M, 1)
						ratio(b, func() { dense.Run(nil, dst, x, After{}, nil) }, func() { sparse.Run(nil, dst, x, After{}, nil) })
					})
				})
			}
			for _, l := range [][2]int{{4096, 9216}, {1000, 4096}, {256, 512}} {
				b.Run(label("%s/gemv%dx%d/keep%d", level, l[0], l[1], keep), func(b *testing.B) {
					rows, k := l[0], l[1]
					w, x := pruned(r, uniform(r, rows*k), rows, k, 1, 16, keep), uniform(r, k)
					dst := make([]float32, rows)
					atLevel(b, level, func() {
						s := newSparse(w, rows, k, 1)
						ratio(b, func() { Gemv(nil, dst, w, x, rows, k) }, func() { s.Gemv(nil, dst, x, 0, rows) })
					})
				})
			}
		}
	}
}
