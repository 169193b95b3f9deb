package parity

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var seed = flag.Uint64("seed", 1, "seed of the randomised tests")

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ k, r int }{
		{0, 1}, {-1, 0}, {MaxData + 1, 1}, {MaxCoded + 1, 2}, {4, MaxParity + 1}, {4, -1},
	} {
		if _, err := New(c.k, c.r); err == nil {
			t.Errorf("New(%d, %d) succeeded", c.k, c.r)
		}
	}
}

// erasures calls f with every set of present results that has at least k.
func erasures(c Code, f func(have []bool)) {
	have := make([]bool, c.N())
	for set := range uint(1) << c.N() {
		if bits.OnesCount(set) < c.K() {
			continue
		}
		for i := range have {
			have[i] = set>>i&1 == 1
		}
		f(have)
	}
}

// Every k ≤ 10, every r and every erasure pattern that k results survive: the
// decoded rows stay within Bound of the directly computed ones, with blocks of
// unequal height, and Lost and From are as the pattern says.
func TestRecoverEveryPatternWithinBound(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	for k := 1; k <= 10; k++ {
		for r := range MaxParity + 1 {
			for _, cols := range []int{1, 7, 300} {
				checkPatterns(t, rng, k, r, cols)
			}
		}
	}
}

func checkPatterns(t *testing.T, rng *rand.Rand, k, r, cols int) {
	code, err := New(k, r)
	if err != nil {
		t.Fatal(err)
	}
	const height = 3
	x := random(rng, cols)
	data := make([][]float32, k)
	sumAbs := make([][]float64, height) // by row and data slice
	for row := range sumAbs {
		sumAbs[row] = make([]float64, k)
	}
	for j := range data {
		rows := height - j%2 // shorter blocks are padded
		data[j] = random(rng, rows*cols)
		for i, w := range data[j] {
			sumAbs[i/cols][j] += math.Abs(float64(w) * float64(x[i%cols]))
		}
	}
	results := make([][]float32, 0, k+r)
	for _, w := range data {
		results = append(results, multiply(w, x))
	}
	for p := range r {
		w := make([]float32, height*cols)
		code.Encode(w, p, data)
		results = append(results, multiply(w, x))
	}
	var s Solution
	erasures(code, func(have []bool) {
		if err := code.Solve(&s, have); err != nil {
			t.Fatal(err)
		}
		dst, from := operands(&s, results)
		if !s.Recover(dst, from) {
			t.Fatalf("k=%d r=%d %v: not finite", k, r, have)
		}
		for i, l := range s.Lost {
			if have[l] || len(s.From) != k {
				t.Fatalf("k=%d r=%d %v: lost %v, from %v", k, r, have, s.Lost, s.From)
			}
			for row, got := range dst[i] {
				bound := s.Bound(i, cols, sumAbs[row])
				if d := math.Abs(float64(got) - float64(results[l][row])); !(d <= bound) {
					t.Fatalf("k=%d r=%d cols=%d %v: result %d, row %d is off by %g, bound %g", k, r, cols, have, l, row, d, bound)
				}
			}
		}
	})
}

// operands makes room for what is lost and collects what it follows from.
func operands(s *Solution, results [][]float32) (dst, from [][]float32) {
	for _, l := range s.Lost {
		dst = append(dst, make([]float32, len(results[l])))
	}
	for _, f := range s.From {
		from = append(from, results[f])
	}
	return dst, from
}

func TestSolveWithTooFew(t *testing.T) {
	code, _ := New(3, 2)
	var s Solution
	if err := code.Solve(&s, []bool{true, false, false, false, true}); !errors.Is(err, ErrTooFewSlices) {
		t.Errorf("got %v", err)
	}
}

// The condition numbers that are published are those of the pinned codes, over
// every pattern, found here from whole matrices; and they are no worse than
// what the design asks for.
func TestConditions(t *testing.T) {
	most := map[int]float64{2: 72, 3: 264, 4: 1000} // of k = 8
	for r := 1; r <= MaxParity; r++ {
		for k := 1; k <= 7; k++ {
			code, err := New(k, r)
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			erasures(code, func(have []bool) {
				var rows [][]float64
				for i, there := range have {
					if !there || len(rows) == k {
						continue
					}
					row := make([]float64, k)
					for j := range row {
						switch {
						case i >= k:
							row[j] = float64(code.Coefficient(i-k, j))
						case i == j:
							row[j] = 1
						}
					}
					rows = append(rows, row)
				}
				worst = max(worst, conditionOf(rows))
			})
			if want := worstCondition[r][k]; math.Abs(worst-want) > 1e-3*want {
				t.Errorf("k=%d r=%d: worst condition %.5g, published %.5g", k, r, worst, want)
			}
		}
		if r > 1 && worstCondition[r][8] > most[r] {
			t.Errorf("r=%d: worst condition for k=8 is %g, the design asks for %g", r, worstCondition[r][8], most[r])
		}
	}
	text, err := os.ReadFile("../../docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= MaxCoded; k++ {
		row := fmt.Sprintf("| %d | %.4g | %.4g | %.4g | %.4g |", k, worstCondition[1][k], worstCondition[2][k], worstCondition[3][k], worstCondition[4][k])
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/parity.md lacks the row %q: run `go -C internal/parity/_gen run . -table`", row)
		}
	}
}

// conditionOf is the ratio of the greatest to the least singular value, by
// one-sided Jacobi rotations of the rows (Golub and Van Loan, section 8.6.3).
func conditionOf(a [][]float64) float64 {
	dot := func(x, y []float64) (s float64) {
		for i := range x {
			s += x[i] * y[i]
		}
		return s
	}
	for range 40 {
		for p := range a {
			for q := p + 1; q < len(a); q++ {
				x, y, xy := dot(a[p], a[p]), dot(a[q], a[q]), dot(a[p], a[q])
				if math.Abs(xy) < 1e-15*math.Sqrt(x*y) {
					continue
				}
				theta := (y - x) / (2 * xy)
				t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
				if theta < 0 {
					t = -t
				}
				c := 1 / math.Sqrt(t*t+1)
				for i := range a[p] {
					v, w := a[p][i], a[q][i]
					a[p][i], a[q][i] = c*(v-t*w), c*(t*v+w)
				}
			}
		}
	}
	lo, hi := math.Inf(1), 0.0
	for _, row := range a {
		n := math.Sqrt(dot(row, row))
		lo, hi = min(lo, n), max(hi, n)
	}
	return hi / lo
}

// Whole numbers below 2^24 leave nothing to round, so decoding by the sum is
// exact.
func TestRecoverIsExactOnWholeNumbers(t *testing.T) {
	code, _ := New(3, 1)
	results := [][]float32{{1, 2, 3}, {4, 5}, {6, 7, 8}, make([]float32, 3)}
	code.Encode(results[3], 0, results[:3])
	if !slices.Equal(results[3], []float32{11, 14, 11}) {
		t.Fatalf("parity %v", results[3])
	}
	var s Solution
	if err := code.Solve(&s, []bool{true, false, true, true}); err != nil {
		t.Fatal(err)
	}
	dst, from := operands(&s, results)
	if !s.Recover(dst, from) || !slices.Equal(dst[0], results[1]) {
		t.Errorf("recovered %v, want %v", dst, results[1])
	}
}

func TestEncodeRoundsOnce(t *testing.T) {
	code, _ := New(3, 1)
	dst := make([]float32, 1)
	// In float32, 2^24 + 1 + 1 is 2^24 twice over; the exact sum is 2^24 + 2.
	code.Encode(dst, 0, [][]float32{{1 << 24}, {1}, {1}})
	if dst[0] != 1<<24+2 {
		t.Errorf("sum %v", dst[0])
	}
}

func TestRecoverSaysWhatOverflows(t *testing.T) {
	code, _ := New(2, 2)
	var s Solution
	if err := code.Solve(&s, []bool{false, false, true, true}); err != nil {
		t.Fatal(err)
	}
	inf := float32(math.Inf(1))
	dst := [][]float32{make([]float32, 2), make([]float32, 2)}
	if s.Recover(dst, [][]float32{{1, inf}, {1, 1}}) || s.Recover(dst, [][]float32{{1, 3.4e38}, {1, 3.4e38}}) {
		t.Errorf("it is said to be finite: %v", dst)
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
	code, _ := New(4, 2)
	dst := [][]float32{make([]float32, 999), make([]float32, 1000)}
	from := [][]float32{make([]float32, 1000), make([]float32, 999), make([]float32, 1000), make([]float32, 1000)}
	var s Solution
	have := []bool{true, false, true, false, true, true}
	if n := testing.AllocsPerRun(20, func() {
		if code.Solve(&s, have) == nil {
			s.Recover(dst, from)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The yardstick is a copy of the same bytes that decoding reads, and of those
// that it writes.
func BenchmarkRecover(b *testing.B) {
	for _, n := range []int{1 << 12, 1 << 16, 1 << 20} {
		for _, c := range [][2]int{{4, 1}, {8, 1}, {4, 2}, {8, 2}, {8, 4}} {
			k, lost := c[0], c[1]
			code, _ := New(k, lost)
			have := make([]bool, code.N())
			for i := lost; i < len(have); i++ {
				have[i] = true
			}
			results := make([][]float32, code.N())
			for i := range results {
				results[i] = make([]float32, n)
			}
			var s Solution
			if err := code.Solve(&s, have); err != nil {
				b.Fatal(err)
			}
			dst, from := operands(&s, results)
			name := fmt.Sprintf("n=%d k=%d lost=%d", n, k, lost)
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(4 * n * k))
				for b.Loop() {
					_ = code.Solve(&s, have)
					s.Recover(dst, from)
				}
			})
			b.Run(name+" copy", func(b *testing.B) {
				b.SetBytes(int64(4 * n * k))
				for b.Loop() {
					for i, f := range from {
						copy(dst[i%lost], f)
					}
				}
			})
		}
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
