package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"starling/internal/frame"
)

// memoryBytes is what one direction of an in-memory link holds before a write
// waits, about what the kernel gives a socket.
const memoryBytes = 256 << 10

// Faults scripts what one direction of an in-memory link does to the bytes sent
// along it, counted from 1; a zero field does nothing.
type Faults struct {
	CutAfter   int64         // swallow all bytes after the first n, as a power cut or a lost radio does
	StallAfter int64         // deliver none after the first n and soon take none, as a stopped process does
	DropAfter  int64         // reset the connection, both ways, once n bytes are through
	FlipAt     int64         // flip the lowest bit of the n-th byte
	Delay      time.Duration // deliver each write this much later
	// Frame, if set, says what becomes of each frame, and nothing above holds.
	// It is called for one at a time.
	Frame  func(frame.Header) Fate
	Buffer int // bytes on their way, or not yet read, before a write waits; 0 is 256 KiB
	cut    atomic.Bool
}

// Cut swallows all bytes from now on, and that the connection is closed; from
// any goroutine.
func (f *Faults) Cut() { f.cut.Store(true) }

// Pipe returns the two ends of a link in memory. Like a socket it buffers and
// has deadlines, so what is built on it can be tested under testing/synctest.
func Pipe(cfg Config) (a, b *Conn) { return FaultyPipe(cfg, nil, nil) }

// FaultyPipe is Pipe with faults on the way from a to b and from b to a; nil
// means none.
func FaultyPipe(cfg Config, ab, ba *Faults) (a, b *Conn) {
	x, y := memoryPipe(ab, ba)
	return New(x, cfg), New(y, cfg)
}

func memoryPipe(ab, ba *Faults) (a, b net.Conn) {
	there, back := newHalf(ab), newHalf(ba)
	return &memory{in: back, out: there}, &memory{in: there, out: back}
}

// memory is one end of an in-memory stream.
type memory struct{ in, out *half }

// half is one direction of an in-memory stream.
type half struct {
	faults *Faults
	buffer int
	read   limit
	write  limit

	mu      sync.Mutex // guards the fields below, and the limits
	changed *sync.Cond
	ready   bytes.Buffer // what can be read
	delayed [][]byte     // what is on its way, in order
	waiting int          // bytes in ready, delayed and script.sent
	script  script       // with Faults.Frame
	sent    int64        // bytes taken, swallowed ones included
	err     error        // io.EOF or a reset, once closed
	left    [2]bool      // closed by the reader, the writer, and the other cannot know
}

// limit is a deadline; its timer wakes whoever waits.
type limit struct {
	at    time.Time // zero for none
	timer *time.Timer
}

func (l *limit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

func newHalf(f *Faults) *half {
	if f == nil {
		f = &Faults{}
	}
	h := &half{faults: f, buffer: memoryBytes}
	if f.Buffer > 0 {
		h.buffer = f.Buffer
	}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (m *memory) Read(b []byte) (int, error) {
	h := m.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.left[0]:
			return 0, net.ErrClosed
		case h.err != nil && (!errors.Is(h.err, io.EOF) || h.waiting == 0):
			return 0, h.err
		case h.ready.Len() > 0:
			n, _ := h.ready.Read(b)
			h.waiting -= n
			h.changed.Broadcast()
			return n, nil
		case h.read.passed():
			return 0, os.ErrDeadlineExceeded
		}
		h.changed.Wait()
	}
}

func (m *memory) Write(b []byte) (int, error) {
	h := m.out
	h.mu.Lock()
	n := 0
	var err error
	for n < len(b) && err == nil {
		switch {
		case h.err != nil || h.left[1]:
			err = syscall.EPIPE
		case h.write.passed():
			err = os.ErrDeadlineExceeded
		case h.waiting >= h.buffer:
			h.changed.Wait()
		case h.faults.Frame != nil:
			n += h.takeFrames(b[n:])
		default:
			n += h.take(b[n:])
		}
	}
	drop := h.faults.DropAfter > 0 && h.sent >= h.faults.DropAfter
	h.mu.Unlock()
	if drop {
		m.shut(syscall.ECONNRESET)
	}
	return n, err
}

// take takes some bytes off b's front, as many as meet the same fate, and
// returns how many. mu is held.
func (h *half) take(b []byte) int {
	f := h.faults
	swallow := f.cut.Load() || f.CutAfter > 0 && h.sent >= f.CutAfter
	if swallow {
		h.sent += int64(len(b))
		return len(b)
	}
	n := min(len(b), h.buffer-h.waiting)
	stalled := f.StallAfter > 0 && h.sent >= f.StallAfter
	for _, edge := range []int64{f.CutAfter, f.StallAfter, f.DropAfter} {
		if edge > h.sent {
			n = int(min(int64(n), edge-h.sent))
		}
	}
	piece := bytes.Clone(b[:n])
	if at := f.FlipAt - 1 - h.sent; at >= 0 && at < int64(n) {
		piece[at] ^= 1
	}
	h.sent += int64(n)
	h.waiting += n
	switch {
	case stalled:
	case f.Delay > 0:
		h.delayed = append(h.delayed, piece)
		time.AfterFunc(f.Delay, h.deliver)
	default:
		h.ready.Write(piece)
		h.changed.Broadcast()
	}
	return n
}

// deliver makes the oldest delayed piece readable. Every piece has one call
// coming, so that pieces due at the same time keep their order.
func (h *half) deliver() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deliverOldest()
}

func (h *half) deliverOldest() {
	h.ready.Write(h.delayed[0])
	h.delayed = h.delayed[1:]
	h.changed.Broadcast()
}

// shut ends both directions: the peer reads what is on its way and then EOF,
// or fails at once if reason is another.
func (m *memory) shut(reason error) {
	for side, h := range []*half{m.in, m.out} {
		h.mu.Lock()
		switch {
		case h.err != nil:
		case errors.Is(reason, io.EOF) && h.faults.cut.Load():
			h.left[side] = true
			h.changed.Broadcast()
		default:
			h.err = reason
			if h == m.in && errors.Is(reason, io.EOF) {
				h.err = net.ErrClosed
			}
			h.script.partial = nil // its end will not come
			for _, l := range []*limit{&h.read, &h.write} {
				if l.timer != nil {
					l.timer.Stop()
				}
			}
			h.changed.Broadcast()
		}
		h.mu.Unlock()
	}
}

func (m *memory) Close() error {
	m.shut(io.EOF)
	return nil
}

func (h *half) setLimit(l *limit, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.at = at
	wake := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changed.Broadcast()
	}
	switch {
	case h.err != nil || at.IsZero():
	case l.timer == nil:
		l.timer = time.AfterFunc(time.Until(at), wake)
	default:
		l.timer.Reset(time.Until(at))
	}
	h.changed.Broadcast()
}

func (m *memory) SetReadDeadline(t time.Time) error {
	m.in.setLimit(&m.in.read, t)
	return nil
}

func (m *memory) SetWriteDeadline(t time.Time) error {
	m.out.setLimit(&m.out.write, t)
	return nil
}

func (m *memory) SetDeadline(t time.Time) error {
	m.in.setLimit(&m.in.read, t)
	m.out.setLimit(&m.out.write, t)
	return nil
}

func (m *memory) LocalAddr() net.Addr  { return memoryAddr{} }
func (m *memory) RemoteAddr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
