package kernel

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// geometry completes a convolution with its output size.
func geometry(g Conv2D) Conv2D {
	g.OH = (g.H+g.PadTop+g.PadBottom-(g.KH-1)*g.DilationH-1)/g.StrideH + 1
	g.OW = (g.W+g.PadLeft+g.PadRight-(g.KW-1)*g.DilationW-1)/g.StrideW + 1
	return g
}

// conv2D is a square convolution with one group.
func conv2D(c, h, w, m, kernel, stride, pad int) Conv2D {
	return geometry(Conv2D{
		N: 1, C: c, H: h, W: w, M: m, KH: kernel, KW: kernel, StrideH: stride, StrideW: stride,
		PadTop: pad, PadLeft: pad, PadBottom: pad, PadRight: pad, DilationH: 1, DilationW: 1, Groups: 1,
	})
}

// eachProduct calls f for the products of one output element in k order; a pad
// is a zero. rows is the number of filters in w.
func eachProduct(g Conv2D, w, x []float32, rows, n, m, oy, ox int, f func(w, x float32)) {
	depth, group := g.C/g.Groups, m/(rows/g.Groups)
	for c := range depth {
		for ky := range g.KH {
			for kx := range g.KW {
				y, xx := oy*g.StrideH-g.PadTop+ky*g.DilationH, ox*g.StrideW-g.PadLeft+kx*g.DilationW
				var v float32
				if y >= 0 && y < g.H && xx >= 0 && xx < g.W {
					v = x[((n*g.C+group*depth+c)*g.H+y)*g.W+xx]
				}
				f(w[((m*depth+c)*g.KH+ky)*g.KW+kx], v)
			}
		}
	}
}

func eachOutput(g Conv2D, rows int, f func(n, m, oy, ox int)) {
	for n := range g.N {
		for m := range rows {
			for oy := range g.OH {
				for ox := range g.OW {
					f(n, m, oy, ox)
				}
			}
		}
	}
}

// chainConv is the canonical sum, written as plainly as can be.
func chainConv(g Conv2D, w, x []float32, rows int) []float32 {
	var dst []float32
	eachOutput(g, rows, func(n, m, oy, ox int) {
		var acc float32
		eachProduct(g, w, x, rows, n, m, oy, ox, func(a, b float32) { acc = fma32(a, b, acc) })
		dst = append(dst, acc)
	})
	return dst
}

// checkConvBound compares with a float64 sum. A chain of K fused operations has
// an error of at most γ_K·Σ|w·x| with γ_K = K·u/(1-K·u), u = 2⁻²⁴ (Higham,
// Accuracy and Stability of Numerical Algorithms, 2nd ed., (3.5)); the float64
// reference adds the same with u = 2⁻⁵³. Underflow adds at most 2⁻¹⁵⁰ a step.
func checkConvBound(t *testing.T, g Conv2D, w, x, got []float32, rows int) {
	t.Helper()
	k := float64(g.K())
	gamma := func(u float64) float64 { return k * u / (1 - k*u) }
	i := 0
	eachOutput(g, rows, func(n, m, oy, ox int) {
		var sum, sumAbs float64
		eachProduct(g, w, x, rows, n, m, oy, ox, func(a, b float32) {
			p := float64(a) * float64(b)
			sum += p
			sumAbs += math.Abs(p)
		})
		bound := (gamma(0x1p-24)+gamma(0x1p-53))*sumAbs + k*0x1p-150
		if d := math.Abs(float64(got[i]) - sum); !(d <= bound) {
			t.Fatalf("%+v: element %d is %v, want %v ± %v", g, i, got[i], sum, bound)
		}
		i++
	})
}

func randomConv(r *rand.Rand) Conv2D {
	g := Conv2D{
		N: size(r, 2), H: size(r, 24), W: size(r, 24), KH: size(r, 5), KW: size(r, 5),
		StrideH: size(r, 3), StrideW: size(r, 3), PadTop: r.IntN(4), PadLeft: r.IntN(4), PadBottom: r.IntN(4), PadRight: r.IntN(4),
		DilationH: size(r, 3), DilationW: size(r, 3), Groups: 1,
	}
	switch r.IntN(4) {
	case 0: // depthwise
		g.Groups = size(r, 6)
		g.C, g.M = g.Groups, g.Groups
	case 1: // grouped
		g.Groups = size(r, 3)
		g.C, g.M = g.Groups*size(r, 4), g.Groups*size(r, 9)
	case 2: // pointwise
		g.KH, g.KW, g.StrideH, g.StrideW = 1, 1, 1, 1
		g.PadTop, g.PadLeft, g.PadBottom, g.PadRight = 0, 0, 0, 0
		g.C, g.M = size(r, 300), size(r, 20)
	default:
		g.C, g.M = size(r, 40), size(r, 20)
	}
	for g.H+g.PadTop+g.PadBottom < (g.KH-1)*g.DilationH+1 {
		g.H++
	}
	for g.W+g.PadLeft+g.PadRight < (g.KW-1)*g.DilationW+1 {
		g.W++
	}
	return geometry(g)
}

func runConv(g Conv2D, p *Pool, w, x []float32, rows int) []float32 {
	return runConvAfter(g, p, w, x, rows, After{})
}

func runConvAfter(g Conv2D, p *Pool, w, x []float32, rows int, after After) []float32 {
	dst := make([]float32, g.N*rows*g.OH*g.OW)
	for i := range dst {
		dst[i] = float32(math.NaN()) // whatever is not written shows
	}
	if !NewConv(g, w, rows).Run(p, dst, x, after, nil) {
		panic("stopped without a stop")
	}
	return dst
}

// TestConvGeometries runs named and random geometries at every level and number
// of threads: the bits are those of the plain chain, and within its bound.
func TestConvGeometries(t *testing.T) {
	r := newRand(t)
	dilated := conv2D(3, 17, 19, 7, 3, 1, 2)
	dilated.DilationH, dilated.DilationW = 2, 3
	uneven := conv2D(4, 9, 33, 6, 3, 2, 0)
	uneven.PadLeft, uneven.PadBottom = 3, 1
	shifted := conv2D(9, 7, 9, 5, 1, 2, 0)
	shifted.PadTop, shifted.PadLeft = 1, 1
	apart := conv2D(5, 14, 70, 13, 3, 1, 1)
	apart.DilationH, apart.DilationW, apart.StrideH = 2, 3, 2
	row := conv2D(45, 17, 17, 16, 1, 1, 0)
	row.KW, row.PadLeft, row.PadRight = 7, 3, 3
	cases := map[string]Conv2D{
		"packed later, K blocks":    conv2D(31, 12, 40, 29, 3, 1, 1),
		"packed later, no pads":     conv2D(31, 9, 75, 28, 3, 1, 0),
		"packed later, pointwise":   conv2D(300, 18, 18, 31, 1, 1, 0),
		"packed later, short rows":  conv2D(7, 40, 9, 12, 3, 1, 1),
		"packed later, one row":     geometry(row),
		"packed later, far apart":   geometry(apart),
		"packed later, large pads":  conv2D(3, 8, 40, 12, 5, 1, 4),
		"packed later, many blocks": conv2D(6, 14, 34, 390, 3, 1, 1),
		"pointwise, shifted":        geometry(shifted),
		"wide, stride 2":            conv2D(3, 40, 141, 8, 3, 2, 1),
		"5x5 stride 4":              conv2D(4, 37, 38, 6, 5, 4, 1),
		"3x3 pad 1":                 conv2D(8, 14, 14, 13, 3, 1, 1),
		"narrow map":                conv2D(30, 7, 7, 9, 3, 1, 1),
		"narrow, K blocks":          conv2D(60, 7, 7, 83, 3, 1, 1),
		"narrow, many rows":         conv2D(33, 7, 7, 777, 1, 1, 0),
		"one cell":                  conv2D(5, 1, 1, 3, 3, 1, 1),
		"one column":                conv2D(5, 40, 1, 3, 3, 1, 1),
		"wide row":                  conv2D(2, 1, 700, 3, 3, 1, 1),
		"11x11 stride 4":            conv2D(3, 35, 35, 8, 11, 4, 2),
		"5x5 pad 2, K blocks":       conv2D(24, 13, 13, 12, 5, 1, 2),
		"pads wider than map":       conv2D(2, 3, 3, 4, 3, 1, 9),
		"dilated":                   geometry(dilated),
		"uneven pads":               geometry(uneven),
		"pointwise":                 conv2D(70, 9, 9, 21, 1, 1, 0),
		"pointwise stride 2":        conv2D(70, 9, 9, 21, 1, 2, 0),
	}
	for name, g := range map[string]Conv2D{
		"depthwise stride 1": conv2D(5, 18, 21, 5, 3, 1, 1),
		"depthwise stride 2": conv2D(5, 18, 35, 5, 3, 2, 1),
		"depthwise tall":     conv2D(2, 300, 120, 2, 3, 1, 1),
		"grouped":            conv2D(12, 11, 11, 21, 3, 1, 1),
	} {
		g.Groups = 3
		if g.C == g.M {
			g.Groups = g.C
		}
		cases[name] = g
	}
	far := cases["dilated"]
	far.C, far.M, far.Groups = 3, 3, 3
	far.StrideH, far.StrideW = maxExtent, maxExtent
	cases["depthwise with a huge stride"] = geometry(far)
	far.StrideH, far.StrideW, far.KH, far.KW = maxExtent/2, maxExtent/2, 2, 2
	far.DilationH, far.DilationW = maxExtent/2, maxExtent/2
	far.PadTop, far.PadLeft, far.PadBottom, far.PadRight = maxExtent/4, maxExtent/4, maxExtent/4, maxExtent/4
	cases["depthwise with huge pads"] = geometry(far)
	random := 150
	if testing.Short() {
		random = 25
		delete(cases, "depthwise tall")
	}
	for i := range random {
		cases[label("random %d", i)] = randomConv(r)
	}
	threads := pools(t)
	for name, g := range cases {
		if err := g.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tame := r.IntN(2) == 0
		fill := wild
		if tame {
			fill = uniform
		}
		w, x := fill(r, g.M*g.K()), fill(r, g.N*g.C*g.H*g.W)
		want := chainConv(g, w, x, g.M)
		for _, level := range levels() {
			atLevel(t, level, func() {
				for _, p := range threads {
					got := runConv(g, p, w, x, g.M)
					compareBits(t, label("%s %s %d threads %+v", name, level, p.Threads(), g), got, want)
				}
			})
		}
		if tame {
			checkConvBound(t, g, w, x, want, g.M)
		}
	}
}

// randomAfter is something that follows sums of that many rows and elements.
func randomAfter(r *rand.Rand, rows, elements int) After {
	after := After{Clamp: r.IntN(2) == 0, Lo: -0.5, Hi: 0.75}
	if r.IntN(2) == 0 {
		after.Bias = wild(r, rows)
	}
	if r.IntN(2) == 0 {
		after.Add = wild(r, elements)
	}
	return after
}

// finish is what follows sums [outer,rows,inner], apart from them.
func finish(sums []float32, after After, rows, inner int) []float32 {
	y := make([]float32, len(sums))
	for i, v := range sums {
		if after.Bias != nil {
			v += after.Bias[i/inner%rows]
		}
		if after.Add != nil {
			v += after.Add[i]
		}
		if after.Clamp {
			v = clamp(v, after.Lo, after.Hi)
		}
		y[i] = v
	}
	return y
}

// TestConvAfter compares what follows the sums in a layer with the same done
// apart.
func TestConvAfter(t *testing.T) {
	r := newRand(t)
	threads := pools(t)
	for range 25 {
		g := randomConv(r)
		if r.IntN(3) == 0 {
			g = conv2D(size(r, 40), 7, 7, size(r, 40), 3, 1, 1)
		}
		w, x := wild(r, g.M*g.K()), wild(r, g.N*g.C*g.H*g.W)
		sums := runConv(g, nil, w, x, g.M)
		after := randomAfter(r, g.M, len(sums))
		want := finish(sums, after, g.M, g.OH*g.OW)
		for _, level := range levels() {
			atLevel(t, level, func() {
				for _, p := range threads {
					got := runConvAfter(g, p, w, x, g.M, after)
					compareBits(t, label("%s %d threads %+v bias %t add %t clamp %t", level, p.Threads(), g, after.Bias != nil, after.Add != nil, after.Clamp), got, want)
				}
			})
		}
	}
}

// TestConvSlices cuts the filters at random: every slice has the bits of the
// same channels of the whole layer.
func TestConvSlices(t *testing.T) {
	r := newRand(t)
	for range 20 {
		g := randomConv(r)
		if g.Groups != 1 {
			continue
		}
		w, x := wild(r, g.M*g.K()), wild(r, g.N*g.C*g.H*g.W)
		whole := runConv(g, nil, w, x, g.M)
		from := r.IntN(g.M)
		rows := size(r, g.M-from)
		part := runConv(g, nil, w[from*g.K():(from+rows)*g.K()], x, rows)
		cells := g.OH * g.OW
		for n := range g.N {
			compareBits(t, label("filters [%d,%d) of %+v", from, from+rows, g),
				part[n*rows*cells:(n+1)*rows*cells], whole[(n*g.M+from)*cells:(n*g.M+from+rows)*cells])
		}
	}
}

func TestConvStop(t *testing.T) {
	var stop atomic.Bool
	stop.Store(true)
	for name, groups := range map[string]int{"im2col": 1, "depthwise": 4} {
		g := conv2D(4, 9, 9, 4, 3, 1, 1)
		g.Groups = groups
		c := NewConv(g, make([]float32, g.M*g.K()), g.M)
		for _, p := range pools(t) {
			dst, x := make([]float32, 4*81), make([]float32, 4*81)
			if c.Run(p, dst, x, After{}, &stop) {
				t.Errorf("%s, %d threads: ran on although stopped", name, p.Threads())
			}
			if stop := new(atomic.Bool); !c.Run(p, dst, x, After{}, stop) {
				t.Errorf("%s, %d threads: stopped by an earlier stop", name, p.Threads())
			}
		}
	}
}

func TestConvValidate(t *testing.T) {
	good := conv2D(4, 9, 9, 6, 3, 1, 1)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if good.K() != 36 {
		t.Errorf("K is %d, want 36", good.K())
	}
	for name, change := range map[string]func(*Conv2D){
		"no images":           func(g *Conv2D) { g.N = 0 },
		"negative channels":   func(g *Conv2D) { g.C = -4 },
		"no stride":           func(g *Conv2D) { g.StrideW = 0 },
		"no dilation":         func(g *Conv2D) { g.DilationH = 0 },
		"negative pad":        func(g *Conv2D) { g.PadLeft = -1 },
		"huge pad":            func(g *Conv2D) { g.PadLeft = math.MaxInt },
		"groups":              func(g *Conv2D) { g.Groups = 4 },
		"output height":       func(g *Conv2D) { g.OH++ },
		"output width":        func(g *Conv2D) { g.OW-- },
		"filter too large":    func(g *Conv2D) { g.KH = 12 },
		"reach too large":     func(g *Conv2D) { g.DilationH = maxExtent },
		"huge map":            func(g *Conv2D) { g.H, g.OH, g.W, g.OW = 1<<20, 1<<20, 1<<20, 1<<20 },
		"huge input":          func(g *Conv2D) { g.N, g.C = maxExtent, maxExtent },
		"more than the limit": func(g *Conv2D) { g.C = maxExtent + 1 },
	} {
		g := good
		change(&g)
		if g.Validate() == nil {
			t.Errorf("%s: accepted %+v", name, g)
		}
	}
}
