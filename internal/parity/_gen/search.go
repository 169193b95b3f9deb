package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// unit is the number of steps between two whole coefficients, and limit the
// largest coefficient in steps: they fit in an int8.
const (
	unit  = 64
	limit = 127
)

// code is a coefficient matrix under search, with its worst pattern.
type code struct {
	g     [][]float64 // [r][k]
	worst float64
	rows  []int // of the worst pattern
	lost  []int
}

func newCode(r, k int) *code {
	c := &code{g: make([][]float64, r), worst: math.Inf(1)}
	for i := range c.g {
		c.g[i] = make([]float64, k)
	}
	return c
}

// measure finds the worst pattern, or gives up at one worse than most.
func (c *code) measure(most float64) bool {
	r, k := len(c.g), len(c.g[0])
	gg := gram(c.g)
	worst := 0.0
	var rows, lost []int
	check := func(r, l []int) bool {
		if above(c.g, &gg, r, l) <= worst {
			return true
		}
		if v := condition(&gg, c.g, r, l); v > worst {
			worst = v
			rows, lost = append(rows[:0], r...), append(lost[:0], l...)
		}
		return worst < most
	}
	// What was worst before probably still is.
	if c.rows != nil && !check(c.rows, c.lost) {
		return false
	}
	for m := 1; m <= min(r, k); m++ {
		if !patterns(r, m, func(rs []int) bool {
			return patterns(k, m, func(ls []int) bool { return check(rs, ls) })
		}) {
			c.rows, c.lost = append([]int(nil), rows...), append([]int(nil), lost...)
			return false
		}
	}
	c.worst = worst
	c.rows, c.lost = append([]int(nil), rows...), append([]int(nil), lost...)
	return true
}

// draw fills the rows from first on at random.
func (c *code) draw(rng *rand.Rand, first int) {
	for i := range c.g {
		for j := range c.g[i] {
			c.g[i][j] = 1
			if i >= first && len(c.g[i]) > 1 {
				c.g[i][j] = step(rng.NormFloat64() * 0.8)
			}
		}
	}
	c.worst, c.rows = math.Inf(1), nil
}

// step rounds to the nearest coefficient there is, but never to zero.
func step(v float64) float64 {
	n := max(-limit, min(limit, math.Round(v*unit)))
	if n == 0 {
		n = 1
	}
	return n / unit
}

// improve changes one or two entries at a time and keeps what makes the worst
// pattern better; first rows are left as they are. It restarts where nothing
// has helped for long.
func improve(rng *rand.Rand, best *code, first int, deadline time.Time) {
	r, k := len(best.g), len(best.g[0])
	if first >= r {
		return
	}
	for again := false; time.Now().Before(deadline); again = true {
		c := newCode(r, k)
		if again || math.IsInf(best.worst, 0) {
			c.draw(rng, first)
		} else {
			c.take(best)
		}
		c.measure(math.Inf(1))
		idle := 0
		scale := 0.5
		for idle < 60*r*k && time.Now().Before(deadline) {
			// Most changes are to what the worst pattern has lost.
			j := rng.IntN(k)
			if rng.IntN(8) > 0 {
				j = c.lost[rng.IntN(len(c.lost))]
			}
			var old [maxR]float64
			for i := range r {
				old[i] = c.g[i][j]
			}
			switch rng.IntN(3) {
			case 0:
				for i := first; i < r; i++ {
					c.g[i][j] = step(old[i] + scale*rng.NormFloat64())
				}
			default:
				i := first + rng.IntN(r-first)
				c.g[i][j] = step(old[i] + scale*rng.NormFloat64())
			}
			was := c.worst
			rows, lost := c.rows, c.lost
			if c.measure(was) && c.worst < was {
				idle = 0
				continue
			}
			if idle++; idle%7 == 0 {
				scale = max(scale*0.97, 1.0/unit)
			}
			for i := range r {
				c.g[i][j] = old[i]
			}
			c.worst = was
			// The pattern that refused this change need not be the worst one.
			c.rows, c.lost = rows, lost
		}
		if c.worst < best.worst {
			best.take(c)
			best.measure(math.Inf(1))
		}
	}
}

func (c *code) take(from *code) {
	for i := range c.g {
		copy(c.g[i], from.g[i])
	}
	c.worst, c.rows = from.worst, nil
}

// single is the worst condition number where one data slice is lost and the
// first parity result is there.
func (c *code) single() float64 {
	gg := gram(c.g)
	worst := 1.0
	for j := range c.g[0] {
		worst = max(worst, condition(&gg, c.g, []int{0}, []int{j}))
	}
	return worst
}
