package worker

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/tensor"
)

// maxJobs is how many requests a worker holds: one computing, the rest waiting.
const maxJobs = 128

// job is one slice of one request. Its buffer is reused.
type job struct {
	head  frame.Header
	layer layerSlice
	input []byte // aligned; len is that of the slice's input
	live  bool   // from add to done; guarded by jobs.mu
	stop  atomic.Bool
	wake  chan struct{} // one element: stop was set
}

// jobs hands work from the reader to the computing goroutine.
type jobs struct {
	mu      sync.Mutex // guards live of all
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

// add copies the input and queues the job; false if maxJobs are held.
func (q *jobs) add(h frame.Header, layer layerSlice, input []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.all {
		j := &q.all[i]
		if j.live {
			continue
		}
		if cap(j.input) < len(input) {
			j.input = tensor.Alloc(len(input))
		}
		j.input = j.input[:len(input)]
		copy(j.input, input)
		j.head, j.layer, j.live = h, layer, true
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
	j.live = false
	q.mu.Unlock()
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

// compute runs jobs one after the other until ctx ends.
func (s *session) compute(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-s.jobs.waiting:
			s.run(ctx, j)
			s.jobs.done(j)
		}
	}
}

func (s *session) run(ctx context.Context, j *job) {
	if j.stop.Load() {
		return
	}
	begin := time.Now()
	result := link.NewPayload(j.layer.resultBytes())
	defer result.Release()
	if !j.layer.slice.Run(s.pool, result.Float32s(), tensor.View[float32](j.input), &j.stop) {
		return
	}
	if !s.pace.wait(ctx, time.Since(begin), s.cfg.Speed, j) || j.stop.Load() {
		return
	}
	h := j.head
	h.Type = frame.Result
	// An error means that the connection has ended; its reader knows.
	_ = s.conn.Send(ctx, h, result)
}

// pace makes a device slower, for labs.
type pace struct {
	speed, delayMs atomic.Uint64 // float64 bits
}

func (p *pace) set(speed, delayMs float64) {
	p.speed.Store(math.Float64bits(speed))
	p.delayMs.Store(math.Float64bits(delayMs))
}

// wait sleeps as long as a device of that speed would have gone on computing
// after busy, plus the delay. It is false if the job was cancelled meanwhile.
func (p *pace) wait(ctx context.Context, busy time.Duration, speed float64, j *job) bool {
	speed *= math.Float64frombits(p.speed.Load())
	extra := math.Float64frombits(p.delayMs.Load()) * float64(time.Millisecond)
	if speed < 1 {
		extra += float64(busy) * (1/speed - 1)
	}
	if extra <= 0 {
		return true
	}
	t := time.NewTimer(time.Duration(extra))
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
