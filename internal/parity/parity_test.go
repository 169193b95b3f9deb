package parity

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var seed = flag.Uint64("seed", 1, "seed of the randomised tests")

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ k, r int }{{0, 1}, {-1, 0}, {MaxData + 1, 1}, {4, 2}, {4, -1}} {
		if _, err := New(c.k, c.r); err == nil {
			t.Errorf("New(%d, %d) succeeded", c.k, c.r)
		}
	}
}

// Every k ≤ 10 and every lost data block: the decoded rows stay within Bound
// of the directly computed ones, with blocks of unequal height.
func TestRecoverEveryLossWithinBound(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	for k := 1; k <= 10; k++ {
		for _, cols := range []int{1, 7, 300} {
			code, err := New(k, 1)
			if err != nil {
				t.Fatal(err)
			}
			const height = 5
			x := random(rng, cols)
			data := make([][]float32, k)
			for j := range data {
				rows := height
				if j > 0 && j%2 == 1 {
					rows = height - 1 // shorter blocks are padded
				}
				data[j] = random(rng, rows*cols)
			}
			weights := make([]float32, height*cols)
			code.Encode(weights, data)
			parity := multiply(weights, x)
			results := make([][]float32, k)
			for j := range data {
				results[j] = multiply(data[j], x)
			}
			for lost := range k {
				others := append(append([][]float32{}, results[:lost]...), results[lost+1:]...)
				got := make([]float32, len(results[lost]))
				code.Recover(got, parity, others)
				for row := range got {
					var sumAbs float64
					for j := range data {
						for c := range cols {
							if i := row*cols + c; i < len(data[j]) {
								sumAbs += math.Abs(float64(data[j][i]) * float64(x[c]))
							}
						}
					}
					bound := Bound(k, cols, sumAbs)
					if d := math.Abs(float64(got[row] - results[lost][row])); !(d <= bound) {
						t.Fatalf("k=%d cols=%d lost=%d row=%d: off by %g, bound %g", k, cols, lost, row, d, bound)
					}
				}
			}
		}
	}
}

// Whole numbers below 2^24 leave nothing to round, so decoding is exact.
func TestRecoverIsExactOnWholeNumbers(t *testing.T) {
	code, _ := New(3, 1)
	results := [][]float32{{1, 2, 3}, {4, 5}, {6, 7, 8}}
	parity := make([]float32, 3)
	code.Encode(parity, results)
	if parity[0] != 11 || parity[1] != 14 || parity[2] != 11 {
		t.Fatalf("parity %v", parity)
	}
	got := make([]float32, 2)
	if !code.Recover(got, parity, [][]float32{results[0], results[2]}) {
		t.Error("it is said not to be finite")
	}
	if got[0] != 4 || got[1] != 5 {
		t.Errorf("recovered %v, want [4 5]", got)
	}
}

func TestEncodeRoundsOnce(t *testing.T) {
	code, _ := New(3, 1)
	dst := make([]float32, 1)
	// In float32, 2^24 + 1 + 1 is 2^24 twice over; the exact sum is 2^24 + 2.
	code.Encode(dst, [][]float32{{1 << 24}, {1}, {1}})
	if dst[0] != 1<<24+2 {
		t.Errorf("sum %v", dst[0])
	}
}

func TestFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		x    []float32
		want bool
	}{
		{nil, true},
		{[]float32{0, -1, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32}, true},
		{[]float32{1, inf}, false},
		{[]float32{-inf, 1}, false},
		{[]float32{1, nan, 1}, false},
	} {
		if got := Finite(c.x); got != c.want {
			t.Errorf("Finite(%v) is %v", c.x, got)
		}
	}
}

func TestRecoverAllocatesNothing(t *testing.T) {
	code, _ := New(4, 1)
	dst, parity := make([]float32, 999), make([]float32, 1000)
	others := [][]float32{make([]float32, 1000), make([]float32, 999), make([]float32, 1000)}
	if n := testing.AllocsPerRun(20, func() { code.Recover(dst, parity, others) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The yardstick is a copy of the same bytes that decoding reads.
func BenchmarkRecover(b *testing.B) {
	const n = 1 << 16
	for _, k := range []int{2, 4, 8} {
		code, _ := New(k, 1)
		dst, parity := make([]float32, n), make([]float32, n)
		others := make([][]float32, k-1)
		for i := range others {
			others[i] = make([]float32, n)
		}
		b.Run(fmt.Sprintf("k=%d", k), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(4 * n * k))
			for b.Loop() {
				code.Recover(dst, parity, others)
			}
		})
		b.Run(fmt.Sprintf("k=%d/copy", k), func(b *testing.B) {
			b.SetBytes(int64(4 * n * k))
			for b.Loop() {
				copy(dst, parity)
				for _, o := range others {
					copy(dst, o)
				}
			}
		})
	}
}

func random(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

// multiply is W·x with one rounding a step, in order.
func multiply(w, x []float32) []float32 {
	out := make([]float32, len(w)/len(x))
	for r := range out {
		var acc float32
		for c, v := range x {
			acc = float32(float64(w[r*len(x)+c])*float64(v) + float64(acc))
		}
		out[r] = acc
	}
	return out
}
