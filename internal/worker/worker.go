// Package worker is the program on a device: it dials a coordinator, takes in
// the shard it is told to hold, and computes that shard's slices on request.
// It cannot tell a parity slice from another.
//
// Invariants: a lost connection is dialled again until the context ends or the
// coordinator refuses; a shard that was once taken in is kept and not sent
// again; a cancelled request is dropped wherever it is; a coordinator that
// sends more than maxJobs requests at once is told so, never queued for.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/kernel"
	"starling/internal/link"
	"starling/internal/shard"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// leaveTime is how long a worker that is to end may take to hand over and to
// finish what it was asked for.
const leaveTime = time.Second

// dialTime is how long dialling may take: a machine that is off answers
// nothing, and TCP alone would try for two minutes.
const dialTime = 5 * time.Second

// Config says where a worker belongs and how it computes.
type Config struct {
	Join     string  // address of the coordinator's link, host:port
	Token    string  // the coordinator's secret, "" if it has none
	ID       string  // stays the same over restarts: a returning worker gets its slices back
	Name     string  // wished name, as "w2"; "" lets the coordinator choose
	StateDir string  // where shards are kept
	Threads  int     // for computing; 0 is all cores
	Speed    float64 // for labs: computing takes 1/Speed as long, by sleeping; 0 is 1, real speed

	// Slice, for labs: computing a slice takes so long, by sleeping, if it does
	// not take longer. Unlike Speed it does not multiply what a machine that is
	// shared by many devices does meanwhile.
	Slice time.Duration
	// Load, for labs: a shard is served so long after it was loaded, as if the
	// disk were slow.
	Load time.Duration

	// RetryMin and RetryMax bound the wait before dialling again: it starts at
	// the former and doubles until a shard is held. Defaults 50 ms and 2 s. Shorter returns faster
	// and costs a coordinator that is down more connection attempts.
	RetryMin, RetryMax time.Duration

	Log *slog.Logger // nil logs nothing

	// Dial makes the connection; nil is link.Dial to Join with Link.
	Dial func(context.Context) (*link.Conn, error)
	Link link.Config
}

// RefusedError says why a coordinator does not want this worker.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the coordinator refused this worker: " + e.Reason }

// worker lives over all connections.
type worker struct {
	cfg   Config
	hello *frame.HelloInfo
	log   *slog.Logger
	store *shard.Store
	pool  *kernel.Pool
	held  *held // the shard being served; nil before the first
	// patched is the shard that was made last of another and new rows, "" for none.
	patched string
	lab     *lab
}

// held is a mapped shard, ready to compute.
type held struct {
	sum    string
	shard  *shard.Shard
	slices map[sliceKey]layerSlice

	weights int // bytes, of all slices
}

// sliceKey is a layer's number and which of this shard's slices of it is meant.
type sliceKey struct{ layer, nth uint32 }

// layerSlice is a slice as it is computed: block of rows by block of rows, or a
// stage as one block.
type layerSlice struct {
	input  tensorSize
	floats bool // input and result are float32
	blocks []block
}

// tensorSize is a number of elements, and their bytes.
type tensorSize struct{ elements, bytes int }

// travels says whether inputs and results of the slice may be so encoded:
// integers are not.
func (l layerSlice) travels(as wire.Encoding) bool {
	return as == wire.F32 || as.Valid() && l.floats
}

// inputBytes is the size of the slice's input, so encoded.
func (l layerSlice) inputBytes(as wire.Encoding) int {
	if as == wire.F32 {
		return l.input.bytes
	}
	return as.Size(l.input.elements)
}

// block is what is computed at a time: one of slice and stage.
type block struct {
	slice *engine.Slice
	stage *engine.Stage
	bytes int // of its result
}

// bytes are those of the whole result.
func (l layerSlice) bytes() (n int) {
	for _, b := range l.blocks {
		n += b.bytes
	}
	return n
}

// Run serves until ctx ends, when it takes its leave, at most a second, and
// gives nil, or until the coordinator refuses
// this worker, which gives a *RefusedError. An error at the start says that the
// Config or its StateDir cannot be used. Everything else is tried again.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context) (*link.Conn, error) { return link.Dial(ctx, cfg.Join, cfg.Link) }
	}
	if cfg.RetryMin == 0 {
		cfg.RetryMin = 50 * time.Millisecond
	}
	if cfg.RetryMax == 0 {
		cfg.RetryMax = 2 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	hello := &frame.HelloInfo{
		Version: frame.Protocol, Token: cfg.Token, Name: cfg.Name, ID: cfg.ID,
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: kernel.Level(), Cores: runtime.NumCPU(),
	}
	if err := hello.Check(); err != nil {
		return err
	}
	store, err := shard.OpenStore(cfg.StateDir)
	if err != nil {
		return err
	}
	w := &worker{cfg: cfg, hello: hello, log: cfg.Log, store: store, pool: kernel.NewPool(cfg.Threads), lab: newLab(cfg.ID)}
	defer w.pool.Close()
	defer w.drop()

	wait := cfg.RetryMin
	for {
		served, err := w.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var refused *RefusedError
		if errors.As(err, &refused) {
			return err
		}
		if served {
			wait = cfg.RetryMin
		}
		w.log.Info("no coordinator, will dial again", "cause", err, "wait", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, cfg.RetryMax)
	}
}

// connect dials once and serves until the connection ends; served says whether
// a shard was held.
func (w *worker) connect(ctx context.Context) (served bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := w.cfg.Dial(dialing)
	cancel()
	if err != nil {
		return false, err
	}
	s := newSession(w, conn)
	defer s.close()
	defer conn.Close() // before, so that nothing waits for room on it
	over := make(chan struct{})
	var leaving sync.WaitGroup
	leaving.Go(func() {
		select {
		case <-ctx.Done():
			s.leave(over)
			conn.Close()
		case <-over:
		}
	})
	defer leaving.Wait()
	defer close(over)
	if err := conn.SendInfo(ctx, frame.Hello, w.hello); err != nil {
		return false, err
	}
	// What is under way goes on while the worker takes its leave.
	err = s.serve(context.WithoutCancel(ctx), ctx.Done())
	return s.served, err
}

// hold maps and prepares a shard of the store, in place of the one held.
func (w *worker) hold(info shard.Info) error {
	w.drop()
	sh, err := w.store.Open(info)
	if err != nil {
		return err
	}
	h := &held{sum: info.SHA256, shard: sh, slices: make(map[sliceKey]layerSlice, len(sh.Slices))}
	w.held = h
	for _, s := range sh.Slices {
		layer, err := w.prepare(&s)
		if err != nil {
			w.drop()
			return fmt.Errorf("layer %d of shard %s: %w", s.Layer, info.SHA256, err)
		}
		h.slices[sliceKey{uint32(s.Layer), uint32(s.Nth)}] = layer
		h.weights += len(s.Weights)
	}
	return nil
}

// prepare prepares a slice for computing.
func (w *worker) prepare(s *shard.Slice) (layer layerSlice, err error) {
	if s.Stage != nil {
		layer, err = w.stageOf(s)
	} else {
		layer, err = blocksOf(s)
	}
	for _, b := range layer.blocks {
		if limit := w.resultLimit(); b.bytes > limit {
			return layer, fmt.Errorf("its result of %d bytes is beyond the link's %d", b.bytes, limit)
		}
	}
	return layer, err
}

func blocksOf(s *shard.Slice) (layerSlice, error) {
	layer := layerSlice{input: tensorSize{s.Linear.InputLen(), s.Linear.InputBytes()}, floats: s.Linear.Integers == (engine.Integers{})}
	for begin := 0; begin < s.Linear.Rows; begin += s.Block {
		end := min(begin+s.Block, s.Linear.Rows)
		part := s.Linear
		if end-begin < part.Rows { // groups are never cut
			part = part.OfRows(end - begin)
		}
		e, err := engine.NewSlice(part, s.Weights[begin*part.RowBytes():end*part.RowBytes()])
		if err != nil {
			return layer, err
		}
		layer.blocks = append(layer.blocks, block{slice: e, bytes: part.OutputBytes()})
	}
	return layer, nil
}

func (w *worker) stageOf(s *shard.Slice) (layerSlice, error) {
	g, err := s.Stage.Graph(s.Weights)
	if err != nil {
		return layerSlice{}, err
	}
	e, err := engine.NewStage(g, w.pool)
	if err != nil {
		return layerSlice{}, err
	}
	in, out := g.Inputs[0].Info, g.Infos[g.Outputs[0]]
	return layerSlice{
		input:  tensorSize{in.Shape.Elements(), in.Shape.Elements() * in.Type.Size()},
		floats: in.Type == tensor.Float32 && out.Type == tensor.Float32,
		blocks: []block{{stage: e, bytes: out.Shape.Elements() * out.Type.Size()}},
	}, nil
}

// resultLimit is the largest result in bytes that the link carries.
func (w *worker) resultLimit() int {
	if w.cfg.Link.MaxPayload == 0 {
		return frame.DefaultMaxPayload
	}
	return int(min(w.cfg.Link.MaxPayload, 1<<30)) // 1 GiB: see link.NewPayload
}

// drop gives up the shard that is held. No job may be running.
func (w *worker) drop() {
	if w.held == nil {
		return
	}
	if err := w.held.shard.Close(); err != nil {
		w.log.Warn("unmap shard", "cause", err)
	}
	w.held = nil
}
