package coordinator

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/shard"
)

const (
	// helloTime is how long a new connection may take to say what it is.
	helloTime = 5 * time.Second
	// goneTime is how long a worker that was let go may take to finish.
	goneTime = 2 * time.Second
	// chunkSize is the size of the pieces in which a shard is sent, in bytes.
	chunkSize = 1 << 20
)

// member is one worker of the flock, whether it is connected or not. It has one
// of the plan's places, whose slices it computes, or is a spare.
type member struct {
	number int // from 0
	name   string
	lines  lines

	// Guarded by Coordinator.mu.
	id    string     // of the worker that is or last was this member
	conn  *link.Conn // nil while it is gone
	place int        // none of a spare
	shard int        // the place whose shard it holds or was told to hold; the last one while it is gone
	ready bool       // the shard is held
	// version counts the Assigns on conn: who is ready with an earlier shard is
	// not ready.
	version uint64
	leaving bool      // it asked to be let go
	since   time.Time // when conn or ready were last lost

	behind      *atomic.Int32 // asks on conn that were given up and not answered yet
	trust       trust
	trial       trial
	late        atomic.Bool               // its last result was late: see trial
	lateSince   atomic.Pointer[time.Time] // set where late is
	quarantined atomic.Bool               // a result of its was wrong: it gets no more work

	lateness                         lateness
	answered, missed, decoded, wrong atomic.Int64
	bytesOut, bytesIn                atomic.Uint64 // of connections that have ended
}

// State says how a worker is doing.
type State string

// The states of a worker.
const (
	Gone    State = "gone"    // no connection
	Leaving State = "leaving" // finishes what it was asked for, and will be gone
	Joining State = "joining" // connected or back again, does not hold its shard yet
	Ready   State = "ready"   // healthy
	Late    State = "late"    // holds its shard; its last result was not waited for
	Hung    State = "hung"    // late for hungAfter and longer, though its heartbeat goes on
	Spare   State = "spare"   // has no place

	// Quarantined: an audit found a result of its wrong, and it gets no more
	// work. It stays so until another worker becomes this member.
	Quarantined State = "quarantined"
)

// WorkerStatus is a worker's state and what it did so far.
type WorkerStatus struct {
	ID         string   `json:"id"`
	State      State    `json:"state"`
	Slices     int      `json:"slices"`      // that it computes
	Bytes      uint64   `json:"bytes"`       // sent to it and received from it
	Answered   int64    `json:"answered"`    // results taken in time
	Late       int64    `json:"late"`        // results that were not waited for
	DecodedFor int64    `json:"decoded_for"` // its data slices that parity gave instead
	Place      string   `json:"place"`       // "w2" if it has that worker's place; "" of a spare
	Lateness   Lateness `json:"lateness_ms"`
	Wrong      int64    `json:"-"` // results that an audit found wrong
}

// Status returns the plan's workers and then the spares, in order.
func (c *Coordinator) Status() []WorkerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]WorkerStatus, len(c.members))
	for i, m := range c.members {
		s := WorkerStatus{
			ID: m.name, State: m.state(time.Now()), Lateness: m.lateness.summary(),
			Wrong: m.wrong.Load(), Answered: m.answered.Load(), Late: m.missed.Load(), DecodedFor: m.decoded.Load(),
			Bytes: m.bytesOut.Load() + m.bytesIn.Load(),
		}
		if m.place != none {
			s.Place, s.Slices = c.members[m.place].name, len(c.plan.Layers)
		}
		if m.conn != nil {
			st := m.conn.Stats()
			s.Bytes += st.BytesIn + st.BytesOut
		}
		out[i] = s
	}
	return out
}

// state is as of now; Coordinator.mu is held.
func (m *member) state(now time.Time) State {
	switch {
	case m.conn == nil:
		return Gone
	case m.quarantined.Load():
		return Quarantined
	case m.leaving:
		return Leaving
	case m.place == none:
		return Spare
	case !m.ready:
		return Joining
	case m.hung(now):
		return Hung
	case m.late.Load():
		return Late
	default:
		return Ready
	}
}

// overdue notes that a result of m was late.
func (c *Coordinator) overdue(m *member) {
	if m.late.Load() {
		return
	}
	now := time.Now()
	m.lateSince.Store(&now)
	m.late.Store(true)
	c.wake()
}

// onTime notes that one came in time.
func (m *member) onTime() {
	m.answered.Add(1)
	m.trust.regain()
	m.trial.reset()
	m.late.Store(false)
}

// hung says whether the member has been late for too long to be hoped for.
func (m *member) hung(now time.Time) bool {
	return m.late.Load() && !now.Before(m.hungFrom())
}

func (m *member) hungFrom() time.Time { return m.lateSince.Load().Add(hungAfter) }

// Wrong is the number of results that audits found wrong.
func (c *Coordinator) Wrong() (n uint64) {
	for _, m := range c.members {
		n += uint64(m.wrong.Load())
	}
	return n
}

// Damaged is the number of results that arrived with a wrong checksum; each
// counted as not given.
func (c *Coordinator) Damaged() uint64 { return c.damaged.Load() }

// Emulate makes a worker or its link worse from now on, for labs. worker counts
// from 0.
func (c *Coordinator) Emulate(ctx context.Context, worker int, how *frame.EmulateInfo) error {
	c.mu.Lock()
	conn := c.members[worker].conn
	c.mu.Unlock()
	if conn == nil {
		return fmt.Errorf("worker w%d is gone", worker+1)
	}
	return conn.SendInfo(ctx, frame.Emulate, how)
}

// attend serves one worker's connection until it ends.
func (c *Coordinator) attend(conn *link.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(c.ctx, func() {
		conn.TrySend(frame.Header{Type: frame.Bye}, nil)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = conn.Flush(ctx) // a worker that does not listen any more needs no goodbye
		conn.Close()
	})
	defer stop()
	m, err := c.admit(conn)
	c.mu.Lock()
	c.strange--
	c.mu.Unlock()
	if err != nil {
		c.say(&c.strangers, slog.LevelWarn, "worker not admitted", "address", conn.RemoteAddr(), "cause", err)
		return
	}
	c.say(&m.lines, slog.LevelInfo, "worker joined", "worker", m.name, "address", conn.RemoteAddr())
	err = c.read(m, conn)
	conn.Close() // before leave, so that no request can still send on it and wait
	c.leave(m, conn)
	c.say(&m.lines, slog.LevelInfo, "worker left", "worker", m.name, "cause", err)
}

// admit reads the Hello and finds which member the worker is.
func (c *Coordinator) admit(conn *link.Conn) (*member, error) {
	tooLate := time.AfterFunc(helloTime, func() { conn.Close() })
	defer tooLate.Stop()
	conn.LimitPayload(0) // control frames only, from whom nobody knows
	h, payload, err := conn.Receive()
	if err != nil {
		return nil, err
	}
	var hello frame.HelloInfo
	if h.Type != frame.Hello {
		return nil, fmt.Errorf("first frame is %v, not hello", h.Type)
	}
	if err := frame.Unmarshal(payload, &hello); err != nil {
		return nil, err
	}
	switch {
	case hello.Version != frame.Protocol:
		return nil, c.refuse(conn, fmt.Sprintf("it speaks protocol %d, this coordinator %d: use the same release", hello.Version, frame.Protocol))
	case subtle.ConstantTimeCompare([]byte(hello.Token), []byte(c.cfg.Token)) != 1:
		return nil, c.refuse(conn, "its token is wrong")
	case hello.ID == "":
		return nil, c.refuse(conn, "it has no ID")
	}
	m, old := c.seat(hello, conn)
	if m == nil {
		return nil, c.refuse(conn, fmt.Sprintf("all %d places of the flock are taken", len(c.members)))
	}
	if old != nil {
		markBack.Pass()
		old.Close()
	}
	conn.LimitPayload(c.largest)
	return m, nil
}

// assign tells a member which place's shard to hold; c.mu is held. It is false
// if the connection cannot take that now.
func (c *Coordinator) assign(m *member, place int) bool {
	info := c.shards[place]
	assign := frame.AssignInfo{SHA256: info.SHA256, Size: info.Size, Description: info.Description}
	if !tell(m.conn, frame.Header{Type: frame.Assign, Request: m.version + 1}, &assign) {
		return false
	}
	m.shard, m.ready = place, false
	m.version++
	return true
}

// tell is TrySend of an info.
func tell(conn *link.Conn, h frame.Header, info frame.Info) bool {
	raw, err := frame.Marshal(info)
	if err != nil {
		panic(err) // neither our names nor our shards are such
	}
	p := link.PayloadOf(raw)
	defer p.Release()
	return conn.TrySend(h, p)
}

// refuse tells the worker why, and returns it as an error.
func (c *Coordinator) refuse(conn *link.Conn, reason string) error {
	markRefused.Pass()
	ctx, cancel := context.WithTimeout(c.ctx, helloTime)
	defer cancel()
	p := link.PayloadOf([]byte(frame.Reason(reason)))
	defer p.Release()
	err := conn.Send(ctx, frame.Header{Type: frame.Refuse}, p)
	return errors.Join(errors.New(reason), err, conn.Flush(ctx))
}

// seat finds which member the worker is, and tells it what to hold: the one it
// was, the one it names, the first that nobody ever was, the first that is gone,
// one with a place if possible. It returns nil if there is none, and the
// connection that it took the place of, if any.
func (c *Coordinator) seat(hello frame.HelloInfo, conn *link.Conn) (m *member, old *link.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fits := range []func(*member) bool{
		func(m *member) bool { return m.id == hello.ID },
		func(m *member) bool { return m.id == "" && m.name == hello.Name },
		func(m *member) bool { return m.id == "" },
		func(m *member) bool { return m.conn == nil && m.place != none },
		func(m *member) bool { return m.conn == nil },
	} {
		i := slices.IndexFunc(c.members, fits)
		if i < 0 {
			continue
		}
		m, old = c.members[i], c.members[i].conn
		if m.id != hello.ID {
			m.quarantined.Store(false)
		}
		m.id, m.conn, m.ready, m.leaving, m.since = hello.ID, conn, false, false, time.Now()
		m.version = math.MaxUint64 // the first Assign is number 0
		m.behind = new(atomic.Int32)
		m.trust.renew()
		m.trial.reset()
		m.late.Store(false)
		if m.place != none {
			m.shard = m.place
		}
		// Its queue is empty: what it does not take, it has ended for.
		tell(conn, frame.Header{Type: frame.Welcome}, &frame.WelcomeInfo{Worker: m.name})
		if m.shard != none && (m.place != none || !m.quarantined.Load()) {
			c.assign(m, m.shard)
		}
		c.announce()
		return m, old
	}
	return nil, nil
}

// read takes what the worker sends until the connection ends.
func (c *Coordinator) read(m *member, conn *link.Conn) error {
	for {
		h, payload, err := conn.Receive()
		if corrupt, ok := errors.AsType[*link.CorruptError](err); ok &&
			(corrupt.Header.Type == frame.Result || corrupt.Header.Type == frame.Failed) {
			markDamaged.Pass()
			c.damaged.Add(1)
			c.result(m, conn, corrupt.Header, nil)
			continue
		}
		if err != nil {
			return err
		}
		switch h.Type {
		case frame.Result:
			c.result(m, conn, h, payload)
		case frame.Failed:
			if len(payload) > 0 { // else because it was cancelled
				markFailed.Pass()
				c.say(&m.lines, slog.LevelWarn, "worker could not compute", "worker", m.name, "request", h.Request, "layer", h.Layer,
					"cause", frame.Reason(string(payload)))
			}
			c.result(m, conn, h, nil)
		case frame.Want:
			if err := c.sendShard(m, conn, h.Layer, int64(h.Request)); err != nil {
				return err
			}
		case frame.Ready:
			c.setReady(m, conn, h.Request)
		case frame.Leave:
			c.leaving(m, conn)
		case frame.Bye:
			return errors.New("the worker said goodbye")
		default:
			return fmt.Errorf("unexpected %v frame from worker %s", h.Type, m.name)
		}
	}
}

// result hands a worker's result to its request; without payload it won't come.
// What answers an ask that was given up says that the worker has caught up by it,
// unless it has left the connection for another meanwhile.
func (c *Coordinator) result(m *member, conn *link.Conn, h frame.Header, payload []byte) {
	c.mu.Lock()
	l, behind, current := c.calls[h.Request], m.behind, m.conn == conn
	c.mu.Unlock()
	if l != nil && l.deliver(m, h, payload) || !current || h.Layer >= uint32(len(c.plan.Layers)) {
		return
	}
	layer := &c.plan.Layers[h.Layer]
	last := h.Slice < uint32(layer.N()) && h.Nth == uint32(layer.Blocks(int(h.Slice))-1)
	if h.Type != frame.Failed && !last {
		return
	}
	behind.Add(-1)
	switch tried, late := m.trial.end(h, time.Now()); {
	case late:
		c.overdue(m)
	case tried:
		m.trust.regain()
		m.late.Store(false)
	}
}

func (c *Coordinator) setReady(m *member, conn *link.Conn, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.conn == conn && m.version == version && m.shard != none && !m.leaving {
		m.ready = true
		c.announce()
	}
}

// leaving is told that the member wants to go. It is let go when a spare has
// its place, at once if none can take it.
func (c *Coordinator) leaving(m *member, conn *link.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.conn != conn || m.leaving {
		return
	}
	m.leaving, m.since = true, time.Now()
	if m.place == none || c.spare(m, func(*member) bool { return true }) == nil {
		c.release(m)
		return
	}
	c.announce()
}

// release lets a leaving member go: it gets no more work. c.mu is held.
func (c *Coordinator) release(m *member) {
	m.ready = false
	conn := m.conn
	conn.TrySend(frame.Header{Type: frame.Bye}, nil)
	time.AfterFunc(goneTime, func() { conn.Close() })
	c.announce()
}

// leave gives up what requests expect from conn, and notes that the member is
// gone unless it has another connection.
func (c *Coordinator) leave(m *member, conn *link.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := conn.Stats()
	m.bytesIn.Add(st.BytesIn)
	m.bytesOut.Add(st.BytesOut)
	for _, request := range slices.Sorted(maps.Keys(c.calls)) { // the oldest goes on first
		c.calls[request].connLost(conn)
	}
	if m.conn == conn {
		m.conn, m.ready, m.leaving, m.since = nil, false, false, time.Now()
		c.announce()
	}
}

// announce notes a change of state and wakes those who wait for one; c.mu is
// held.
func (c *Coordinator) announce() {
	c.examine(time.Now())
	close(c.changed)
	c.changed = make(chan struct{})
}

// wanted is which shard the member was told to hold by its latest Assign, if
// that is the one meant.
func (c *Coordinator) wanted(m *member, conn *link.Conn, version uint32) (shard.Info, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.conn != conn || m.version&math.MaxUint32 != uint64(version) || m.shard == none {
		return shard.Info{}, false
	}
	return c.shards[m.shard], true
}

// sendShard sends the shard that the member was told to hold by its Assign of
// that version, from byte offset on, until it is told to hold another one.
func (c *Coordinator) sendShard(m *member, conn *link.Conn, version uint32, offset int64) error {
	info, ok := c.wanted(m, conn, version)
	if !ok {
		return nil
	}
	if offset < 0 || offset > info.Size {
		return fmt.Errorf("worker %s wants its shard from byte %d of %d", m.name, offset, info.Size)
	}
	markSent.Pass()
	f, err := os.Open(info.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	for offset < info.Size && ok {
		p := link.NewPayload(int(min(chunkSize, info.Size-offset)))
		_, err := f.ReadAt(p.Bytes(), offset)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = conn.Send(c.ctx, frame.Header{Type: frame.Chunk, Request: uint64(offset), Layer: version}, p)
		}
		offset += int64(len(p.Bytes()))
		p.Release()
		if err != nil {
			return fmt.Errorf("send shard to worker %s: %w", m.name, err)
		}
		_, ok = c.wanted(m, conn, version)
	}
	return nil
}
