package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A job is work cut into blocks that may run in any order and side by side.
type job interface{ runBlock(i int) }

// A Pool runs kernels on several threads: the caller's own goroutine and
// goroutines that live as long as the pool. After a job these look out for the
// next one for a moment, because waking up takes longer than many a layer, and
// then sleep: an idle pool uses no CPU. Threads keep to CPUs of their own, and
// where other programs leave too little of these the caller works alone for a
// while. A nil *Pool and a pool of one thread run everything inline on the
// caller, without locking. Several goroutines may use one pool; the callers of a
// pool of several threads take turns. A call starts no goroutine and allocates
// nothing.
type Pool struct {
	threads  int
	patience time.Duration // lookTime, or nothing if threads would take each other's CPU
	helpers  []helper
	ended    sync.WaitGroup

	turn   sync.Mutex // guards the fields below; held by the caller whose job runs
	job    job
	blocks int64
	shares []share        // of the blocks, one of each thread, the caller's first
	busy   atomic.Int64   // helpers invited or working
	cpus   []atomic.Int32 // where the threads were seen last, the caller first
	alone  time.Time      // no helper is invited until then
	done   chan struct{}
	closed bool
}

// A helper is a goroutine of a pool. It works on a job only if it can turn its
// invitation into work before the caller, all blocks being done, takes the
// invitation back: so a call never waits for a goroutine to wake up.
type helper struct {
	wake  chan struct{} // holds one token at most, which may be stale
	state atomic.Int32
	woken bool // the caller's: its invitation came with a token
}

// A share is some neighbouring blocks of a job. It has a cache line of its own.
type share struct {
	next atomic.Int64 // first block nobody has taken
	_    [56]byte
}

// States of a helper.
const (
	asleep  = iota
	looking // for an invitation
	invited
	working
)

// lookTime is how long helpers look for the next job, and a caller for the end
// of its own, before they sleep: longer than what is done between two layers on
// one thread, and some times what it takes to hand over a job.
const lookTime = 50 * time.Microsecond

// A caller that waits for helpers for longer than stall, and than twice its own
// part of the job took, had them lose their CPU to other programs with blocks in
// hand. It works alone for aloneFactor times as long, so that such waits take a
// small part of the time. Both are measured.
const (
	stall       = time.Millisecond
	aloneFactor = 8
)

// MaxThreads is the most threads that a pool has.
const MaxThreads = 1024

// NewPool returns a pool of that many threads, the caller's included, MaxThreads
// at most; fewer than one means GOMAXPROCS, or as many as the CPUs that control
// groups leave this process if that is less. Close it to end its goroutines.
func NewPool(threads int) *Pool {
	if threads < 1 {
		threads = min(runtime.GOMAXPROCS(0), quota())
	}
	threads = min(threads, MaxThreads)
	p := &Pool{
		threads: threads, helpers: make([]helper, threads-1), done: make(chan struct{}, 1),
		cpus: make([]atomic.Int32, threads), shares: make([]share, threads),
	}
	if threads <= runtime.GOMAXPROCS(0) {
		p.patience = lookTime
	}
	for i := range p.helpers {
		h := &p.helpers[i]
		h.wake = make(chan struct{}, 1)
		p.ended.Go(func() { p.help(h, i+1) })
	}
	return p
}

func (p *Pool) help(h *helper, thread int) {
	for range h.wake {
		for h.accept(p.patience) {
			if p.patience > 0 {
				keepApart(p.cpus, thread)
			}
			p.drain(thread)
			// Before the caller knows of the end, and so before its next job.
			h.state.Store(looking)
			if p.busy.Add(-1) == 0 {
				p.done <- struct{}{}
			}
		}
	}
}

// accept turns an invitation into work. If there is none it looks for one for a
// moment, unless the helper was woken by a stale token, and falls asleep.
func (h *helper) accept(patience time.Duration) bool {
	for start := time.Now(); ; {
		switch h.state.Load() {
		case invited:
			if h.state.CompareAndSwap(invited, working) {
				return true
			}
		case asleep:
			return false
		case looking:
			if time.Since(start) >= patience && h.state.CompareAndSwap(looking, asleep) {
				return false
			}
		}
	}
}

// Threads says how many goroutines work on a call, the caller's included.
func (p *Pool) Threads() int {
	if p == nil {
		return 1
	}
	return p.threads
}

// Close waits for the running call and ends the pool's goroutines. A second
// Close does nothing; a kernel must not be started on a closed pool.
func (p *Pool) Close() {
	if p == nil {
		return
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for i := range p.helpers {
		close(p.helpers[i].wake)
	}
	p.ended.Wait()
}

// run calls j.runBlock(i) once for every i in [0, blocks) and returns when all
// have returned.
func (p *Pool) run(j job, blocks int) {
	if p == nil || p.threads == 1 || blocks <= 1 {
		for i := range blocks {
			j.runBlock(i)
		}
		return
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	if p.closed {
		panic("kernel: use of a closed pool")
	}
	p.job, p.blocks = j, int64(blocks)
	for i := range p.shares {
		p.shares[i].next.Store(p.firstOf(i))
	}
	start := time.Now()
	helpers := p.helpers[:min(len(p.helpers), blocks-1)]
	if start.Before(p.alone) {
		helpers = nil
	}
	p.busy.Store(int64(len(helpers)))
	if p.patience > 0 {
		p.cpus[0].Store(currentCPU())
	}
	for i := range helpers {
		h := &helpers[i]
		h.woken = !h.state.CompareAndSwap(looking, invited)
		if !h.woken {
			continue
		}
		h.state.Store(invited)
		select {
		case h.wake <- struct{}{}:
		default: // a stale token wakes it as well
		}
	}
	p.drain(0)
	revoked := int64(0)
	for i := range helpers {
		before := int32(looking)
		if helpers[i].woken {
			before = asleep
		}
		if helpers[i].state.CompareAndSwap(invited, before) {
			revoked++
		}
	}
	if len(helpers) > 0 && (revoked == 0 || p.busy.Add(-revoked) > 0) {
		p.await(time.Since(start))
	}
	p.job = nil
}

// await waits for the last helper, after the caller worked for some time.
func (p *Pool) await(worked time.Duration) {
	start := time.Now()
	for time.Since(start) < p.patience {
		select {
		case <-p.done:
			return
		default:
		}
	}
	<-p.done
	if waited := time.Since(start); waited > max(stall, 2*worked) {
		p.alone = start.Add((1 + aloneFactor) * waited)
	}
}

// drain runs the blocks of a thread's own share, then what is left of others. As
// it has the same share of each job, much of what it reads is what it wrote.
func (p *Pool) drain(thread int) {
	for i := range p.shares {
		at := (thread + i) % p.threads
		end := p.firstOf(at + 1)
		for next := &p.shares[at].next; next.Load() < end; {
			if block := next.Add(1) - 1; block < end {
				p.job.runBlock(int(block))
			}
		}
	}
}

// firstOf is the first block of a thread's share.
func (p *Pool) firstOf(thread int) int64 { return int64(thread) * p.blocks / int64(p.threads) }

// A freeList keeps used values of T for the next call, so that warm calls do
// not allocate. It holds as many as were ever in use at one time.
type freeList[T any] struct {
	mu   sync.Mutex // guards free
	free []*T
}

// get returns a value that nobody else uses; it keeps what it held when put.
func (f *freeList[T]) get() *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.free); n > 0 {
		v := f.free[n-1]
		f.free = f.free[:n-1]
		return v
	}
	return new(T)
}

func (f *freeList[T]) put(v *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = append(f.free, v)
}

// A buffer is scratch memory.
type buffer struct{ data []float32 }

var buffers freeList[buffer]

// sized returns n elements of the buffer, with anything in them.
func (b *buffer) sized(n int) []float32 {
	if cap(b.data) < n {
		b.data = make([]float32, n)
	}
	return b.data[:n]
}
