package coordinator_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/plan"
)

// What is kept back is asked for when it is needed: at once of a worker that is
// gone, after the time that nearly all slices take of one that hangs, and, once it
// is known to be late, at once of that one too.
func TestPolicies(t *testing.T) {
	const each = 10 * time.Millisecond
	for _, opt := range []plan.Options{
		{Data: 3, Parity: 1},
		{Data: 3, Parity: 2},
		{Data: 3, Redundancy: plan.Replicate},
		{Data: 3, Parity: 1, Split: plan.Spatial},
	} {
		p := prepareBy(t, models["conv"](1), opt)
		layers := len(p.plan.Layers)
		var always int64
		for _, policy := range coordinator.Policies {
			t.Run(opt.Split+" "+opt.Redundancy+" "+policy, func(t *testing.T) {
				inLab(t, p, coordinator.Config{Policy: policy}, func(t *testing.T, l *lab) {
					infer := l.infer
					if opt.Parity > 1 { // whose coefficients are no whole numbers
						infer = l.inferAbout
					}
					l.start()
					l.delay(each, l.all()...)
					l.infer() // from which hedged knows the layers' times
					l.infer()
					a, took := l.infer()
					if took != time.Duration(layers)*each || len(a.Decoded)+len(a.Recomputed)+a.Late > 0 {
						t.Errorf("healthy took %v: %+v", took, a)
					}
					if policy == coordinator.Always {
						always = a.FLOPs
					} else if a.FLOPs >= always {
						t.Errorf("asked for %d operations, always asks for %d", a.FLOPs, always)
					}
					holder := l.plan.WorkerOf(0, 0)
					l.machines[holder].halt()
					synctest.Wait()
					for range 3 {
						if a, took := infer(); took != time.Duration(layers)*each || len(a.Recomputed) > 0 {
							t.Errorf("one is gone, took %v: %+v", took, a)
						}
					}
					l.machines[holder].start()
					synctest.Wait()
					infer()
					l.delay(each, holder)
					infer()
					l.delay(time.Hour, holder)
					// At most: patience of 50 ms, a slice and, before it is over, a grace.
					// Hedged: the time of 95 % of the slices, 10 ms, and another slice.
					most := map[string]time.Duration{
						coordinator.Always: 2 * each, coordinator.Hedged: 3 * each, coordinator.OnFailure: 60*time.Millisecond + 2*each,
					}[policy]
					for i := range 6 {
						a, took := infer()
						if took > time.Duration(layers)*most || len(a.Recomputed) > 0 {
							t.Errorf("request %d with one that hangs took %v: %+v", i, took, a)
						}
						if policy != coordinator.OnFailure {
							most = each // it is known to be late
						}
						time.Sleep(2 * time.Second) // so that it can answer that it dropped them
					}
				})
			})
		}
	}
	if _, err := coordinator.New(models["dense"](1), new(plan.Plan), nil, coordinator.Config{Policy: "never"}); err == nil {
		t.Error("took an unknown policy")
	}
}

// inferAbout is infer of which the answer may be rounded.
func (l *lab) inferAbout() (*coordinator.Answer, time.Duration) {
	l.t.Helper()
	in, _ := l.request(l.t, l.r)
	var a coordinator.Answer
	begin := time.Now()
	if err := l.c.Infer(context.Background(), in, &a); err != nil {
		l.t.Fatalf("request %d: %v", a.Request, err)
	}
	return &a, time.Since(begin).Round(time.Microsecond)
}

// Without redundancy a worker that hangs or is gone holds its requests up for
// patience, if that is set: not without end.
func TestPatienceWithoutRedundancy(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, prepareBy(t, models["conv"](1), plan.Options{Data: 3, Redundancy: plan.None, Block: 2}), coordinator.Config{Patience: 3}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		if a, took := l.infer(); took != 3*each || len(a.Recomputed) > 0 {
			t.Fatalf("healthy took %v: %+v", took, a)
		}
		l.delay(time.Hour, 1)
		most := 50*time.Millisecond + 2*3*each
		for range 5 {
			a, took := l.infer()
			if took > most || len(a.Recomputed) != 3 {
				t.Errorf("one hangs, took %v: %+v", took, a)
			}
			most = 3 * 3 * each
		}
		l.machines[1].halt()
		for range 3 {
			if a, took := l.infer(); took != 3*each || len(a.Recomputed) != 3 {
				t.Errorf("one is gone, took %v: %+v", took, a)
			}
		}
	})
}

// A slice of a worker that hangs is asked of the spare that holds it, before it
// is computed here.
func TestSpareGivesWhatIsLate(t *testing.T) {
	const each = 10 * time.Millisecond
	inLab(t, model(t, "conv", 1, 3, 1), coordinator.Config{Spares: 2}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(each, l.all()...)
		l.infer()
		l.delay(time.Hour, 0, 1)
		a, took := l.infer()
		if took > 3*(50+10+10)*time.Millisecond || len(a.Recomputed) > 0 || len(a.Reasked) == 0 {
			t.Errorf("took %v: %+v", took, a)
		}
		for _, r := range a.Reasked {
			if r.Worker > 1 {
				t.Errorf("asked others for what %d held", r.Worker)
			}
		}
	})
}

// A request that waits for a worker alone can be given up.
func TestWithoutPatience(t *testing.T) {
	inLab(t, model(t, "conv", 1, 3, 0), coordinator.Config{}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(time.Hour, 0)
		in, _ := l.request(t, l.r)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begin := time.Now()
		if err := l.c.Infer(ctx, in, &coordinator.Answer{}); err == nil || time.Since(begin) != time.Minute {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
	})
}
