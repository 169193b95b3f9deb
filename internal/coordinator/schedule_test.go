package coordinator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
)

// In random order machines crash, are cut off, hang, slow down, send damaged
// bytes and come back, while requests run. Each request is answered once,
// rightly, and in bounded time.
func TestRandomSchedule(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 5
	}
	first := *seedFlag
	if first == 0 {
		first = rand.Uint64()
	}
	names := []string{"conv", "dense"}
	for i := range uint64(seeds) {
		seed := first + i
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			k := 1 + r.IntN(5)
			p := model(t, names[r.IntN(2)], 1+r.IntN(2), k, 1)
			inLab(t, p, coordinator.Config{Concurrency: 1 + r.IntN(4)}, func(t *testing.T, l *lab) {
				l.schedule(r)
				if t.Failed() {
					t.Logf("repeat with -run TestRandomSchedule -seed %d", seed)
				}
			})
		})
	}
}

// slowest is how long a layer may take in a schedule, in which no answer is
// delayed by more than 100 ms unless its worker hangs: the first patience, or
// four times the usual; what is usual is at most a delay, or the read deadline
// of 400 ms for a silent worker. Then a grace, as long as the layer took.
const slowest = 2 * 5 * time.Second

func (l *lab) schedule(r *rand.Rand) {
	l.start()
	const clients, requests = 3, 12
	var running sync.WaitGroup
	var answered atomic.Int64
	seen := sync.Map{}
	for range clients {
		mine := rand.New(rand.NewPCG(r.Uint64(), 3))
		running.Go(func() {
			var a coordinator.Answer
			for range requests {
				in, want := l.request(l.t, mine)
				begin := time.Now()
				if err := l.c.Infer(context.Background(), in, &a); err != nil {
					l.t.Errorf("request %d is lost: %v", a.Request, err)
					continue
				}
				if !same(a.Outputs, want) {
					l.t.Errorf("request %d has a wrong answer: decoded %v, recomputed %v", a.Request, a.Decoded, a.Recomputed)
				}
				if _, twice := seen.LoadOrStore(a.Request, true); twice {
					l.t.Errorf("request number %d twice", a.Request)
				}
				// It may have waited for its turn behind the other clients' requests.
				if took := time.Since(begin); took > clients*time.Duration(len(l.plan.Layers))*slowest {
					l.t.Errorf("request %d took %v", a.Request, took)
				}
				answered.Add(1)
				time.Sleep(time.Duration(mine.IntN(100)) * time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			if n := answered.Load(); n != clients*requests {
				l.t.Errorf("%d requests answered, want %d", n, clients*requests)
			}
			l.recover()
			return
		case <-time.After(time.Duration(r.IntN(60)) * time.Millisecond):
			l.strike(r)
		}
	}
}

// strike makes something happen to a machine.
func (l *lab) strike(r *rand.Rand) {
	m := l.machines[r.IntN(len(l.machines))]
	emulate := func(d time.Duration) {
		// Who is gone cannot be made slower.
		_ = l.c.Emulate(context.Background(), m.slot, delayed(d))
	}
	switch r.IntN(8) {
	case 0:
		m.halt()
	case 1:
		m.crash()
	case 2:
		m.cut()
	case 3:
		emulate(time.Duration(r.IntN(100)) * time.Millisecond)
	case 4:
		emulate(time.Hour)
	case 5:
		emulate(0)
	case 6:
		m.mu.Lock()
		m.flip = 300 + r.Int64N(3000) // beyond the Hello
		conn := m.conn
		m.mu.Unlock()
		if conn != nil {
			conn.Close()
		}
		m.heal()
	case 7:
		m.mu.Lock()
		dead := m.done == nil || m.stop == nil
		m.mu.Unlock()
		m.heal()
		if dead {
			m.start()
		}
	}
}

// recover restarts every machine: then nothing needs to be decoded.
func (l *lab) recover() {
	for _, m := range l.machines {
		m.halt()
		m.mu.Lock()
		m.flip = 0
		m.mu.Unlock()
	}
	l.start()
	synctest.Wait()
	if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed) != 0 {
		l.t.Errorf("after everybody came back: %+v", a)
	}
}
