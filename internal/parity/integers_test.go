package parity

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestNewIntegersRefuses(t *testing.T) {
	for _, c := range []struct{ k, r int }{{0, 1}, {MaxData + 1, 1}, {MaxCoded + 1, 2}, {4, MaxParity + 1}, {4, -1}} {
		if _, err := NewIntegers(c.k, c.r); err == nil {
			t.Errorf("NewIntegers(%d, %d) succeeded", c.k, c.r)
		}
	}
}

// The headroom and the magnitudes of weights that docs/parity.md tells.
func TestIntegerHeadroom(t *testing.T) {
	for _, c := range []struct {
		k, r, headroom int
		most           int64 // weight of the last parity, of int8 data
	}{
		{4, 1, 0, 512},
		{256, 1, 0, 32768},
		{4, 2, 2, 1280},
		{8, 2, 3, 4608},
		{16, 2, 4, 17408},
		{22, 2, 4, 32384},
		{32, 2, 5, 67584},
		{4, 3, 4, 3840},
		{8, 3, 7, 26112},
		{12, 3, 7, 83200},
		{32, 3, 13, 1464320},
		{4, 4, 7, 12800},
		{8, 4, 12, 165888},
		{12, 4, 14, 778752},
		{32, 4, 22, 35684352},
	} {
		code, err := NewIntegers(c.k, c.r)
		if err != nil {
			t.Fatal(err)
		}
		if code.Headroom() != c.headroom || code.Most(c.r-1, 128) != c.most {
			t.Errorf("k=%d r=%d: headroom %d, most %d; want %d, %d", c.k, c.r, code.Headroom(), code.Most(c.r-1, 128), c.headroom, c.most)
		}
	}
}

// Every k ≤ 10, every r and every erasure pattern that k results survive:
// recovered results are equal, at the ends of the range too, and parity results
// that wrapped do no harm. In 64 bits the range is that of int32.
func TestIntegersEveryPatternIsExact(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 4))
	for k := 1; k <= 10; k++ {
		for r := range MaxParity + 1 {
			code, err := NewIntegers(k, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, wide := range []bool{false, true} {
				checkIntegers(t, code, rng, wide)
			}
		}
	}
}

// coded are data results of magnitude most and less, and their parities.
func coded(code Integers, rng *rand.Rand, wide bool) (data [][]int32, all []Sums) {
	most := int64(1)<<(31-code.Headroom()) - 1 // the largest that is recovered
	if wide {
		most = math.MaxInt32
	}
	draw := func() int32 { return int32(rng.Int64N(2*most+1) - most) }
	for j := range code.K() {
		y := []int32{int32(most), int32(-most), 0, draw(), draw(), draw()}
		data = append(data, y[:len(y)-j%2]) // shorter ones are padded
		all = append(all, Sums{Narrow: data[j]})
	}
	for p := range code.R() {
		narrow, exact := make([]int32, 6), make([]int64, 6)
		for i, d := range data {
			for e, v := range d {
				narrow[e] += int32(code.Coefficient(p, i)) * v
				exact[e] += code.Coefficient(p, i) * int64(v)
			}
		}
		if wide {
			all = append(all, Sums{Wide: exact})
		} else {
			all = append(all, Sums{Narrow: narrow})
		}
	}
	return data, all
}

func checkIntegers(t *testing.T, code Integers, rng *rand.Rand, wide bool) {
	t.Helper()
	k, r := code.K(), code.R()
	data, all := coded(code, rng, wide)
	var s IntegerSolution
	erasures(Code{k: k, r: r}, func(have []bool) {
		if err := code.Solve(&s, have); err != nil {
			t.Fatal(err)
		}
		var dst [][]int32
		var from []Sums
		for _, l := range s.Lost {
			dst = append(dst, make([]int32, len(data[l])))
		}
		for _, f := range s.From {
			from = append(from, all[f])
		}
		s.Recover(dst, from)
		for i, l := range s.Lost {
			if !slices.Equal(dst[i], data[l]) {
				t.Fatalf("k=%d r=%d %v: result %d is %v, want %v", k, r, have, l, dst[i], data[l])
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

// Over the integers every wrong result is found, right ones never are, and with
// two parities or more the wrong one is named unless its error looks like another's,
// which a few errors of a multiple of a high power of two do.
func TestIntegerCheck(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 6))
	var check Check
	syndromes := make([][]int64, MaxParity)
	run := func(code Integers, data [][]int32, all []Sums) {
		check.BeginIntegers(code)
		for p := range code.R() {
			syndromes[p] = make([]int64, 6)
			code.Syndrome(syndromes[p], all[code.K()+p], p, data)
		}
		for e := range 6 {
			var values [MaxParity]int64
			for p := range code.R() {
				values[p] = syndromes[p][e]
			}
			check.SeeIntegers(&values, all[len(all)-1].Wide == nil, func(i int) bool { return e < len(data[i]) })
		}
	}
	for k := 1; k <= 8; k++ {
		for r := 1; r <= MaxParity; r++ {
			code, err := NewIntegers(k, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, wide := range []bool{false, true} {
				data, all := coded(code, rng, wide)
				if run(code, data, all); check.Wrong() {
					t.Fatalf("k=%d r=%d: right results are wrong", k, r)
				}
				for i, result := range all {
					for bit := range 64 {
						flip := func() {
							if result.Wide != nil {
								result.Wide[2] ^= 1 << bit
							} else if bit < 32 {
								result.Narrow[2] ^= 1 << bit
							}
						}
						flip()
						run(code, data, all)
						flip()
						if check.Wrong() != (bit < 32 || result.Wide != nil) {
							t.Fatalf("k=%d r=%d result %d bit %d: wrong is %v", k, r, i, bit, check.Wrong())
						}
						who, ok := check.Suspect()
						if ok && who != i {
							t.Fatalf("k=%d r=%d result %d bit %d: blamed on %d", k, r, i, bit, who)
						}
						if !ok && check.Wrong() && r > 1 && (wide || bit < 28) {
							t.Fatalf("k=%d r=%d result %d bit %d: nobody is blamed", k, r, i, bit)
						}
					}
				}
			}
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
	var data, results [][]int32
	for range k {
		w := make([]int32, rows*cols)
		for i := range w {
			w[i] = int32(rng.IntN(256) - 128)
		}
		data, results = append(data, w), append(results, multiply(w))
	}
	for p := range r {
		w := make([]int32, rows*cols)
		code.Encode(w, p, data)
		for _, v := range w {
			if most := code.Most(p, 128); int64(v) < -most || int64(v) > most {
				t.Fatalf("parity %d has a weight %d beyond %d", p, v, most)
			}
		}
		results = append(results, multiply(w))
	}
	var s IntegerSolution
	erasures(Code{k: k, r: r}, func(have []bool) {
		if err := code.Solve(&s, have); err != nil {
			t.Fatal(err)
		}
		var dst [][]int32
		var from []Sums
		for _, l := range s.Lost {
			dst = append(dst, make([]int32, len(results[l])))
		}
		for _, f := range s.From {
			from = append(from, Sums{Narrow: results[f]})
		}
		s.Recover(dst, from)
		for i, l := range s.Lost {
			if !slices.Equal(dst[i], results[l]) {
				t.Fatalf("%v: result %d differs", have, l)
			}
		}
	})
}

// BenchmarkRecoverIntegers compares recovering with copying what it is made from.
func BenchmarkRecoverIntegers(b *testing.B) {
	const n, k = 1 << 16, 4
	for _, lost := range []int{1, 2, 3} {
		for _, wide := range []bool{false, true} {
			code, err := NewIntegers(k, lost)
			if err != nil {
				b.Fatal(err)
			}
			have := slices.Repeat([]bool{true}, k+lost)
			clear(have[:lost])
			var s IntegerSolution
			if err := code.Solve(&s, have); err != nil {
				b.Fatal(err)
			}
			dst, source := make([][]int32, lost), make([][]int32, k)
			for i := range dst {
				dst[i] = make([]int32, n)
			}
			from := make([]Sums, k)
			for i, f := range s.From {
				source[i] = make([]int32, n)
				from[i].Narrow = source[i]
				if f >= k && wide {
					from[i] = Sums{Wide: make([]int64, n)}
				}
			}
			name := fmt.Sprintf("lost=%d wide=%v", lost, wide)
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(4 * n * k)
				for b.Loop() {
					s.Recover(dst, from)
				}
			})
			b.Run(name+" copy", func(b *testing.B) {
				b.SetBytes(4 * n * k)
				for b.Loop() {
					for i, f := range source {
						copy(dst[i%lost], f)
					}
				}
			})
		}
	}
}
