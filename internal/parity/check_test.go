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
	sums      [][]float64 // by parity and row: Σ|G[p,i]|·T_i
	tolerance float64
}

const checkedRows = 4

func newChecked(t *testing.T, rng *rand.Rand, k, r, cols int) *checked {
	t.Helper()
	code, err := New(k, r)
	if err != nil {
		t.Fatal(err)
	}
	c := &checked{code: code, tolerance: code.Tolerance(cols)}
	x := random(rng, cols)
	var data [][]float32
	for j := range k {
		rows := checkedRows - j%2
		data = append(data, random(rng, rows*cols))
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
		c.sums = append(c.sums, sums)
	}
	return c
}

func (c *checked) run(check *Check) {
	check.Begin(c.code)
	for p := range c.code.R() {
		c.code.Syndrome(c.syndromes[p], c.results[c.code.K()+p], p, c.results[:c.code.K()])
	}
	for row := range checkedRows {
		var values, tolerance [MaxParity]float64
		for p := range c.code.R() {
			values[p], tolerance[p] = float64(c.syndromes[p][row]), c.tolerance*c.sums[p][row]
		}
		check.See(&values, &tolerance, func(i int) bool { return row < len(c.results[i]) })
	}
}

// Healthy results never raise an alarm: a million rows, 20,000 of them in short
// runs.
func TestNoFalseAlarm(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 2))
	rows := 1_000_000
	if testing.Short() {
		rows = 20_000
	}
	var check Check
	for done := 0; done < rows; {
		c := newChecked(t, rng, 1+rng.IntN(9), 1+rng.IntN(MaxParity), 1+rng.IntN(20))
		c.run(&check)
		if check.Wrong() {
			t.Fatalf("k=%d r=%d: alarm %v", c.code.K(), c.code.R(), check.Over)
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
			c := newChecked(t, rng, k, r, 50)
			for i, result := range c.results {
				for row := range result {
					for bit := range 32 {
						old := result[row]
						result[row] = math.Float32frombits(math.Float32bits(old) ^ 1<<bit)
						by := math.Abs(float64(result[row]) - float64(old))
						c.run(&check)
						result[row] = old
						p := max(i-k, 0) // the sum sees a data result, a parity itself
						if limit := 2 * c.tolerance * c.sums[p][row]; !check.Wrong() && !(by <= limit) {
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
