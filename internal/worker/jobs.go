package worker

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// maxJobs is how many requests a worker holds: one computing, the rest waiting.
const maxJobs = 128

// job is one slice of one request. Its buffer is reused.
type job struct {
	head  frame.Header
	layer layerSlice
	input []byte    // aligned; len is that of the slice's input
	ends  time.Time // nobody wants the result any more; zero is never
	live  bool      // from add to done; guarded by jobs.mu
	stop  atomic.Bool
	wake  chan struct{} // one element: stop was set
}

// jobs hands work from the reader to the computing goroutine.
type jobs struct {
	mu      sync.Mutex // guards live of all, and the fields that follow
	held    int        // that are live
	ended   chan struct{}
	all     [maxJobs]job
	waiting chan *job
}

func newJobs() *jobs {
	q := &jobs{waiting: make(chan *job, maxJobs)}
	for i := range q.all {
		q.all[i].wake = make(chan struct{}, 1)
	}
	return q
}

// add decodes the input and queues the job; false if maxJobs are held.
func (q *jobs) add(h frame.Header, layer layerSlice, input []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.all {
		j := &q.all[i]
		if j.live {
			continue
		}
		size := layer.input.bytes
		if cap(j.input) < size {
			j.input = tensor.Alloc(size)
		}
		j.input = j.input[:size]
		if as := wire.Encoding(h.Encoding()); as == wire.F32 {
			copy(j.input, input)
		} else {
			as.Decode(tensor.View[float32](j.input), input)
		}
		j.ends = time.Time{}
		if left := h.Left(); left > 0 {
			j.ends = time.Now().Add(left)
		}
		j.head, j.layer, j.live = h, layer, true
		q.held++
		j.stop.Store(false)
		select {
		case <-j.wake:
		default:
		}
		q.waiting <- j // has room for all
		return true
	}
	return false
}

func (q *jobs) done(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.live = false
	if q.held--; q.held == 0 && q.ended != nil {
		close(q.ended)
		q.ended = nil
	}
}

// end returns a channel that is closed as soon as no job is held.
func (q *jobs) end() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	ended := make(chan struct{})
	if q.held == 0 {
		close(ended)
	} else {
		q.ended = ended
	}
	return ended
}

// cancel stops the job that a Cancel names.
func (q *jobs) cancel(c frame.Header) {
	q.stopWhere(func(h frame.Header) bool { return h.Request == c.Request && h.Layer == c.Layer && h.Slice == c.Slice })
}

func (q *jobs) cancelAll() {
	q.stopWhere(func(frame.Header) bool { return true })
}

func (q *jobs) stopWhere(match func(frame.Header) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.all {
		j := &q.all[i]
		if !j.live || !match(j.head) {
			continue
		}
		j.stop.Store(true)
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

// compute runs jobs one after the other until ctx ends; connected is as long as the
// connection.
func (s *session) compute(ctx, connected context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-s.jobs.waiting:
			if s.run(ctx, connected, j) {
				s.jobs.done(j)
			} else {
				markOver.Pass()
				s.drop(connected, j)
			}
		}
	}
}

// dropAll drops what waits. Nothing is computed meanwhile.
func (s *session) dropAll(ctx context.Context) {
	for {
		select {
		case j := <-s.jobs.waiting:
			s.drop(ctx, j)
		default:
			return
		}
	}
}

// drop says that nothing more comes of a job, so that the coordinator knows how
// far behind this worker is, and gives its place free.
func (s *session) drop(ctx context.Context, j *job) {
	h := j.head
	h.Type, h.Flags = frame.Failed, 0
	_ = s.conn.Send(ctx, h, nil) // an error: the connection has ended
	s.jobs.done(j)
}

// holdTime is how long a finished block may wait for the next one, to be sent
// with it: on a device so fast each would cost more to send than it gains.
const holdTime = time.Millisecond

// computed is a block of a result, encoded.
type computed struct {
	payload *link.Payload
	as      wire.Encoding
}

// over says whether nobody wants the job's result any more.
func (j *job) over() bool { return j.stop.Load() || !j.ends.IsZero() && !time.Now().Before(j.ends) }

// run computes a job block by block until ctx ends, and sends each for as long as
// the connection lasts: every job is answered. It is false if nobody wanted the rest.
func (s *session) run(ctx, connected context.Context, j *job) bool {
	sent := time.Now() // or begun
	first := 0         // of the blocks that are held
	defer func() {
		for _, b := range s.blocks {
			b.payload.Release()
		}
		s.blocks = s.blocks[:0]
	}()
	for i, b := range j.layer.blocks {
		if j.over() {
			return false
		}
		begin := time.Now()
		if !s.computeBlock(b, j) {
			return false
		}
		least := s.cfg.Slice * time.Duration(b.bytes) / time.Duration(j.layer.bytes())
		if !s.lab.wait(ctx, time.Since(begin), least, s.cfg.Speed, i == 0, j) || j.over() {
			return false
		}
		if now := time.Now(); now.Sub(sent) >= holdTime || i == len(j.layer.blocks)-1 {
			h := j.head
			h.Type = frame.Result
			for n, b := range s.blocks {
				h.Nth, h.Flags = uint32(first+n), uint16(b.as)
				s.lab.send(connected, s.conn, h, b.payload)
				b.payload.Release()
			}
			first, sent = i+1, now
			s.blocks = s.blocks[:0]
		}
	}
	return true
}

// computeBlock adds a block to s.blocks, encoded as it is wanted if that can hold
// it, else as it is. It is false if the job was stopped.
func (s *session) computeBlock(b block, j *job) bool {
	as := wire.Encoding(j.head.Wanted())
	if as == wire.F32 {
		raw := link.NewPayload(b.bytes)
		s.blocks = append(s.blocks, computed{raw, wire.F32})
		return s.runBlock(b, raw.Bytes(), j)
	}
	if len(s.scratch) < b.bytes {
		s.scratch = tensor.Alloc(b.bytes)
	}
	raw := s.scratch[:b.bytes]
	if !s.runBlock(b, raw, j) {
		return false
	}
	values := tensor.View[float32](raw)
	p := link.NewPayload(as.Size(len(values)))
	if !as.Encode(p.Bytes(), values) {
		p.Release()
		p, as = link.PayloadOf(raw), wire.F32
	}
	s.blocks = append(s.blocks, computed{p, as})
	return true
}

// runBlock leaves the result of a block in dst; false if the job was stopped, or is
// over, or if its input is none that the stage can be computed from.
func (s *session) runBlock(b block, dst []byte, j *job) bool {
	if b.slice != nil {
		return b.slice.Run(s.pool, dst, j.input, &j.stop)
	}
	done, err := b.stage.Run(dst, j.input, &j.stop, j.ends)
	if err != nil {
		s.log.Warn("compute a stage", "request", j.head.Request, "layer", j.head.Layer, "cause", err)
	}
	return done
}

// retransmit is how late a TCP segment comes that was lost once: Linux waits at
// least so long before it sends one again (TCP_RTO_MIN; RFC 6298 has one second).
const retransmit = 200 * time.Millisecond

// lab makes a device or its link worse than they are. Only its emulate may be
// called beside the goroutine that computes.
type lab struct {
	info   atomic.Pointer[frame.EmulateInfo]
	chance *rand.Rand
}

func newLab(id string) *lab {
	l := &lab{chance: rand.New(rand.NewPCG(1, uint64(frame.CRC([]byte(id)))))}
	l.emulate(&frame.EmulateInfo{Speed: 1})
	return l
}

func (l *lab) emulate(info *frame.EmulateInfo) { l.info.Store(info) }

// wait sleeps as long as a device of that speed, which takes least for this
// block at full speed, would have gone on computing after busy, and the block
// would have been on the way longer. It is false if the job was cancelled
// meanwhile.
func (l *lab) wait(ctx context.Context, busy, least time.Duration, speed float64, first bool, j *job) bool {
	info := l.info.Load()
	var extra time.Duration
	if first {
		extra = time.Duration((info.DelayMs + l.chance.Float64()*info.JitterMs) * float64(time.Millisecond))
	}
	whole := max(busy, least)
	if speed *= info.Speed; speed < 1 {
		whole = time.Duration(float64(whole) / speed)
	}
	extra += whole - busy
	for info.Drop > 0 && l.chance.Float64() < info.Drop && extra < time.Hour {
		extra += retransmit
	}
	if extra <= 0 {
		return true
	}
	t := time.NewTimer(extra)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-j.wake:
		return false
	case <-t.C:
		return true
	}
}

// send sends an answer. An error means that the connection has ended; its reader
// knows.
func (l *lab) send(ctx context.Context, conn *link.Conn, h frame.Header, p *link.Payload) {
	info := l.info.Load()
	if share := info.Wrong; share > 0 && h.Type == frame.Result && l.chance.Float64() < share {
		makeWrong(h, p)
	}
	if share := info.Corrupt; share > 0 && l.chance.Float64() < share {
		_ = conn.SendCorrupt(ctx, h, p)
		return
	}
	_ = conn.Send(ctx, h, p)
}

// makeWrong changes a value in the middle of a result.
func makeWrong(h frame.Header, p *link.Payload) {
	if b := p.Bytes(); wire.Encoding(h.Encoding()) != wire.F32 || len(b) < 4 {
		b[len(b)/2] ^= 0x40
		return
	}
	y := p.Float32s()
	if v := &y[len(y)/2]; *v == *v {
		*v += 1 + max(*v, -*v)
	} else { // an integer that is below zero looks like no number
		*v = 1
	}
}
