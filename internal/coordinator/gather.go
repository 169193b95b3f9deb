package coordinator

import (
	"context"
	"time"

	"starling/internal/frame"
	"starling/internal/plan"
)

// standing says how the blocks of a layer stand.
type standing struct {
	short    bool // of some, fewer than k results are there
	failed   bool // it was tried to compute such a one here, in vain
	writing  bool // of all those, results that are being written complete k
	hopeless bool // of some, fewer than k will be there
	tight    bool // of some, a data result is lost and just k will be there
	slow     bool // of some, k will be there only by workers that were late before
	missing  bool // some of the data is not there
	hopeful  bool // some of that may still come from a worker that was on time before
	all      bool // every result is there or may still come, or so many copies that they can be compared
	complete bool // every one of those is there
}

func (l *call) count(layer *plan.Layer) (n standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := layer.K()
	n.all, n.complete, n.writing, n.failed = true, true, true, l.failure != nil
	for b := range l.blocks {
		have, busy, open, soon, gone := 0, 0, 0, 0, 0
		for u := range layer.Results() {
			switch l.state(layer, u, b) {
			case arrived:
				have++
				continue
			case filling:
				busy++
			case pending:
				open++
				if l.promised(layer, u, b) {
					soon++
					n.hopeful = n.hopeful || u < k
				}
			case lost:
				n.all = false
				if u < k {
					gone++
				}
				if l.helping > never && u < k {
					open++
					soon++
				}
			}
			n.complete = false
			n.missing = n.missing || u < k
		}
		if have < k {
			n.short = true
			n.writing = n.writing && have+busy >= k
			n.hopeless = n.hopeless || have+busy+open < k
			n.tight = n.tight || gone > 0 && have+busy+open == k
			n.slow = n.slow || have+busy+soon < k
		}
	}
	if l.audited && layer.Cover == plan.Replicate {
		n.all, n.complete = true, !l.comparable(layer)
	}
	return n
}

// promised says whether somebody who is usually on time is to give block b of
// result u; mu is held.
func (l *call) promised(layer *plan.Layer, u, b int) bool {
	for a, p := range l.asks {
		if p.slice%layer.Results() == u && *l.cell(a, b) == pending && p.prompt {
			return true
		}
	}
	return false
}

// gather returns when k results of each block are there (and the grace of those
// that are worth it is over), asking others for what does not come in time.
func (l *call) gather(ctx context.Context, layer int, begin time.Time) error {
	c := l.c
	pl := &c.plan.Layers[layer]
	g := l.limits(layer, begin)
	var grace time.Time
	defer l.timer.Stop()
	for {
		n := l.count(pl)
		now := time.Now()
		// An audit by a code needs every result: with one lost, it waits for none.
		unchecked := l.audited && pl.Cover != plan.None && n.all && !n.complete
		var wake time.Time
		switch {
		case !n.missing && !unchecked:
			return nil
		case !n.short:
			if grace.IsZero() {
				grace = now.Add(max(graceFloor, time.Duration(float64(now.Sub(g.begin))*c.cfg.Grace)) + l.apart())
			}
			worth := unchecked || n.hopeful && c.cfg.Grace >= 0
			wake = grace
			if unchecked && g.patience.After(grace) {
				wake = g.patience
			}
			if !worth || !now.Before(wake) {
				if worth {
					markGrace.Pass()
				}
				return nil
			}
		case n.writing: // and says when it is done
		case n.failed: // what no worker can compute either
			return l.lostError(layer)
		case n.hopeless || g.due(n, now):
			if err := ctx.Err(); err != nil {
				return err
			}
			if !l.escalate(pl, &g, n, now) {
				return l.lostError(layer)
			}
			continue
		default:
			wake = g.next(n)
			if g.helping > never {
				l.help(g.helping) // also with what was lost since
			}
		}
		if !wake.IsZero() {
			l.timer.Reset(max(wake.Sub(now), 0))
		}
		select {
		case <-l.changed:
		case <-l.timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return ErrClosed
		}
	}
}

// lostError says what will not come, or why it could not be computed here.
func (l *call) lostError(layer int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return l.failure
	}
	pl := &l.c.plan.Layers[layer]
	e := &LostError{Layer: pl.Node}
	for j := range pl.K() {
		for b := range pl.Blocks(j) {
			if l.state(pl, j, b) == lost {
				e.Slices = append(e.Slices, j)
				e.Workers = append(e.Workers, l.asks[j].worker.name)
				break
			}
		}
	}
	return e
}

// settle closes the layer: nothing is written to its output any more. Workers
// whose results are still out are told to stop, and remembered as late if the
// request went on without a data slice.
func (l *call) settle(layer int, err error) {
	for {
		l.mu.Lock()
		l.layer = none
		l.stop.Store(true)
		busy := false
		for _, p := range l.cells {
			busy = busy || p == filling
		}
		if !busy {
			for a := range l.asks {
				if p := &l.asks[a]; p.open {
					p.behind.Add(1)
				}
			}
		}
		l.mu.Unlock()
		if !busy {
			break
		}
		<-l.changed // somebody is copying out of memory, no network involved
	}
	pl := &l.c.plan.Layers[layer]
	for a := range l.asks {
		p := &l.asks[a]
		if j := p.slice; a >= pl.N() && p.gave > 0 {
			r := Recovered{Layer: layer, Slice: j, Worker: l.holders[j].number}
			if p.worker == nil {
				l.answer.Recomputed = append(l.answer.Recomputed, r)
			} else {
				l.answer.Reasked = append(l.answer.Reasked, r)
			}
		}
		switch {
		case p.conn == nil:
		case p.left == 0:
			p.worker.onTime()
			if !l.enough.IsZero() {
				p.worker.lateness.note(p.came.Sub(l.enough))
			}
		case !p.open:
		case err == nil && (l.missing > 0 || l.overtaken(pl, a)):
			// Gone on without a result that might have come.
			p.worker.lateness.given.Add(1)
			l.answer.Late++
			if !l.c.passOver(l.request, layer, p) {
				l.cancel(layer, p)
			}
		default:
			l.cancel(layer, p)
		}
	}
}

// overtaken says whether somebody else was asked for what ask a may still give, and
// gave it.
func (l *call) overtaken(layer *plan.Layer, a int) bool {
	for _, p := range l.asks {
		if p.extra && p.gave > 0 && p.slice%layer.Results() == l.asks[a].slice%layer.Results() {
			return true
		}
	}
	return false
}

// cancel tells a worker that its result is not wanted any more.
func (l *call) cancel(layer int, p *ask) {
	p.conn.TrySend(frame.Header{Type: frame.Cancel, Request: l.request, Layer: uint32(layer), Slice: uint32(p.slice)}, nil)
}
