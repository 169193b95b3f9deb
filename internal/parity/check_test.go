package parity

import (
	"math"
	"math/rand/v2"
	"testing"
)

// checked is a code with random weights and results, and what T is per row.
type checked struct {
	code      Code
	results   [][]float32
	syndromes [][]float32
	tolerance [][]float64 // by parity and row
}

const checkedRows = 4

// newChecked has weights and inputs of about those sizes.
func newChecked(t *testing.T, rng *rand.Rand, k, r, cols int, weights, inputs float32) *checked {
	t.Helper()
	code, err := New(k, r)
	if err != nil {
		t.Fatal(err)
	}
	c := &checked{code: code}
	x := scaled(random(rng, cols), inputs)
	underflow := 0.0
	for _, v := range x {
		underflow += math.Abs(float64(v))
	}
	underflow = code.Underflow(cols, underflow)
	var data [][]float32
	for j := range k {
		rows := checkedRows - j%2
		data = append(data, scaled(random(rng, rows*cols), weights))
		c.results = append(c.results, multiply(data[j], x))
	}
	for p := range r {
		w := make([]float32, checkedRows*cols)
		code.Encode(w, p, data)
		c.results = append(c.results, multiply(w, x))
		c.syndromes = append(c.syndromes, make([]float32, checkedRows))
		sums := make([]float64, checkedRows)
		for j, d := range data {
			for i, v := range d {
				sums[i/cols] += math.Abs(float64(code.Coefficient(p, j)) * float64(v) * float64(x[i%cols]))
			}
		}
		for row := range sums {
			sums[row] = code.Tolerance(cols)*sums[row] + underflow
		}
		c.tolerance = append(c.tolerance, sums)
	}
	return c
}

func scaled(x []float32, by float32) []float32 {
	for i := range x {
		x[i] *= by
	}
	return x
}

func (c *checked) run(check *Check) {
	check.Begin(c.code)
	for p := range c.code.R() {
		c.code.Syndrome(c.syndromes[p], c.results[c.code.K()+p], p, c.results[:c.code.K()])
	}
	for row := range checkedRows {
		var values, tolerance [MaxParity]float64
		for p := range c.code.R() {
			values[p], tolerance[p] = float64(c.syndromes[p][row]), c.tolerance[p][row]
		}
		check.See(&values, &tolerance, func(i int) bool { return row < len(c.results[i]) })
	}
}

// Healthy results never raise an alarm: a million rows, 20,000 of them in short
// runs, subnormal ones among them.
func TestNoFalseAlarm(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 2))
	rows := 1_000_000
	if testing.Short() {
		rows = 20_000
	}
	var check Check
	for done := 0; done < rows; {
		sizes := [][2]float32{{1, 1}, {1, 0x1p-126}, {1, 0x1p-140}, {0x1p-130, 1}, {0x1p-148, 0x1p10}}[rng.IntN(5)]
		c := newChecked(t, rng, 1+rng.IntN(9), 1+rng.IntN(MaxParity), 1+rng.IntN(20), sizes[0], sizes[1])
		c.run(&check)
		if check.Wrong() {
			t.Fatalf("k=%d r=%d, sizes %v: alarm %v", c.code.K(), c.code.R(), sizes, check.Over)
		}
		done += checkedRows * c.code.R()
	}
}

// Every flip of a single bit, in whichever result, that changes the value by
// more than twice the tolerance is found, and never blamed on another result:
// one parity alone blames nobody.
func TestEveryFlippedBit(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 3))
	var check Check
	for k := 1; k <= 8; k++ {
		for r := 1; r <= MaxParity; r++ {
			found, named := 0, 0
			c := newChecked(t, rng, k, r, 50, 1, 1)
			for i, result := range c.results {
				for row := range result {
					for bit := range 32 {
						old := result[row]
						result[row] = math.Float32frombits(math.Float32bits(old) ^ 1<<bit)
						by := math.Abs(float64(result[row]) - float64(old))
						c.run(&check)
						result[row] = old
						p := max(i-k, 0) // the sum sees a data result, a parity itself
						if limit := 2 * c.tolerance[p][row]; !check.Wrong() && !(by <= limit) {
							t.Fatalf("k=%d r=%d result %d row %d bit %d: off by %g, limit %g, not found", k, r, i, row, bit, by, limit)
						}
						if !check.Wrong() {
							continue
						}
						found++
						if who, ok := check.Suspect(); ok {
							named++
							if who != i {
								t.Fatalf("k=%d r=%d result %d row %d bit %d: blamed on %d", k, r, i, row, bit, who)
							}
						}
					}
				}
			}
			if r == 1 && named > 0 || r > 1 && named < found*8/10 {
				t.Errorf("k=%d r=%d: of %d flips that were found, %d were named", k, r, found, named)
			}
		}
	}
}
