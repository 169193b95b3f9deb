package link_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"starling/internal/frame"
	"starling/internal/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// payload makes a payload of size bytes that differ from each other.
func payload(size int) *link.Payload {
	p := link.NewPayload(size)
	for i := range p.Bytes() {
		p.Bytes()[i] = byte(i * 7)
	}
	return p
}

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.Config{})
		defer a.Close()
		defer b.Close()
		p := payload(100_000)
		defer p.Release()
		sent := frame.Header{Type: frame.Result, Flags: 3, Request: 1 << 40, Layer: 2, Slice: 5, Block: 7}
		if !a.TrySend(sent, p) {
			t.Fatal("no room in an empty queue")
		}
		h, got, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		sent.Length, sent.PayloadCRC = 100_000, frame.CRC(p.Bytes())
		if h != sent || string(got) != string(p.Bytes()) {
			t.Errorf("received %+v and %d bytes, sent %+v", h, len(got), sent)
		}
	})
}

// A peer that hangs or is cut off keeps its socket open; it is seen after
// ReadDeadline, to the nanosecond of virtual time.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults *link.Faults
		after  time.Duration
	}{
		// The first ping leaves at 100 ms; of it one byte arrives.
		{"cut in a ping", &link.Faults{CutAfter: 1}, 500 * time.Millisecond},
		{"stalled in a ping", &link.Faults{StallAfter: 1}, 500 * time.Millisecond},
		{"cut between pings", &link.Faults{CutAfter: 3 * frame.HeaderSize}, 700 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := link.FaultyPipe(link.Config{}, nil, c.faults)
				defer a.Close()
				defer b.Close()
				start := time.Now()
				_, _, err := a.Receive()
				if !errors.Is(err, link.ErrSilent) || !errors.Is(a.Err(), link.ErrSilent) {
					t.Errorf("got %v, want ErrSilent", err)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("seen after %v, want %v", took, c.after)
				}
			})
		})
	}
}

func TestCloseSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.Config{})
		defer a.Close()
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
		if !errors.Is(b.Err(), link.ErrClosed) {
			t.Errorf("own error %v, want ErrClosed", b.Err())
		}
	})
}
