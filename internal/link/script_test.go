package link_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
)

// Each frame meets the fate that the script gives it, and no other.
func TestFates(t *testing.T) {
	const ms = time.Millisecond
	fates := map[uint64]link.Fate{
		1: {Lost: true},
		2: {Twice: true},
		3: {Flip: frame.HeaderSize + 2},
		4: {Delay: 30 * ms},
		5: {}, // not before the one that was sent before it
		6: {Delay: 3 * ms, Grid: 10 * ms, At: 2},
	}
	script := &link.Faults{Frame: func(h frame.Header) link.Fate { return fates[h.Request] }}
	inBubble(t, link.Config{}, script, nil, func(t *testing.T, a, b *link.Conn) {
		begin := time.Now()
		p := payload(100)
		defer p.Release()
		for request := uint64(1); request <= 6; request++ {
			if !a.TrySend(frame.Header{Type: frame.Result, Request: request}, p) {
				t.Fatal("not sent")
			}
		}
		for _, want := range []struct {
			request uint64
			damaged bool
			after   time.Duration
		}{{2, false, 1}, {2, false, 1}, {3, true, 2}, {4, false, 30*ms + 1}, {5, false, 30*ms + 2}, {6, false, 40*ms + 2}} {
			h, _, err := b.Receive()
			corrupt, damaged := errors.AsType[*link.CorruptError](err)
			if damaged {
				h = corrupt.Header
			} else if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); h.Request != want.request || damaged != want.damaged || took != want.after {
				t.Errorf("request %d, damaged %v, after %v; want %+v", h.Request, damaged, took, want)
			}
		}
	})
}

// What is sent in one instant arrives in the order of the requests, whichever
// goroutine was first; each request's own frames keep theirs.
func TestOneOrder(t *testing.T) {
	script := &link.Faults{Frame: func(frame.Header) link.Fate { return link.Fate{} }}
	inBubble(t, link.Config{}, script, nil, func(t *testing.T, a, b *link.Conn) {
		for _, request := range []uint64{3, 1, 2} {
			a.TrySend(frame.Header{Type: frame.Cancel, Request: request, Layer: 1}, nil)
			a.TrySend(frame.Header{Type: frame.Cancel, Request: request, Layer: 0}, nil)
		}
		for i := range 6 {
			h, _, err := b.Receive()
			if err != nil || h.Request != uint64(1+i/2) || h.Layer != uint32(1-i%2) {
				t.Errorf("frame %d is of request %d, layer %d: %v", i, h.Request, h.Layer, err)
			}
		}
	})
}

// A frame without its end puts the stream out of step, and that ends it.
func TestKeptInPart(t *testing.T) {
	script := &link.Faults{Frame: func(h frame.Header) link.Fate {
		if h.Type == frame.Result {
			return link.Fate{Keep: frame.HeaderSize + 10}
		}
		return link.Fate{}
	}}
	inBubble(t, link.Config{}, script, nil, func(t *testing.T, a, b *link.Conn) {
		p := payload(100)
		defer p.Release()
		if err := a.Send(context.Background(), frame.Header{Type: frame.Result}, p); err != nil {
			t.Fatal(err)
		}
		for { // pings fill the payload, until one is taken for a header
			_, _, err := b.Receive()
			if _, damaged := errors.AsType[*link.CorruptError](err); damaged {
				continue
			}
			if !errors.Is(err, frame.ErrMagic) {
				t.Errorf("ended with %v", err)
			}
			return
		}
	})
}

// Whether the other end of a cut link is closed cannot be known.
func TestCutHidesTheEnd(t *testing.T) {
	there, back := &link.Faults{}, &link.Faults{}
	inBubble(t, link.Config{}, there, back, func(t *testing.T, a, b *link.Conn) {
		synctest.Wait()
		begin := time.Now()
		there.Cut()
		back.Cut()
		a.Close()
		if _, _, err := b.Receive(); !errors.Is(err, link.ErrSilent) || time.Since(begin) != 400*time.Millisecond {
			t.Errorf("ended with %v after %v", err, time.Since(begin))
		}
	})
}
