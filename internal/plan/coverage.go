package plan

import "slices"

// Coverage is how much of a plan's losses cost nothing: no request, no
// computing again, no waiting. It is exact, by enumeration; a code of r parity
// slices gives any r lost results.
type Coverage struct {
	Single    float64 // share of the workers that may be lost alone
	Double    float64 // share of the pairs of workers; 1 if there is none
	Uncovered []int   // workers whose loss alone is not covered
	Pairs     [][2]int
}

// Coverage enumerates the losses of one and of two workers. Pairs lists the
// pairs that are not covered.
func (p *Plan) Coverage() Coverage {
	n := p.Workers
	c := Coverage{Single: 1, Double: 1}
	lost := make([]bool, n)
	pairs := 0
	for a := range n {
		lost[a] = true
		if !p.survives(lost) {
			c.Uncovered = append(c.Uncovered, a)
		}
		for b := a + 1; b < n; b++ {
			lost[b] = true
			pairs++
			if !p.survives(lost) {
				c.Pairs = append(c.Pairs, [2]int{a, b})
			}
			lost[b] = false
		}
		lost[a] = false
	}
	if n > 0 {
		c.Single = float64(n-len(c.Uncovered)) / float64(n)
	}
	if pairs > 0 {
		c.Double = float64(pairs-len(c.Pairs)) / float64(pairs)
	}
	return c
}

func (p *Plan) survives(lost []bool) bool {
	for i := range p.Layers {
		if !p.Layers[i].survives(lost) {
			return false
		}
	}
	return true
}

// survives says whether the workers that are left give every data result, or
// as many parities as data results are missing.
func (l *Layer) survives(lost []bool) bool {
	missing, parities := 0, 0
	for u := range l.Results() {
		gone := true
		for s := u; s < l.N(); s += l.Results() {
			gone = gone && lost[l.Workers[s]]
		}
		switch {
		case u < l.K() && gone:
			missing++
		case u >= l.K() && !gone:
			parities++
		}
	}
	return missing <= parities
}

// Margin is how many workers more, whichever they are, every layer can lose
// when those are lost already: -1 if some layer lacks a result.
func (p *Plan) Margin(lost []bool) int {
	margin := p.Workers
	for i := range p.Layers {
		margin = min(margin, p.Layers[i].margin(lost))
	}
	return margin
}

func (l *Layer) margin(lost []bool) int {
	held := make([]int, len(lost)) // results that only this worker still gives
	left, fewest := 0, l.N()
	for u := range l.Results() {
		holders, one := 0, 0
		for s := u; s < l.N(); s += l.Results() {
			if w := l.Workers[s]; !lost[w] {
				holders, one = holders+1, w
			}
		}
		fewest = min(fewest, holders)
		if holders > 0 {
			left++
			held[one]++
		}
	}
	if l.R() == 0 { // the result with the fewest holders
		return fewest - 1
	}
	// Each result has one holder: the worst losses are of who holds most.
	slices.Sort(held)
	spare, margin := left-l.K(), 0
	if spare < 0 {
		return -1
	}
	for i := len(held) - 1; i >= 0 && held[i] > 0 && held[i] <= spare; i-- {
		spare -= held[i]
		margin++
	}
	return margin
}
