package coordinator_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/worker"
)

// flock runs over loopback, in real time.
type flock struct {
	c       *coordinator.Coordinator
	p       *prepared
	t       testing.TB
	addr    string
	workers []process
}

type process struct {
	stop context.CancelFunc
	done chan error
}

// overTCP runs test with a flock whose workers are ready.
func overTCP(t testing.TB, p *prepared, cfg coordinator.Config, test func(f *flock)) {
	t.Helper()
	c, err := coordinator.New(p.g, p.plan, p.infos, cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := link.Listen("127.0.0.1:0", link.Config{})
	if err != nil {
		t.Fatal(err)
	}
	f := &flock{c: c, p: p, t: t, addr: listener.Addr().String(), workers: make([]process, p.plan.N())}
	var serving sync.WaitGroup
	serving.Go(func() { c.Serve(listener) })
	defer func() {
		for i := range f.workers {
			f.kill(i)
		}
		c.Close()
		serving.Wait()
	}()
	for i := range f.workers {
		f.run(i)
	}
	f.waitReady()
	test(f)
}

func (f *flock) waitReady() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.c.WaitReady(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// run starts worker i.
func (f *flock) run(i int) {
	ctx, stop := context.WithCancel(context.Background())
	w := process{stop, make(chan error, 1)}
	f.workers[i] = w
	go func() {
		w.done <- worker.Run(ctx, worker.Config{Join: f.addr, ID: strconv.Itoa(i), StateDir: f.p.dir, Threads: 1})
	}()
}

// kill ends worker i, if it runs, and waits for it.
func (f *flock) kill(i int) {
	w := f.workers[i]
	f.workers[i] = process{}
	if w.stop == nil {
		return
	}
	w.stop()
	if err := <-w.done; err != nil {
		f.t.Errorf("worker %d: %v", i, err)
	}
}

// Requests in parallel over real sockets, on real threads, while workers come
// and go: mostly for the race detector.
func TestOverTCP(t *testing.T) {
	p := model(t, "conv", 1, 3, 1)
	r := random(t)
	overTCP(t, p, coordinator.Config{Concurrency: 4, Threads: 2}, func(f *flock) {
		var clients sync.WaitGroup
		var answered atomic.Int64
		for range 6 {
			in, want := p.request(t, r)
			clients.Go(func() {
				var a coordinator.Answer
				for range 60 {
					if err := f.c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want) {
						t.Errorf("request %d: %v", a.Request, err)
					}
					answered.Add(1)
				}
			})
		}
		finished := make(chan struct{})
		go func() { clients.Wait(); close(finished) }()
		for i := 0; ; i++ {
			select {
			case <-finished:
				if n := answered.Load(); n != 360 {
					t.Errorf("%d requests answered", n)
				}
				f.waitReady()
				return
			default:
				f.kill(i % 4)
				f.run(i % 4)
			}
		}
	})
}

// A worker that leaves in an orderly way gives no result; who waits for one
// without parity is told, whenever it leaves.
func TestLeavesInTheMiddle(t *testing.T) {
	p := model(t, "dense", 1, 2, 0)
	r := random(t)
	overTCP(t, p, coordinator.Config{Concurrency: 4}, func(f *flock) {
		f.kill(0)
		in, want := p.request(t, r)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var clients sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			clients.Go(func() {
				var a coordinator.Answer
				for {
					select {
					case <-stop:
						return
					default:
					}
					var lost *coordinator.LostError
					err := f.c.Infer(ctx, in, &a)
					if err != nil && !errors.As(err, &lost) || err == nil && !same(a.Outputs, want) {
						t.Errorf("request %d: %v", a.Request, err)
						return
					}
				}
			})
		}
		for range 20 {
			answered := 0
			im := newImpostor(t, p, 0, func(im *impostor, h frame.Header, right []float32) {
				if answered++; answered == 20 {
					_ = im.conn.Send(ctx, frame.Header{Type: frame.Bye}, nil)
				}
				im.send(h, right)
			})
			conn, err := link.Dial(ctx, f.addr, link.Config{})
			if err != nil {
				t.Fatal(err)
			}
			im.join(conn)
			<-im.ended
		}
		close(stop)
		clients.Wait()
	})
}
