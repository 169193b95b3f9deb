package coordinator_test

import (
	"testing"
	"time"

	"starling/internal/coordinator"
)

// Lateness is counted from the k-th result on, in buckets of a fifth; who was not
// waited for is later than any.
func TestLateness(t *testing.T) {
	inLab(t, model(t, "dense", 1, 3, 1), coordinator.Config{Grace: 10}, func(t *testing.T, l *lab) {
		l.start()
		l.delay(10*time.Millisecond, 0, 1, 2)
		l.delay(30*time.Millisecond, 3)
		// w4 holds data of one layer: in the first requests it is waited for, as it
		// comes within the grace, for 20 ms.
		for range 4 {
			l.infer()
		}
		for i, s := range l.c.Status() {
			if i < 3 && s.Lateness != (coordinator.Lateness{}) {
				t.Errorf("w%d is late: %+v", i+1, s.Lateness)
			}
			if i == 3 && (s.Lateness.P99 < 20 || s.Lateness.P99 > 24) {
				t.Errorf("w4 is late by %+v, want 20 ms", s.Lateness)
			}
		}
		// One that is not waited for may be however late.
		l.delay(time.Hour, 3)
		l.infer()
		if s := l.c.Status()[3]; s.Lateness.P99 != -1 {
			t.Errorf("%+v", s)
		}
	})
}
