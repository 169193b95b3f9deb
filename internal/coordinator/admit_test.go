package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/worker"
)

// A worker that is not wanted is told why and ends; the others are not
// disturbed.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*worker.Config)
		says   string
	}{
		{"wrong token", func(c *worker.Config) { c.Token = "guess" }, "token is wrong"},
		{"no token", func(c *worker.Config) { c.Token = "" }, "token is wrong"},
		{"beginning of the token", func(c *worker.Config) { c.Token = "sec" }, "token is wrong"},
		{"no ID", func(c *worker.Config) { c.ID = "" }, "no ID"},
		{"no place left", func(c *worker.Config) { c.ID = "a fifth" }, "all 4 places"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{Token: "secret"}, func(t *testing.T, l *lab) {
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				for _, m := range l.machines {
					cfg := m.config()
					cfg.Token = "secret"
					go runWorker(ctx, t, cfg)
				}
				if err := l.c.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				another := &machine{lab: l, slot: 2, dir: l.dir}
				cfg := another.config()
				cfg.Token = "secret"
				c.change(&cfg)
				var refused *worker.RefusedError
				if err := worker.Run(context.Background(), cfg); !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.says) {
					t.Errorf("got %v", err)
				}
				if another.dials != 1 {
					t.Errorf("dialled %d times", another.dials)
				}
				l.infer()
				for _, s := range l.c.Status() {
					if s.State != coordinator.Ready {
						t.Errorf("%+v", s)
					}
				}
			})
		})
	}
}

func TestWrongProtocolIsRefused(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		here, there := link.Pipe(link.Config{})
		defer here.Close()
		if err := l.c.Attach(there); err != nil {
			t.Fatal(err)
		}
		if err := here.SendInfo(context.Background(), frame.Hello, &frame.HelloInfo{Version: 1, ID: "new"}); err != nil {
			t.Fatal(err)
		}
		h, reason, err := here.Receive()
		if err != nil || h.Type != frame.Refuse || !strings.Contains(string(reason), "protocol 1, this coordinator 3") {
			t.Errorf("got %v %q, %v", h.Type, reason, err)
		}
		if _, _, err := here.Receive(); err == nil {
			t.Error("the connection goes on")
		}
	})
}

// Whoever connects and is no worker is gone after at most five seconds, and
// takes no place.
func TestStrangers(t *testing.T) {
	for _, c := range []struct {
		name   string
		within time.Duration
		talk   func(nc net.Conn)
	}{
		{"says nothing", 400 * time.Millisecond, func(net.Conn) {}},
		{"only pings", 5 * time.Second, func(nc net.Conn) {
			conn := link.New(nc, link.Config{})
			<-conn.Done()
			conn.Close()
		}},
		{"speaks HTTP", 0, func(nc net.Conn) {
			_, _ = nc.Write([]byte("GET / HTTP/1.1\r\nHost: starling\r\nAccept: */*\r\n\r\n"))
		}},
		{"begins with another frame", 0, func(nc net.Conn) { say(nc, frame.Ready, "") }},
		{"promises a tensor before its hello", 0, func(nc net.Conn) {
			// Only the header: who is not admitted has no right to the rest.
			var b [frame.HeaderSize]byte
			(&frame.Header{Type: frame.Result, Length: 1000}).Put(&b)
			_, _ = nc.Write(b[:])
		}},
		{"a hello that is no JSON", 0, func(nc net.Conn) { say(nc, frame.Hello, "worker") }},
		{"a hello of version 0", 0, func(nc net.Conn) { say(nc, frame.Hello, `{"id":"x"}`) }},
		{"a name of control characters", 0, func(nc net.Conn) { say(nc, frame.Hello, `{"version":1,"id":"x","name":"\u001b[2J"}`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
				here, there := net.Pipe()
				if err := l.c.Attach(link.New(there, link.Config{})); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				go func() {
					// What the coordinator sends is read, until it hangs up.
					buf := make([]byte, 1000)
					for {
						if _, err := here.Read(buf); err != nil {
							here.Close()
							return
						}
					}
				}()
				c.talk(here)
				time.Sleep(time.Until(begin.Add(c.within + time.Millisecond)))
				synctest.Wait()
				if _, err := here.Write([]byte{0}); err == nil {
					t.Errorf("still connected after %v", time.Since(begin))
				}
				l.start()
				l.infer()
			})
		})
	}
}

// Of many that connect and say nothing of themselves, no more than 64 are kept
// waiting; the others are hung up on, and workers get in afterwards.
func TestManyStrangers(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		var ends []*link.Conn
		for range 100 {
			here, there := link.Pipe(link.Config{})
			defer here.Close()
			if err := l.c.Attach(there); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, here)
		}
		synctest.Wait()
		open := 0
		for _, e := range ends {
			go e.Receive()
		}
		synctest.Wait()
		for _, e := range ends {
			if e.Err() == nil {
				open++
			}
		}
		if open != 64 {
			t.Errorf("%d of 100 connections are open, want 64", open)
		}
		time.Sleep(6 * time.Second) // until they are hung up on, too
		l.start()
		l.infer()
	})
}

// say writes a frame.
func say(nc net.Conn, typ frame.Type, text string) {
	var b [frame.HeaderSize]byte
	h := frame.Header{Type: typ, Length: uint32(len(text)), PayloadCRC: frame.CRC([]byte(text))}
	h.Put(&b)
	_, _ = nc.Write(append(b[:], text...))
}

// A worker that comes back has its shard: nothing of it is sent again, and it
// has its old place. One that lost its folder is sent the shard once more.
func TestReturn(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(t *testing.T, m *machine)
		sent   bool
	}{
		{"with its shard", func(*testing.T, *machine) {}, false},
		{"with an empty folder", func(t *testing.T, m *machine) { m.dir = folder(t) }, true},
		{"with a damaged shard", func(t *testing.T, m *machine) {
			path := fmt.Sprintf("%s/%s.shard", m.dir, m.lab.infos[m.slot].SHA256)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			raw[64] ^= 1
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
				m := l.machines[1]
				m.dir = folder(t)
				l.start()
				first := l.c.Status()[1]
				if first.Bytes < uint64(l.infos[1].Size) {
					t.Errorf("%d bytes exchanged, the shard has %d", first.Bytes, l.infos[1].Size)
				}
				l.infer()
				m.halt()
				synctest.Wait()
				if a, _ := l.infer(); len(a.Decoded) == 0 || l.c.Status()[1].State != coordinator.Gone {
					t.Errorf("still there: %+v", a)
				}
				c.before(t, m)
				gone := l.c.Status()[1].Bytes
				m.start()
				synctest.Wait()
				back := l.c.Status()[1]
				if back.State != coordinator.Ready {
					t.Fatalf("status %+v", back)
				}
				// Hello, Welcome, Assign, Ready and the goodbye are below 1,000 bytes,
				// the shard is above.
				if size := uint64(l.infos[1].Size); size < 1000 || (back.Bytes-gone > 1000) != c.sent {
					t.Errorf("%d bytes exchanged for a shard of %d", back.Bytes-gone, size)
				}
				if a, _ := l.infer(); len(a.Decoded) != 0 {
					t.Errorf("decoded %v", a.Decoded)
				}
				if names, err := os.ReadDir(m.dir); err != nil || len(names) != 1 && m.dir != l.dir {
					t.Errorf("its folder holds %v, %v", names, err)
				}
			})
		})
	}
}

// A worker that dials again before its old connection is seen to be dead takes
// its place over; requests on the old one are decoded.
func TestTakeOver(t *testing.T) {
	inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(10*time.Millisecond, l.all()...)
		l.infer()
		old := l.machines[1]
		old.cut()
		twin := &machine{lab: l, slot: 1, dir: l.dir}
		defer twin.halt()
		twin.start()
		synctest.Wait()
		if s := l.c.Status()[1]; s.State != coordinator.Ready {
			t.Fatalf("status %+v", s)
		}
		if a, _ := l.infer(); len(a.Decoded) != 0 {
			t.Errorf("decoded %v", a.Decoded)
		}
		time.Sleep(2 * time.Second)
		if a, _ := l.infer(); len(a.Decoded) != 0 || l.c.Status()[1].State != coordinator.Ready {
			t.Errorf("%+v, status %+v", a, l.c.Status()[1])
		}
	})
}

// A spare machine takes a dead one's place and is sent its shard.
func TestSpare(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.machines[2].halt()
		synctest.Wait()
		spare := &machine{lab: l, slot: 9, dir: folder(t)}
		defer spare.halt()
		spare.start()
		synctest.Wait()
		if a, _ := l.infer(); len(a.Decoded) != 0 || l.c.Status()[2].State != coordinator.Ready {
			t.Errorf("decoded %v, %+v", a.Decoded, l.c.Status()[2])
		}
	})
}

func TestWaitReady(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start(3)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := l.c.WaitReady(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 of 4 workers are not ready") {
			t.Errorf("got %v", err)
		}
		begin := time.Now()
		time.AfterFunc(time.Second, l.machines[3].start)
		if err := l.c.WaitReady(context.Background()); err != nil || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
	})
}

func TestNewRefuses(t *testing.T) {
	p := model(t, "dense", 1, 3, 1)
	if _, err := coordinator.New(p.g, p.plan, p.infos[1:], coordinator.Config{}); err == nil {
		t.Error("took three shards for four workers")
	}
	other := model(t, "conv", 1, 3, 1)
	if _, err := coordinator.New(p.g, other.plan, other.infos, coordinator.Config{}); err == nil {
		t.Error("took the plan of another model")
	}
}
