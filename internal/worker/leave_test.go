package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/frame"
)

// A worker that is to end asks to be let go, computes what it is sent until it
// is, and says goodbye when the last result is sent.
func TestLeave(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.keeps = true
		b.employ(infos[0])
		b.delay(10 * time.Millisecond)
		b.compute(1, 0)
		b.compute(2, 1)
		b.stop()
		b.hear(frame.Leave)
		b.compute(3, 0) // nobody was found yet
		b.hearNothing()
		time.Sleep(10 * time.Millisecond)
		b.result(infos[0], 1, 0)
		b.tell(frame.Header{Type: frame.Bye}, nil)
		time.Sleep(10 * time.Millisecond)
		b.result(infos[0], 2, 1)
		b.tell(frame.Header{Type: frame.Cancel, Request: 3, Slice: 7}, nil)
		b.failed(3, "")
		b.hear(frame.Bye)
		synctest.Wait()
		if b.conn.Err() == nil {
			b.t.Error("still connected")
		}
	})
}
