package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/kernel"
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
	audited bool    // wait for all results, and check them
	answer  *Answer // of the request under way

	inputs  []*link.Payload // of scatter, by result
	aside   [][]float32     // by result: those that do not go into the output as they are
	decoder decoder
	auditor auditor
	scratch scratch // of recompute
	changed chan struct{}
	timer   *time.Timer

	placing sync.Mutex // held while a result is written where another's may overlap it

	mu      sync.Mutex // guards the fields below
	request uint64
	layer   int       // of the plan; none between layers
	out     []float32 // the layer's output [Outer, Rows, Inner]
	slices  []part    // of the layer under way
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
	arrived                  // also a result that a copy had given before
)

func newCall(c *Coordinator) *call {
	l := &call{
		c: c, session: c.program.NewSession(), layer: none,
		changed: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
	}
	l.timer.Stop()
	return l
}

// Linear implements engine.Remote: it has the workers compute a split layer,
// dst [Outer,Rows,Inner] from the layer's whole input x.
func (l *call) Linear(ctx context.Context, layer int, out, in []byte, _ int32) error {
	dst, x := tensor.View[float32](out), tensor.View[float32](in)
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
	if l.c.plan.Layers[layer].Sums() {
		l.sum(layer, dst)
		return nil
	}
	if l.audited {
		if err := l.audit(layer, dst, x); err != nil {
			return err
		}
	}
	return l.decode(layer, dst, x)
}

// scatter sends every slice its input, if its worker can take it at once. One
// copy of an input is shared by all that take it, because a slow connection may
// still be writing it when this request is long answered.
func (l *call) scatter(number int, dst, x []float32) {
	c := l.c
	layer := &c.plan.Layers[number]
	l.prepare(layer)
	l.fillInputs(number, x)
	defer l.releaseInputs()
	l.mu.Lock()
	l.layer, l.out = number, dst
	l.slices = l.slices[:0]
	for range layer.Workers {
		l.slices = append(l.slices, part{})
	}
	l.mu.Unlock()
	for s, w := range layer.Workers {
		c.mu.Lock()
		m := c.places[w]
		conn, ready := m.conn, m.ready && !m.quarantined.Load()
		c.mu.Unlock()
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
		h := frame.Header{Type: frame.Compute, Request: l.request, Layer: uint32(number), Slice: uint32(s), Nth: uint32(layer.Nth(s))}
		if !conn.TrySend(h, l.inputs[s%len(l.inputs)]) {
			l.setLost(s)
		}
	}
}

// prepare makes room for the results that are kept aside.
func (l *call) prepare(layer *plan.Layer) {
	for u := range layer.Results() {
		if u == len(l.aside) {
			l.aside = append(l.aside, nil)
		}
		if u >= layer.K() || layer.Sums() {
			l.aside[u] = sized(l.aside[u], layer.Slice(u).OutputLen())
		}
	}
}

func sized(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}

// fillInputs makes what each result is computed from: one payload for all, or
// each data slice's part of x and then the parities' combinations of those.
func (l *call) fillInputs(number int, x []float32) {
	layer := &l.c.plan.Layers[number]
	if layer.SharesInput() {
		l.inputs = append(l.inputs, link.PayloadOf(tensor.Bytes(x)))
		return
	}
	data := l.decoder.from[:0]
	for u := range layer.Results() {
		p := link.NewPayload(4 * layer.Slice(u).InputLen())
		l.inputs = append(l.inputs, p)
		if u < layer.K() {
			layer.Input(u, p.Bytes(), tensor.Bytes(x), 0)
			data = append(data, p.Float32s())
		} else {
			l.c.codes[number].Encode(p.Float32s(), u-layer.K(), data)
		}
	}
	l.decoder.from = data
}

func (l *call) releaseInputs() {
	for _, p := range l.inputs {
		p.Release()
	}
	l.inputs = l.inputs[:0]
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
	layer := &l.c.plan.Layers[l.layer]
	if len(payload) != 4*layer.Slice(s).OutputLen() {
		p.state = lost
		l.mu.Unlock()
		l.notify()
		return
	}
	u, out := s%layer.Results(), l.out
	if l.state(layer, u) >= filling {
		p.state = arrived // too late to be used, but it is there
		l.mu.Unlock()
		return
	}
	p.state = filling
	l.mu.Unlock()

	l.place(layer, u, out, tensor.View[float32](payload))

	l.mu.Lock()
	p.state = arrived
	l.mu.Unlock()
	l.notify()
}

// place copies result u to where it belongs: to its part of out, or aside.
func (l *call) place(layer *plan.Layer, u int, out, result []float32) {
	if u >= layer.K() || layer.Sums() {
		copy(l.aside[u], result)
		return
	}
	if layer.Overlaps() {
		l.placing.Lock()
		defer l.placing.Unlock()
	}
	layer.Place(u, out, result)
}

// state is how result u stands: as the best of the slices that give it. mu is
// held, or the layer is settled.
func (l *call) state(layer *plan.Layer, u int) partState {
	best := lost
	for s := u; s < len(l.slices); s += layer.Results() {
		best = max(best, l.slices[s].state)
	}
	return best
}

// standing says how the results of a layer stand.
type standing struct {
	have, open, busy int  // there; may still come; being written
	soon             int  // of those open, from a worker that is usually on time
	missing          bool // a data result is not there
	hopeful          bool // one of those may still come from such a worker
}

func (l *call) count(layer *plan.Layer) (n standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for u := range layer.Results() {
		state := l.state(layer, u)
		if state == arrived {
			n.have++
			continue
		}
		prompt := false
		for s := u; s < len(l.slices); s += layer.Results() {
			prompt = prompt || l.slices[s].state == pending && !l.slices[s].worker.late.Load()
		}
		if state == filling {
			n.busy++
		}
		if state == pending {
			n.open++
			if prompt {
				n.soon++
			}
		}
		if u < layer.K() {
			n.missing = true
			n.hopeful = n.hopeful || prompt
		}
	}
	return n
}

// gather returns when k results are there (and the grace of those that are
// worth it is over), computing here what nobody else will give.
func (l *call) gather(ctx context.Context, layer int, begin time.Time, x []float32) error {
	c := l.c
	pl := &c.plan.Layers[layer]
	k, coded := pl.K(), pl.Cover != plan.None
	usual := &c.usual[layer]
	var patience, brief, grace time.Time
	if u := usual.Load(); coded && u > 0 {
		long := time.Duration(float64(u) * c.cfg.Patience)
		patience, brief = begin.Add(max(patienceFloor, long)), begin.Add(max(graceFloor, long))
	} else if coded {
		patience, brief = begin.Add(patienceFirst), begin.Add(patienceFirst)
	}
	vain := false // the layer has computed here because patience ended
	defer l.timer.Stop()
	for {
		n := l.count(pl)
		now := time.Now()
		wake := patience
		if n.have+n.busy+n.soon < k {
			wake = brief // for workers that were late before
		}
		// An audit needs every result: with one lost, it waits for none.
		unchecked := l.audited && pl.Cover == plan.Parity && n.have < pl.Results() && n.have+n.open+n.busy == pl.Results()
		switch {
		case !n.missing && !unchecked:
			if grace.IsZero() {
				learn(usual, now.Sub(begin))
			}
			return nil
		case n.have >= k:
			if grace.IsZero() {
				learn(usual, now.Sub(begin))
				grace = now.Add(max(graceFloor, time.Duration(float64(now.Sub(begin))*c.cfg.Grace)))
			}
			worth := unchecked || n.hopeful && c.cfg.Grace >= 0
			if n.busy == 0 && (!worth || !now.Before(grace)) {
				return nil
			}
			wake = grace
		case n.have+n.open+n.busy < k || !wake.IsZero() && !now.Before(wake):
			if !coded {
				return l.lostError(layer)
			}
			if n.busy > 0 && n.have+n.busy >= k {
				wake = time.Time{} // what is missing is being written, and says when
				break
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if !vain && n.have+n.open+n.busy >= k {
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
	pl := &l.c.plan.Layers[layer]
	e := &LostError{Layer: pl.Node}
	for j := range pl.K() {
		if l.state(pl, j) == lost {
			e.Slices = append(e.Slices, j)
			e.Workers = append(e.Workers, l.slices[j].worker.name)
		}
	}
	return e
}

// recompute computes one data slice that is not there, lost ones first.
func (l *call) recompute(layer int, x []float32) error {
	c := l.c
	pl := &c.plan.Layers[layer]
	l.mu.Lock()
	j := none
	for i := range pl.K() {
		state := l.state(pl, i)
		if state == lost || state == pending && j == none {
			j = i
			if state == lost {
				break
			}
		}
	}
	if j == none {
		l.mu.Unlock()
		return nil
	}
	for s := j; s < len(l.slices); s += pl.Results() {
		if l.slices[s].state == pending {
			l.giveUp(layer, s)
			l.slices[s].state = lost
		}
	}
	p := &l.slices[j]
	out, worker := l.out, p.worker
	p.state, p.worker = filling, nil // what its worker may still send is not wanted
	l.mu.Unlock()

	state := arrived
	err := c.local.compute(c.pool, layer, j, x, &l.scratch)
	if err != nil {
		state = lost
		err = fmt.Errorf("compute slice %d of layer %s here: %w", j, pl.Node, err)
	} else {
		l.place(pl, j, out, l.scratch.result)
		l.answer.Recomputed = append(l.answer.Recomputed, Recovered{Layer: layer, Slice: j, Worker: worker.number})
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
	pl := &l.c.plan.Layers[layer]
	for j := range pl.K() {
		missing = missing || l.state(pl, j) != arrived
	}
	for s, p := range l.slices {
		switch {
		case p.state == arrived && p.worker != nil:
			p.worker.onTime()
		case p.state == pending && missing && err == nil:
			l.giveUp(layer, s)
		case p.state == pending:
			l.cancel(layer, s)
		}
	}
}

// giveUp goes on without a result that may still come.
func (l *call) giveUp(layer, s int) {
	l.c.overdue(l.slices[s].worker)
	l.answer.Late++
	l.cancel(layer, s)
}

// cancel tells a worker that its result is not wanted any more.
func (l *call) cancel(layer, s int) {
	l.slices[s].conn.TrySend(frame.Header{Type: frame.Cancel, Request: l.request, Layer: uint32(layer), Slice: uint32(s)}, nil)
}

// sum adds the partial sums that the data slices gave, in their order.
func (l *call) sum(layer int, dst []float32) {
	copy(dst, l.aside[0])
	for _, y := range l.aside[1:l.c.plan.Layers[layer].K()] {
		kernel.Add(dst, dst, y)
	}
}
