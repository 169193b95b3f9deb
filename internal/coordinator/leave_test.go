package coordinator_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
)

// A worker that takes its leave gives what it was asked for, and nobody waits
// for it afterwards.
func TestLeaveWithoutSpare(t *testing.T) {
	inFlock(t, 0, func(t *testing.T, l *lab) {
		l.delay(10*time.Millisecond, l.all()...)
		l.infer()
		begin := time.Now()
		var request sync.WaitGroup
		request.Go(func() {
			if a, took := l.infer(); len(a.Recomputed) != 0 || took != 30*time.Millisecond || len(a.Decoded) > 2 {
				t.Errorf("took %v: %+v", took, a) // the first layer had its results
			}
		})
		synctest.Wait()
		l.machines[0].leave()
		if took := time.Since(begin); took != 10*time.Millisecond {
			t.Errorf("the worker took %v to leave", took)
		}
		request.Wait()
		if s := l.c.Status()[0].State; s != coordinator.Gone {
			t.Errorf("it is %s", s)
		}
		if a, took := l.infer(); took != 30*time.Millisecond || len(a.Recomputed) != 0 {
			t.Errorf("took %v: %+v", took, a)
		}
	})
}

// With a spare every worker may leave and come back in turn: redundancy is never
// below what was planned, and nothing is decoded or waited for. Without parity
// likewise.
func TestLeaveInTurn(t *testing.T) {
	for _, r := range []int{0, 1} {
		inLab(t, model(t, "conv", 1, 3, r), coordinator.Config{Spares: 1}, func(t *testing.T, l *lab) {
			l.start()
			l.delay(10*time.Millisecond, l.all()...)
			var client sync.WaitGroup
			over := make(chan struct{})
			client.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed)+a.Late > 0 {
						t.Errorf("%+v", a)
					}
				}
			})
			for _, m := range l.machines {
				time.Sleep(25 * time.Millisecond)
				m.leave()
				m.start()
				if err := l.c.WaitComplete(context.Background()); err != nil {
					t.Fatal(err)
				}
				l.delay(10*time.Millisecond, m.slot)
			}
			close(over)
			client.Wait()
			if h := l.c.Health(); h != (coordinator.Health{Redundancy: r, Planned: r, Least: r}) {
				t.Errorf("health %+v", h)
			}
		})
	}
}

// Who asks to be let go and then stays is hung up on.
func TestLeavesAndStays(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		im := l.impostor(0, func(*impostor, frame.Header, []float32) { t.Error("asked to compute") })
		defer im.end()
		for range 3 {
			im.conn.TrySend(frame.Header{Type: frame.Leave}, nil)
		}
		im.conn.TrySend(frame.Header{Type: frame.Ready}, nil)
		l.start(0)
		l.infer()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := l.c.Status()[0].State; s != coordinator.Gone {
			t.Errorf("it is %s", s)
		}
	})
}
