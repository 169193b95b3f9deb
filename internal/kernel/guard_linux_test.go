package kernel

import (
	"math"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// guarded returns a copy of v that touches memory nobody may read: right after
// its end, or right before its beginning.
func guarded[T any](t testing.TB, v []T, after bool) []T {
	t.Helper()
	page, one := os.Getpagesize(), int(unsafe.Sizeof(*new(T)))
	size := (len(v)*one + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{mem[:page], mem[page+size:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if len(v) == 0 {
		return nil
	}
	at := page
	if after {
		at += size - one*len(v)
	}
	g := unsafe.Slice((*T)(unsafe.Pointer(&mem[at])), len(v))
	copy(g, v)
	return g
}

// TestGuardPages runs every kernel on slices between pages that must not be
// touched, and compares with the same on ordinary memory.
func TestGuardPages(t *testing.T) {
	r := newRand(t)
	inf := float32(math.Inf(1))
	type run struct {
		name string
		dst  int
		in   [][]float32
		f    func(dst []float32, in [][]float32)
	}
	var runs []run
	add := func(name string, dst int, in [][]float32, f func(dst []float32, in [][]float32)) {
		runs = append(runs, run{name, dst, in, f})
	}
	for range 12 {
		n := size(r, 70)
		in := [][]float32{wild(r, n), wild(r, n)}
		add("add scaled", n, in, func(dst []float32, in [][]float32) { copy(dst, in[1]); AddScaled(dst, in[0], 0.3) })
		add("sub", n, in, func(dst []float32, in [][]float32) { copy(dst, in[1]); Sub(dst, in[0]) })
		add("add", n, in, func(dst []float32, in [][]float32) { Add(dst, in[0], in[1]) })
		add("mul", n, in, func(dst []float32, in [][]float32) { Mul(dst, in[0], in[1]) })
		add("max", n, in, func(dst []float32, in [][]float32) { vecMax(dst, in[0], in[1]) })
		add("clamp", n, in, func(dst []float32, in [][]float32) { Clamp(dst, in[0], -0.5, inf) })
		add("bias", n, in, func(dst []float32, in [][]float32) {
			copy(dst, in[0])
			BiasAct(nil, dst, in[1], 1, 1, n, 0, 0.5)
			BiasAct(nil, dst, in[1], 1, n, 1, -inf, inf)
		})
		atMost := wild(r, n)
		for i, v := range atMost {
			atMost[i] = min(v, 1e38) // vecExp takes nothing above the greatest; NaN stays
		}
		add("exp", n, [][]float32{atMost}, func(dst []float32, in [][]float32) { vecExp(dst, in[0], 1e38) })
		add("most", 16, in, func(dst []float32, in [][]float32) { most := lanesMost(in[0]); copy(dst, most[:]) })
		add("divide wide", n, in, func(dst []float32, in [][]float32) { copy(dst, in[0]); vecDivWide(dst, float64(in[1][0])/3) })
		lines := 1 + r.IntN(9)
		add("softmax", n*lines, [][]float32{uniform(r, n*lines)}, func(dst []float32, in [][]float32) { Softmax(nil, dst, in[0], lines, n, 1) })
		add("deal", n+n, [][]float32{wild(r, n+n)}, func(dst []float32, in [][]float32) { dealTwo(dst[:n], dst[n:], in[0]) })
		rows, k, batch := size(r, 20), size(r, 300), size(r, 15)
		in = [][]float32{wild(r, rows*k), wild(r, batch*k)}
		add("gemv", rows, in, func(dst []float32, in [][]float32) { Gemv(nil, dst, in[0], in[1], rows, k) })
		add("gemm", batch*rows, in, func(dst []float32, in [][]float32) { Pack(in[0], rows, k).Gemm(nil, dst, in[1], batch, After{}, nil) })
		in = append(in, wild(r, rows), wild(r, batch*rows))
		add("gemm after", batch*rows, in, func(dst []float32, in [][]float32) {
			Pack(in[0], rows, k).Gemm(nil, dst, in[1], batch, After{Bias: in[2], Add: in[3]}, nil)
		})
		t := tilesOfLevel()
		kc, m, cols := size(r, 20), size(r, 3*t.m), size(r, t.n)
		in = [][]float32{wild(r, t.high(m)*kc), wild(r, kc*t.n)}
		ldc := t.n + r.IntN(5)
		add("tiles", (m-1)*ldc+cols, in, func(dst []float32, in [][]float32) {
			t.multiply(dst, ldc, in[0], in[1], m, cols, kc, true, ending{}, nil)
			t.multiply(dst, ldc, in[0], in[1], m, cols, kc, false, ending{}, nil)
		})
	}
	convs := 60
	if testing.Short() {
		convs = 10
	}
	for range convs {
		g := randomConv(r)
		in := [][]float32{wild(r, g.M*g.K()), wild(r, g.N*g.C*g.H*g.W)}
		add(label("conv %+v", g), g.N*g.M*g.OH*g.OW, in, func(dst []float32, in [][]float32) {
			NewConv(g, in[0], g.M).Run(nil, dst, in[1], After{}, nil)
		})
		more := [][]float32{in[0], in[1], wild(r, g.M), wild(r, g.N*g.M*g.OH*g.OW)}
		add(label("conv after %+v", g), g.N*g.M*g.OH*g.OW, more, func(dst []float32, in [][]float32) {
			NewConv(g, in[0], g.M).Run(nil, dst, in[1], After{Bias: in[2], Add: in[3]}, nil)
		})
		width := maxTileN
		if r.IntN(2) == 0 {
			width = 1 + r.IntN(maxTileN)
		}
		from := r.IntN(g.K())
		to := from + 1 + r.IntN(g.K()-from)
		block, n := &kBlock{from: from, to: to, taps: tapsOf(g, from, to)}, min(width, g.OH*g.OW)
		x := in[1][:g.C/g.Groups*g.H*g.W]
		first := r.IntN(g.OH*g.OW - n + 1)
		add(label("pack [%d,%d) of %+v", from, to, g), (to-from)*width, [][]float32{x}, func(dst []float32, in [][]float32) {
			packPanel(dst, in[0], &g, block, width, first, n)
		})
	}
	for range convs {
		side, stride := size(r, 30), size(r, 2)
		g := Pool2D{N: 1, C: 1, H: side, W: side, KH: 3, KW: 3, StrideH: stride, StrideW: stride, PadTop: 1, PadLeft: 1, DilationH: 1, DilationW: 1, OH: ceilDiv(side, stride), OW: ceilDiv(side, stride)}
		in := [][]float32{wild(r, side*side)}
		add(label("max %+v", g), g.OH*g.OW, in, func(dst []float32, in [][]float32) { NewMaxPool(g).Run(nil, dst, in[0]) })
		add(label("average %+v", g), g.OH*g.OW, in, func(dst []float32, in [][]float32) { NewAveragePool(g).Run(nil, dst, in[0]) })
	}
	for _, run := range runs {
		want := make([]float32, run.dst)
		atLevel(t, levelPortable, func() { run.f(want, run.in) })
		for _, level := range levels() {
			for _, after := range []bool{true, false} {
				dst := guarded(t, make([]float32, run.dst), after)
				var in [][]float32
				for _, v := range run.in {
					in = append(in, guarded(t, v, after))
				}
				atLevel(t, level, func() { run.f(dst, in) })
				compareBits(t, label("%s %s", run.name, level), dst, want)
			}
		}
	}
}

// TestQuantGuardPages is the same for integers.
func TestQuantGuardPages(t *testing.T) {
	r := newRand(t)
	n := 40
	if testing.Short() {
		n = 10
	}
	for range n {
		g := randomConv(r)
		k, cells := g.K(), g.N*g.M*g.OH*g.OW
		w, x := randomBytes(r, g.M*k), randomBytes(r, g.N*g.C*g.H*g.W)
		scale, bias := uniform(r, g.M), make([]int32, g.M)
		rows, cols, batch := size(r, 40), size(r, 300), size(r, 15)
		dense, in, denseScale := randomBytes(r, rows*cols), randomBytes(r, batch*cols), uniform(r, rows)
		floats := uniform(r, rows)
		eachScheme(t, func(string) {
			for _, after := range []bool{true, false} {
				for _, signed := range []bool{true, false} {
					bytes := func(v []byte) Bytes { return Bytes{Data: guarded(t, v, after), Signed: signed, Zero: 3} }
					weights := func(v []byte) Weights {
						return Weights{Data: guarded(t, v, after), Signed: !signed, Zeros: []int32{5}}
					}
					conv := NewQuantConv(g, weights(w), g.M)
					conv.Run(nil, Output{Bytes: guarded(t, make([]byte, cells), after), Scale: guarded(t, scale, after), Bias: guarded(t, bias, after)}, bytes(x), nil)
					conv.Run(nil, Output{Sums: guarded(t, make([]int32, cells), after)}, bytes(x), nil)
					NewQuantDense(weights(dense), rows, cols, batch).Run(nil, Output{
						Bytes: guarded(t, make([]byte, batch*rows), after), Scale: guarded(t, denseScale, after),
					}, bytes(in), batch, nil)
					NewQuantDense(weights(dense), rows, cols, 1).Run(nil, Output{Sums: guarded(t, make([]int32, rows), after)}, bytes(in[:cols]), 1, nil)
					QuantizeBytes(guarded(t, make([]byte, rows), after), guarded(t, floats, after), 0.01, signed, 3)
					DequantizeBytes(guarded(t, make([]float32, batch), after), bytes(in[:batch]), 0.01)
				}
			}
		})
	}
}

// TestGuardPagesOfConversions is that for what has other elements than float32.
func TestGuardPagesOfConversions(t *testing.T) {
	r := newRand(t)
	for range 12 {
		n := size(r, 70)
		for _, after := range []bool{false, true} {
			x, h := guarded(t, uniform(r, n), after), guarded(t, make([]uint16, n), after)
			y, b := guarded(t, x, after), guarded(t, make([]byte, n), after)
			for _, level := range levels() {
				atLevel(t, level, func() {
					ToHalf(h, x, 4)
					FromHalf(y, h, 0.25)
					Extremes(x)
					Magnitude(x)
					QuantizeBytes(b, x, 0.01, false, 128)
					DequantizeBytes(y, Bytes{Data: b, Zero: 128}, 0.01)
				})
			}
		}
	}
}
