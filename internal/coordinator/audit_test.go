package coordinator_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/parity"
	"starling/internal/plan"
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
				audited(t, p, liar)
			}
		}
	}
}

// Results that do not lie side by side, or of which others lie upon, are checked
// too, and copies against each other.
func TestAuditOfOtherCovers(t *testing.T) {
	for _, c := range []struct {
		layer string
		opt   plan.Options
	}{
		{"conv", plan.Options{Data: 3, Parity: 1, Split: plan.Spatial}}, // tiles of 3 rows of 7
		{"conv", plan.Options{Data: 3, Parity: 2, Split: plan.Spatial}},
		{"conv", plan.Options{Data: 2, Redundancy: plan.Replicate, Split: plan.Spatial}},
		{"conv", plan.Options{Data: 2, Redundancy: plan.Replicate}},
		{"dense", plan.Options{Data: 3, Redundancy: plan.Replicate}},
		{"dense", plan.Options{Data: 3, Parity: 1, Split: plan.Input}},
		{"conv", plan.Options{Data: 3, Parity: 2, Split: plan.Filter}},
	} {
		p := prepareBy(t, normalLayer(c.layer, 2), c.opt)
		for liar := range p.plan.N() {
			audited(t, p, liar)
		}
	}
}

// audited has a worker lie in the second of three requests that are audited.
func audited(t *testing.T, p *prepared, liar int) {
	t.Helper()
	layer := &p.plan.Layers[0]
	name := fmt.Sprintf("%s k=%d r=%d, w%d lies", layer.Cover, layer.K(), layer.R(), liar+1)
	inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
		l.start()
		ask := func() (a coordinator.Answer) {
			in, want := l.request(t, l.r)
			if err := l.c.Infer(context.Background(), in, &a); err != nil {
				t.Fatal(err)
			}
			switch {
			case len(p.plan.Layers) > 1 || layer.Run != nil:
				if !same(a.Outputs, want) {
					t.Errorf("%s: answer %v, want %v", name, a.Outputs[0].F32(), want[0].F32())
				}
			case layer.Sums():
				l.truth(t, in).sums(t, layer, a.Outputs[0].F32())
			default:
				withinBound(t, layer, l.truth(t, in), &a, []int{liar})
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
		a := ask()
		if len(a.Wrong) == 0 || len(a.Wrong) > len(layer.Workers)/layer.Results() {
			t.Fatalf("%s: found %v", name, a.Wrong)
		}
		for _, wrong := range a.Wrong {
			if wrong.Worker != liar || wrong.Layer != 0 {
				t.Fatalf("%s: found %v", name, a.Wrong)
			}
		}
		s := l.c.Status()[liar]
		if s.State != coordinator.Quarantined || int(s.Wrong) != len(a.Wrong) || int(l.c.Wrong()) != len(a.Wrong) {
			t.Errorf("%s: status %+v", name, s)
		}
		answered := s.Answered
		if a := ask(); len(a.Wrong) != 0 {
			t.Errorf("%s: the next request: %+v", name, a)
		}
		if s := l.c.Status()[liar]; s.Answered != answered {
			t.Errorf("%s: it was asked again: %+v", name, s)
		}
	})
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
		l.delay(time.Millisecond, l.plan.WorkerOf(0, 1)) // or the silent one may be given up by its pace
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
			if _, took := l.infer(); took > 2*50*time.Millisecond { // the least patience, in each layer
				t.Errorf("took %v", took)
			}
		}
	})
}

// An audit that cannot be, because a worker is gone, waits for nobody.
func TestAuditInVainWaitsForNobody(t *testing.T) {
	const each = 10 * time.Millisecond
	for _, split := range []string{plan.Auto, plan.Spatial} {
		p := prepareBy(t, normalLayer("conv", 1), plan.Options{Data: 4, Parity: 2, Split: split})
		inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
			workers := l.plan.Layers[0].Workers
			l.start(workers[5])
			l.delay(each, workers[:5]...)
			l.delay(each+each/2, workers[4])
			for range 3 {
				if a, took := l.infer(); took != each || len(a.Wrong) != 0 {
					t.Errorf("%s: took %v, %+v", split, took, a)
				}
			}
		})
	}
}

// Sums that are subnormal are rounded by more than their size tells: nobody is
// blamed for that, however small a client's numbers are.
func TestAuditOfSmallNumbers(t *testing.T) {
	for _, split := range []string{plan.Auto, plan.Spatial} {
		p := prepareBy(t, normalLayer("conv", 1), plan.Options{Data: 3, Parity: 2, Split: split})
		inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
			l.start()
			for _, size := range []float32{0x1p-126, 0x1p-138, 0x1p-149} {
				in, _ := l.request(t, l.r)
				for i := range in[0].F32() {
					in[0].F32()[i] *= size
				}
				var a coordinator.Answer
				if err := l.c.Infer(context.Background(), in, &a); err != nil || len(a.Wrong) != 0 || !same(a.Outputs, p.local(t, in)) {
					t.Errorf("%s, numbers of %g: %v, found %v", split, size, err, a.Wrong)
				}
			}
		})
	}
}
