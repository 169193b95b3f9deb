// Package flock runs a whole flock on this machine: a coordinator in this
// process and its workers as processes, joined over loopback. It can make
// those processes fail on purpose. Whatever it starts or writes is gone after
// Close. If this process is killed, the workers end when the pipe to it closes
// (on Linux the kernel kills even stopped ones), and the next run in the same
// state folder removes what this one wrote.
package flock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/rewrite"
	"starling/internal/shard"
)

// Config describes a flock; zero fields mean their defaults.
type Config struct {
	Plan        plan.Options // without workers everything runs in this process
	Threads     int          // for computing, of each worker and of the coordinator; 0 is 1
	Concurrency int          // requests in flight at once; see coordinator.Config
	Waiting     int          // and waiting; see there
	Speed       float64      // of the workers, for labs; see worker.Config
	Faults      []Fault      // strike in the requests they name
	Spares      int          // workers more than the plan has; see coordinator.Config
	Policy      string       // when the cover is made use of; see there
	Patience    float64      // with what is late; see there
	// Slice, for labs, is how long the coordinator computes a slice; see there.
	Slice time.Duration

	// Command starts a worker; flags are appended. Default: this program's
	// file and "worker".
	Command []string
	Grace   float64 // what is waited for a data slice that parity could give; see coordinator.Config
	Audit   float64 // share of requests in which results are checked; see coordinator.Config
	// StateDir is where a folder for this run is made. Default: the system's
	// folder for temporary files.
	StateDir string
	// ReadyTime is how long the workers may take to load their shards. Default
	// one minute.
	ReadyTime time.Duration
	Log       *slog.Logger // nil logs nothing

	// Listener, for labs, is where workers come in: the flock takes it over, and
	// the caller answers for who can reach it. Default: a port of loopback.
	Listener net.Listener
	// WorkerCommand, for labs, is what starts worker i instead of Command, each
	// time that it is started; flags are appended.
	WorkerCommand func(i int) []string
	// OnScatter is called in each request; see coordinator.Config.
	OnScatter func(request uint64, layer int)
}

// Flock is a running flock.
type Flock struct {
	*coordinator.Coordinator
	Plan *plan.Plan

	folder  *folder // nil without workers
	workers *workers
	faults  *injector

	readyTime time.Duration
	serving   sync.WaitGroup
	closing   sync.Once
	closed    error // what Close returns
}

// Start simplifies g, a prepared graph, in place, plans and cuts it, starts the
// workers and waits until they are ready. The caller must Close the flock.
func Start(ctx context.Context, g *graph.Graph, cfg Config) (f *Flock, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Threads == 0 {
		cfg.Threads = 1
	}
	if cfg.ReadyTime == 0 {
		cfg.ReadyTime = time.Minute
	}
	if err := rewrite.Simplify(g); err != nil {
		return nil, err
	}
	p, err := plan.New(g, cfg.Plan)
	if err != nil {
		return nil, err
	}
	for _, fault := range cfg.Faults {
		if n := p.N() + cfg.Spares; fault.Worker >= n {
			return nil, fmt.Errorf("fault %v: there are only %d workers, w1 to w%d", fault, n, n)
		}
	}
	f = &Flock{Plan: p, readyTime: cfg.ReadyTime, faults: newInjector(cfg.Faults, len(p.Layers)/2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	var infos []shard.Info
	if p.N() > 0 {
		if f.folder, err = newFolder(cfg.StateDir); err != nil {
			return f, err
		}
		store, err := shard.OpenStore(filepath.Join(f.folder.path, "shards"))
		if err != nil {
			return f, err
		}
		if infos, err = shard.Build(store, g, p); err != nil {
			return f, err
		}
	}
	token := rand.Text()
	f.Coordinator, err = coordinator.New(g, p, infos, coordinator.Config{
		Token: token, Threads: cfg.Threads, Concurrency: cfg.Concurrency, Waiting: cfg.Waiting,
		Audit: cfg.Audit, Grace: cfg.Grace, Spares: cfg.Spares, Policy: cfg.Policy, Patience: cfg.Patience, Slice: cfg.Slice, Log: cfg.Log,
		OnScatter: func(request uint64, layer int) {
			f.faults.scattered(request, layer)
			if cfg.OnScatter != nil {
				cfg.OnScatter(request, layer)
			}
		},
	})
	if err != nil || p.N() == 0 {
		return f, err
	}
	// A worker that is slow for a while has a frame of each request waiting, and
	// one that takes it back.
	lc := link.Config{Queue: max(16, 2*cfg.Concurrency)}
	var listener *link.Listener
	if cfg.Listener != nil {
		listener = link.NewListener(cfg.Listener, lc)
	} else if listener, err = link.Listen("127.0.0.1:0", lc); err != nil {
		return f, err
	}
	f.serving.Go(func() { f.Serve(listener) })
	f.workers, err = startWorkers(p.N()+cfg.Spares, cfg, listener.Addr().String(), filepath.Join(f.folder.path, "shards"), token)
	if err != nil {
		return f, err
	}
	f.faults.arm(f.workers, f.Coordinator)
	return f, f.waitReady(ctx, f.readyTime)
}

// Rest ends all workers, for labs in which several flocks take turns.
func (f *Flock) Rest() { f.workers.end() }

// Wake starts the workers that Rest ended and waits until they are ready.
func (f *Flock) Wake(ctx context.Context) error {
	if err := f.WaitGone(ctx); err != nil {
		return err
	}
	if err := f.workers.startAll(); err != nil {
		return err
	}
	return f.waitReady(ctx, f.readyTime)
}

// noticeTime is more than it takes to notice that a worker is silent.
const noticeTime = time.Second

// RollingRestart restarts the workers one by one, as for another version of the
// program: each hands over, ends and is started again, and the next one's turn
// comes when all hold their shards. Those that are gone are started first. It
// returns how many were restarted: all, unless ctx has ended or some worker does
// not come back.
func (f *Flock) RollingRestart(ctx context.Context) (restarted int, err error) {
	if f.workers == nil {
		return 0, nil
	}
	if f.waitReady(ctx, noticeTime) != nil {
		for i, s := range f.Status() {
			if s.State != coordinator.Gone {
				continue
			}
			f.workers.kill(i)
			if err := f.workers.start(i); err != nil {
				return 0, err
			}
		}
	}
	for i := range f.workers.procs {
		if err := f.waitReady(ctx, f.readyTime); err != nil {
			return restarted, err
		}
		if err := f.workers.restart(i); err != nil {
			return restarted, err
		}
		restarted++
	}
	return restarted, f.waitReady(ctx, f.readyTime)
}

// waitReady waits for the workers, but not for one whose process has ended.
func (f *Flock) waitReady(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- f.workers.firstEnd(ctx); cancel() }()
	err := f.WaitComplete(ctx)
	cancel()
	if ended := <-failed; ended != nil {
		return ended
	}
	return err
}

// Close ends the workers, removes what they kept, and returns when all is gone.
// It may be called on what a failed Start returned, and again.
func (f *Flock) Close() error {
	f.closing.Do(func() { f.closed = f.close() })
	return f.closed
}

func (f *Flock) close() error {
	errs := []error{f.faults.stop()}
	if f.Coordinator != nil {
		f.Coordinator.Close()
	}
	f.serving.Wait()
	if f.workers != nil {
		f.workers.end()
	}
	if f.folder != nil {
		errs = append(errs, f.folder.remove())
	}
	return errors.Join(errs...)
}
