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
// worker came.
type lateness struct {
	onTime  atomic.Uint64
	buckets [latenessSteps * latenessOctave]atomic.Uint64
	given   atomic.Uint64 // up: not waited for
}

func (l *lateness) note(late time.Duration) {
	if late < latenessLeast {
		l.onTime.Add(1)
		return
	}
	i := int(latenessSteps * math.Log2(float64(late)/float64(latenessLeast)))
	l.buckets[min(i, len(l.buckets)-1)].Add(1)
}

// latest is the lateness of results that were not waited for.
const latest = time.Duration(math.MaxInt64)

// quantile is a lateness that a share q of the results does not exceed, at most
// 19 % too much; 0 if none is known.
func (l *lateness) quantile(q float64) time.Duration {
	all := l.onTime.Load() + l.given.Load()
	for i := range l.buckets {
		all += l.buckets[i].Load()
	}
	rest := uint64(math.Ceil(q * float64(all)))
	below := l.onTime.Load()
	if below >= rest {
		return 0
	}
	for i := range l.buckets {
		if below += l.buckets[i].Load(); below >= rest {
			return time.Duration(float64(latenessLeast) * math.Exp2(float64(i+1)/latenessSteps))
		}
	}
	return latest
}

// Lateness is how long after a layer's k-th result those of a worker come, in
// milliseconds: 0 if before, −1 if they were not waited for.
type Lateness struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func (l *lateness) summary() Lateness {
	ms := func(q float64) float64 {
		if late := l.quantile(q); late < latest {
			return float64(late) / float64(time.Millisecond)
		}
		return -1
	}
	return Lateness{ms(0.5), ms(0.99)}
}
