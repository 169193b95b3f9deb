package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// call is one request on its way through the model, and the engine.Remote that
// computes its split layers. Its buffers are used again by later requests; the
// request number tells a late result that it is not meant.
type call struct {
	c       *Coordinator
	session *engine.Session
	answer  *Answer // of the request under way

	parity  []float32   // results of the parity slice [Outer, height, Inner]
	others  [][]float32 // scratch of decode
	scratch []float32   // of recompute; nil until it is needed
	changed chan struct{}
	timer   *time.Timer

	mu      sync.Mutex // guards the fields below
	request uint64
	layer   int       // of the plan; none between layers
	out     []float32 // the layer's output [Outer, Rows, Inner]
	slices  []part    // by slice: k data, then r parity
}

const none = -1

// part is the state of one slice of the layer under way.
type part struct {
	state  partState
	conn   *link.Conn // where the input was sent
	worker *member
}

type partState uint8

const (
	lost    partState = iota // nobody will give it
	pending                  // sent, no result yet
	filling                  // its result is being written into the output
	arrived
)

func newCall(c *Coordinator) *call {
	l := &call{
		c: c, session: c.program.NewSession(), layer: none,
		changed: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
		slices: make([]part, c.plan.N()), others: make([][]float32, 0, max(c.plan.Data, 1)),
	}
	l.timer.Stop()
	if c.plan.Parity > 0 {
		size := 0
		for _, layer := range c.plan.Layers {
			size = max(size, layer.Linear.OutputLen(layer.Height(c.plan.Data)))
		}
		l.parity = make([]float32, size)
	}
	return l
}

// Linear implements engine.Remote: it has the workers compute a split layer,
// dst [Outer,Rows,Inner] from the layer's whole input x.
func (l *call) Linear(ctx context.Context, layer int, dst, x []float32) error {
	begin := time.Now()
	l.scatter(layer, dst, x)
	if l.c.cfg.OnScatter != nil {
		l.c.cfg.OnScatter(l.request, layer)
	}
	err := l.gather(ctx, layer, begin, x)
	l.settle(layer, err)
	if err != nil {
		return err
	}
	return l.decode(layer, dst, x)
}

// scatter sends the input to every worker that can take it at once: one copy
// of it, shared by all connections, because a slow connection may still be
// writing it when this request is long answered.
func (l *call) scatter(layer int, dst, x []float32) {
	c := l.c
	input := link.PayloadOf(tensor.Bytes(x))
	defer input.Release()
	l.mu.Lock()
	l.layer, l.out = layer, dst
	for i := range l.slices {
		l.slices[i] = part{}
	}
	l.mu.Unlock()
	for w, m := range c.members {
		c.mu.Lock()
		conn, ready := m.conn, m.ready
		c.mu.Unlock()
		s := c.plan.SliceOf(layer, w)
		p := part{state: pending, conn: conn, worker: m}
		if !ready {
			p.state = lost
		}
		l.mu.Lock()
		l.slices[s] = p // before sending: the result may be quick
		l.mu.Unlock()
		if !ready {
			continue
		}
		h := frame.Header{Type: frame.Compute, Request: l.request, Layer: uint32(layer), Slice: uint32(s)}
		if !conn.TrySend(h, input) {
			l.setLost(s)
		}
	}
}

func (l *call) setLost(slice int) {
	l.mu.Lock()
	if l.slices[slice].state == pending {
		l.slices[slice].state = lost
	}
	l.mu.Unlock()
	l.notify()
}

// connLost gives up what was sent on conn.
func (l *call) connLost(conn *link.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.layer == none {
		return
	}
	for i := range l.slices {
		if p := &l.slices[i]; p.conn == conn && p.state == pending {
			p.state = lost
		}
	}
	l.notify()
}

func (l *call) notify() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// deliver takes a worker's result, if this request still wants it, into the
// output; payload nil means that the worker has none.
func (l *call) deliver(m *member, h frame.Header, payload []byte) {
	l.mu.Lock()
	// Compared as uint32: an int has 32 bits on arm, and none is -1.
	if l.request != h.Request || l.layer == none || uint32(l.layer) != h.Layer || h.Slice >= uint32(len(l.slices)) {
		l.mu.Unlock()
		return
	}
	s := int(h.Slice)
	p := &l.slices[s]
	if p.worker != m || p.state != pending {
		l.mu.Unlock()
		return
	}
	layer := l.c.plan.Layers[l.layer]
	if len(payload) != 4*layer.Linear.OutputLen(layer.Height(s)) {
		p.state = lost
		l.mu.Unlock()
		l.notify()
		return
	}
	p.state = filling
	out := l.out
	l.mu.Unlock()

	l.place(layer, s, out, tensor.View[float32](payload))

	l.mu.Lock()
	p.state = arrived
	l.mu.Unlock()
	l.notify()
}

// place copies the result [Outer, height, Inner] of slice s to where it
// belongs: its rows of out, or the parity buffer.
func (l *call) place(layer plan.Layer, s int, out, result []float32) {
	if s >= l.c.plan.Data {
		copy(l.parity, result)
		return
	}
	size := layer.Height(s) * layer.Linear.Inner
	for o := range layer.Linear.Outer {
		copy(rowsOf(layer, s, out, o), result[o*size:(o+1)*size])
	}
}

// rowsOf is the part of out [Outer, Rows, Inner] that data slice s fills at
// outer index o.
func rowsOf(layer plan.Layer, s int, out []float32, o int) []float32 {
	begin, end := layer.Rows(s)
	base := o * layer.Linear.Rows
	return out[(base+begin)*layer.Linear.Inner : (base+end)*layer.Linear.Inner]
}

// count says how the slices stand: results that are there, results that may
// still come, results being written; whether a data slice is not there; and
// whether one of those may still come from a worker that is usually on time.
func (l *call) count() (have, open, busy int, missing, hopeful bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.slices {
		switch p.state {
		case arrived:
			have++
			continue
		case filling:
			busy++
		case pending:
			open++
		}
		if i < l.c.plan.Data {
			missing = true
			hopeful = hopeful || p.state == pending && !p.worker.late.Load()
		}
	}
	return have, open, busy, missing, hopeful
}

// gather returns when k results are there (and the grace of those that are
// worth it is over), computing here what nobody else will give.
func (l *call) gather(ctx context.Context, layer int, begin time.Time, x []float32) error {
	c := l.c
	k, coded := c.plan.Data, c.plan.Parity > 0
	usual := &c.usual[layer]
	var patience, grace time.Time
	if u := usual.Load(); coded && u > 0 {
		patience = begin.Add(max(patienceFloor, time.Duration(float64(u)*c.cfg.Patience)))
	} else if coded {
		patience = begin.Add(patienceFirst)
	}
	vain := false // the layer has computed here because patience ended
	defer l.timer.Stop()
	for {
		have, open, busy, missing, hopeful := l.count()
		now := time.Now()
		wake := patience
		switch {
		case !missing:
			if grace.IsZero() {
				learn(usual, now.Sub(begin))
			}
			return nil
		case have >= k:
			if grace.IsZero() {
				learn(usual, now.Sub(begin))
				grace = now.Add(max(graceFloor, time.Duration(float64(now.Sub(begin))*c.cfg.Grace)))
			}
			if busy == 0 && (!hopeful || c.cfg.Grace < 0 || !now.Before(grace)) {
				return nil
			}
			wake = grace
		case have+open+busy < k || !patience.IsZero() && !now.Before(patience):
			if !coded {
				return l.lostError(layer)
			}
			if busy > 0 && have+busy >= k {
				break // what is missing is being written
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if !vain && have+open+busy >= k {
				// What was waited in vain is not learnt: else patience, a
				// multiple of what is learnt, would grow without end.
				vain, begin = true, now
			}
			if err := l.recompute(layer, x); err != nil {
				return err
			}
			continue
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

// learn smooths the time a layer's k-th result takes.
func learn(usual *atomic.Int64, took time.Duration) {
	if old := usual.Load(); old > 0 {
		took = (7*time.Duration(old) + took) / 8
	}
	usual.Store(int64(max(took, 1)))
}

func (l *call) lostError(layer int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &LostError{Layer: l.c.plan.Layers[layer].Node}
	for s := range l.c.plan.Data {
		if l.slices[s].state == lost {
			e.Slices = append(e.Slices, s)
			e.Workers = append(e.Workers, l.slices[s].worker.name)
		}
	}
	return e
}

// recompute computes one data slice that is not there, lost ones first.
func (l *call) recompute(layer int, x []float32) error {
	c := l.c
	pl := c.plan.Layers[layer]
	l.mu.Lock()
	s := none
	for i := range c.plan.Data {
		state := l.slices[i].state
		if state == lost || state == pending && s == none {
			s = i
			if state == lost {
				break
			}
		}
	}
	if s == none {
		l.mu.Unlock()
		return nil
	}
	p := &l.slices[s]
	if p.state == pending {
		l.giveUp(layer, s)
	}
	out, worker := l.out, p.worker
	p.state, p.worker = filling, nil // what its worker may still send is not wanted
	l.mu.Unlock()

	state := arrived
	var err error
	if l.scratch, err = c.local.compute(c.pool, layer, s, x, l.scratch); err != nil {
		state = lost
		err = fmt.Errorf("compute slice %d of layer %s here: %w", s, pl.Node, err)
	} else {
		l.place(pl, s, out, l.scratch)
		l.answer.Recomputed = append(l.answer.Recomputed, Recovered{Layer: layer, Slice: s, Worker: worker.slot})
	}
	l.mu.Lock()
	p.state = state
	l.mu.Unlock()
	return err
}

// settle closes the layer: nothing is written to its output any more. Workers
// whose results are still out are told to stop, and remembered as late if the
// request went on without a data slice.
func (l *call) settle(layer int, err error) {
	for {
		l.mu.Lock()
		l.layer = none
		busy := false
		for _, p := range l.slices {
			busy = busy || p.state == filling
		}
		l.mu.Unlock()
		if !busy {
			break
		}
		<-l.changed // a reader is copying out of memory, no network involved
	}
	missing := false
	for _, p := range l.slices[:l.c.plan.Data] {
		missing = missing || p.state != arrived
	}
	for s, p := range l.slices {
		switch {
		case p.state == arrived && p.worker != nil:
			p.worker.answered.Add(1)
			p.worker.late.Store(false)
		case p.state == pending && missing && err == nil:
			l.giveUp(layer, s)
		case p.state == pending:
			l.cancel(layer, s)
		}
	}
}

// giveUp goes on without a result that may still come.
func (l *call) giveUp(layer, s int) {
	w := l.slices[s].worker
	w.missed.Add(1)
	w.late.Store(true)
	l.answer.Late++
	l.cancel(layer, s)
}

// cancel tells a worker that its result is not wanted any more.
func (l *call) cancel(layer, s int) {
	l.slices[s].conn.TrySend(frame.Header{Type: frame.Cancel, Request: l.request, Layer: uint32(layer), Slice: uint32(s)}, nil)
}

// decode recovers the data slice that is not there, straight into dst. Where a
// sum of results overflows, which one of them need not, it is computed here
// from the layer's input x.
func (l *call) decode(layer int, dst, x []float32) error {
	c := l.c
	missing := none
	for s := range c.plan.Data {
		if l.slices[s].state != arrived {
			missing = s
		}
	}
	if missing == none {
		return nil
	}
	begin := time.Now()
	pl := c.plan.Layers[layer]
	size := pl.Height(c.plan.Data) * pl.Linear.Inner
	for o := range pl.Linear.Outer {
		l.others = l.others[:0]
		for s := range c.plan.Data {
			if s != missing {
				l.others = append(l.others, rowsOf(pl, s, dst, o))
			}
		}
		if !c.code.Recover(rowsOf(pl, missing, dst, o), l.parity[o*size:(o+1)*size], l.others) {
			l.slices[missing].state = lost
			return l.recompute(layer, x)
		}
	}
	w := l.slices[missing].worker
	w.decoded.Add(1)
	l.answer.Decoded = append(l.answer.Decoded, Recovered{Layer: layer, Slice: missing, Worker: w.slot})
	l.answer.Decoding += time.Since(begin)
	return nil
}
