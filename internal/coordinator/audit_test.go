package coordinator_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// Whichever worker answers wrongly, an audit finds it, the request is answered
// right all the same, and the worker gets no more work: by the syndromes of
// several parities, by computing here with one.
func TestAudit(t *testing.T) {
	for _, name := range []string{"dense", "conv"} {
		for _, code := range [][2]int{{3, 1}, {2, 2}, {3, 3}, {1, 1}} {
			k, r := code[0], code[1]
			p := model(t, name, 2, k, r) // of whole numbers, exact with one parity
			if r > 1 {
				p = prepare(t, normalLayer(name, 2), k, r)
			}
			for liar := range p.plan.N() {
				inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
					l.start()
					ask := func() (a coordinator.Answer) {
						in := []*tensor.Tensor{whole(l.r, l.g.Inputs[0].Shape...)}
						if err := l.c.Infer(context.Background(), in, &a); err != nil {
							t.Fatal(err)
						}
						if r > 1 {
							withinBound(t, &l.plan.Layers[0], l.truth(t, in), &a, []int{liar})
						} else if want := l.local(t, in); !same(a.Outputs, want) {
							t.Errorf("%s k=%d r=%d, w%d lies: answer %v, want %v", name, k, r, liar+1, a.Outputs[0].F32(), want[0].F32())
						}
						return a
					}
					if a := ask(); len(a.Wrong) != 0 || len(a.Decoded) != 0 {
						t.Fatalf("all are right: %+v", a)
					}
					if err := l.c.Emulate(context.Background(), liar, &frame.EmulateInfo{Speed: 1, Wrong: 1}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if a := ask(); len(a.Wrong) != 1 || a.Wrong[0].Worker != liar || a.Wrong[0].Layer != 0 {
						t.Fatalf("%s k=%d r=%d, w%d lies: found %v", name, k, r, liar+1, a.Wrong)
					}
					s := l.c.Status()[liar]
					if s.State != coordinator.Quarantined || s.Wrong != 1 || l.c.Wrong() != 1 {
						t.Errorf("status %+v", s)
					}
					answered := s.Answered
					if a := ask(); len(a.Wrong) != 0 {
						t.Errorf("the next request: %+v", a)
					}
					if s := l.c.Status()[liar]; s.Answered != answered {
						t.Errorf("it was asked again: %+v", s)
					}
				})
			}
		}
	}
}

// Two parities that lie alike make a slice look wrong that the coordinator has
// computed itself, as its worker said nothing: they are found out.
func TestAuditOfLiarsAlike(t *testing.T) {
	p := model(t, "dense", 1, 2, 2)
	code, err := parity.New(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
		silent, first, second := l.plan.WorkerOf(0, 0), l.plan.WorkerOf(0, 2), l.plan.WorkerOf(0, 3)
		l.start(silent, first, second)
		defer l.impostor(silent, func(*impostor, frame.Header, []float32) {}).end()
		for _, liar := range []int{first, second} {
			defer l.impostor(liar, func(im *impostor, h frame.Header, y []float32) {
				if h.Layer == 0 {
					time.Sleep(5*time.Second + time.Millisecond) // when the silent one is given up
					y[0] += 8 * code.Coefficient(int(h.Slice)-2, 0)
				}
				im.send(h, y)
			}).end()
		}
		a, _ := l.infer()
		if len(a.Wrong) != 2 || a.Wrong[0].Worker != first || a.Wrong[1].Worker != second {
			t.Errorf("found %+v", a.Wrong)
		}
	})
}

// Only the sampled requests wait for all results, and not for long.
func TestAuditIsSampledAndBounded(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "dense", 1, 4, 1), coordinator.Config{Audit: 0.25}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		l.infer()
		parity := l.plan.WorkerOf(0, 4)
		l.delay(each+each/2, parity)
		for request := 2; request <= 9; request++ {
			_, took := l.infer()
			audited := request%4 == 0
			if audited && took <= 2*each+each/4 || took > 4*each {
				t.Errorf("request %d took %v", request, took)
			}
		}
		l.delay(time.Hour, parity)
		for range 8 {
			if _, took := l.infer(); took > 6*each {
				t.Errorf("took %v", took)
			}
		}
	})
}

// An audit that cannot be, because a worker is gone or the cover is none that is
// checked, waits for nobody.
func TestAuditInVainWaitsForNobody(t *testing.T) {
	const each = 10 * time.Millisecond
	for _, c := range []struct {
		split string
		lost  bool // the worker of the last slice
	}{
		{plan.Auto, true},
		{plan.Spatial, false},
	} {
		p := prepareBy(t, normalLayer("conv", 1), plan.Options{Data: 4, Parity: 2, Split: c.split})
		inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
			workers := l.plan.Layers[0].Workers
			if c.lost {
				l.start(workers[5])
				workers = workers[:5]
			} else {
				l.start()
			}
			l.delay(each, workers...)
			l.delay(each+each/2, workers[4])
			for range 3 {
				if a, took := l.infer(); took != each || len(a.Wrong) != 0 {
					t.Errorf("%s: took %v, %+v", c.split, took, a)
				}
			}
		})
	}
}
