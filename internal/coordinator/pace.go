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
	last   [64]time.Duration
	n      int // ever noted
	sorted [64]time.Duration
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
	known := p.sorted[:copy(p.sorted[:], p.last[:min(p.n, len(p.last))])]
	slices.Sort(known)
	return known[min(int(q*float64(len(known))), len(known)-1)], true
}
