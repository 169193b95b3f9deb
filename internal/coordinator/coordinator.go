// Package coordinator is where requests enter and results meet: it runs the
// local stages of a model, sends the input of each split layer to the workers,
// takes the first k of the n results, decodes what is missing and goes on.
//
// Invariants: a request never waits for a worker that is gone, and never
// longer than patience allows for one that is late; every result is counted
// for exactly one request, layer and slice, whatever a worker sends; with
// parity, a request fails only if its caller gives up.
package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/link"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
)

// Config tunes a coordinator; zero fields mean their defaults.
type Config struct {
	// Token is the secret a worker must know; "" admits every worker.
	Token string
	// Threads compute the local stages and slices that no worker can answer.
	// Default 1: on a small device the workers' own computing comes first.
	Threads int
	// Concurrency is how many requests are in flight at once; the next one
	// waits. Each costs the model's activations in memory. Default 8.
	Concurrency int
	// Waiting is how many requests may wait for their turn, which comes in the
	// order of asking; one more is refused with a *BusyError. More smooths bursts,
	// less tells a client sooner that it sends too much. Default 16 for each of
	// Concurrency; negative lets none wait.
	Waiting int
	// Grace: where a data slice is still out at the k-th arrival, it is waited
	// for this many times as long as the k-th took, if its worker was on time
	// before. More decodes less in a healthy flock (undecoded results have the
	// same bits as a local run), less answers sooner when a worker turns slow;
	// a worker that overran its grace gets none until it is on time again. It is
	// 2 ms at least. Default 0.02: over radio somebody is always a little late,
	// and waiting for him costs more than the whole of the code gains. Negative
	// takes the first k strictly.
	Grace float64
	// Patience: what is not there after this many times the median that the
	// layer's slices take is asked of a spare that holds it, or computed by the
	// coordinator itself, beside who owes it: whoever is first. It is 50 ms at
	// least, or 2 ms where workers must be waited for that were late before. Where a
	// worker is gone or left out, and so all others are needed, the coordinator
	// computes what it owes already when a quarter of the slices usually are there,
	// if no other request is in flight and Policy is Always.
	// Default 1.5 for layers that have a cover; those that have none wait without
	// end, and lose the request with a worker, unless it is set. Negative only
	// gets otherwise what will not come.
	Patience float64
	// Policy says when the layers' cover is made use of: Always, Hedged or
	// OnFailure. The latter two compute and send less, and wait more. Default
	// Always.
	Policy string
	// Audit is the share of requests, 0 to 1, in which all n results of a layer
	// that parity covers are waited for, as long as Patience allows, and checked
	// against each other; who gave a wrong one is quarantined. Whatever is
	// slow is waited for then. It needs results that are not rounded on the wire.
	// Default 0.
	Audit float64
	// Spares is how many workers more than the plan has may join. A spare holds
	// the shard of one place, and takes that place or another one when it is
	// vacant. Each costs its memory and the sending of a shard. Default 0.
	Spares int
	// Moment is how long a place is left to a worker that is gone before a spare
	// is sent its shard; one that holds the shard takes the place at once. More
	// spares the link when a worker merely restarts, less heals sooner when one
	// is gone for good. Default 1 s.
	Moment time.Duration
	// OnScatter, if set, is called in each request when a split layer's input
	// has been handed to the workers. It must not block.
	OnScatter func(request uint64, layer int)
	// Slice, for labs: computing a slice here takes so long at least, by sleeping,
	// as it does at a worker of that setting. Default 0.
	Slice time.Duration
	Log   *slog.Logger // nil logs nothing
}

// The most that Config.Concurrency and Config.Spares may be.
const (
	MaxConcurrency = 1024
	MaxSpares      = 256
)

const (
	graceFloor    = 2 * time.Millisecond  // a scheduler's hiccup is not lateness
	patienceFloor = 50 * time.Millisecond // neither is this worth computing a slice twice
	patienceFirst = 5 * time.Second       // before a layer's usual time is known
	acceptWait    = 100 * time.Millisecond
	maxStrangers  = 64 // connections that have not said hello yet
)

// LostError says which slices of a layer nobody could give. It wraps
// parity.ErrTooFewSlices.
type LostError struct {
	Layer   string   // the graph's node
	Slices  []int    // data slices without a result
	Workers []string // who holds them
}

func (e *LostError) Error() string {
	return fmt.Sprintf("layer %s: no result of slices %v, held by %v, and no parity to recover them: add --parity 1 or bring the workers back",
		e.Layer, e.Slices, e.Workers)
}

func (e *LostError) Unwrap() error { return parity.ErrTooFewSlices }

// ErrAuditWire refuses to audit results that travel rounded: a wrong one could not
// be told from a right one.
var ErrAuditWire = errors.New("auditing needs results as f32 on the wire")

// ErrClosed is returned for requests after Close.
var ErrClosed = errors.New("coordinator is closed")

// Coordinator runs one model over its workers. All methods may be called from
// any goroutine.
type Coordinator struct {
	cfg     Config
	reasks  bool // layers without cover too; see Config.Patience
	log     *slog.Logger
	plan    *plan.Plan
	codes   []code // by layer; zero where the cover is no code
	program *engine.Program
	pool    *kernel.Pool
	local   *fallback

	// largest is the most that an admitted worker may send at once, in bytes:
	// twice the largest result. One of a wrong length costs itself; what is
	// longer than that costs the connection.
	largest uint32

	members []*member     // the plan's workers, then the spares
	paces   []pace        // by layer
	number  atomic.Uint64 // of the last request
	damaged atomic.Uint64 // results with a wrong checksum
	waiting atomic.Int64  // requests in enter
	took    atomic.Int64  // nanoseconds that a request takes once it has entered, smoothed

	mu      sync.Mutex   // guards the fields below and the members' connections
	shards  []shard.Info // by place; the slice is replaced, never written
	places  []*member    // by worker of the plan: who has its place
	calls   map[uint64]*call
	strange int           // connections that are not admitted yet
	changed chan struct{} // closed and renewed when a member's state changes
	health  health
	closed  bool

	strangers lines // of who was not let in

	tardy chan struct{} // one element: a member has become late

	idle chan *call // sessions at rest; capacity Concurrency

	updating sync.Mutex      // held by UpdateRows; guards made
	made     map[string]bool // shards that UpdateRows wrote and that are in use
	conns    sync.WaitGroup  // running attach calls
	cancel   context.CancelFunc
	ctx      context.Context // ends with Close: the connections' lifetime
}

// New prepares a coordinator for a prepared graph, a plan for it, and the
// plan's shards (shard.Build). With a plan of no workers it runs everything
// itself, and takes the graph's constants; else it keeps them by reference.
func New(g *graph.Graph, p *plan.Plan, shards []shard.Info, cfg Config) (*Coordinator, error) {
	if cfg.Threads == 0 {
		cfg.Threads = 1
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 8
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = 16 * cfg.Concurrency
	}
	if cfg.Grace == 0 {
		cfg.Grace = 0.02
	}
	reasks := cfg.Patience > 0
	if cfg.Patience == 0 {
		cfg.Patience = 1.5
	}
	if cfg.Policy == "" {
		cfg.Policy = Always
	}
	if !slices.Contains(Policies, cfg.Policy) {
		return nil, fmt.Errorf("unknown policy %q: use %s", cfg.Policy, strings.Join(Policies, ", "))
	}
	if cfg.Moment == 0 {
		cfg.Moment = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Spares < 0 || cfg.Spares > MaxSpares {
		return nil, fmt.Errorf("%d spares: there are 0 to %d", cfg.Spares, MaxSpares)
	}
	if cfg.Concurrency > MaxConcurrency {
		return nil, fmt.Errorf("%d requests at once: the limit is %d", cfg.Concurrency, MaxConcurrency)
	}
	if layer := p.Rounded(); layer != nil && cfg.Audit > 0 {
		return nil, fmt.Errorf("%w: layer %s travels as %v", ErrAuditWire, layer.Node, layer.Wire)
	}
	if len(shards) != p.N() {
		return nil, fmt.Errorf("%d shards for %d workers", len(shards), p.N())
	}
	c := &Coordinator{
		cfg: cfg, reasks: reasks, log: cfg.Log, plan: p, shards: shards,
		pool:    kernel.NewPool(cfg.Threads),
		calls:   make(map[uint64]*call),
		made:    make(map[string]bool),
		changed: make(chan struct{}),
		tardy:   make(chan struct{}, 1),
		idle:    make(chan *call, cfg.Concurrency),
		paces:   make([]pace, len(p.Layers)),
	}
	outer, split, err := remote(g, p)
	if err != nil {
		c.pool.Close()
		return nil, err
	}
	for i := range p.Layers {
		l := &p.Layers[i]
		for s := range l.N() {
			size := 2 * int64(l.BlockWork(s, 0).OutputBytes)
			c.largest = max(c.largest, uint32(min(size, math.MaxUint32)))
		}
		code, err := newCode(l)
		if err != nil {
			c.pool.Close()
			return nil, err
		}
		c.codes = append(c.codes, code)
	}
	if c.program, err = engine.Compile(outer, engine.Options{Split: split, Pool: c.pool, Consume: p.N() == 0}); err != nil {
		c.pool.Close()
		return nil, err
	}
	c.local = newFallback(g, p, cfg.Slice)
	for i := range p.N() + cfg.Spares {
		m := &member{number: i, name: fmt.Sprintf("w%d", i+1), place: none, shard: none, since: time.Now()}
		if i < p.N() {
			m.place = i
			c.places = append(c.places, m)
		}
		c.members = append(c.members, m)
	}
	c.health.lost = make([]bool, p.N())
	c.health.planned = p.Margin(c.health.lost)
	c.health.least = c.health.planned
	for range cfg.Concurrency {
		c.idle <- nil // made when first needed
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if p.N() > 0 && cfg.Spares > 0 {
		c.conns.Go(c.heal)
	}
	return c, nil
}

// remote is the graph in which a node stands for each of the plan's stages, and says
// which of its nodes are what layer of the plan.
func remote(g *graph.Graph, p *plan.Plan) (outer *graph.Graph, split map[string]int, err error) {
	split = make(map[string]int, len(p.Layers))
	var stages []*graph.Stage
	for i := range p.Layers {
		l := &p.Layers[i]
		if l.Run == nil {
			for _, node := range l.Nodes {
				split[node] = i
			}
			continue
		}
		s, err := g.StageOf(l.Run.From, l.Run.To)
		if err != nil {
			return nil, nil, fmt.Errorf("stage %s: %w", l.Node, err)
		}
		stages = append(stages, s)
		split[s.Nodes[0].Name] = i
	}
	if len(stages) == 0 {
		return g, split, nil
	}
	return g.Fold(stages...), split, nil
}

// Serve takes in workers until Close, which closes l.
func (c *Coordinator) Serve(l *link.Listener) {
	stop := context.AfterFunc(c.ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if c.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil { // as too many open files: it may pass
			c.log.Warn("accept a worker", "cause", err)
			select {
			case <-time.After(acceptWait):
			case <-c.ctx.Done():
			}
			continue
		}
		if err := c.Attach(conn); err != nil {
			return
		}
	}
}

// Attach takes over a connection on which a worker will introduce itself. It is
// closed at once if too many others have not done so yet.
func (c *Coordinator) Attach(conn *link.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return ErrClosed
	}
	if c.strange == maxStrangers {
		c.say(&c.strangers, slog.LevelWarn, "too many connections that do not say hello", "address", conn.RemoteAddr())
		conn.Close()
		return nil
	}
	c.strange++
	c.conns.Go(func() { c.attend(conn) })
	return nil
}

// WaitReady waits until every place of the plan has a worker that serves its
// shard. The error wraps ctx's cause, or is ErrClosed.
func (c *Coordinator) WaitReady(ctx context.Context) error {
	return c.waitAll(ctx, "not ready", func(m *member) bool { return m.ready || m.place == none })
}

// WaitComplete is WaitReady that waits for every spare too to hold a shard.
func (c *Coordinator) WaitComplete(ctx context.Context) error {
	return c.waitAll(ctx, "not ready", func(m *member) bool { return m.ready })
}

// WaitGone waits until no worker is connected; its error is as WaitReady's.
func (c *Coordinator) WaitGone(ctx context.Context) error {
	return c.waitAll(ctx, "still here", func(m *member) bool { return m.conn == nil })
}

// waitAll waits until all members are as is says; those that are not are what.
func (c *Coordinator) waitAll(ctx context.Context, what string, is func(*member) bool) error {
	for {
		c.mu.Lock()
		changed, missing := c.changed, 0
		for _, m := range c.members {
			if !is(m) {
				missing++
			}
		}
		c.mu.Unlock()
		if missing == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%d of %d workers are %s: %w", missing, len(c.members), what, context.Cause(ctx))
		}
	}
}

// Answer is what a request gives. It may be used again for the next request,
// which then allocates nothing.
type Answer struct {
	Outputs    []*tensor.Tensor // in the graph's output order; owned by the Answer
	Request    uint64           // its number, from 1
	Decoded    []Recovered      // slices recovered by parity, in layer order
	Recomputed []Recovered      // slices of which the coordinator computed some itself
	Reasked    []Recovered      // slices of which a spare gave some
	Wrong      []Recovered      // results that an audit found wrong, parities too
	Late       int              // results that were not waited for
	Decoding   time.Duration    // spent in recovering slices by parity
	FLOPs      int64            // of split layers, that workers were asked for or the coordinator computed
}

// Recovered is a data slice that was not waited for.
type Recovered struct {
	Layer  int // of the plan
	Slice  int
	Worker int // who held it, from 0; see Status
}

// Infer runs one request: inputs in the graph's input order, not kept. On an
// error the answer is undefined. The error is a *BusyError, an
// *engine.InputError or *engine.ValueError, a *LostError, ErrClosed or ctx's.
func (c *Coordinator) Infer(ctx context.Context, inputs []*tensor.Tensor, answer *Answer) error {
	l, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer func() { c.idle <- l }()
	begin := time.Now()
	answer.Decoded, answer.Recomputed, answer.Wrong = answer.Decoded[:0], answer.Recomputed[:0], answer.Wrong[:0]
	answer.Reasked = answer.Reasked[:0]
	answer.Late, answer.Decoding, answer.FLOPs = 0, 0, 0
	answer.Request = c.number.Add(1)
	if err := c.open(l, answer); err != nil {
		return err
	}
	defer c.finish(l)
	outputs, err := l.session.Run(ctx, l, inputs)
	if err != nil {
		return err
	}
	for i, o := range outputs {
		switch {
		case i == len(answer.Outputs):
			answer.Outputs = append(answer.Outputs, o.Clone())
		case answer.Outputs[i].Type != o.Type || !answer.Outputs[i].Shape.Equal(o.Shape):
			answer.Outputs[i] = o.Clone()
		default:
			copy(answer.Outputs[i].Data, o.Data)
		}
	}
	answer.Outputs = answer.Outputs[:len(outputs)]
	learn(&c.took, time.Since(begin))
	return nil
}

// open makes a call known to the connections' readers.
func (c *Coordinator) open(l *call, answer *Answer) error {
	l.answer, l.audited = answer, sampled(answer.Request, c.cfg.Audit)
	l.mu.Lock()
	l.request = answer.Request
	l.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.calls[answer.Request] = l
	return nil
}

func (c *Coordinator) finish(l *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, l.answer.Request)
	l.answer = nil
}

// alone says whether just one request is in flight.
func (c *Coordinator) alone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls) == 1
}

// goWith runs f in a goroutine that Close waits for, with a context that ends
// then; false if Close was called.
func (c *Coordinator) goWith(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.conns.Go(func() { f(c.ctx) })
	return true
}

// Close ends all connections and waits for their goroutines; requests in
// flight end with an error or are answered by the coordinator alone.
func (c *Coordinator) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.conns.Wait()
	for range cap(c.idle) {
		<-c.idle
	}
	c.pool.Close()
}
