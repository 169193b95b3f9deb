package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/kernel"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// call is one request on its way through the model, and the engine.Remote that
// computes its split layers. Its buffers are used again by later requests; the
// request number tells a late result that it is not meant.
type call struct {
	c       *Coordinator
	session *engine.Session
	audited bool      // wait for all results, and check them
	answer  *Answer   // of the request under way
	ends    time.Time // when the caller gives the request up; zero if never

	decoder decoder
	auditor auditor
	scratch []byte    // of what is computed here while nothing else is under way
	holders []*member // of the slices of the layer under way
	changed chan struct{}
	timer   *time.Timer
	helper  *helper // nil until first needed

	placing sync.Mutex  // held while a result is written where another's may overlap it
	stop    atomic.Bool // ends what the helper computes

	mu      sync.Mutex // guards the fields below
	request uint64
	layer   int      // of the plan; none between layers
	turn    uint64   // counts the layers that were under way
	out     []byte   // the layer's output [Outer, Rows, Inner]
	aside   [][]byte // by result: those that do not go into the output as they are
	copies  [][]byte // by slice: what an audit compares; see keepsCopies
	inputs  []input  // by result, or one for all
	asks    []ask    // the plan's slices, then what was asked of others
	cells   []cell   // of asks, by block
	blocks  int      // of the highest slices
	have    []int    // by block: results that are there
	short   int      // blocks of which fewer than k results are there
	missing int      // blocks of data results that are not there
	helping help     // what of the layer is computed here
	failure error    // why it is not

	enough time.Time // when short became 0
}

const none = -1

// ask is a slice of the layer under way that somebody is to give, or may be
// asked for.
type ask struct {
	slice  int     // of the plan
	worker *member // nil for the coordinator itself
	conn   *link.Conn
	behind *atomic.Int32 // of the worker on conn
	sent   time.Time
	tried  bool // it was to be sent
	extra  bool // because another may come late, or not at all
	prompt bool // the worker is trusted to be on time
	open   bool // more is to come of it
	left   int  // blocks that have not come
	gave   int  // blocks that were used

	came time.Time // the last block that has
}

// cell is how one block of an ask stands.
type cell uint8

const (
	lost    cell = iota // it will not come, or was not asked for
	pending             // sent, no result yet
	filling             // its result is being written into the output
	arrived             // also a result that somebody else had given before
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
// dst [Outer,Rows,Inner] from the layer's whole input x, or a stage.
func (l *call) Linear(ctx context.Context, layer int, dst, x []byte, zero int32) error {
	begin := time.Now()
	l.ends, _ = ctx.Deadline()
	l.scatter(layer, dst, x, zero)
	defer l.releaseInputs()
	if l.c.cfg.OnScatter != nil {
		l.c.cfg.OnScatter(l.request, layer)
	}
	err := l.gather(ctx, layer, begin)
	l.settle(layer, err)
	if err != nil {
		return err
	}
	if l.audited {
		if err := l.audit(layer, dst, x); err != nil {
			return err
		}
	}
	if l.c.plan.Layers[layer].Sums() {
		l.sum(layer, dst)
		return nil
	}
	return l.decode(layer, dst)
}

// scatter sends the slices their input, if their workers can take it at once. One
// copy of an input is shared by all that take it, because a slow connection may
// still be writing it when this request is long answered.
func (l *call) scatter(number int, dst, x []byte, zero int32) {
	c := l.c
	layer := &c.plan.Layers[number]
	c.mu.Lock()
	l.holders = l.holders[:0]
	for _, w := range layer.Workers {
		l.holders = append(l.holders, c.places[w])
	}
	c.mu.Unlock()
	l.mu.Lock()
	l.prepare(layer)
	l.fillInputs(layer, x, zero)
	l.out = dst
	l.layer = number
	l.turn++
	l.mu.Unlock()
	most := layer.N()
	if l.keepsBack(number) {
		most = layer.K()
	}
	for s := range most {
		l.send(s, false)
	}
	if l.count(layer).hopeless {
		for s := range most { // who lags after all, unless he is late and others can
			if l.lags(s) && (l.holders[s].trust.full() || !c.heals(layer)) {
				l.sendTo(s, false)
			}
		}
	}
	if most < layer.N() {
		l.askMore(layer, false)
	}
}

// keepsBack says whether parities and copies are not asked for at once.
func (l *call) keepsBack(layer int) bool {
	if l.c.cfg.Policy == Always || l.audited {
		return false
	}
	_, known := l.c.paces[layer].quantile(0.5)
	return known || l.c.cfg.Policy == OnFailure
}

// prepare makes room for a layer's asks and for the results that are kept aside;
// mu is held.
func (l *call) prepare(layer *plan.Layer) {
	for u := range layer.Results() {
		if u == len(l.aside) {
			l.aside = append(l.aside, nil)
		}
		if u >= layer.K() || layer.Sums() {
			l.aside[u] = sized(l.aside[u], layer.Work(u).OutputBytes)
		}
	}
	if l.keepsCopies(layer) {
		l.keepCopies(layer)
	}
	l.blocks = layer.MostBlocks()
	l.asks, l.cells, l.have = l.asks[:0], l.cells[:0], l.have[:0]
	l.helping, l.failure, l.missing = never, nil, 0
	for s, m := range l.holders {
		l.addAsk(s, m)
	}
	for range l.blocks {
		l.have = append(l.have, layer.Results())
	}
	for u := range layer.Results() {
		blocks := layer.Blocks(u)
		for b := range blocks {
			l.have[b]--
		}
		if u < layer.K() {
			l.missing += blocks
		}
	}
	l.short, l.enough = l.blocks, time.Time{}
}

// addAsk adds an ask that is not sent yet, and returns its number; mu is held.
func (l *call) addAsk(slice int, worker *member) int {
	l.asks = append(l.asks, ask{slice: slice, worker: worker})
	for range l.blocks {
		l.cells = append(l.cells, lost)
	}
	return len(l.asks) - 1
}

// sized is n bytes for elements of any type: x, if it is large enough.
func sized(x []byte, n int) []byte {
	if cap(x) < n {
		return tensor.Alloc(n)
	}
	return x[:n]
}

// How many asks that were given up a worker may have before it, and be sent
// another one: few if it was late, many if all of them were merely not needed.
const (
	maxBehind       = 2
	maxBehindOnTime = 16
)

// lags says whether the worker of ask a has to catch up first, or is late and
// was tried a moment ago.
func (l *call) lags(a int) bool {
	l.mu.Lock()
	m := l.asks[a].worker
	l.mu.Unlock()
	l.c.mu.Lock()
	conn, behind := m.conn, m.behind
	l.c.mu.Unlock()
	if conn == nil {
		return false
	}
	if m.late.Load() && !m.trial.due(time.Now()) {
		return true
	}
	most := int64(maxBehind)
	if m.trust.full() {
		most = maxBehindOnTime
	}
	return int64(behind.Load())-int64(conn.Stats().Withdrawn) > most
}

// send is sendTo of a worker that does not lag.
func (l *call) send(a int, extra bool) bool {
	if l.lags(a) {
		markLags.Pass()
		l.mu.Lock()
		l.asks[a].tried = true
		l.mu.Unlock()
		return false
	}
	return l.sendTo(a, extra)
}

// sendTo sends ask number a to its worker, once, if that can take it at once; extra
// is said of it.
func (l *call) sendTo(a int, extra bool) bool {
	c := l.c
	layer := &c.plan.Layers[l.layer]
	l.mu.Lock()
	p := &l.asks[a]
	s, m, sent := p.slice, p.worker, p.conn != nil
	if !sent {
		p.tried, p.extra = true, extra
	}
	l.mu.Unlock()
	if sent { // and may have come already
		return false
	}
	c.mu.Lock()
	conn, behind, version := m.conn, m.behind, m.version
	ready := m.ready && m.shard == layer.Workers[s] && !m.quarantined.Load()
	c.mu.Unlock()
	if !ready {
		return false
	}
	blocks := layer.Blocks(s)
	l.mu.Lock() // before sending: the result may be quick
	l.answer.FLOPs += layer.Work(s).FLOPs
	p = &l.asks[a]
	p.conn, p.behind, p.sent, p.prompt, p.open, p.left = conn, behind, time.Now(), m.trust.full(), true, blocks
	for b := range blocks {
		*l.cell(a, b) = pending
	}
	l.mu.Unlock()
	in := l.input(layer, s%layer.Results())
	h := frame.Header{
		Type: frame.Compute, Request: l.request, Layer: uint32(l.layer), Slice: uint32(s), Nth: uint32(layer.Nth(s)),
		Flags: frame.ComputeFlags(uint8(in.sentAs), uint8(layer.Wire), l.left()),
	}
	c.mu.Lock() // else an Assign may get before it, and what comes is of another shard
	same := m.conn == conn && m.version == version
	sent = same && conn.TrySend(h, in.sent)
	c.mu.Unlock()
	if !sent {
		if same {
			markNoRoom.Pass()
		}
		l.mu.Lock()
		l.lose(a)
		l.mu.Unlock()
		return false
	}
	return true
}

// left is the time until the caller gives the request up, 0 if he never does.
func (l *call) left() time.Duration {
	if l.ends.IsZero() {
		return 0
	}
	return max(time.Until(l.ends), 1) // over: this instant
}

func (l *call) cell(a, b int) *cell { return &l.cells[a*l.blocks+b] }

// lose gives up what has not come of ask a; mu is held.
func (l *call) lose(a int) {
	l.asks[a].open = false
	for b := range l.blocks {
		if p := l.cell(a, b); *p == pending {
			*p = lost
		}
	}
	l.notify()
}

// connLost gives up what was sent on conn.
func (l *call) connLost(conn *link.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.layer == none {
		return
	}
	for a := range l.asks {
		if l.asks[a].conn == conn {
			markCut.Pass()
			l.lose(a)
		}
	}
}

func (l *call) notify() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// deliver takes a block of a worker's result, if this request still wants it,
// into the output. If payload is nil the worker has none: block h.Nth arrived
// damaged, or none of the slice will come. It is false for what this request is
// not waiting for.
func (l *call) deliver(m *member, h frame.Header, payload []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Compared as uint32: an int has 32 bits on arm, and none is -1.
	if l.request != h.Request || l.layer == none || uint32(l.layer) != h.Layer {
		markStale.Pass()
		return false
	}
	layer := &l.c.plan.Layers[l.layer]
	a := l.askOf(m, h.Slice)
	if a == none || !l.asks[a].open {
		return false
	}
	if h.Type == frame.Failed {
		l.lose(a)
		return true
	}
	s := l.asks[a].slice
	if h.Nth >= uint32(layer.Blocks(s)) || *l.cell(a, int(h.Nth)) != pending {
		markTwice.Pass()
		return true
	}
	b := int(h.Nth)
	r := result{wire.Encoding(h.Encoding()), payload}
	if !r.fits(layer, layer.BlockWork(s, b)) {
		*l.cell(a, b) = lost
		l.notify()
	} else {
		l.take(layer, a, b, r)
		p := &l.asks[a]
		if p.left--; p.left == 0 && p.prompt {
			l.c.paces[h.Layer].note(time.Since(p.sent))
		}
	}
	l.asks[a].open = l.asks[a].open && l.awaited(a)
	return true
}

// awaited says whether some of ask a may still come; mu is held.
func (l *call) awaited(a int) bool {
	for b := range l.blocks {
		if *l.cell(a, b) == pending {
			return true
		}
	}
	return false
}

// askOf is the ask for that slice of that worker; none if there is none.
func (l *call) askOf(m *member, slice uint32) int {
	for a := range l.asks {
		if p := &l.asks[a]; p.worker == m && uint32(p.slice) == slice {
			return a
		}
	}
	return none
}

// take writes block b of ask a where it belongs, unless another gave it before.
// mu is held, and given up meanwhile.
func (l *call) take(layer *plan.Layer, a, b int, r result) {
	now := time.Now()
	l.asks[a].came = now
	u := l.asks[a].slice % layer.Results()
	compares := l.audited && layer.Cover == plan.Replicate && a < layer.N()
	if l.state(layer, u, b) >= filling {
		markCopied.Pass()
		if compares {
			r.write(layer.Kept(u, b, l.copies[a]), 0)
			l.notify()
		}
		*l.cell(a, b) = arrived // too late to be used, but it is there
		return
	}
	*l.cell(a, b) = filling
	out := l.out
	l.mu.Unlock()
	switch {
	case compares:
		r.write(layer.Kept(u, b, l.copies[a]), 0)
	case l.audited && layer.Overlaps():
		r.write(layer.Kept(u, b, l.copies[u]), 0)
	}
	l.place(layer, u, b, out, r)
	l.mu.Lock()
	*l.cell(a, b) = arrived
	l.asks[a].gave++
	l.have[b]++
	if l.have[b] == layer.K() {
		l.short--
	}
	if u < layer.K() {
		l.missing--
	}
	if l.short == 0 && l.enough.IsZero() {
		l.enough = now
	}
	// Whoever gathers has nothing to do before: a slice may come in many blocks.
	if l.short == 0 || l.audited || l.layer == none {
		l.notify()
	}
}

// result is one block of a slice's result, as it came.
type result struct {
	as    wire.Encoding
	bytes []byte
}

// write writes to dst what of the result, as it is, begins with byte at.
func (r result) write(dst []byte, at int) {
	if r.as == wire.F32 {
		copy(dst, r.bytes[at:])
		return
	}
	r.as.DecodeFrom(tensor.View[float32](dst), r.bytes, at/4)
}

// fits says whether r can be the result of a block: encoded as was asked, or not
// at all, and of the right length.
func (r result) fits(layer *plan.Layer, block plan.Work) bool {
	switch r.as {
	case wire.F32:
		return len(r.bytes) == block.OutputBytes
	case layer.Wire:
		return len(r.bytes) == r.as.Size(block.OutputLen)
	default:
		return false
	}
}

// place writes block b of result u to where it belongs: to its part of out, or
// aside.
func (l *call) place(layer *plan.Layer, u, b int, out []byte, r result) {
	if u >= layer.K() || layer.Sums() {
		r.write(layer.Kept(u, b, l.aside[u]), 0)
		return
	}
	if layer.Overlaps() {
		l.placing.Lock()
		defer l.placing.Unlock()
	}
	at := 0 // in bytes of the result as it is
	for i := range layer.Pieces(b) {
		to := layer.Piece(u, b, i, out)
		r.write(to, at)
		at += len(to)
	}
}

// state is how block b of result u stands: as the best of those who give it. mu
// is held, or the layer is settled. A result that is not so high has it at once.
func (l *call) state(layer *plan.Layer, u, b int) cell {
	if b >= layer.Blocks(u) {
		return arrived
	}
	best := lost
	for a := range l.asks {
		if l.asks[a].slice%layer.Results() == u {
			best = max(best, *l.cell(a, b))
		}
	}
	return best
}

// there says whether all of result u is there; the layer is settled.
func (l *call) there(layer *plan.Layer, u int) bool {
	for b := range l.blocks {
		if l.state(layer, u, b) != arrived {
			return false
		}
	}
	return true
}

// sum adds the partial sums that the data slices gave, in their order.
func (l *call) sum(number int, dst []byte) {
	layer := &l.c.plan.Layers[number]
	for b := range l.blocks {
		pieces := layer.Pieces(b)
		for i := range pieces {
			to := layer.Piece(0, b, i, dst)
			copy(to, piece(layer.Kept(0, b, l.aside[0]), pieces, i))
			for j := 1; j < layer.K(); j++ {
				add(layer, to, piece(layer.Kept(j, b, l.aside[j]), pieces, i))
			}
		}
	}
}

// add is to += y for results of a layer.
func add(layer *plan.Layer, to, y []byte) {
	if isInteger(layer) {
		kernel.AddScaledInt32(tensor.View[int32](to), tensor.View[int32](y), 1)
		return
	}
	sum := tensor.View[float32](to)
	kernel.Add(sum, sum, tensor.View[float32](y))
}

// piece is piece i of a block that is kept by itself.
func piece(block []byte, pieces, i int) []byte {
	size := len(block) / pieces
	return block[i*size : (i+1)*size]
}
