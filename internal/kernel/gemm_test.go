package kernel

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// chainGemm is the canonical sum of a product.
func chainGemm(w, x []float32, rows, k, batch int) []float32 {
	dst := make([]float32, batch*rows)
	for b := range batch {
		for r := range rows {
			var acc float32
			for i := range k {
				acc = fma32(w[r*k+i], x[b*k+i], acc)
			}
			dst[b*rows+r] = acc
		}
	}
	return dst
}

// laneGemv is the canonical sum of Gemv, written as plainly as can be.
func laneGemv(w, x []float32, rows, k int) []float32 {
	dst := make([]float32, rows)
	for r := range rows {
		var l [16]float32
		for i := range k {
			l[i%16] = fma32(w[r*k+i], x[i], l[i%16])
		}
		for i := range 8 {
			l[i] += l[i+8]
		}
		for i := range 4 {
			l[i] += l[i+4]
		}
		dst[r] = (l[0] + l[2]) + (l[1] + l[3])
	}
	return dst
}

func runGemm(t testing.TB, p *Pool, w *Packed, x []float32, batch int) []float32 {
	t.Helper()
	return runGemmAfter(t, p, w, x, batch, After{})
}

func runGemmAfter(t testing.TB, p *Pool, w *Packed, x []float32, batch int, after After) []float32 {
	t.Helper()
	dst := make([]float32, batch*w.rows)
	for i := range dst {
		dst[i] = float32(math.NaN())
	}
	if !w.Gemm(p, dst, x, batch, after, nil) {
		t.Fatal("stopped without a stop")
	}
	return dst
}

// TestGemm compares with the plain chain, and what follows it, at every level, cut
// and uncut, on pools of several sizes, for sizes around every block length.
func TestGemm(t *testing.T) {
	r := newRand(t)
	type shape struct{ batch, rows, k int }
	shapes := []shape{{1, 1, 1}, {6, 16, 4}, {5, 15, 3}, {7, 17, 5}, {6, 16, 256}, {3, 33, 257}, {193, 5, 9}, {2, 260, 600}}
	for range 30 {
		shapes = append(shapes, shape{size(r, 30), size(r, 80), size(r, 600)})
	}
	if testing.Short() {
		shapes = shapes[:14]
	}
	threads := pools(t)
	for _, s := range shapes {
		w, x := wild(r, s.rows*s.k), wild(r, s.batch*s.k)
		want := chainGemm(w, x, s.rows, s.k, s.batch)
		after := randomAfter(r, s.rows, len(want))
		finished := finish(want, after, s.rows, 1)
		for _, level := range levels() {
			atLevel(t, level, func() {
				for _, p := range threads {
					got := runGemm(t, p, Pack(w, s.rows, s.k), x, s.batch)
					compareBits(t, label("%+v %s %d threads", s, level, p.Threads()), got, want)
					got = runGemmAfter(t, p, Pack(w, s.rows, s.k), x, s.batch, after)
					compareBits(t, label("%+v %s %d threads bias %t add %t clamp %t", s, level, p.Threads(), after.Bias != nil, after.Add != nil, after.Clamp), got, finished)
				}
				from, b := r.IntN(s.rows), r.IntN(s.batch)
				rows, batch := size(r, s.rows-from), size(r, s.batch-b)
				part := runGemm(t, nil, Pack(w[from*s.k:], rows, s.k), x[b*s.k:], batch)
				for i := range batch {
					compareBits(t, label("%+v %s rows [%d,%d)", s, level, from, from+rows),
						part[i*rows:(i+1)*rows], want[(b+i)*s.rows+from:(b+i)*s.rows+from+rows])
				}
			})
		}
	}
}

// TestGemv compares with plain lanes at every level, cut and uncut, on slices
// that begin anywhere.
func TestGemv(t *testing.T) {
	r := newRand(t)
	type shape struct{ rows, k int }
	shapes := []shape{{1, 1}, {3, 15}, {4, 16}, {5, 17}, {9, 31}, {2, 48}}
	for range 40 {
		shapes = append(shapes, shape{size(r, 20), size(r, 300)})
	}
	if !testing.Short() {
		shapes = append(shapes, shape{900, 333}, shape{40, 20000}) // several blocks
	}
	threads := pools(t)
	for _, s := range shapes {
		o := r.IntN(8)
		w, x := wild(r, s.rows*s.k+o)[o:], wild(r, s.k+o)[o:]
		want := laneGemv(w, x, s.rows, s.k)
		for _, level := range levels() {
			atLevel(t, level, func() {
				for _, p := range threads {
					dst := make([]float32, s.rows+o)
					Gemv(p, dst[o:], w, x, s.rows, s.k)
					compareBits(t, label("%+v %s %d threads", s, level, p.Threads()), dst[o:], want)
				}
				from := r.IntN(s.rows)
				rows := size(r, s.rows-from)
				dst := make([]float32, rows)
				Gemv(nil, dst, w[from*s.k:], x, rows, s.k)
				compareBits(t, label("%+v %s rows [%d,%d)", s, level, from, from+rows), dst, want[from:from+rows])
			})
		}
	}
}

// TestNegativeZeroTail sees that lanes without an element do not add +0: a
// product that underflows leaves -0 in its lane, and only -0 + -0 is -0.
func TestNegativeZeroTail(t *testing.T) {
	for _, level := range levels() {
		atLevel(t, level, func() {
			w, x := make([]float32, 17), make([]float32, 17)
			for i := range w {
				w[i], x[i] = 1e-30, -1e-30
			}
			dst := []float32{1}
			Gemv(nil, dst, w, x, 1, 17)
			compareBits(t, level, dst, []float32{float32(math.Copysign(0, -1))})
		})
	}
}

func TestEmptyProducts(t *testing.T) {
	dst := []float32{1, 2}
	Gemv(nil, dst, nil, nil, 2, 0)
	compareBits(t, "gemv", dst, []float32{0, 0})
	Gemv(nil, nil, nil, []float32{1}, 0, 1)
	dst = []float32{1, 2}
	Pack(nil, 1, 0).Gemm(nil, dst, nil, 2, After{}, nil)
	compareBits(t, "gemm", dst, []float32{0, 0})
	Pack(nil, 1, 0).Gemm(nil, dst, nil, 2, After{Bias: []float32{3}}, nil)
	compareBits(t, "gemm after", dst, []float32{3, 3})
	Pack(nil, 0, 3).Gemm(nil, nil, make([]float32, 6), 2, After{}, nil)
	Pack(make([]float32, 3), 1, 3).Gemm(nil, nil, nil, 0, After{}, nil)
}

func TestGemmStop(t *testing.T) {
	var stop atomic.Bool
	stop.Store(true)
	w := Pack(make([]float32, 600), 2, 300)
	for _, p := range pools(t) {
		if w.Gemm(p, make([]float32, 400), make([]float32, 60000), 200, After{}, &stop) {
			t.Errorf("%d threads: ran on although stopped", p.Threads())
		}
		if !w.Gemm(p, make([]float32, 400), make([]float32, 60000), 200, After{}, nil) {
			t.Errorf("%d threads: stopped by an earlier stop", p.Threads())
		}
	}
}

// TestShortSlicesPanic sees that a wrong length is caught before the assembly.
func TestShortSlicesPanic(t *testing.T) {
	f := func(n int) []float32 { return make([]float32, n) }
	for name, call := range map[string]func(){
		"gemv dst":  func() { Gemv(nil, f(1), f(6), f(3), 2, 3) },
		"gemv w":    func() { Gemv(nil, f(2), f(5), f(3), 2, 3) },
		"gemv x":    func() { Gemv(nil, f(2), f(6), f(2), 2, 3) },
		"pack":      func() { Pack(f(5), 2, 3) },
		"gemm dst":  func() { Pack(f(6), 2, 3).Gemm(nil, f(1), f(3), 1, After{}, nil) },
		"gemm x":    func() { Pack(f(6), 2, 3).Gemm(nil, f(2), f(2), 1, After{}, nil) },
		"gemm bias": func() { Pack(f(6), 2, 3).Gemm(nil, f(2), f(3), 1, After{Bias: f(1)}, nil) },
		"gemm add":  func() { Pack(f(6), 2, 3).Gemm(nil, f(2), f(3), 1, After{Add: f(1)}, nil) },
		"conv x":    func() { NewConv(conv2D(1, 3, 3, 1, 1, 1, 0), f(1), 1).Run(nil, f(9), f(8), After{}, nil) },
		"conv w":    func() { NewConv(conv2D(2, 3, 3, 1, 1, 1, 0), f(1), 1) },
		"sub":       func() { Sub(f(3), f(2)) },
		"bias":      func() { BiasAct(nil, f(6), f(1), 1, 2, 3, 0, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
}

func TestGemmAccuracy(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 2))
	const rows, k, batch = 20, 700, 7
	w, x := uniform(r, rows*k), uniform(r, batch*k)
	got := runGemm(t, nil, Pack(w, rows, k), x, batch)
	for b := range batch {
		for row := range rows {
			checkProduct(t, got[b*rows+row], w[row*k:(row+1)*k], x[b*k:(b+1)*k])
		}
	}
	dst := make([]float32, rows)
	Gemv(nil, dst, w, x, rows, k)
	for row := range rows {
		checkProduct(t, dst[row], w[row*k:(row+1)*k], x[:k])
	}
}

// checkProduct bounds a dot product by γ_k·Σ|w·x| (see checkConvBound), which
// holds for any order of summation.
func checkProduct(t *testing.T, got float32, w, x []float32) {
	t.Helper()
	k := float64(len(w))
	gamma := func(u float64) float64 { return k * u / (1 - k*u) }
	var sum, sumAbs float64
	for i := range w {
		p := float64(w[i]) * float64(x[i])
		sum += p
		sumAbs += math.Abs(p)
	}
	bound := (gamma(0x1p-24)+gamma(0x1p-53))*sumAbs + k*0x1p-150
	if d := math.Abs(float64(got) - sum); !(d <= bound) {
		t.Fatalf("got %v, want %v ± %v", got, sum, bound)
	}
}
