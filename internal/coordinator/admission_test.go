package coordinator_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
)

// Requests wait up to a bound and are served in the order of asking; one more is
// refused at once, and told when to come again.
func TestBusy(t *testing.T) {
	const delay = 100 * time.Millisecond
	inLab(t, model(t, "dense", 1, 2, 0), coordinator.Config{Concurrency: 2, Waiting: 5}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(delay, l.all()...)
		in, want := l.request(t, l.r)
		busy := func(waiting int) time.Duration {
			t.Helper()
			begin := time.Now()
			err := l.c.Infer(context.Background(), in, &coordinator.Answer{})
			refused, ok := errors.AsType[*coordinator.BusyError](err)
			if !ok || refused.Waiting != waiting || refused.RetryAfter <= 0 || time.Since(begin) != 0 {
				t.Fatalf("got %v after %v", err, time.Since(begin))
			}
			return refused.RetryAfter
		}
		var order []int
		var mu sync.Mutex // guards order
		var clients sync.WaitGroup
		ask := func(i int) {
			clients.Go(func() {
				var a coordinator.Answer
				if err := l.c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want) {
					t.Errorf("client %d: %v", i, err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
			time.Sleep(time.Millisecond) // so that no two are answered at the same time
		}
		for i := range 6 { // two at once, four that wait
			ask(i)
		}
		ctx, cancel := context.WithCancel(context.Background())
		gaveUp := make(chan error)
		go func() { gaveUp <- l.c.Infer(ctx, in, &coordinator.Answer{}) }()
		synctest.Wait()
		busy(5)
		cancel() // leaves the place to another
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
		ask(6)
		busy(5)
		clients.Wait()
		for i, n := range order {
			if i != n {
				t.Fatalf("answered in the order %v", order)
			}
		}
		// A worker computes for one request at a time, so seven take seven times as
		// long as one.
		for range 7 {
			clients.Go(func() {
				if err := l.c.Infer(context.Background(), in, &coordinator.Answer{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		one := time.Duration(len(l.plan.Layers)) * delay
		if after := busy(5); after < 3*one || after > 7*one {
			t.Errorf("come again in %v; a request alone takes %v", after, one)
		}
		clients.Wait()
	})
}

// Whoever may not wait is refused as soon as all turns are taken.
func TestNoWaiting(t *testing.T) {
	inLab(t, model(t, "dense", 1, 2, 0), coordinator.Config{Concurrency: 1, Waiting: -1}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(time.Second, l.all()...)
		var first sync.WaitGroup
		first.Go(func() { l.infer() })
		synctest.Wait()
		in, _ := l.request(t, l.r)
		err := l.c.Infer(context.Background(), in, &coordinator.Answer{})
		if refused, ok := errors.AsType[*coordinator.BusyError](err); !ok || refused.Waiting != 0 || refused.RetryAfter != time.Second {
			t.Errorf("got %v", err)
		}
		first.Wait()
		l.infer()
	})
}

// Requests under way together share the way there and back: a worker computes for
// one while the others' frames travel. And they share its time evenly.
func TestPipeline(t *testing.T) {
	const far, clients, each = 20 * time.Millisecond, 4, 6
	inLab(t, model(t, "dense", 1, 2, 1), coordinator.Config{Concurrency: clients}, func(t *testing.T, l *lab) {
		l.far = far
		for _, m := range l.machines {
			m.start()
		}
		if err := l.c.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.delay(5*time.Millisecond, l.all()...)
		time.Sleep(far)
		run := func(clients int) (whole time.Duration, ends []time.Duration) {
			begin := time.Now()
			var all sync.WaitGroup
			var mu sync.Mutex // guards ends
			for range clients {
				in, want := l.request(t, l.r)
				all.Go(func() {
					var a coordinator.Answer
					for range each {
						if err := l.c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want) {
							t.Errorf("request %d: %v", a.Request, err)
						}
					}
					mu.Lock()
					ends = append(ends, time.Since(begin))
					mu.Unlock()
				})
			}
			all.Wait()
			return time.Since(begin), ends
		}
		run(1) // learns how long the layers take
		one, _ := run(1)
		four, ends := run(clients)
		t.Logf("%d requests of one client took %v, as many of each of %d clients %v", each, one, clients, four)
		// A layer takes one client 45 ms, 5 of them computing; four clients' computing
		// fits into that.
		if four > one+one/2 {
			t.Errorf("four clients took %v, one %v", four, one)
		}
		if first := slices.Min(ends); four-first > 2*(2*far+5*time.Millisecond) {
			t.Errorf("the first client was done after %v, the last after %v", first, four)
		}
	})
}
