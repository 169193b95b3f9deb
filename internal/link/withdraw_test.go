package link_test

import (
	"testing"
	"testing/synctest"

	"starling/internal/frame"
	"starling/internal/link"
)

// What is withdrawn while it waits is not sent, on whichever connection, and
// gives its place free; the rest keeps its order.
func TestWithdraw(t *testing.T) {
	const queue = 4
	inBubble(t, link.Config{Queue: queue}, nil, nil, func(t *testing.T, a, b *link.Conn) {
		first, stale, wanted := payload(1<<20), payload(1000), payload(2000)
		a.TrySend(frame.Header{Type: frame.Compute, Request: 1}, first)
		synctest.Wait() // it is being written, and more than the link in memory buffers
		for request := range uint64(3) {
			p := stale
			if request == 1 {
				p = wanted
			}
			if !a.TrySend(frame.Header{Type: frame.Compute, Request: 2 + request}, p) {
				t.Fatal("no room")
			}
		}
		a.TrySend(frame.Header{Type: frame.Cancel, Request: 9}, nil)
		first.Withdraw() // too late
		stale.Withdraw()
		for _, want := range []uint64{1, 3, 9} {
			if h, _, err := b.Receive(); err != nil || h.Request != want {
				t.Fatalf("got request %d, %v; want %d", h.Request, err, want)
			}
		}
		synctest.Wait()
		if s := a.Stats(); s.Withdrawn != 2 || s.FramesOut != 3 {
			t.Errorf("%+v", s)
		}
		for range queue {
			if !a.TrySend(frame.Header{Type: frame.Compute}, stale) {
				t.Error("no room after what was withdrawn")
			}
		}
		synctest.Wait()
		if s := a.Stats(); s.Withdrawn != 2+queue || s.FramesOut != 3 {
			t.Errorf("%+v", s)
		}
		for _, p := range []*link.Payload{first, stale, wanted} {
			releaseLast(t, p)
		}
		if p := link.NewPayload(1000); !a.TrySend(frame.Header{Type: frame.Compute, Request: 10}, p) {
			t.Error("no room")
		} else {
			p.Release()
		}
		if h, _, err := b.Receive(); err != nil || h.Request != 10 {
			t.Errorf("got %d, %v: a buffer that is used again is not withdrawn", h.Request, err)
		}
	})
}
