package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

var inf = float32(math.Inf(1))

// TestElementwise compares with plain loops at every level, for all short
// lengths and slices that begin anywhere.
func TestElementwise(t *testing.T) {
	r := newRand(t)
	for n := range 70 {
		o := r.IntN(8)
		a, b := wild(r, n+o)[o:], wild(r, n+o)[o:]
		bounds := [][2]float32{{-inf, inf}, {0, inf}, {0, 6}, {-0.25, 0.25}}[r.IntN(4)]
		lo, hi := bounds[0], bounds[1]
		scale := float32(r.NormFloat64())
		plain := func(f func(i int) float32) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = f(i)
			}
			return v
		}
		held := func(v float32) float32 {
			switch {
			case v < lo:
				return lo
			case v > hi:
				return hi
			}
			return v
		}
		for _, level := range levels() {
			atLevel(t, level, func() {
				dst := append(make([]float32, o), a...)[o:]
				Sub(dst, b)
				compareBits(t, label("%s sub %d", level, n), dst, plain(func(i int) float32 { return a[i] - b[i] }))
				copy(dst, a)
				AddScaled(dst, b, scale)
				compareBits(t, label("%s add scaled %d", level, n), dst, plain(func(i int) float32 { return fma32(scale, b[i], a[i]) }))
				Add(dst, a, b)
				compareBits(t, label("%s add %d", level, n), dst, plain(func(i int) float32 { return a[i] + b[i] }))
				Mul(dst, a, b)
				compareBits(t, label("%s mul %d", level, n), dst, plain(func(i int) float32 { return a[i] * b[i] }))
				Clamp(dst, a, lo, hi)
				compareBits(t, label("%s clamp %d", level, n), dst, plain(func(i int) float32 { return held(a[i]) }))
				copy(dst, a)
				Add(dst, dst, dst)
				compareBits(t, label("%s add in place %d", level, n), dst, plain(func(i int) float32 { return a[i] + a[i] }))
			})
		}
	}
}

// Zeros have an order and NaN always wins, whichever operand it is.
func TestMaxOfZerosAndNaN(t *testing.T) {
	nan, minus := float32(math.NaN()), float32(math.Copysign(0, -1))
	var a, b, want []float32
	for _, c := range [][3]float32{
		{0, minus, 0},
		{minus, 0, 0},
		{minus, minus, minus},
		{0, 0, 0},
		{nan, 1, nan},
		{1, nan, nan},
		{nan, -inf, nan},
		{inf, nan, nan},
		{nan, nan, nan},
		{-inf, -inf, -inf},
		{-inf, minus, minus},
		{1, 2, 2},
		{2, 1, 2},
	} {
		a, b, want = append(a, c[0]), append(b, c[1]), append(want, c[2])
	}
	for _, level := range levels() {
		atLevel(t, level, func() {
			dst := make([]float32, len(a))
			vecMax(dst, a, b)
			compareBits(t, level, dst, want)
		})
	}
}

func TestBiasAct(t *testing.T) {
	r := newRand(t)
	type shape struct{ outer, rows, inner int }
	shapes := []shape{{0, 3, 2}, {1, 0, 2}, {1, 1, 1}, {3, 5, 1}, {2, 7, 9}, {1, 3, 70}}
	if !testing.Short() {
		shapes = append(shapes, shape{9, 20_000, 1}, shape{1, 3, 40_000}) // several blocks
	}
	for _, s := range shapes {
		x, bias := wild(r, s.outer*s.rows*s.inner), wild(r, s.rows)
		for _, bounds := range [][2]float32{{-inf, inf}, {0, inf}, {0, 6}} {
			for _, b := range [][]float32{nil, bias} {
				want := make([]float32, len(x))
				for i, v := range x {
					if b != nil {
						v += b[i/s.inner%s.rows]
					}
					want[i] = v
					if v < bounds[0] {
						want[i] = bounds[0]
					} else if v > bounds[1] {
						want[i] = bounds[1]
					}
				}
				for _, level := range levels() {
					atLevel(t, level, func() {
						for _, p := range pools(t) {
							dst := append([]float32(nil), x...)
							BiasAct(p, dst, b, s.outer, s.rows, s.inner, bounds[0], bounds[1])
							compareBits(t, label("%+v %v %s", s, bounds, level), dst, want)
						}
					})
				}
			}
		}
	}
}

// plainPool asks of every cell of every window whether it is in the input.
func plainPool(g Pool2D, x []float32, average bool) []float32 {
	var dst []float32
	for m := range g.N * g.C {
		for oy := range g.OH {
			for ox := range g.OW {
				best, sum, count := -inf, float32(0), 0
				for ky := range g.KH {
					for kx := range g.KW {
						y, xx := oy*g.StrideH-g.PadTop+ky*g.DilationH, ox*g.StrideW-g.PadLeft+kx*g.DilationW
						inside := y >= 0 && y < g.H && xx >= 0 && xx < g.W
						if inside {
							v := x[(m*g.H+y)*g.W+xx]
							sum += v
							best = max(best, v)
						}
						if inside || g.CountIncludePad && y < g.H+g.PadBottom && xx < g.W+g.PadRight {
							count++
						}
					}
				}
				if average {
					best = sum / float32(count)
				}
				dst = append(dst, best)
			}
		}
	}
	return dst
}

func TestPooling(t *testing.T) {
	r := newRand(t)
	random := 80
	if testing.Short() {
		random = 20
	}
	for range random {
		g := Pool2D{
			N: size(r, 2), C: size(r, 5), H: size(r, 15), W: size(r, 15), KH: size(r, 4), KW: size(r, 4),
			StrideH: size(r, 3), StrideW: size(r, 3), DilationH: size(r, 2), DilationW: size(r, 2), CountIncludePad: r.IntN(2) == 0,
		}
		g.PadTop, g.PadLeft, g.PadBottom, g.PadRight = r.IntN(g.KH), r.IntN(g.KW), r.IntN(g.KH), r.IntN(g.KW)
		// ceil_mode, so that windows run past the edge.
		g.OH = max(0, ceilDiv(g.H+g.PadTop+g.PadBottom-(g.KH-1)*g.DilationH-1, g.StrideH)) + 1
		g.OW = max(0, ceilDiv(g.W+g.PadLeft+g.PadRight-(g.KW-1)*g.DilationW-1, g.StrideW)) + 1
		x := wild(r, g.N*g.C*g.H*g.W)
		x[r.IntN(len(x))] = float32(math.NaN())
		for _, p := range pools(t) {
			dst := make([]float32, g.N*g.C*g.OH*g.OW)
			for _, level := range levels() {
				atLevel(t, level, func() {
					NewMaxPool(g).Run(p, dst, x)
					compareBits(t, label("%s max %+v", level, g), dst, plainPool(g, x, false))
					NewAveragePool(g).Run(p, dst, x)
					compareBits(t, label("%s average %+v", level, g), dst, plainPool(g, x, true))
				})
			}
		}
	}
	// ONNX AveragePool with count_include_pad and ceil_mode, by hand: the last
	// window of 3 covers one cell and one pad; the third is beyond the padding.
	g := Pool2D{N: 1, C: 1, H: 1, W: 4, KH: 1, KW: 3, StrideH: 1, StrideW: 2, PadLeft: 1, PadRight: 1, DilationH: 1, DilationW: 1, OH: 1, OW: 3, CountIncludePad: true}
	dst := make([]float32, 3)
	NewAveragePool(g).Run(nil, dst, []float32{1, 2, 3, 4})
	compareBits(t, "by hand", dst, []float32{1, 3, 2})
}

// TestStencils compares the routines for small windows with their portable twins,
// which the portable level itself does not use.
func TestStencils(t *testing.T) {
	r := newRand(t)
	for range 200 {
		g := Conv2D{H: size(r, 40), W: size(r, 40), KH: 2 + r.IntN(2), StrideH: size(r, 2), PadTop: r.IntN(2), PadLeft: r.IntN(2)}
		g.OH, g.OW = ceilDiv(g.H, g.StrideH), ceilDiv(g.W, g.StrideH) // past the edge, or not up to it
		var s stencil
		if !s.plan(g.KH, g.StrideH, g.H, g.W, g.PadTop, g.PadLeft, g.OH, g.OW) {
			continue
		}
		x, w := wild(r, g.H*g.W), wild(r, 9)
		both := func(name string, f func(dst []float32)) {
			dst, want := make([]float32, g.OH*g.OW), make([]float32, g.OH*g.OW)
			f(dst)
			atLevel(t, levelPortable, func() { f(want) })
			compareBits(t, label("%s %+v", name, g), dst, want)
		}
		both("max", func(dst []float32) { stencilMax(&s, dst, x) })
		if g.KH == 3 {
			both("sums", func(dst []float32) { stencilSums(&s, dst, x, w, 0.25, -1, 1) })
			counts := wild(r, g.OH*g.OW)
			both("means", func(dst []float32) { stencilMeans(&s, dst, x, counts) })
		}
	}
}

// TestGlobalAveragePool has one map that lies among four and one that does not.
func TestGlobalAveragePool(t *testing.T) {
	x := []float32{0, 0, 0, 1, 2, 6, 0, 0, 0, 0, 0, 3, 5, 6, 7, -1, 0, 1e8}
	dst := make([]float32, 6)
	GlobalAveragePool(nil, dst, x, 6, 3)
	compareBits(t, "mean", dst, []float32{0, 3, 0, 1, 6, float32((1e8 - 1) / 3.0)})
}

// ulps is the distance of got from want in units in the last place of want.
func ulps(got float32, want float64) float64 {
	near := float32(want)
	unit := float64(math.Nextafter32(float32(math.Abs(float64(near))), inf)) - math.Abs(float64(near))
	return math.Abs(float64(got)-want) / unit
}

// TestVecExp compares the levels, from results that are 1 to those that are 0.
func TestVecExp(t *testing.T) {
	r := newRand(t)
	for range 50 {
		x := wild(r, size(r, 200))
		for i := range x {
			x[i] = -float32(math.Abs(float64(x[i]))) * 120 * r.Float32()
		}
		want := make([]float32, len(x))
		vecExpPortable(want, x, 0.5)
		for _, level := range levels() {
			atLevel(t, level, func() {
				dst := make([]float32, len(x))
				vecExp(dst, x, 0.5)
				compareBits(t, level, dst, want)
			})
		}
	}
}

// TestExp holds the promise of expNonPositive against math.Exp, whose own error
// (under one unit of float64) does not count here.
func TestExp(t *testing.T) {
	step := uint32(997)
	if testing.Short() {
		step = 100_003
	}
	worst, at := 0.0, float32(0)
	last := math.Float32bits(-110)
	for bits := uint32(1 << 31); bits <= last; bits += step {
		x := math.Float32frombits(bits)
		if d := ulps(expNonPositive(x), math.Exp(float64(x))); d > worst {
			worst, at = d, x
		}
	}
	t.Logf("worst error %.3f ulp at %v", worst, at)
	if worst > 1 {
		t.Errorf("error of %v ulp at %v", worst, at)
	}
	for x, want := range map[float32]float32{0: 1, -inf: 0, -1000: 0, -103.9: math.SmallestNonzeroFloat32} {
		if got := expNonPositive(x); got != want {
			t.Errorf("exp(%v) is %v, want %v", x, got, want)
		}
	}
	if v := expNonPositive(float32(math.NaN())); v == v {
		t.Errorf("exp(NaN) is %v", v)
	}
}

// TestSoftmax bounds the error in units of 2⁻²³ of the value: 1 from the
// exponential and |x-max|/2 ≤ 10 from the rounded difference, which exp
// magnifies by its size; as much again from the sum, whose error is a mean of
// the errors of its terms; ½ from the quotient.
func TestSoftmax(t *testing.T) {
	r := newRand(t)
	for range 50 {
		outer, axis, inner := size(r, 11), size(r, 60), size(r, 3)
		x := uniform(r, outer*axis*inner)
		for i := range x {
			x[i] *= 10
		}
		dst := make([]float32, len(x))
		Softmax(nil, dst, x, outer, axis, inner)
		for o := range outer {
			for i := range inner {
				at := func(a int) int { return (o*axis+a)*inner + i }
				most, sum := math.Inf(-1), 0.0
				for a := range axis {
					most = max(most, float64(x[at(a)]))
				}
				for a := range axis {
					sum += math.Exp(float64(x[at(a)]) - most)
				}
				for a := range axis {
					want := math.Exp(float64(x[at(a)])-most) / sum
					bound := (2*(1+10) + 0.5) * 0x1p-23 * want
					if d := math.Abs(float64(dst[at(a)]) - want); d > bound {
						t.Fatalf("element %d is %v, want %v ± %v", at(a), dst[at(a)], want, bound)
					}
				}
			}
		}
		again := append([]float32(nil), x...)
		Softmax(nil, again, again, outer, axis, inner)
		compareBits(t, "in place", again, dst)
	}
	dst := make([]float32, 3)
	Softmax(nil, dst, []float32{0, -inf, 0}, 1, 3, 1)
	compareBits(t, "a masked element", dst, []float32{0.5, 0, 0.5})
	Softmax(nil, dst, []float32{0, float32(math.NaN()), 0}, 1, 3, 1)
	for _, v := range dst {
		if v == v {
			t.Errorf("softmax beside NaN is %v", dst)
		}
	}
}

// TestLRN allows half an ulp of the result and the 1e-12 that the float64
// arithmetic before it may cost.
func TestLRN(t *testing.T) {
	r := newRand(t)
	for _, beta := range []float32{0.75, 0.5, 1, 0, 0.6, 2.3} {
		for _, window := range []int{1, 2, 3, 5, 9} {
			const n, c, hw = 2, 7, 5
			x := uniform(r, n*c*hw)
			for i := range x {
				x[i] *= 50
			}
			dst := make([]float32, len(x))
			LRN(dst, x, n, c, hw, window, 0.1, beta, 1.5)
			for i := range x {
				image, ch, cell := i/(c*hw), i/hw%c, i%hw
				sum := 0.0
				for k := range c {
					if k >= ch-(window-1)/2 && k <= ch+window/2 {
						v := float64(x[(image*c+k)*hw+cell])
						sum += v * v
					}
				}
				want := float64(x[i]) / math.Pow(1.5+float64(float32(0.1))/float64(window)*sum, float64(beta))
				if d := math.Abs(float64(dst[i]) - want); d > (0x1p-24+1e-12)*math.Abs(want) {
					t.Fatalf("beta %v, size %d: element %d is %v, want %v", beta, window, i, dst[i], want)
				}
			}
		}
	}
}

func TestPower(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 3))
	for range 10_000 {
		b, e := math.Exp(r.Float64()*200-100), r.Float64()*8-4
		got, want := power(b, e), math.Pow(b, e)
		if bound := 1e-13 * (1 + math.Abs(e*math.Log(b))) * want; math.Abs(got-want) > bound {
			t.Fatalf("power(%v, %v) is %v, want %v ± %v", b, e, got, want, bound)
		}
	}
	for _, b := range []float64{0, math.Inf(1)} {
		if got, want := power(b, 0.3), math.Pow(b, 0.3); got != want {
			t.Errorf("power(%v, 0.3) is %v, want %v", b, got, want)
		}
	}
}

// TestBatchNorm bounds four roundings: of the factor, the difference (magnified
// like the product), the product, and of the sum.
func TestBatchNorm(t *testing.T) {
	r := newRand(t)
	const n, c, hw = 2, 5, 7
	x, scale, bias, mean, variance := uniform(r, n*c*hw), uniform(r, c), uniform(r, c), uniform(r, c), uniform(r, c)
	for i := range variance {
		variance[i] = variance[i]*variance[i] + 0.1
	}
	dst := make([]float32, len(x))
	BatchNorm(dst, x, scale, bias, mean, variance, n, c, hw, 1e-3)
	for i := range x {
		ch := i / hw % c
		product := (float64(x[i]) - float64(mean[ch])) * float64(scale[ch]) / math.Sqrt(float64(variance[ch])+float64(float32(1e-3)))
		want := product + float64(bias[ch])
		bound := 4*0x1p-24*math.Abs(product) + 0x1p-24*math.Abs(want)
		if d := math.Abs(float64(dst[i]) - want); d > bound {
			t.Fatalf("element %d is %v, want %v ± %v", i, dst[i], want, bound)
		}
	}
	BatchNorm(x, x, scale, bias, mean, variance, n, c, hw, 1e-3)
	compareBits(t, "in place", x, dst)
}
