package coordinator

import (
	"sync"
	"time"

	"starling/internal/frame"
)

const (
	// lateTimes is how many times the usual a result takes that is late. One
	// that was not waited for is not late by that: somebody is always last.
	lateTimes = 2
	// trialAfter is how often in a row a worker's result is not waited for when
	// it is tried whether it is late.
	trialAfter = 8
	// trialEvery is the time between two trials.
	trialEvery = 250 * time.Millisecond
)

// trial finds out how long a worker takes whose results nobody waits for: one of
// them is not cancelled and has its time taken, though its request is answered.
// A worker that is late gets no other work.
type trial struct {
	mu      sync.Mutex // guards the fields below
	passed  int        // results in a row that were not waited for
	next    time.Time  // when another trial may begin
	request uint64     // of the result that is tried; 0 if none
	layer   uint32
	slice   uint32
	by      time.Time // it is late after that
}

// due says whether a trial may begin.
func (t *trial) due(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !now.Before(t.next)
}

// reset forgets what was before: a result came in time, or the worker is new.
func (t *trial) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passed, t.request, t.next = 0, 0, time.Time{}
}

// pass notes that a request went on without the result that was asked for at
// sent, and is late after by. It says whether that one is tried, and whether the
// worker is late.
func (t *trial) pass(request uint64, layer, slice int, sent, by, now time.Time) (tried, late bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if late = now.After(by); t.request != 0 {
		if !now.After(t.by) {
			return false, late
		}
		t.request, late = 0, true
	}
	if t.passed++; late || t.passed < trialAfter || now.Before(t.next) {
		return false, late
	}
	t.request, t.layer, t.slice = request, uint32(layer), uint32(slice)
	t.by, t.next = by, now.Add(trialEvery)
	return true, false
}

// end sees an answer that nobody waits for: whether it is the one that is tried,
// and whether it is late.
func (t *trial) end(h frame.Header, now time.Time) (tried, late bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.request == 0 || h.Request != t.request || h.Layer != t.layer || h.Slice != t.slice {
		return false, false
	}
	t.request = 0
	if late = now.After(t.by) || h.Type != frame.Result; !late {
		t.passed = 0
	}
	return true, late
}

// passOver notes that a request went on without what ask p may still give, and
// says whether it is to come all the same.
func (c *Coordinator) passOver(request uint64, layer int, p *ask) (tried bool) {
	m := p.worker
	m.missed.Add(1)
	m.trust.lose()
	by := p.sent.Add(patienceFirst)
	if usual, known := c.paces[layer].quantile(0.5); known {
		by = p.sent.Add(max(graceFloor, lateTimes*usual))
	}
	tried, late := m.trial.pass(request, layer, p.slice, p.sent, by, time.Now())
	if late {
		c.overdue(m)
	}
	return tried
}
