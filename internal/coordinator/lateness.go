package coordinator

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	latenessLeast  = 62500 * time.Nanosecond // less is on time
	latenessSteps  = 4                       // buckets for each doubling
	latenessOctave = 18                      // doublings: up to 16 s
)

// lateness counts how long after k results of a layer were there those of one
// worker came; one that was not waited for is counted as having come when it was
// given up.
type lateness struct {
	onTime  atomic.Uint64
	buckets [latenessSteps * latenessOctave]atomic.Uint64
}

func (l *lateness) note(late time.Duration) {
	if late < latenessLeast {
		l.onTime.Add(1)
		return
	}
	i := int(latenessSteps * math.Log2(float64(late)/float64(latenessLeast)))
	l.buckets[min(i, len(l.buckets)-1)].Add(1)
}

// quantile is a lateness that a share q of the results does not exceed, at most
// 19 % too much; 0 if none is known.
func (l *lateness) quantile(q float64) time.Duration {
	all := l.onTime.Load()
	for i := range l.buckets {
		all += l.buckets[i].Load()
	}
	rest := uint64(math.Ceil(q * float64(all)))
	below := l.onTime.Load()
	for i := 0; i < len(l.buckets) && below < rest; i++ {
		if below += l.buckets[i].Load(); below >= rest {
			return time.Duration(float64(latenessLeast) * math.Exp2(float64(i+1)/latenessSteps))
		}
	}
	return 0
}

// Lateness is how long after a layer's k-th result those of a worker come, in
// milliseconds; 0 for those that come before.
type Lateness struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func (l *lateness) summary() Lateness {
	ms := func(q float64) float64 { return float64(l.quantile(q)) / float64(time.Millisecond) }
	return Lateness{ms(0.5), ms(0.99)}
}

// noteLateness counts the asks of a layer that is settled.
func (l *call) noteLateness() {
	if l.enough.IsZero() {
		return
	}
	now := time.Now()
	for a := range l.asks {
		switch p := &l.asks[a]; {
		case p.worker == nil || p.conn == nil:
		case p.left == 0:
			p.worker.lateness.note(p.came.Sub(l.enough))
		case l.awaited(a):
			p.worker.lateness.note(now.Sub(l.enough))
		}
	}
}
