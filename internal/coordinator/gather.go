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
	writing  bool // of all those, results that are being written complete k
	hopeless bool // of some, fewer than k will be there
	slow     bool // of some, k will be there only by workers that were late before
	missing  bool // some of the data is not there
	hopeful  bool // some of that may still come from a worker that was on time before
	all      bool // every result is there or may still come
	complete bool // every result is there
}

func (l *call) count(layer *plan.Layer) (n standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := layer.K()
	n.all, n.complete, n.writing = true, true, true
	for b := range l.blocks {
		have, busy, open, soon := 0, 0, 0, 0
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
			n.slow = n.slow || have+busy+soon < k
		}
	}
	return n
}

// promised says whether somebody who is usually on time is to give block b of
// result u; mu is held.
func (l *call) promised(layer *plan.Layer, u, b int) bool {
	for a, p := range l.asks {
		if p.slice%layer.Results() == u && *l.cell(a, b) == pending && !p.worker.late.Load() {
			return true
		}
	}
	return false
}

// gather returns when k results of each block are there (and the grace of those
// that are worth it is over), computing here what nobody else gives in time.
func (l *call) gather(ctx context.Context, layer int, begin time.Time) error {
	c := l.c
	pl := &c.plan.Layers[layer]
	coded := pl.Cover != plan.None
	var patience, brief, grace time.Time
	if coded {
		patience, brief = begin.Add(patienceFirst), begin.Add(patienceFirst)
		if usual, known := c.paces[layer].quantile(0.5); known {
			long := time.Duration(float64(usual) * c.cfg.Patience)
			patience, brief = begin.Add(max(patienceFloor, long)), begin.Add(max(graceFloor, long))
		}
	}
	helping := never
	defer l.timer.Stop()
	for {
		n := l.count(pl)
		now := time.Now()
		limit := patience
		if n.slow {
			limit = brief // for workers that were late before
		}
		// An audit needs every result: with one lost, it waits for none.
		unchecked := l.audited && pl.Cover == plan.Parity && n.all && !n.complete
		var wake time.Time
		switch {
		case !n.missing && !unchecked:
			return nil
		case !n.short:
			if grace.IsZero() {
				grace = now.Add(max(graceFloor, time.Duration(float64(now.Sub(begin))*c.cfg.Grace)))
			}
			worth := unchecked || n.hopeful && c.cfg.Grace >= 0
			if !worth || !now.Before(grace) {
				return nil
			}
			wake = grace
		case n.writing: // and says when it is done
		case n.hopeless && (helping > never || !coded):
			return l.lostError(layer)
		case helping == late: // whoever is first
		case !limit.IsZero() && !now.Before(limit):
			// What was waited in vain is not for grace to go by.
			begin, helping = now, late
			l.help(late)
			continue
		case n.hopeless:
			helping = gone
			l.help(gone)
			continue
		default:
			wake = limit
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
		l.mu.Unlock()
		if !busy {
			break
		}
		<-l.changed // somebody is copying out of memory, no network involved
	}
	pl := &l.c.plan.Layers[layer]
	for a := range l.asks {
		p := &l.asks[a]
		switch {
		case p.worker == nil:
			j := p.slice
			l.answer.Recomputed = append(l.answer.Recomputed, Recovered{Layer: layer, Slice: j, Worker: l.holders[j].number})
		case p.sent.IsZero():
		case p.left == 0:
			p.worker.onTime()
		case !l.awaited(a):
		case err == nil && (l.missing > 0 || l.recomputed(p.slice%pl.Results())):
			// Gone on without a result that might have come.
			l.c.overdue(p.worker)
			l.answer.Late++
			l.cancel(layer, p)
		default:
			l.cancel(layer, p)
		}
	}
}

// awaited says whether some of ask a may still come.
func (l *call) awaited(a int) bool {
	for b := range l.blocks {
		if *l.cell(a, b) == pending {
			return true
		}
	}
	return false
}

// cancel tells a worker that its result is not wanted any more.
func (l *call) cancel(layer int, p *ask) {
	p.conn.TrySend(frame.Header{Type: frame.Cancel, Request: l.request, Layer: uint32(layer), Slice: uint32(p.slice)}, nil)
}
