package parity

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestNewIntegersRefuses(t *testing.T) {
	for _, c := range []struct{ k, r int }{{0, 1}, {MaxData + 1, 1}, {MaxCoded + 1, 2}, {4, 4}, {4, -1}} {
		if _, err := NewIntegers(c.k, c.r); err == nil {
			t.Errorf("NewIntegers(%d, %d) succeeded", c.k, c.r)
		}
	}
}

// The headroom and the widths of weights that docs/parity.md tells.
func TestIntegerHeadroom(t *testing.T) {
	for _, c := range []struct{ k, r, headroom, bits int }{
		{4, 1, 0, 10},
		{256, 1, 0, 16},
		{4, 2, 2, 12},
		{8, 2, 3, 14},
		{16, 2, 4, 16},
		{22, 2, 4, 16},
		{23, 2, 4, 17},
		{32, 2, 5, 18},
		{8, 3, 7, 16},
		{9, 3, 7, 17},
		{12, 3, 7, 18},
	} {
		code, err := NewIntegers(c.k, c.r)
		if err != nil {
			t.Fatal(err)
		}
		if code.Headroom() != c.headroom || code.WeightBits(c.r-1) != c.bits {
			t.Errorf("k=%d r=%d: headroom %d, %d bits; want %d, %d", c.k, c.r, code.Headroom(), code.WeightBits(c.r-1), c.headroom, c.bits)
		}
	}
}

// Every k ≤ 10, every r and every erasure pattern that k results survive:
// recovered results are equal, at the ends of the range too, and parity results
// that wrapped do no harm.
func TestIntegersEveryPatternIsExact(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 4))
	for k := 1; k <= 10; k++ {
		for r := range MaxIntegerParity + 1 {
			code, err := NewIntegers(k, r)
			if err != nil {
				t.Fatal(err)
			}
			checkIntegers(t, code, 31, func(most int64) int32 { return int32(rng.Int64N(2*most+1) - most) })
			checkIntegers(t, code, 63, func(most int64) int64 { return int64(rng.Uint64N(uint64(2*most)+1)) - most })
		}
	}
}

func checkIntegers[T int32 | int64](t *testing.T, code Integers, width int, draw func(most int64) T) {
	t.Helper()
	k, r := code.K(), code.R()
	most := int64(1)<<(width-code.Headroom()) - 1 // the largest that is recovered
	results := make([][]T, 0, k+r)
	for j := range k {
		y := []T{T(most), T(-most), 0, draw(most), draw(most), draw(most)}
		results = append(results, y[:len(y)-j%2]) // shorter ones are padded
	}
	for p := range r {
		y := make([]T, 6)
		for i, d := range results[:k] {
			for e, v := range d {
				y[e] += T(code.Coefficient(p, i)) * v
			}
		}
		results = append(results, y)
	}
	plain := Code{k: k, r: r}
	var s IntegerSolution
	erasures(plain, func(have []bool) {
		if err := code.Solve(&s, have); err != nil {
			t.Fatal(err)
		}
		var dst, from [][]T
		for _, l := range s.Lost {
			dst = append(dst, make([]T, len(results[l])))
		}
		for _, f := range s.From {
			from = append(from, results[f])
		}
		RecoverIntegers(&s, dst, from)
		for i, l := range s.Lost {
			if !slices.Equal(dst[i], results[l]) {
				t.Fatalf("k=%d r=%d %v: result %d is %v, want %v", k, r, have, l, dst[i], results[l])
			}
		}
	})
	if r > 0 {
		have := make([]bool, k+r)
		if err := code.Solve(&s, have); !errors.Is(err, ErrTooFewSlices) {
			t.Errorf("nothing is there: %v", err)
		}
	}
}

// The whole way: int8 weights and inputs, parity weights by Encode, every sum
// in wrapping int32.
func TestIntegersOfALayer(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 5))
	const k, r, rows, cols = 5, 3, 3, 4000
	code, err := NewIntegers(k, r)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]int32, cols)
	for i := range x {
		x[i] = int32(rng.IntN(256) - 128)
	}
	multiply := func(w []int32) []int32 {
		y := make([]int32, len(w)/cols)
		for i, v := range w {
			y[i/cols] += v * x[i%cols]
		}
		return y
	}
	var data [][]int8
	var results [][]int32
	for range k {
		w, wide := make([]int8, rows*cols), make([]int32, rows*cols)
		for i := range w {
			w[i] = int8(rng.IntN(256) - 128)
			wide[i] = int32(w[i])
		}
		data, results = append(data, w), append(results, multiply(wide))
	}
	for p := range r {
		w := make([]int32, rows*cols)
		code.Encode(w, p, data)
		limit := int32(1) << (code.WeightBits(p) - 1)
		for _, v := range w {
			if v < -limit || v >= limit {
				t.Fatalf("parity %d has a weight %d beyond %d bits", p, v, code.WeightBits(p))
			}
		}
		results = append(results, multiply(w))
	}
	var s IntegerSolution
	erasures(Code{k: k, r: r}, func(have []bool) {
		if err := code.Solve(&s, have); err != nil {
			t.Fatal(err)
		}
		var dst, from [][]int32
		for _, l := range s.Lost {
			dst = append(dst, make([]int32, len(results[l])))
		}
		for _, f := range s.From {
			from = append(from, results[f])
		}
		RecoverIntegers(&s, dst, from)
		for i, l := range s.Lost {
			if !slices.Equal(dst[i], results[l]) {
				t.Fatalf("%v: result %d differs", have, l)
			}
		}
	})
}
