// Package link carries frames between coordinator and workers: over TCP, over
// TLS, over memory for tests. It knows nothing of what the frames mean, except
// that it answers for Ping.
//
// Invariants. Nothing waits for ever: a peer that sends no byte for
// ReadDeadline, or takes none for WriteDeadline, is given up, however alive its
// sockets look. Nothing piles up: at most Queue payloads wait on a connection,
// and TrySend says so instead of waiting. A payload that arrives damaged is
// reported with its header and costs that frame only; a damaged header ends the
// connection. No buffer grows beyond twice what has really arrived. Once warm,
// sending and receiving allocate nothing.
package link

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"starling/internal/frame"
)

// coalesceBytes ends the gathering of queued frames into one write: beyond it
// another system call costs little beside the copy into the kernel.
const coalesceBytes = 64 << 10

// firstBuffer is the first size of the receive buffer in bytes.
const firstBuffer = 64 << 10

// Conn is one end of a link. TrySend, Send, Flush, Close, Err, Done and Stats
// may be called from any goroutine, Receive from one at a time. Whoever made it
// calls Close, also after it failed.
type Conn struct {
	cfg   Config
	raw   *timed
	in    *bufio.Reader
	limit uint32        // the peer's largest payload; see LimitPayload
	tls   *bufio.Writer // nil on a plain link, else over TLS
	rbuf  []byte        // receive buffer, its whole length usable
	head  [frame.HeaderSize]byte

	slots chan struct{}            // places: one element per frame accepted and not yet written
	bare  chan struct{}            // the same for frames without a payload: see Config.Queue
	queue chan item                // capacity of both, so that whoever has a slot never waits
	batch []item                   // the writer's own: frames being written
	heads [][frame.HeaderSize]byte // the writer's own: their headers
	vec   [][]byte                 // the writer's own: memory for bufs
	bufs  net.Buffers              // the writer's own: consumed by the write

	muted  atomic.Bool   // see Mute
	done   chan struct{} // closed when the connection ends
	exited chan struct{} // closed when the writer has returned

	mu  sync.Mutex // guards err, and sending to queue against the end
	err error      // why it ended; nil while it lives

	stats struct {
		framesIn, framesOut, bytesIn, bytesOut, corrupt, withdrawn atomic.Uint64
	}
}

// item is a queued frame, or a request to be told when all before it are written.
type item struct {
	head    frame.Header
	payload *Payload // nil if empty; the queue owns a reference
	flushed chan<- struct{}
}

// Stats counts whole frames and their bytes, headers and pings included, since
// the connection was made. Out means handed to the operating system. Corrupt
// counts frames whose payload arrived damaged; they are in FramesIn too.
// Withdrawn counts frames that were queued and not sent; see Payload.Withdraw.
type Stats struct {
	FramesIn, FramesOut, BytesIn, BytesOut, Corrupt, Withdrawn uint64
}

// CorruptError says that a payload arrived damaged. The header is right, the
// payload is not to be used, and the connection goes on.
type CorruptError struct {
	Header frame.Header
	CRC    uint32 // of what arrived
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt %v frame: request %d, layer %d, slice %d (%d): payload has CRC %08x, expected %08x",
		e.Header.Type, e.Header.Request, e.Header.Layer, e.Header.Slice, e.Header.Nth, e.CRC, e.Header.PayloadCRC)
}

// New takes over nc, a connected stream without TLS, and starts to send pings
// on it. cfg.TLS is not used: see Dial and Listen.
func New(nc net.Conn, cfg Config) *Conn {
	cfg = cfg.withDefaults()
	raw := newTimed(nc, cfg)
	return newConn(raw, raw, nil, cfg)
}

func newTimed(nc net.Conn, cfg Config) *timed {
	return &timed{Conn: nc, read: cfg.ReadDeadline, write: cfg.WriteDeadline}
}

// newConn reads from r and writes to w, or with vectored writes to raw if w is
// nil; closing raw ends both.
func newConn(raw *timed, r io.Reader, w io.Writer, cfg Config) *Conn {
	c := &Conn{
		cfg: cfg, raw: raw, limit: cfg.MaxPayload,
		in:     bufio.NewReaderSize(r, 16<<10),
		slots:  make(chan struct{}, cfg.Queue),
		bare:   make(chan struct{}, 2*cfg.Queue),
		queue:  make(chan item, 3*cfg.Queue),
		batch:  make([]item, 0, cfg.Queue),
		heads:  make([][frame.HeaderSize]byte, cfg.Queue),
		vec:    make([][]byte, 0, 2*cfg.Queue),
		done:   make(chan struct{}),
		exited: make(chan struct{}),
	}
	if w != nil {
		c.tls = bufio.NewWriterSize(w, 16<<10) // the largest TLS record, RFC 8446 section 5.1
	}
	go c.write()
	return c
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Done is closed when the connection has ended, for whatever reason.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended: it wraps ErrClosed after Close,
// ErrSilent, ErrStalled, io.EOF if the peer closed between two frames,
// io.ErrUnexpectedEOF within one, an error of frame.Parse, or what the network
// said. It is nil as long as the connection lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	return Stats{
		FramesIn: c.stats.framesIn.Load(), FramesOut: c.stats.framesOut.Load(),
		BytesIn: c.stats.bytesIn.Load(), BytesOut: c.stats.bytesOut.Load(),
		Corrupt: c.stats.corrupt.Load(), Withdrawn: c.stats.withdrawn.Load(),
	}
}

// Close ends the connection, drops what is queued (Flush first to keep it),
// releases the queue's payloads and waits for the connection's goroutine; not
// for a Receive under way, which returns soon. Calling it again is harmless.
// It always returns nil: there is nothing to be done about a socket that does
// not close well.
func (c *Conn) Close() error {
	c.end(ErrClosed)
	<-c.exited
	return nil
}

// end ends the connection for the first reason given; it does not wait.
func (c *Conn) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = fmt.Errorf("link to %v: %w", c.RemoteAddr(), reason)
	close(c.done)
	c.raw.Close()
}
