package coordinator

import (
	"slices"
	"sync"
	"time"
)

// pace is how long the workers of a layer take for their slices, by the last
// of those that were on time.
type pace struct {
	mu     sync.Mutex // guards the fields below
	last   [256]time.Duration
	n      int // ever noted
	sorted [256]time.Duration
	seen   int // n when sorted was made
}

func (p *pace) note(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.n%len(p.last)] = took
	p.n++
}

// quantile is the time that a share q of the slices did not exceed; false before
// anything is known.
func (p *pace) quantile(q float64) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		return 0, false
	}
	known := p.sorted[:min(p.seen, len(p.sorted))]
	if p.n >= p.seen+1+min(p.seen, len(p.last))/16 { // else they say nearly the same
		known = p.sorted[:copy(p.sorted[:], p.last[:min(p.n, len(p.last))])]
		slices.Sort(known)
		p.seen = p.n
	}
	return known[min(int(q*float64(len(known))), len(known)-1)], true
}

// trust says whether a worker's results are worth waiting for: none that comes
// late is, until it was on time again as often as it was late in turns before.
// So one that is now late, now on time does not cost a wait each time.
type trust struct {
	mu    sync.Mutex // guards the fields below
	owed  int        // times that it must be on time
	price int        // what lateness costs
	good  int        // times on time without a break
}

// mostOwed is the most times that a worker must be on time to be trusted again.
const mostOwed = 16

// lose notes that a result was late.
func (t *trust) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owed == 0 {
		t.price = min(max(2*t.price, 1), mostOwed)
	}
	t.owed, t.good = t.price, 0
}

// regain notes that one was on time.
func (t *trust) regain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owed = max(t.owed-1, 0)
	if t.good++; t.good%(4*mostOwed) == 0 {
		t.price /= 2
	}
}

// renew trusts a worker that has joined anew.
func (t *trust) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owed = 0
}

func (t *trust) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owed == 0
}
