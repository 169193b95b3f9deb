package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"starling/internal/frame"
	"starling/internal/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// payload makes a payload of size bytes that differ from their neighbours.
func payload(size int) *link.Payload {
	p := link.NewPayload(size)
	for i := range p.Bytes() {
		p.Bytes()[i] = byte(i * 7)
	}
	return p
}

// releaseLast releases p and demands that this was the last reference.
func releaseLast(t *testing.T, p *link.Payload) {
	t.Helper()
	p.Release()
	defer func() {
		if recover() == nil {
			t.Error("somebody still held the payload")
		}
	}()
	p.Release()
}

// inBubble runs test over an in-memory link with the faults, in virtual time.
func inBubble(t *testing.T, cfg link.Config, ab, ba *link.Faults, test func(t *testing.T, a, b *link.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.FaultyPipe(cfg, ab, ba)
		defer a.Close()
		defer b.Close()
		test(t, a, b)
	})
}

func TestFramesArrive(t *testing.T) {
	inBubble(t, link.Config{}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		for _, size := range []int{0, 1, 4096, 70_001, 1 << 20, 5} {
			p := payload(size)
			sent := frame.Header{Type: frame.Result, Flags: 3, Request: 1 << 40, Layer: 2, Slice: 5, Nth: 7}
			if !a.TrySend(sent, p) {
				t.Fatal("no room in an empty queue")
			}
			h, got, err := b.Receive()
			if err != nil {
				t.Fatal(err)
			}
			sent.Length, sent.PayloadCRC = uint32(size), frame.CRC(p.Bytes())
			if h != sent || string(got) != string(p.Bytes()) {
				t.Errorf("received %+v and %d bytes, sent %+v", h, len(got), sent)
			}
			synctest.Wait()
			releaseLast(t, p)
		}
	})
}

// Frames that queue while the writer is busy leave together and in order.
func TestManyFramesKeepTheirOrder(t *testing.T) {
	inBubble(t, link.Config{Queue: 500}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		p := payload(1000)
		for i := range 500 {
			if !a.TrySend(frame.Header{Type: frame.Compute, Request: uint64(i)}, p) {
				t.Fatalf("no room for frame %d", i)
			}
		}
		for i := range 500 {
			if h, _, err := b.Receive(); err != nil || h.Request != uint64(i) {
				t.Fatalf("frame %d: got request %d, %v", i, h.Request, err)
			}
		}
		synctest.Wait()
		releaseLast(t, p)
		if in, out := b.Stats(), a.Stats(); in.FramesIn != 500 || in.BytesIn != 500*1040 ||
			out.FramesOut != 500 || out.BytesOut != 500*1040 {
			t.Errorf("counted %+v in and %+v out, want 500 frames of 1040 bytes", in, out)
		}
	})
}

// A peer that hangs or is cut off keeps its socket open; it is seen after
// ReadDeadline, to the nanosecond of virtual time.
func TestSilence(t *testing.T) {
	cutNow := &link.Faults{}
	cutNow.Cut()
	for _, c := range []struct {
		name   string
		faults *link.Faults
		after  time.Duration
	}{
		{"cut from the start", cutNow, 400 * time.Millisecond},
		// The first ping leaves at 100 ms; of it one byte arrives.
		{"cut in a ping", &link.Faults{CutAfter: 1}, 500 * time.Millisecond},
		{"stalled in a ping", &link.Faults{StallAfter: 1}, 500 * time.Millisecond},
		{"cut after three pings", &link.Faults{CutAfter: 3 * frame.HeaderSize}, 700 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, link.Config{}, nil, c.faults, func(t *testing.T, a, _ *link.Conn) {
				start := time.Now()
				_, _, err := a.Receive()
				if !errors.Is(err, link.ErrSilent) || !errors.Is(a.Err(), link.ErrSilent) {
					t.Errorf("got %v, want ErrSilent", err)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("seen after %v, want %v", took, c.after)
				}
				<-a.Done()
			})
		})
	}
}

func TestHeartbeatsKeepAnIdleLink(t *testing.T) {
	inBubble(t, link.Config{}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		go func() {
			time.Sleep(10 * time.Second)
			a.TrySend(frame.Header{Type: frame.Cancel, Request: 9}, nil)
		}()
		h, _, err := b.Receive()
		if err != nil || h.Request != 9 {
			t.Fatalf("got %+v, %v; want the cancel", h, err)
		}
		// At 10 s a ping and the cancel may be sent in either order.
		if n := b.Stats().FramesIn; n != 100 && n != 101 {
			t.Errorf("%d frames in 10 s, want a ping every 100 ms and the cancel", n)
		}
	})
}

// A frame that trickles takes many times ReadDeadline, and is no death.
func TestTrickleIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, peer := net.Pipe()
		c := link.New(nc, link.Config{})
		defer c.Close()
		go io.Copy(io.Discard, peer)
		go func() {
			for _, b := range encode(frame.Header{Type: frame.Result}, []byte("tensor")) {
				time.Sleep(399 * time.Millisecond)
				peer.Write([]byte{b})
			}
		}()
		if _, p, err := c.Receive(); err != nil || string(p) != "tensor" {
			t.Errorf("got %q, %v", p, err)
		}
	})
}

// encode returns a frame's bytes with the right length and sums.
func encode(h frame.Header, p []byte) []byte {
	var b [frame.HeaderSize]byte
	h.Length, h.PayloadCRC = uint32(len(p)), frame.CRC(p)
	h.Put(&b)
	return append(b[:], p...)
}

// asleep is a connection in a process that is stopped during its first reads:
// their timeouts are seen late.
type asleep struct {
	net.Conn
	late  time.Duration
	times int
	until time.Time
}

func (a *asleep) SetReadDeadline(t time.Time) error {
	a.until = t
	return a.Conn.SetReadDeadline(t)
}

func (a *asleep) Read(b []byte) (int, error) {
	if a.times--; a.times >= 0 {
		time.Sleep(time.Until(a.until) + a.late)
		return 0, os.ErrDeadlineExceeded
	}
	return a.Conn.Read(b)
}

// Having been stopped oneself must not be taken for the peer's silence.
func TestOwnSleepIsForgiven(t *testing.T) {
	for _, c := range []struct {
		name string
		late time.Duration
	}{
		{"a little", 0},
		{"for a while", 50 * time.Millisecond},
		{"for long", 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nc, peer := net.Pipe()
				l := link.New(&asleep{Conn: nc, late: c.late, times: 1}, link.Config{})
				go io.Copy(io.Discard, peer)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					peer.Write(encode(frame.Header{Type: frame.Ready}, nil))
				}()
				if _, _, err := l.Receive(); err != nil {
					t.Error(err)
				}
				l.Close()
				<-sent
			})
		})
	}
}

// A peer that takes no bytes: as many frames as the queue holds are accepted,
// the next is refused at once though there is room for cancels, and nothing is
// kept when the link ends.
func TestFullQueue(t *testing.T) {
	const queue = 3
	inBubble(t, link.Config{Queue: queue}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		p := payload(1 << 20) // more than the link in memory buffers
		start := time.Now()
		for i := range queue {
			if !a.TrySend(frame.Header{Type: frame.Compute}, p) {
				t.Fatalf("no room for frame %d of %d", i+1, queue)
			}
			synctest.Wait()
		}
		if a.TrySend(frame.Header{Type: frame.Compute}, p) {
			t.Error("room for one frame too many")
		}
		for i := range 2 * queue {
			if !a.TrySend(frame.Header{Type: frame.Cancel}, nil) {
				t.Errorf("no room for cancel %d of %d", i+1, 2*queue)
			}
		}
		if a.TrySend(frame.Header{Type: frame.Cancel}, nil) {
			t.Error("room for one cancel too many")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := a.Send(ctx, frame.Header{Type: frame.Compute}, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send into a full queue: %v, want ctx's error", err)
		}
		if err := a.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush of a full queue: %v, want ctx's error", err)
		}
		// The buffer takes bytes in the first 400 ms and none in the second.
		<-a.Done()
		if took := time.Since(start); took != 800*time.Millisecond || !errors.Is(a.Err(), link.ErrStalled) {
			t.Errorf("ended after %v with %v; want ErrStalled after 800 ms", took, a.Err())
		}
		if a.TrySend(frame.Header{Type: frame.Compute}, p) {
			t.Error("TrySend on a link that has ended")
		}
		if err := a.Send(context.Background(), frame.Header{Type: frame.Compute}, p); !errors.Is(err, link.ErrStalled) {
			t.Errorf("Send on a link that has ended: %v", err)
		}
		a.Close()
		releaseLast(t, p)
	})
}

// Send waits until the peer makes room, and then goes on.
func TestSendWaitsForRoom(t *testing.T) {
	inBubble(t, link.Config{Queue: 1}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		go func() {
			for range 3 {
				time.Sleep(300 * time.Millisecond)
				b.Receive()
			}
		}()
		p := payload(1 << 20)
		start := time.Now()
		for range 3 {
			if err := a.Send(context.Background(), frame.Header{Type: frame.Chunk}, p); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("three frames took %v, want 900 ms", took)
		}
		releaseLast(t, p)
	})
}

func TestTooLongToSend(t *testing.T) {
	inBubble(t, link.Config{MaxPayload: 1000}, nil, nil, func(t *testing.T, a, _ *link.Conn) {
		p := payload(1001)
		if a.TrySend(frame.Header{Type: frame.Result}, p) {
			t.Error("TrySend took a payload above the limit")
		}
		var long *frame.TooLongError
		if err := a.Send(context.Background(), frame.Header{Type: frame.Result}, p); !errors.As(err, &long) {
			t.Errorf("Send: %v, want a TooLongError", err)
		}
		releaseLast(t, p)
	})
}

// Close during sends: whatever the interleaving, no reference stays behind.
func TestCloseWhileSending(t *testing.T) {
	inBubble(t, link.Config{Queue: 4}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		go func() {
			for {
				if _, _, err := b.Receive(); err != nil {
					return
				}
			}
		}()
		p := payload(4096)
		var senders sync.WaitGroup
		for i := range 8 {
			senders.Go(func() {
				for a.Err() == nil {
					if i%2 == 0 {
						a.TrySend(frame.Header{Type: frame.Compute}, p)
						runtime.Gosched()
					} else if a.Send(context.Background(), frame.Header{Type: frame.Compute}, p) == nil && i == 1 && a.Stats().FramesOut > 500 {
						a.Close()
					}
				}
			})
		}
		senders.Wait()
		a.Close()
		a.Close()
		releaseLast(t, p)
	})
}

func TestCloseIsSeen(t *testing.T) {
	inBubble(t, link.Config{}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		if err := b.Send(context.Background(), frame.Header{Type: frame.Bye}, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if h, _, err := a.Receive(); err != nil || h.Type != frame.Bye {
			t.Fatalf("got %v, %v; want bye", h.Type, err)
		}
		if _, _, err := a.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
		if _, _, err := b.Receive(); !errors.Is(err, link.ErrClosed) {
			t.Errorf("Receive on one's own closed end: %v, want ErrClosed", err)
		}
	})
}

// One damaged payload is one lost frame, told with its header.
func TestFlippedPayload(t *testing.T) {
	flip := &link.Faults{FlipAt: frame.HeaderSize + 10}
	inBubble(t, link.Config{}, flip, nil, func(t *testing.T, a, b *link.Conn) {
		p := payload(100)
		defer p.Release()
		a.TrySend(frame.Header{Type: frame.Result, Request: 1, Slice: 4}, p)
		a.TrySend(frame.Header{Type: frame.Result, Request: 2}, p)
		var corrupt *link.CorruptError
		if _, _, err := b.Receive(); !errors.As(err, &corrupt) || corrupt.Header.Request != 1 || corrupt.Header.Slice != 4 {
			t.Fatalf("got %v, want a CorruptError for request 1, slice 4", err)
		}
		if h, got, err := b.Receive(); err != nil || h.Request != 2 || string(got) != string(p.Bytes()) {
			t.Errorf("the frame after it: %+v, %v", h, err)
		}
		if n := b.Stats().Corrupt; n != 1 {
			t.Errorf("%d corrupt frames counted, want 1", n)
		}
	})
}

// What labs do to a link on purpose: a payload that arrives damaged, which costs
// this frame only, and a silence like that of a cut cable.
func TestLab(t *testing.T) {
	inBubble(t, link.Config{}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		p := payload(100)
		if err := a.SendCorrupt(context.Background(), frame.Header{Type: frame.Result, Request: 7}, p); err != nil {
			t.Fatal(err)
		}
		a.TrySend(frame.Header{Type: frame.Result, Request: 8}, p)
		var corrupt *link.CorruptError
		if _, _, err := b.Receive(); !errors.As(err, &corrupt) || corrupt.Header.Request != 7 {
			t.Errorf("got %v, want a CorruptError for request 7", err)
		}
		if h, got, err := b.Receive(); err != nil || h.Request != 8 || string(got) != string(p.Bytes()) {
			t.Errorf("the frame after it: %+v, %v", h, err)
		}
		a.Mute()
		begin := time.Now()
		if !a.TrySend(frame.Header{Type: frame.Result}, p) {
			t.Error("a muted link refuses frames")
		}
		if _, _, err := b.Receive(); !errors.Is(err, link.ErrSilent) || time.Since(begin) != 400*time.Millisecond {
			t.Errorf("a muted link ends after %v with %v", time.Since(begin), err)
		}
		releaseLast(t, p)
	})
}

// What follows a damaged header cannot be told from noise.
func TestFatalStreams(t *testing.T) {
	good := encode(frame.Header{Type: frame.Ready}, nil)
	flipped := append([]byte{}, good...)
	flipped[17] ^= 1
	var long [frame.HeaderSize]byte
	(&frame.Header{Type: frame.Result, Length: 1<<20 + 1}).Put(&long)
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"bit flipped in a header", append(flipped, good...), frame.ErrHeaderCRC},
		{"another protocol", []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1:7070\r\nAccept: */*\r\n\r\n"), frame.ErrMagic},
		{"end within a header", good[:39], io.ErrUnexpectedEOF},
		{"end within a payload", encode(frame.Header{Type: frame.Result}, []byte("abc"))[:42], io.ErrUnexpectedEOF},
		{"end before a payload", encode(frame.Header{Type: frame.Result}, []byte("abc"))[:40], io.ErrUnexpectedEOF},
		{"payload above the limit", long[:], &frame.TooLongError{Type: frame.Result, Length: 1<<20 + 1, Limit: 1 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := receiveAll(t, c.bytes, 1<<20)
				var want, got *frame.TooLongError
				if errors.As(c.want, &want) {
					if !errors.As(err, &got) || *got != *want {
						t.Errorf("got %v, want %v", err, want)
					}
				} else if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

// canned is a connection on which some bytes have come, and then the end.
type canned struct {
	net.Conn // nil: what is not below is not called
	*bytes.Reader
}

func (c *canned) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c *canned) Write(b []byte) (int, error)      { return len(b), nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }
func (c *canned) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *canned) Close() error                     { return nil }

// receiveAll feeds bytes and then EOF to a link, receives until its fatal error
// and returns that, after checking that it stays.
func receiveAll(t *testing.T, stream []byte, limit uint32) error {
	c := link.New(&canned{Reader: bytes.NewReader(stream)}, link.Config{MaxPayload: limit})
	defer c.Close()
	for {
		_, p, err := c.Receive()
		var corrupt *link.CorruptError
		switch {
		case err == nil:
			if len(p) > len(stream) {
				t.Errorf("a payload of %d bytes out of %d", len(p), len(stream))
			}
		case !errors.As(err, &corrupt):
			if _, _, again := c.Receive(); again == nil || again.Error() != err.Error() {
				t.Errorf("then %v, now %v", err, again)
			}
			return err
		}
	}
}

// allocated runs f and returns how many bytes were allocated meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// connBytes is a constant above what a link costs whatever arrives: 16 KiB of
// read buffer, 64 KiB of first receive buffer, its queue, errors and goroutines.
const connBytes = 256 << 10

// The length in a header must not make us allocate what never comes.
func TestLyingLength(t *testing.T) {
	var b [frame.HeaderSize]byte
	(&frame.Header{Type: frame.Result, Length: frame.DefaultMaxPayload}).Put(&b)
	for _, sent := range []int{0, 10, 1 << 20} {
		stream := append(b[:], make([]byte, sent)...)
		got := allocated(func() {
			if err := receiveAll(t, stream, frame.DefaultMaxPayload); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v, want an unexpected EOF", err)
			}
		})
		// Buffers of 64 KiB, 128 KiB … up to twice what came: four times in all.
		if limit := uint64(4*sent + connBytes); got > limit {
			t.Errorf("%d bytes of 256 MiB came: allocated %d, limit %d", sent, got, limit)
		}
	}
}

func TestDelayKeepsOrder(t *testing.T) {
	slow := &link.Faults{Delay: 30 * time.Millisecond}
	inBubble(t, link.Config{}, slow, nil, func(t *testing.T, a, b *link.Conn) {
		start := time.Now()
		for i := range 5 {
			a.TrySend(frame.Header{Type: frame.Cancel, Request: uint64(i)}, nil)
			synctest.Wait()
		}
		for i := range 5 {
			if h, _, err := b.Receive(); err != nil || h.Request != uint64(i) {
				t.Fatalf("frame %d: got request %d, %v", i, h.Request, err)
			}
		}
		if took := time.Since(start); took != 30*time.Millisecond {
			t.Errorf("arrived after %v, want 30 ms", took)
		}
	})
}

func TestDrop(t *testing.T) {
	inBubble(t, link.Config{}, &link.Faults{DropAfter: 50}, nil, func(t *testing.T, a, b *link.Conn) {
		a.TrySend(frame.Header{Type: frame.Cancel}, nil)
		a.TrySend(frame.Header{Type: frame.Cancel}, nil)
		for {
			_, _, err := b.Receive()
			if err == nil {
				continue
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
			break
		}
		<-a.Done()
	})
}

// Whatever comes, the link does not panic, and allocates no more than four
// times as much as came (see TestLyingLength), and a constant.
func FuzzReceive(f *testing.F) {
	ready := encode(frame.Header{Type: frame.Ready}, nil)
	f.Add(ready)
	f.Add(append(encode(frame.Header{Type: frame.Compute, Request: 1}, []byte("some tensor")), ready...))
	f.Add(encode(frame.Header{Type: frame.Hello}, []byte(`{"version":1}`))[:45])
	corrupt := encode(frame.Header{Type: frame.Result}, []byte("some tensor"))
	corrupt[45] ^= 1
	f.Add(append(corrupt, ready...))
	var long [frame.HeaderSize]byte
	(&frame.Header{Type: frame.Chunk, Length: frame.DefaultMaxPayload}).Put(&long)
	f.Add(long[:])
	f.Fuzz(func(t *testing.T, stream []byte) {
		got := allocated(func() { receiveAll(t, stream, frame.DefaultMaxPayload) })
		// Errors: a frame takes 40 bytes at least, and a CorruptError 56.
		if limit := uint64(8*len(stream) + connBytes); got > limit {
			t.Errorf("%d bytes came: allocated %d, limit %d", len(stream), got, limit)
		}
	})
}
