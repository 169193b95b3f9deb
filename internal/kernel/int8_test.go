package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
)

// eachScheme runs f at every level with every scheme that it has.
func eachScheme(t *testing.T, f func(name string)) {
	t.Helper()
	for _, level := range levels() {
		atLevel(t, level, func() {
			for i, s := range schemesOf(false) {
				wide := schemesOf(true)
				forced = [2]*scheme{s, wide[i%len(wide)]}
				f(level + "/" + s.name)
				forced = [2]*scheme{}
			}
		})
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	extreme := []byte{0, 1, 127, 128, 255}
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(r.Uint32()); r.IntN(4) == 0 {
			b[i] = extreme[r.IntN(len(extreme))]
		}
	}
	return b
}

// randomZero is a zero point of bytes of that sign.
func randomZero(r *rand.Rand, signed bool) int32 {
	if r.IntN(3) == 0 {
		return 0
	}
	return intOf(byte(r.Uint32()), signed)
}

func randomWeights(r *rand.Rand, rows, k int) Weights {
	if r.IntN(5) == 0 {
		w := Weights{Wide: make([]int16, rows*k)}
		for i := range w.Wide {
			w.Wide[i] = int16(r.Uint32())
		}
		return w
	}
	w := Weights{Data: randomBytes(r, rows*k), Signed: r.IntN(2) == 0}
	switch r.IntN(3) {
	case 0:
		w.Zeros = []int32{randomZero(r, w.Signed)}
	case 1:
		for range rows {
			w.Zeros = append(w.Zeros, randomZero(r, w.Signed))
		}
	}
	return w
}

// at is weight i of row r, its zero point taken out.
func (w *Weights) at(r, i, k int) int32 {
	if w.Wide != nil {
		return int32(w.Wide[r*k+i])
	}
	v := intOf(w.Data[r*k+i], w.Signed)
	if len(w.Zeros) > 0 {
		v -= w.Zeros[min(r, len(w.Zeros)-1)]
	}
	return v
}

// randomOutput returns an output for rows rows, and a function that says what it must
// hold for a sum.
func randomOutput(r *rand.Rand, results, rows int) (Output, func(sum int32, row int) int32) {
	var o Output
	if r.IntN(3) > 0 {
		for range rows {
			o.Bias = append(o.Bias, int32(r.Uint32())>>r.IntN(20))
		}
	}
	biased := func(sum int32, row int) int32 {
		if o.Bias != nil {
			sum += o.Bias[row]
		}
		return sum
	}
	if r.IntN(2) == 0 {
		o.Sums = make([]int32, results)
		return o, biased
	}
	o.Bytes, o.Signed = make([]byte, results), r.IntN(2) == 0
	o.Zero = randomZero(r, o.Signed)
	for range rows {
		s := r.Float32() * 0.01
		switch r.IntN(12) {
		case 0:
			s = 0.5 // ties
		case 1:
			s = float32(math.NaN())
		case 2:
			s = float32(math.Inf(1))
		}
		o.Scale = append(o.Scale, s)
	}
	return o, func(sum int32, row int) int32 {
		low, high := int32(0), int32(255)
		if o.Signed {
			low, high = -128, 127
		}
		v := float64(float32(biased(sum, row)) * o.Scale[row])
		if math.IsNaN(v) {
			return low
		}
		v = min(max(math.RoundToEven(v), -1e6), 1e6)
		return min(max(int32(v)+o.Zero, low), high)
	}
}

func (o *Output) at(i int) int32 {
	if o.Sums != nil {
		return o.Sums[i]
	}
	return intOf(o.Bytes[i], o.Signed)
}

// fill makes results that were never written show.
func (o *Output) fill() {
	for i := range o.Sums {
		o.Sums[i] = math.MinInt32 + 12345
	}
	for i := range o.Bytes {
		o.Bytes[i] ^= 0x55
	}
}

func TestQuantConv(t *testing.T) {
	r := newRand(t)
	list := []Conv2D{
		conv2D(3, 35, 35, 8, 11, 4, 2), conv2D(64, 14, 14, 30, 3, 1, 1), conv2D(30, 7, 7, 9, 3, 1, 1),
		conv2D(70, 9, 9, 21, 1, 1, 0), conv2D(70, 9, 9, 37, 1, 2, 0), conv2D(2, 3, 3, 4, 3, 1, 9), conv2D(128, 3, 3, 64, 1, 1, 0),
	}
	far := conv2D(3, 9, 9, 3, 2, 1, 0)
	far.DilationH, far.DilationW, far.PadTop, far.PadLeft, far.PadBottom, far.PadRight = 4000, 3000, 4000, 3000, 1, 2
	list = append(list, geometry(far))
	n := 60
	if testing.Short() {
		n = 15
	}
	for range n {
		list = append(list, randomConv(r))
	}
	for _, g := range list {
		k, cells := g.K(), g.OH*g.OW
		w := randomWeights(r, g.M, k)
		x := Bytes{Data: randomBytes(r, g.N*g.C*g.H*g.W), Signed: r.IntN(2) == 0}
		x.Zero = randomZero(r, x.Signed)
		out, final := randomOutput(r, g.N*g.M*cells, g.M)
		want := make([]int32, g.N*g.M*cells)
		depth := g.C / g.Groups
		for i := range want {
			image, m, oy, ox := i/cells/g.M, i/cells%g.M, i%cells/g.OW, i%g.OW
			sum := int32(0)
			for kk := range k {
				c, ky, kx := kk/(g.KH*g.KW), kk/g.KW%g.KH, kk%g.KW
				y, xx := oy*g.StrideH-g.PadTop+ky*g.DilationH, ox*g.StrideW-g.PadLeft+kx*g.DilationW
				if y < 0 || y >= g.H || xx < 0 || xx >= g.W {
					continue
				}
				ch := m/(g.M/g.Groups)*depth + c
				sum += w.at(m, kk, k) * (intOf(x.Data[((image*g.C+ch)*g.H+y)*g.W+xx], x.Signed) - x.Zero)
			}
			want[i] = final(sum, m)
		}
		eachScheme(t, func(name string) {
			for _, p := range pools(t) {
				out.fill()
				NewQuantConv(g, w, g.M).Run(p, out, x, nil)
				for i := range want {
					if out.at(i) != want[i] {
						t.Fatalf("%s %+v, weights signed %v wide %v, x %v: element %d is %d, want %d", name, g, w.Signed, w.Wide != nil, x.Signed, i, out.at(i), want[i])
					}
				}
			}
			if g.Groups > 1 || g.M < 2 || g.N > 1 {
				return
			}
			// Some rows are those of the whole.
			rows := 1 + r.IntN(g.M-1)
			part, slice := w, out
			if w.Wide != nil {
				part.Wide = w.Wide[:rows*k]
			} else {
				part.Data = w.Data[:rows*k]
			}
			out.fill()
			NewQuantConv(g, part, rows).Run(nil, slice, x, nil)
			for i := range rows * cells {
				if out.at(i) != want[i] {
					t.Fatalf("%s %+v: %d rows: element %d is %d, want %d", name, g, rows, i, out.at(i), want[i])
				}
			}
		})
	}
}

func TestQuantDense(t *testing.T) {
	r := newRand(t)
	for i := range 40 {
		rows, k, batch := size(r, 90), size(r, 300), size(r, 50)
		switch {
		case i%3 == 0:
			batch = 1
		case i%5 == 0:
			k &^= 3
		case i == 2:
			k = 0
		case i == 1:
			batch, rows, k = 400, 300, 700
		}
		w := randomWeights(r, rows, k)
		x := Bytes{Data: randomBytes(r, batch*k), Signed: r.IntN(2) == 0}
		x.Zero = randomZero(r, x.Signed)
		out, final := randomOutput(r, batch*rows, rows)
		want := make([]int32, batch*rows)
		for b := range batch {
			for row := range rows {
				sum := int32(0)
				for kk := range k {
					sum += w.at(row, kk, k) * (intOf(x.Data[b*k+kk], x.Signed) - x.Zero)
				}
				want[b*rows+row] = final(sum, row)
			}
		}
		eachScheme(t, func(name string) {
			for _, p := range pools(t) {
				out.fill()
				NewQuantDense(w, rows, k, batch).Run(p, out, x, batch, nil)
				for i := range want {
					if out.at(i) != want[i] {
						t.Fatalf("%s [%d,%d]x[%d], weights signed %v wide %v, x signed %v: element %d is %d, want %d",
							name, batch, k, rows, w.Signed, w.Wide != nil, x.Signed, i, out.at(i), want[i])
					}
				}
			}
		})
	}
}

func TestQuantStops(t *testing.T) {
	var stop atomic.Bool
	stop.Store(true)
	g := conv2D(4, 9, 9, 4, 3, 1, 1)
	out := Output{Sums: make([]int32, 4*81)}
	x := Bytes{Data: make([]byte, 4*81)}
	if NewQuantConv(g, Weights{Data: make([]byte, 4*g.K())}, 4).Run(nil, out, x, &stop) {
		t.Error("a convolution ran on although stopped")
	}
	for _, batch := range []int{1, 4} {
		if NewQuantDense(Weights{Data: make([]byte, 12)}, 3, 4, batch).Run(nil, out, x, batch, &stop) {
			t.Error("a dense layer ran on although stopped")
		}
	}
}

func TestQuantAllocates(t *testing.T) {
	g := conv2D(16, 14, 14, 24, 3, 1, 1)
	conv := NewQuantConv(g, Weights{Data: make([]byte, 24*g.K())}, 24)
	dense, gemv := NewQuantDense(Weights{Data: make([]byte, 600)}, 20, 30, 8), NewQuantDense(Weights{Data: make([]byte, 600)}, 20, 30, 1)
	out := Output{Bytes: make([]byte, 24*196), Scale: slices.Repeat([]float32{1}, 24)}
	x := Bytes{Data: make([]byte, 16*196), Zero: 3}
	if n := testing.AllocsPerRun(10, func() {
		conv.Run(nil, out, x, nil)
		dense.Run(nil, out, x, 8, nil)
		gemv.Run(nil, out, x, 1, nil)
	}); n > 0 {
		t.Errorf("%v allocations when warm", n)
	}
}

// TestQuantReset gives layers other weights, and others again: nothing is left of
// those before, and nothing is allocated.
func TestQuantReset(t *testing.T) {
	r := newRand(t)
	deep := conv2D(24, 6, 6, 24, 3, 1, 1)
	deep.Groups = 24
	grouped := conv2D(12, 5, 5, 14, 3, 2, 1)
	grouped.Groups = 2
	for _, g := range []Conv2D{deep, grouped, conv2D(7, 9, 9, 13, 3, 1, 0)} {
		x := Bytes{Data: randomBytes(r, g.C*g.H*g.W), Zero: 7}
		weights := []Weights{
			{Data: randomBytes(r, g.M*g.K()), Zeros: []int32{100}}, {Data: randomBytes(r, g.M*g.K()), Signed: true}, {Data: make([]byte, g.M*g.K()), Signed: true},
		}
		got, want := Output{Sums: make([]int32, g.M*g.OH*g.OW)}, Output{Sums: make([]int32, g.M*g.OH*g.OW)}
		eachScheme(t, func(name string) {
			conv := NewQuantConv(g, weights[0], g.M)
			for i := range 7 {
				w := weights[i%len(weights)]
				conv.Reset(w)
				conv.Run(nil, got, x, nil)
				NewQuantConv(g, w, g.M).Run(nil, want, x, nil)
				if !slices.Equal(got.Sums, want.Sums) {
					t.Errorf("%s %+v: weights %d differ from new ones", name, g, i)
				}
			}
			if n := testing.AllocsPerRun(5, func() { conv.Reset(weights[0]) }); n != 0 {
				t.Errorf("%s %+v: %v allocations", name, g, n)
			}
		})
	}
	const rows, k = 21, 35
	for _, batch := range []int{1, 9} {
		x := Bytes{Data: randomBytes(r, batch*k), Zero: 7}
		weights := []Weights{{Data: randomBytes(r, rows*k), Zeros: []int32{100}}, {Data: randomBytes(r, rows*k), Signed: true}}
		got, want := Output{Sums: make([]int32, batch*rows)}, Output{Sums: make([]int32, batch*rows)}
		eachScheme(t, func(name string) {
			dense := NewQuantDense(weights[0], rows, k, batch)
			for i := range 5 {
				w := weights[i%len(weights)]
				dense.Reset(w)
				dense.Run(nil, got, x, batch, nil)
				NewQuantDense(w, rows, k, batch).Run(nil, want, x, batch, nil)
				if !slices.Equal(got.Sums, want.Sums) {
					t.Errorf("%s, batch %d: weights %d differ from new ones", name, batch, i)
				}
			}
			if n := testing.AllocsPerRun(5, func() { dense.Reset(weights[0]) }); n != 0 {
				t.Errorf("%s, batch %d: %v allocations", name, batch, n)
			}
		})
	}
}
