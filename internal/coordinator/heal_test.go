package coordinator_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/plan"
)

// places says who has which place: "w1 w5 w3 w4" where w5 does what w2 did.
func (l *lab) places() string {
	has := make([]string, l.plan.N())
	for _, s := range l.c.Status() {
		for p := range has {
			if s.Place == fmt.Sprintf("w%d", p+1) {
				has[p] += s.ID
			}
		}
	}
	text := fmt.Sprint(has)
	return text[1 : len(text)-1]
}

// inFlock is inLab with all machines started: 3+1 and spares.
func inFlock(t *testing.T, spares int, test func(t *testing.T, l *lab)) {
	t.Helper()
	inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{Spares: spares}, func(t *testing.T, l *lab) {
		l.start()
		if h := l.c.Health(); h != (coordinator.Health{Redundancy: 1, Planned: 1, Least: 1}) {
			t.Fatalf("health %+v", h)
		}
		test(t, l)
	})
}

// full waits until redundancy is what it was planned to be.
func (l *lab) full() {
	l.t.Helper()
	l.delayAll()
	if h := l.c.Health(); h.Redundancy != 1 {
		l.t.Fatalf("health %+v", h)
	}
}

// A spare takes the place of whoever is lost: at once if it holds the shard,
// which is w1's at first, else when the place was empty for a moment; it is
// known at once that a process is gone, and after 400 ms that a machine is
// silent. Requests are answered all the while.
func TestSpareTakesPlace(t *testing.T) {
	for _, c := range []struct {
		name   string
		worker int
		lose   func(m *machine)
		within time.Duration
	}{
		{"w1 dies", 0, (*machine).halt, 0},
		{"w2 dies", 1, (*machine).halt, time.Second},
		{"w4 dies", 3, (*machine).halt, time.Second},
		{"w1 is cut off", 0, (*machine).cut, 400 * time.Millisecond},
		{"w3 is cut off", 2, (*machine).cut, 1400 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFlock(t, 1, func(t *testing.T, l *lab) {
				m := l.machines[c.worker]
				begin := time.Now()
				c.lose(m)
				l.infer()
				if c.within > 0 {
					time.Sleep(time.Until(begin.Add(c.within - time.Millisecond)))
					synctest.Wait()
					if got := l.places(); got != "w1 w2 w3 w4" {
						t.Fatalf("places %s after %v", got, time.Since(begin))
					}
					time.Sleep(time.Until(begin.Add(c.within + 50*time.Millisecond)))
				}
				synctest.Wait()
				want := []any{"w1", "w2", "w3", "w4"}
				want[c.worker] = "w5"
				if got := l.places(); got != fmt.Sprintln(want...)[:11] {
					t.Fatalf("places %s", got)
				}
				if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed) > 0 {
					t.Errorf("still decodes: %+v", a)
				}
				h := l.c.Health()
				if h.Redundancy != 1 || h.Least != 0 || h.Healed != 1 || h.Longest > c.within {
					t.Errorf("health %+v", h)
				}
				// Who comes back is a spare now, with the shard it held: at once the
				// other's turn, if that one is lost.
				m.heal()
				if m.done == nil {
					m.start()
				}
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if s := l.c.Status()[c.worker]; s.State != coordinator.Spare || s.Slices != 0 || s.Place != "" {
					t.Errorf("came back as %+v", s)
				}
				l.machines[4].halt()
				synctest.Wait()
				if got := l.places(); got != "w1 w2 w3 w4" || l.c.Health().Redundancy != 1 {
					t.Errorf("places %s, health %+v", got, l.c.Health())
				}
				if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed) > 0 {
					t.Errorf("still decodes: %+v", a)
				}
			})
		})
	}
}

// A worker that was gone for less than a moment has its place and shard again at
// once, and the spare stays one.
func TestRestartKeepsPlace(t *testing.T) {
	inFlock(t, 1, func(t *testing.T, l *lab) {
		for range 20 {
			l.machines[2].halt()
			synctest.Wait()
			if a, _ := l.infer(); len(a.Recomputed) > 0 {
				t.Errorf("%+v", a)
			}
			time.Sleep(900 * time.Millisecond)
			before := time.Now()
			l.machines[2].start()
			l.full()
			if took := time.Since(before); took != 0 || l.places() != "w1 w2 w3 w4" {
				t.Errorf("places %s after %v", l.places(), took)
			}
			if a, _ := l.infer(); len(a.Decoded) > 0 {
				t.Errorf("%+v", a)
			}
		}
		if h := l.c.Health(); h.Healed != 20 || h.Longest != 900*time.Millisecond {
			t.Errorf("%+v", h)
		}
	})
}

// Workers in a storm of restarts end as spares, and the places are with those
// that stay.
func TestStormCalmsDown(t *testing.T) {
	inFlock(t, 2, func(t *testing.T, l *lab) {
		for range 50 {
			for _, i := range []int{1, 2} {
				l.machines[i].halt()
			}
			l.infer()
			time.Sleep(1100 * time.Millisecond)
			for _, i := range []int{1, 2} {
				l.machines[i].start()
			}
			time.Sleep(100 * time.Millisecond)
			l.infer()
		}
		synctest.Wait()
		if got := l.places(); got != "w1 w5 w6 w4" && got != "w1 w6 w5 w4" {
			t.Errorf("places %s", got)
		}
		// One loss of each, though they went down fifty times.
		if h := l.c.Health(); h.Healed > 2 || h.Longest > 1100*time.Millisecond {
			t.Errorf("health %+v", h)
		}
	})
}

// A place that nobody has come to yet is left to its worker for ten moments.
func TestPlaceOfNobody(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{Spares: 1, Moment: 100 * time.Millisecond}, func(t *testing.T, l *lab) {
		begin := time.Now()
		l.start(0)
		l.delayAll()
		if took := time.Since(begin); took != time.Second || l.places() != "w5 w2 w3 w4" {
			t.Errorf("places %s after %v", l.places(), took)
		}
		l.machines[0].start()
		synctest.Wait()
		if s := l.c.Status()[0]; s.State != coordinator.Spare {
			t.Errorf("%+v", s)
		}
		// That was no loss.
		if h := l.c.Health(); h != (coordinator.Health{Redundancy: 1, Planned: 1, Least: 1}) {
			t.Errorf("health %+v", h)
		}
	})
}

// More lost than the spares can replace: redundancy is -1, and requests are
// answered; places are taken again in whatever order machines come back.
func TestMoreLostThanSpares(t *testing.T) {
	inFlock(t, 1, func(t *testing.T, l *lab) {
		for _, i := range []int{1, 2, 3} {
			l.machines[i].halt()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if h := l.c.Health(); h.Redundancy != -1 || h.Least != -1 {
			t.Errorf("health %+v", h)
		}
		l.infer()
		for _, i := range []int{3, 1, 2} {
			l.machines[i].start()
		}
		l.full()
		if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed) > 0 {
			t.Errorf("%+v", a)
		}
	})
}

// A worker that gave a wrong result is replaced at once, and is no spare, nor
// when it comes back.
func TestSpareForLiar(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{Spares: 1, Audit: 1}, func(t *testing.T, l *lab) {
		l.start()
		if err := l.c.Emulate(context.Background(), 0, &frame.EmulateInfo{Speed: 1, Wrong: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l.infer()
		synctest.Wait()
		if got := l.places(); got != "w5 w2 w3 w4" {
			t.Errorf("places %s", got)
		}
		l.machines[0].halt()
		l.machines[0].start()
		l.machines[3].halt()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := l.c.Status()[0]; s.State != coordinator.Quarantined || l.places() != "w5 w2 w3 w4" {
			t.Errorf("%+v, places %s", s, l.places())
		}
		l.infer()
	})
}

// A worker whose heartbeat goes on but which answers nothing is hung after two
// seconds of being late, and replaced; one that is late again in between is not.
func TestSpareForHung(t *testing.T) {
	inFlock(t, 1, func(t *testing.T, l *lab) {
		l.delay(time.Hour, 0)
		begin := time.Now()
		for l.places() == "w1 w2 w3 w4" && time.Since(begin) < 10*time.Second {
			l.infer()
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begin); took < 2*time.Second || took > 2100*time.Millisecond || l.places() != "w5 w2 w3 w4" {
			t.Errorf("places %s after %v", l.places(), took)
		}
		if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed) > 0 {
			t.Errorf("%+v", a)
		}
		// With a hung spare nobody changes places.
		l.delay(time.Hour, 4)
		for range 1000 {
			l.infer()
			time.Sleep(10 * time.Millisecond)
		}
		if s := l.c.Status()[4]; s.State != coordinator.Hung || l.places() != "w5 w2 w3 w4" {
			t.Errorf("%+v, places %s", s, l.places())
		}
		if h := l.c.Health(); h.Redundancy != 0 {
			t.Errorf("health %+v", h)
		}
		// But when the worker is gone, the spare is better than nobody.
		l.machines[4].halt()
		synctest.Wait()
		if got := l.places(); got != "w1 w2 w3 w4" {
			t.Errorf("places %s", got)
		}
	})
}

// A spare that is told to hold another shard while it is being sent one: what
// was meant for the first is not taken for the second.
func TestSpareIsToldOtherwise(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{Spares: 1}, func(t *testing.T, l *lab) {
		l.start(4)
		conn, there := link.Pipe(link.Config{})
		defer conn.Close()
		if err := l.c.Attach(there); err != nil {
			t.Fatal(err)
		}
		if err := conn.SendInfo(t.Context(), frame.Hello, &frame.HelloInfo{Version: frame.Protocol, ID: "spare", Name: "w5"}); err != nil {
			t.Fatal(err)
		}
		next := func(want frame.Type) (frame.Header, string) {
			t.Helper()
			h, payload, err := conn.Receive()
			if err != nil || h.Type != want {
				t.Fatalf("got %v, %v, want %v", h.Type, err, want)
			}
			return h, string(payload)
		}
		next(frame.Welcome)
		first, name := next(frame.Assign)
		l.machines[2].halt()
		second, other := next(frame.Assign)
		if first.Request == second.Request || name == other {
			t.Errorf("assigned %+v %s and %+v %s", first, name, second, other)
		}
		conn.TrySend(frame.Header{Type: frame.Want, Layer: uint32(first.Request)}, nil)
		conn.TrySend(frame.Header{Type: frame.Ready, Request: first.Request}, nil)
		synctest.Wait()
		if got := l.places(); got != "w1 w2 w3 w4" {
			t.Errorf("places %s", got)
		}
		conn.TrySend(frame.Header{Type: frame.Want, Layer: uint32(second.Request)}, nil)
		if h, raw := next(frame.Chunk); uint64(h.Layer) != second.Request || int64(len(raw)) != l.infos[2].Size {
			t.Errorf("got %+v, %d bytes", h, len(raw))
		}
		conn.TrySend(frame.Header{Type: frame.Ready, Request: second.Request}, nil)
		synctest.Wait()
		if got := l.places(); got != "w1 w2 w5 w4" {
			t.Errorf("places %s", got)
		}
	})
}

// After an update a spare that held the old shard of a place takes it with the
// new weights.
func TestUpdateReachesSpares(t *testing.T) {
	p := prepareBy(t, models["conv"](2), plan.Options{Data: 3, Parity: 1})
	inLab(t, p, coordinator.Config{Spares: 2}, func(t *testing.T, l *lab) {
		for _, m := range l.machines {
			m.dir = t.TempDir()
		}
		l.start()
		l.delay(10*time.Millisecond, l.all()...)
		l.update("Gemm4", 0, 2)
		for _, i := range []int{0, 1} {
			l.machines[i].halt()
		}
		synctest.Wait()
		if got := l.places(); got != "w5 w6 w3 w4" && got != "w6 w5 w3 w4" {
			t.Errorf("places %s", got)
		}
		if a, _ := l.infer(); len(a.Decoded)+len(a.Recomputed) > 0 {
			t.Errorf("%+v", a)
		}
	})
}
