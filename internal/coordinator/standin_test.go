package coordinator_test

import (
	"context"
	"testing"
	"time"

	"starling/internal/coordinator"
)

// One worker is gone, and another is slower than usual but not late. Where the
// first one owes a data slice the coordinator computes that after the usual time,
// and nobody waits for the second, if it has nothing else to do and need not save.
func TestStandIn(t *testing.T) {
	const usual, slow = 10 * time.Millisecond, 14 * time.Millisecond
	for _, test := range []struct {
		name   string
		cfg    coordinator.Config
		busy   bool
		stands bool
	}{
		{name: "alone", stands: true},
		{name: "busy", busy: true},
		{name: "saving", cfg: coordinator.Config{Policy: coordinator.OnFailure}},
		{name: "without patience", cfg: coordinator.Config{Patience: -1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, model(t, "conv", 1, 3, 1), test.cfg, func(t *testing.T, l *lab) {
				l.start()
				l.delay(usual, l.all()...)
				l.infer()
				l.machines[0].crash()
				l.delay(slow, 1)
				ended := make(chan struct{})
				if test.busy {
					l.delay(slow, 2, 3) // they have two requests to answer
					in, _ := l.request(t, l.r)
					go func() {
						defer close(ended)
						if err := l.c.Infer(context.Background(), in, &coordinator.Answer{}); err != nil {
							t.Error(err)
						}
					}()
				} else {
					close(ended)
				}
				a, took := l.infer()
				<-ended
				if test.stands {
					// The slow one's own data slices have their grace of 2 ms.
					if len(a.Recomputed) != l.dataLayers(0) || took > 2*(usual+2*time.Millisecond)+slow {
						t.Errorf("took %v: %+v", took, a)
					}
				} else if len(a.Recomputed) != 0 || took < 3*slow {
					t.Errorf("took %v: %+v", took, a)
				}
			})
		})
	}
}

// While the coordinator computes what two workers owe, a third is lost: that is
// computed too, also without patience.
func TestLostOneAfterTheOther(t *testing.T) {
	var l *lab
	cfg := coordinator.Config{Patience: -1, OnScatter: func(_ uint64, layer int) {
		if layer == 0 {
			for i := range 3 {
				time.AfterFunc(time.Duration(1+i)*time.Millisecond, l.machines[i].crash)
			}
		}
	}}
	inLab(t, model(t, "conv", 1, 3, 1), cfg, func(t *testing.T, lab *lab) {
		l = lab
		l.start()
		l.delay(10*time.Millisecond, l.all()...)
		if a, took := l.infer(); len(a.Recomputed) == 0 || took > 30*time.Millisecond {
			t.Errorf("took %v: %+v", took, a)
		}
	})
}
