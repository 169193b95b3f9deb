package worker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/worker"
)

// The wait before dialling again starts at RetryMin and doubles up to RetryMax,
// and starts anew only when a shard was held: a coordinator that welcomes and
// hangs up is no reason to hurry.
func TestDialsAgain(t *testing.T) {
	infos := shards(t, 1, 1)
	ms := time.Millisecond
	for _, c := range []struct {
		name     string
		min, max time.Duration // of the Config
		answer   func(conn *link.Conn)
		want     []time.Duration
	}{
		{"no route", 0, 0, nil, []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2000 * ms, 2000 * ms}},
		{"no route, configured", 7 * ms, 20 * ms, nil, []time.Duration{7 * ms, 14 * ms, 20 * ms, 20 * ms}},
		{"welcomed and hung up", 0, 0, func(conn *link.Conn) {
			_ = conn.SendInfo(context.Background(), frame.Welcome, &frame.WelcomeInfo{Worker: "w1"})
			_ = conn.Flush(context.Background())
		}, []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms}},
		{"served and hung up", 0, 0, func(conn *link.Conn) {
			_ = conn.SendInfo(context.Background(), frame.Assign, &frame.AssignInfo{SHA256: infos[0].SHA256, Size: infos[0].Size, Description: infos[0].Description})
			for {
				if h, _, err := conn.Receive(); err != nil || h.Type == frame.Ready {
					return
				}
			}
		}, []time.Duration{50 * ms, 50 * ms, 50 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				ctx, stop := context.WithCancel(context.Background())
				cfg := worker.Config{ID: "id", StateDir: filepath.Dir(infos[0].Path), Threads: 1, RetryMin: c.min, RetryMax: c.max}
				var answering sync.WaitGroup
				cfg.Dial = func(context.Context) (*link.Conn, error) {
					at = append(at, time.Now())
					if len(at) == len(c.want)+1 {
						stop()
					}
					if c.answer == nil {
						return nil, errors.New("no route")
					}
					here, there := link.Pipe(link.Config{})
					answering.Go(func() {
						c.answer(there)
						there.Close()
					})
					return here, nil
				}
				if err := worker.Run(ctx, cfg); err != nil {
					t.Error(err)
				}
				answering.Wait()
				var waits []time.Duration
				for i := 1; i < len(at); i++ {
					waits = append(waits, at[i].Sub(at[i-1]))
				}
				if !slices.Equal(waits, c.want) {
					t.Errorf("waited %v, want %v", waits, c.want)
				}
			})
		})
	}
}

// Dialling ends after five seconds, and at once with ctx.
func TestDialThatHangs(t *testing.T) {
	for _, c := range []struct {
		name        string
		after, want time.Duration
	}{{"for ever", time.Minute, 5 * time.Second}, {"until the end", time.Second, time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(context.Background(), c.after)
				defer stop()
				first := true
				cfg := worker.Config{ID: "id", StateDir: t.TempDir(), Threads: 1}
				cfg.Dial = func(ctx context.Context) (*link.Conn, error) {
					begin := time.Now()
					<-ctx.Done()
					if took := time.Since(begin); first && took != c.want {
						t.Errorf("given up after %v, want %v", took, c.want)
					}
					first = false
					return nil, ctx.Err()
				}
				if err := worker.Run(ctx, cfg); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A coordinator that falls silent is left after 400 ms, one that sends rubbish
// at once.
func TestCoordinatorFails(t *testing.T) {
	infos := shards(t, 1, 1)
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		begin := time.Now()
		b.conn.Close()
		b.meet()
		if took := time.Since(begin); took != 50*time.Millisecond {
			t.Errorf("dialled again after %v", took)
		}
	})
	for _, c := range []struct {
		name string
		talk func(nc net.Conn)
		left time.Duration
	}{
		{"silent", func(net.Conn) {}, 400 * time.Millisecond},
		{"rubbish", func(nc net.Conn) { _, _ = nc.Write([]byte(strings.Repeat("rubbish ", 5))) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(context.Background())
				begin := time.Now()
				var talking sync.WaitGroup
				cfg := worker.Config{ID: "id", StateDir: t.TempDir(), Threads: 1}
				cfg.Dial = func(context.Context) (*link.Conn, error) {
					if took := time.Since(begin); took > 0 {
						if took != c.left+50*time.Millisecond {
							t.Errorf("dialled again after %v", took)
						}
						stop()
						return nil, ctx.Err()
					}
					here, there := net.Pipe()
					talking.Go(func() {
						buf := make([]byte, 1000)
						_, _ = there.Read(buf) // the Hello's header
						c.talk(there)
						for {
							if _, err := there.Read(buf); err != nil {
								there.Close()
								return
							}
						}
					})
					return link.New(here, link.Config{}), nil
				}
				if err := worker.Run(ctx, cfg); err != nil {
					t.Error(err)
				}
				talking.Wait()
			})
		})
	}
}

// It ends at once wherever it is, but for what it was asked to compute; inRoom
// checks how much time passes.
func TestEndsAtOnce(t *testing.T) {
	infos := shards(t, 1, 1)
	for _, c := range []struct {
		name  string
		where func(b *boss)
	}{
		{"before the welcome", func(*boss) {}},
		{"waiting for its shard", func(b *boss) { b.assign(infos[0]); b.hear(frame.Want) }},
		{"at rest", func(b *boss) { b.employ(infos[0]) }},
		{"computing", func(b *boss) {
			b.employ(infos[0])
			b.delay(400 * time.Millisecond)
			b.compute(1, 0)
			b.compute(2, 0)
			b.hearNothing()
			b.ends = 800 * time.Millisecond
		}},
		{"computing for too long", func(b *boss) {
			b.employ(infos[0])
			b.delay(time.Hour)
			b.compute(1, 0)
			b.compute(2, 0)
			b.hearNothing()
			b.ends = time.Second
		}},
		{"not let go", func(b *boss) { b.employ(infos[0]); b.keeps, b.ends = true, time.Second }},
		{"cut off", func(b *boss) {
			b.employ(infos[0])
			b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1, Cut: true})
			synctest.Wait()
		}},
		{"before dialling again", func(b *boss) { b.conn.Close(); synctest.Wait() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dir string
			inRoom(t, func(cfg *worker.Config) { dir = cfg.StateDir }, func(_ *testing.T, b *boss) { c.where(b) })
			names, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
			if err != nil || len(names) != 0 {
				t.Errorf("left %v, %v", names, err)
			}
		})
	}
}

func TestWrongConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  worker.Config
	}{
		{"folder cannot be made", worker.Config{ID: "id", StateDir: filepath.Join(file, "state")}},
		{"token too long", worker.Config{ID: "id", StateDir: t.TempDir(), Token: strings.Repeat("x", frame.MaxToken+1)}},
		{"name of two lines", worker.Config{ID: "id", StateDir: t.TempDir(), Name: "a\nb"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Dial = func(context.Context) (*link.Conn, error) {
				t.Error("dialled")
				return nil, errors.New("not to be dialled")
			}
			if err := worker.Run(t.Context(), c.cfg); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var other *link.Conn
		cfg := worker.Config{ID: "id", StateDir: t.TempDir(), Threads: 1}
		cfg.Dial = func(ctx context.Context) (*link.Conn, error) {
			here, there := link.Pipe(link.Config{})
			other = there
			p := link.PayloadOf([]byte("not\x1b[2J wanted"))
			defer p.Release()
			return here, there.Send(ctx, frame.Header{Type: frame.Refuse}, p)
		}
		var refused *worker.RefusedError
		if err := worker.Run(context.Background(), cfg); !errors.As(err, &refused) || refused.Reason != "not?[2J wanted" {
			t.Errorf("got %v", err)
		}
		other.Close()
	})
}
