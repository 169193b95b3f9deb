package worker_test

import (
	"testing"
	"time"

	"starling/internal/frame"
	"starling/internal/worker"
)

// Answers that were dropped come again, as late as TCP has it, and right.
func TestDrop(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1, Drop: 0.5})
		late := 0
		for request := range uint64(100) {
			b.compute(request, 0)
			begin := time.Now()
			b.said <- <-b.said // when it is there
			took := time.Since(begin)
			if took%(200*time.Millisecond) != 0 {
				t.Errorf("request %d took %v", request, took)
			}
			late += int(took / (200 * time.Millisecond))
			b.result(infos[0], request, 0)
		}
		// Of each request p + p² + … = 1 is expected, with a variance of p/(1−p)² = 2.
		if late < 60 || late > 140 {
			t.Errorf("%d times sent again in 100 requests, about 100 are expected", late)
		}
	})
}

func TestCorrupt(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1, Corrupt: 1})
		for request := range uint64(3) {
			b.compute(request, 0)
			if got := b.hear(frame.Result); got.payload != "damaged" || got.h.Request != request {
				t.Errorf("request %d came as %+v", request, got.h)
			}
		}
		b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1})
		b.compute(4, 1)
		b.result(infos[0], 4, 1)
	})
}

// A cut link looks like a power cut: nothing more is said, not even that the
// connection ends, and no other one is dialled.
func TestCut(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		b.compute(1, 0)
		b.result(infos[0], 1, 0)
		b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1, Cut: true})
		b.compute(2, 0)
		begin := time.Now()
		<-b.conn.Done()
		if took := time.Since(begin); took != 400*time.Millisecond {
			t.Errorf("noticed after %v: %v", took, b.conn.Err())
		}
		time.Sleep(time.Minute)
		b.hearNothing()
		if len(b.conns) > 0 {
			t.Error("dialled again")
		}
	})
}

// A slice takes as long as it is said to, on a device of any speed, and its
// answer comes up to the jitter later.
func TestSlice(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, func(c *worker.Config) { c.Slice = 15 * time.Millisecond }, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		for request, how := range []struct {
			info        frame.EmulateInfo
			least, most time.Duration
		}{
			{frame.EmulateInfo{Speed: 1}, 15 * time.Millisecond, 15 * time.Millisecond},
			{frame.EmulateInfo{Speed: 0.1}, 150 * time.Millisecond, 150 * time.Millisecond},
			{frame.EmulateInfo{Speed: 1, DelayMs: 5, JitterMs: 100}, 20 * time.Millisecond, 120 * time.Millisecond},
		} {
			b.info(frame.Emulate, &how.info)
			b.compute(uint64(request), 0)
			begin := time.Now()
			b.said <- <-b.said // when it is there
			if took := time.Since(begin).Round(time.Microsecond); took < how.least || took > how.most {
				t.Errorf("%+v: took %v", how.info, took)
			}
			b.result(infos[0], uint64(request), 0)
		}
	})
}

// A shard from a slow disk is served later.
func TestLoad(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, func(c *worker.Config) { c.Load = time.Second }, func(t *testing.T, b *boss) {
		b.assign(infos[0])
		b.hear(frame.Want)
		b.give(infos[0], 0)
		time.Sleep(time.Second - time.Nanosecond)
		b.hearNothing()
		time.Sleep(time.Nanosecond)
		b.hear(frame.Ready)
	})
}

// On a link that is cut one way the worker hears that it was given up, and dials
// anew.
func TestMute(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1, Mute: true})
		b.compute(1, 0)
		<-b.conn.Done()
		b.hearNothing()
		b.meet()
	})
}
