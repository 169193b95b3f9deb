package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/shard"
	"starling/internal/wire"
)

// maxPatches is how many pieces of new rows a worker keeps for one new shard;
// together they are no larger than the weights of the one it holds.
const maxPatches = 1024

// session is one connection to a coordinator: its reader, and the jobs that
// wait for the one goroutine that computes.
type session struct {
	*worker
	conn     *link.Conn
	jobs     *jobs
	blocks   []computed    // computed and not sent yet; of the computing goroutine
	scratch  []byte        // of the same: a block before it is encoded
	computed chan struct{} // closed when the computing goroutine has returned
	stop     context.CancelFunc
	released chan struct{} // one element: the coordinator has found another worker, or needs none

	served   bool            // the shard was held, so requests could come
	incoming *shard.Incoming // a shard on its way; nil if none
	assigned shard.Info
	version  uint64        // of assigned, to be said in Ready
	patches  []shard.Patch // of the shard that is held, for the next one
	patching int           // bytes of patches
}

func newSession(w *worker, conn *link.Conn) *session {
	return &session{worker: w, conn: conn, jobs: newJobs(), released: make(chan struct{}, 1)}
}

// close ends the computing goroutine and forgets a half-received shard.
func (s *session) close() {
	s.rest()
	if s.incoming != nil {
		s.incoming.Abandon()
	}
}

// work starts the computing goroutine on the shard that is held.
func (s *session) work(ctx context.Context) {
	computing, stop := context.WithCancel(ctx)
	s.stop, s.computed = stop, make(chan struct{})
	go func() {
		defer close(s.computed)
		s.compute(computing, ctx)
	}()
}

// rest ends the computing goroutine and waits for it; jobs that wait go on
// waiting.
func (s *session) rest() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.jobs.cancelAll()
	<-s.computed
	s.stop = nil
}

// leave has the coordinator send nothing more, finishes what it sent, and says
// goodbye: nobody has to wait for this worker, then, or to do without it. over
// is closed when the connection has ended.
func (s *session) leave(over <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	if s.conn.Send(ctx, frame.Header{Type: frame.Leave}, nil) != nil {
		return
	}
	select {
	case <-s.released:
	case <-over:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-s.jobs.end():
	case <-over:
		return
	case <-ctx.Done():
		return
	}
	s.conn.TrySend(frame.Header{Type: frame.Bye}, nil)
	_ = s.conn.Flush(ctx) // who does not listen any more needs no goodbye
}

// serve reads frames until the connection ends; ending is closed when the worker
// is to take its leave.
func (s *session) serve(ctx context.Context, ending <-chan struct{}) error {
	for {
		h, payload, err := s.conn.Receive()
		if corrupt, ok := errors.AsType[*link.CorruptError](err); ok && corrupt.Header.Type == frame.Compute {
			markDamaged.Pass()
			s.failed(ctx, corrupt.Header, err.Error())
			continue
		}
		if err != nil {
			return err
		}
		switch h.Type {
		case frame.Compute:
			s.accept(ctx, h, payload)
		case frame.Cancel:
			s.jobs.cancel(h)
		case frame.Welcome:
			err = s.welcomed(payload)
		case frame.Refuse:
			return &RefusedError{frame.Reason(string(payload))}
		case frame.Update:
			s.update(h, payload)
		case frame.Assign:
			s.version = h.Request
			err = s.assign(ctx, payload)
		case frame.Chunk:
			err = s.chunk(ctx, h, payload)
		case frame.Emulate:
			err = s.emulate(ending, payload)
		case frame.Bye:
			select {
			case <-ending:
				select {
				case s.released <- struct{}{}:
				default:
				}
			default:
				return errors.New("the coordinator said goodbye")
			}
		default:
			err = fmt.Errorf("unexpected %v frame from the coordinator", h.Type)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) welcomed(payload []byte) error {
	var info frame.WelcomeInfo
	if err := frame.Unmarshal(payload, &info); err != nil {
		return err
	}
	s.log.Info("joined", "worker", info.Worker, "coordinator", s.conn.RemoteAddr())
	return nil
}

// emulate does not return on a cut link before the worker is to end: nothing is
// read from it, and there is no way to dial another one.
func (s *session) emulate(ending <-chan struct{}, payload []byte) error {
	var info frame.EmulateInfo
	if err := frame.Unmarshal(payload, &info); err != nil {
		return err
	}
	s.lab.emulate(&info)
	if info.Mute {
		s.conn.Mute()
	}
	if info.Cut {
		s.conn.Mute()
		<-ending
		return errors.New("the link is cut")
	}
	return nil
}

// assign serves the shard at once if it is held or in the store, else asks for
// its bytes.
func (s *session) assign(ctx context.Context, payload []byte) error {
	var info frame.AssignInfo
	if err := frame.Unmarshal(payload, &info); err != nil {
		return err
	}
	s.rest()
	s.dropAll(ctx)
	if s.incoming != nil {
		s.incoming.Abandon()
		s.incoming = nil
	}
	s.assigned = shard.Info{SHA256: info.SHA256, Size: info.Size, Description: info.Description}
	s.patch()
	if s.held != nil && s.held.sum == info.SHA256 {
		markHeld.Pass()
		return s.ready(ctx)
	}
	err := s.hold(s.assigned)
	var damaged *shard.CorruptError
	switch {
	case err == nil:
		markKept.Pass()
		return s.ready(ctx)
	case errors.As(err, &damaged):
		markSpoilt.Pass()
		s.log.Warn("kept shard is damaged, will ask for it again", "cause", err)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	markWant.Pass()
	if s.incoming, err = s.store.Receive(s.assigned); err != nil {
		return err
	}
	return s.conn.Send(ctx, frame.Header{Type: frame.Want, Layer: uint32(s.version)}, nil)
}

func (s *session) chunk(ctx context.Context, h frame.Header, payload []byte) error {
	if uint64(h.Layer) != s.version&math.MaxUint32 {
		return nil // of a shard that is not to be held any more
	}
	if s.incoming == nil || h.Request != uint64(s.incoming.Size()) {
		return fmt.Errorf("unexpected piece of a shard at byte %d", h.Request)
	}
	if _, err := s.incoming.Write(payload); err != nil {
		return err
	}
	if !s.incoming.Done() {
		return nil
	}
	err := s.incoming.Finish()
	s.incoming = nil
	if err == nil {
		err = s.hold(s.assigned)
	}
	if err != nil {
		return err
	}
	return s.ready(ctx)
}

func (s *session) ready(ctx context.Context) error {
	if s.cfg.Load > 0 {
		select {
		case <-time.After(s.cfg.Load):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.work(ctx)
	s.served = true
	return s.conn.Send(ctx, frame.Header{Type: frame.Ready, Request: s.version}, nil)
}

// update keeps new rows of a slice until the shard that they lead to is
// assigned. Rows that do not fit, or too many, cost the shard's bytes: it is
// asked for then.
func (s *session) update(h frame.Header, payload []byte) {
	if s.held == nil || s.patching+len(payload) > s.held.weights || len(s.patches) == maxPatches ||
		h.Request > math.MaxInt32 || h.Layer > math.MaxInt32 || h.Nth > math.MaxInt32 {
		return
	}
	s.patching += len(payload)
	s.patches = append(s.patches, shard.Patch{Layer: int(h.Layer), Nth: int(h.Nth), Begin: int(h.Request), Rows: bytes.Clone(payload)})
}

// patch makes the assigned shard from the one that is held, if there are new
// rows for it. The one before is of no more use if it was made so itself.
func (s *session) patch() {
	patches := s.patches
	s.patches, s.patching = nil, 0
	if len(patches) == 0 || s.held == nil {
		return
	}
	if _, err := os.Stat(s.store.Path(s.assigned.SHA256)); err == nil {
		return // somebody who shares the store was first
	}
	info, err := s.store.Patch(s.held.shard, patches)
	if err != nil {
		s.log.Warn("new rows do not fit, will ask for the whole shard", "cause", err)
		return
	}
	if s.patched != "" && s.patched != info.SHA256 {
		s.store.Remove(s.patched)
	}
	s.patched = info.SHA256
}

// accept queues a request's input for computing.
func (s *session) accept(ctx context.Context, h frame.Header, payload []byte) {
	if s.stop == nil {
		s.failed(ctx, h, "no shard is held yet")
		return
	}
	layer, ok := s.held.slices[sliceKey{h.Layer, h.Nth}]
	switch as, wanted := wire.Encoding(h.Encoding()), wire.Encoding(h.Wanted()); {
	case !ok:
		s.failed(ctx, h, "this shard has no such slice")
	case !layer.travels(as) || !layer.travels(wanted):
		s.failed(ctx, h, fmt.Sprintf("the slice does not take %v for %v", as, wanted))
	case len(payload) != layer.inputBytes(as):
		s.failed(ctx, h, "the input has another size than the slice's")
	case !s.jobs.add(h, layer, payload):
		s.failed(ctx, h, fmt.Sprintf("%d requests wait already", maxJobs))
	}
}

// failed tells the coordinator that a result will not come. It waits for room in
// the queue: without parity the coordinator waits for nothing else. An error
// means that the connection has ended; its reader knows.
func (s *session) failed(ctx context.Context, h frame.Header, reason string) {
	p := link.PayloadOf([]byte(frame.Reason(reason)))
	defer p.Release()
	h.Type = frame.Failed
	_ = s.conn.Send(ctx, h, p)
}
