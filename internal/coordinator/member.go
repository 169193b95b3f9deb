package coordinator

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
)

const (
	// helloTime is how long a new connection may take to say what it is.
	helloTime = 5 * time.Second
	// chunkSize is the size of the pieces in which a shard is sent, in bytes.
	chunkSize = 1 << 20
)

// member is one worker's place in the flock: its slices, and whoever serves
// them at the moment.
type member struct {
	slot int
	name string

	// Guarded by Coordinator.mu.
	id    string     // of the worker that has or last had this place
	conn  *link.Conn // nil while nobody is there
	ready bool       // the shard is held
	// version counts the shards that this place has had: one that is ready with
	// an earlier one is not ready.
	version uint64

	late        atomic.Bool // its last result was not in time
	quarantined atomic.Bool // a result of its was wrong: it gets no more work

	answered, missed, decoded, wrong atomic.Int64
	bytesOut, bytesIn                atomic.Uint64 // of connections that have ended
}

// State says how a worker is doing.
type State string

// The states of a worker.
const (
	Gone    State = "gone"    // no connection
	Joining State = "joining" // connected, does not hold its shard yet
	Ready   State = "ready"
	Late    State = "late" // holds its shard; its last result was not waited for

	// Quarantined: an audit found a result of its wrong, and it gets no more
	// work. It stays so until another worker takes its place.
	Quarantined State = "quarantined"
)

// WorkerStatus is a worker's state and what it did so far.
type WorkerStatus struct {
	ID         string `json:"id"`
	State      State  `json:"state"`
	Slices     int    `json:"slices"`      // that it holds, one a layer
	Bytes      uint64 `json:"bytes"`       // sent to it and received from it
	Answered   int64  `json:"answered"`    // results taken in time
	Late       int64  `json:"late"`        // results that were not waited for
	DecodedFor int64  `json:"decoded_for"` // its data slices that parity gave instead
	Wrong      int64  `json:"-"`           // results that an audit found wrong
}

// Status returns the workers in order.
func (c *Coordinator) Status() []WorkerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]WorkerStatus, len(c.members))
	for i, m := range c.members {
		s := WorkerStatus{
			ID: m.name, State: Gone, Slices: len(c.plan.Layers),
			Wrong: m.wrong.Load(), Answered: m.answered.Load(), Late: m.missed.Load(), DecodedFor: m.decoded.Load(),
			Bytes: m.bytesOut.Load() + m.bytesIn.Load(),
		}
		if m.conn != nil {
			st := m.conn.Stats()
			s.Bytes += st.BytesIn + st.BytesOut
			switch {
			case !m.ready:
				s.State = Joining
			case m.quarantined.Load():
				s.State = Quarantined
			case m.late.Load():
				s.State = Late
			default:
				s.State = Ready
			}
		}
		out[i] = s
	}
	return out
}

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
		c.log.Warn("worker not admitted", "address", conn.RemoteAddr(), "cause", err)
		return
	}
	c.log.Info("worker joined", "worker", m.name, "address", conn.RemoteAddr())
	err = c.read(m, conn)
	conn.Close() // before leave, so that no request can still send on it and wait
	c.leave(m, conn)
	c.log.Info("worker left", "worker", m.name, "cause", err)
}

// admit reads the Hello and gives the worker a place and its shard.
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
	m, old := c.place(hello, conn)
	if m == nil {
		return nil, c.refuse(conn, fmt.Sprintf("all %d places of the flock are taken", len(c.members)))
	}
	if old != nil {
		old.Close()
	}
	conn.LimitPayload(c.largest)
	if err := conn.SendInfo(c.ctx, frame.Welcome, &frame.WelcomeInfo{Worker: m.name}); err != nil {
		c.leave(m, conn)
		return nil, err
	}
	if err := c.assign(c.ctx, m, conn); err != nil {
		c.leave(m, conn)
		return nil, err
	}
	return m, nil
}

// assign tells a worker which shard to hold.
func (c *Coordinator) assign(ctx context.Context, m *member, conn *link.Conn) error {
	c.mu.Lock()
	info, version := c.shards[m.slot], m.version
	c.mu.Unlock()
	raw, err := frame.Marshal(&frame.AssignInfo{SHA256: info.SHA256, Size: info.Size})
	if err != nil {
		return err
	}
	p := link.PayloadOf(raw)
	defer p.Release()
	return conn.Send(ctx, frame.Header{Type: frame.Assign, Request: version}, p)
}

// refuse tells the worker why, and returns it as an error.
func (c *Coordinator) refuse(conn *link.Conn, reason string) error {
	ctx, cancel := context.WithTimeout(c.ctx, helloTime)
	defer cancel()
	p := link.PayloadOf([]byte(frame.Reason(reason)))
	defer p.Release()
	err := conn.Send(ctx, frame.Header{Type: frame.Refuse}, p)
	return errors.Join(errors.New(reason), err, conn.Flush(ctx))
}

// place finds the worker's place and puts conn there: the place it had, the one
// it names, the first that nobody ever had, the first that is empty. It returns
// nil if there is none, and the connection that it took the place of, if any.
func (c *Coordinator) place(hello frame.HelloInfo, conn *link.Conn) (m *member, old *link.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fits := range []func(*member) bool{
		func(m *member) bool { return m.id == hello.ID },
		func(m *member) bool { return m.id == "" && m.name == hello.Name },
		func(m *member) bool { return m.id == "" },
		func(m *member) bool { return m.conn == nil },
	} {
		for _, m := range c.members {
			if fits(m) {
				old = m.conn
				if m.id != hello.ID {
					m.quarantined.Store(false)
				}
				m.id, m.conn, m.ready = hello.ID, conn, false
				m.late.Store(false)
				return m, old
			}
		}
	}
	return nil, nil
}

// read takes what the worker sends until the connection ends.
func (c *Coordinator) read(m *member, conn *link.Conn) error {
	for {
		h, payload, err := conn.Receive()
		if corrupt, ok := errors.AsType[*link.CorruptError](err); ok &&
			(corrupt.Header.Type == frame.Result || corrupt.Header.Type == frame.Failed) {
			c.damaged.Add(1)
			c.result(m, corrupt.Header, nil)
			continue
		}
		if err != nil {
			return err
		}
		switch h.Type {
		case frame.Result:
			c.result(m, h, payload)
		case frame.Failed:
			c.log.Warn("worker could not compute", "worker", m.name, "request", h.Request, "layer", h.Layer,
				"cause", frame.Reason(string(payload)))
			c.result(m, h, nil)
		case frame.Want:
			if err := c.sendShard(m, conn, int64(h.Request)); err != nil {
				return err
			}
		case frame.Ready:
			c.setReady(m, conn, h.Request)
		case frame.Bye:
			return errors.New("the worker said goodbye")
		default:
			return fmt.Errorf("unexpected %v frame from worker %s", h.Type, m.name)
		}
	}
}

// result hands a worker's result to its request; nil means that it won't come.
func (c *Coordinator) result(m *member, h frame.Header, payload []byte) {
	c.mu.Lock()
	l := c.calls[h.Request]
	c.mu.Unlock()
	if l != nil {
		l.deliver(m, h, payload)
	}
}

func (c *Coordinator) setReady(m *member, conn *link.Conn, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.conn == conn && m.version == version {
		m.ready = true
		c.announce()
	}
}

// leave gives up what requests expect from conn, and empties its place unless
// another connection took it over.
func (c *Coordinator) leave(m *member, conn *link.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := conn.Stats()
	m.bytesIn.Add(st.BytesIn)
	m.bytesOut.Add(st.BytesOut)
	for _, l := range c.calls {
		l.connLost(conn)
	}
	if m.conn == conn {
		m.conn, m.ready = nil, false
		c.announce()
	}
}

// announce wakes those who wait for a change of state; c.mu is held.
func (c *Coordinator) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// sendShard sends the member's shard from byte offset on.
func (c *Coordinator) sendShard(m *member, conn *link.Conn, offset int64) error {
	c.mu.Lock()
	info := c.shards[m.slot]
	c.mu.Unlock()
	if offset < 0 || offset > info.Size {
		return fmt.Errorf("worker %s wants its shard from byte %d of %d", m.name, offset, info.Size)
	}
	f, err := os.Open(info.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	for offset < info.Size {
		p := link.NewPayload(int(min(chunkSize, info.Size-offset)))
		_, err := f.ReadAt(p.Bytes(), offset)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = conn.Send(c.ctx, frame.Header{Type: frame.Chunk, Request: uint64(offset)}, p)
		}
		offset += int64(len(p.Bytes()))
		p.Release()
		if err != nil {
			return fmt.Errorf("send shard to worker %s: %w", m.name, err)
		}
	}
	return nil
}
