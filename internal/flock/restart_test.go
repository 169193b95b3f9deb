package flock_test

import (
	"fmt"
	"testing"

	"starling/internal/digits"
	"starling/internal/flock"
	"starling/internal/plan"
)

// TestRollingRestart: all workers are restarted in turn under load, whoever is
// dead or stopped among them, and no request is lost or answered wrongly.
func TestRollingRestart(t *testing.T) {
	for _, c := range []struct {
		spares int
		faults []string
	}{
		{0, nil},
		{1, nil},
		{0, []string{"kill:w2@20"}},
		{1, []string{"kill:w2@20", "stop:w4@40"}},
	} {
		t.Run(fmt.Sprintf("4+1 and %d spares, %v", c.spares, c.faults), func(t *testing.T) {
			f := start(t, flock.Config{Plan: plan.Options{Data: 4, Parity: 1}, Spares: c.spares, Concurrency: 8}, c.faults...)
			o := newOracle(t, digitModel(t), 4, 1)
			o.moves = c.spares > 0
			drive(t, f, o, digits.Count, 8)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if n, err := f.RollingRestart(t.Context()); err != nil || n != 5+c.spares {
					t.Errorf("%d workers restarted: %v", n, err)
				}
			}()
			for on := true; on; {
				select {
				case <-done:
					on = false // once more
				default:
				}
				drive(t, f, o, digits.Count, 8)
			}
			if h := f.Health(); h.Redundancy != 1 {
				t.Errorf("health %+v", h)
			}
		})
	}
}
