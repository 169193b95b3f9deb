//go:build !race

package coordinator_test

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/link"
	"starling/internal/tensor"
	"starling/internal/worker"
)

// overTCP runs a flock of this process over loopback until test returns.
func overTCP(t testing.TB, p *prepared, cfg coordinator.Config, test func(c *coordinator.Coordinator)) {
	t.Helper()
	c, err := coordinator.New(p.g, p.plan, p.infos, cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := link.Listen("127.0.0.1:0", link.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	defer c.Close()
	running.Go(func() {
		if err := c.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	for i := range p.plan.N() {
		running.Go(func() {
			err := worker.Run(ctx, worker.Config{
				Join: listener.Addr().String(), ID: string(rune('a' + i)), StateDir: p.dir, Threads: 1,
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	test(c)
}

// A warm request allocates nothing, on neither side. Both sides run in this
// process and all that it allocates is counted, up to one in ten requests for a
// pool that still grows: how many buffers are under way at once is a matter of
// chance. The garbage collector is off, as it empties the pools; so does the
// race detector, under which this file is left out.
func TestWarmRequestAllocatesNothing(t *testing.T) {
	const requests = 500
	for name := range models {
		t.Run(name, func(t *testing.T) {
			p := model(t, name, 2, 3, 1)
			in, want := p.request(t, random(t))
			overTCP(t, p, coordinator.Config{}, func(c *coordinator.Coordinator) {
				var a coordinator.Answer
				infer := func() {
					if err := c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want) {
						t.Fatalf("request %d: %v", a.Request, err)
					}
				}
				for range 200 {
					infer()
				}
				defer debug.SetGCPercent(debug.SetGCPercent(-1))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range requests {
					infer()
				}
				runtime.ReadMemStats(&after)
				t.Logf("%d allocations, %d bytes in %d requests", after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc, requests)
				if n := after.Mallocs - before.Mallocs; n >= requests/10 {
					t.Errorf("%d allocations in %d requests", n, requests)
				}
			})
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	p := model(b, "conv", 1, 3, 1)
	in := []*tensor.Tensor{tensor.New(tensor.Float32, p.g.Inputs[0].Shape...)}
	overTCP(b, p, coordinator.Config{}, func(c *coordinator.Coordinator) {
		var a coordinator.Answer
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Infer(context.Background(), in, &a); err != nil {
				b.Fatal(err)
			}
		}
	})
}
