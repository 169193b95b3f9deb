package kernel

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// meeting is a job whose blocks end only once all of them have begun: the pool
// cannot do it without waking its helpers.
type meeting struct{ missing atomic.Int32 }

func (m *meeting) runBlock(int) {
	m.missing.Add(-1)
	for m.missing.Load() > 0 {
		runtime.Gosched()
	}
}

func (m *meeting) on(p *Pool) {
	m.missing.Store(int32(p.Threads()))
	p.alone = time.Time{} // on a busy machine too
	p.run(m, p.Threads())
}

// TestPoolMeets demands that helpers come, warm, after they fell asleep, and
// after jobs that ended before they could come.
func TestPoolMeets(t *testing.T) {
	for _, threads := range []int{2, 5} {
		p := NewPool(threads)
		m := new(meeting)
		for i := range 300 {
			if i%3 == 0 {
				p.run(&countJob{runs: make([]atomic.Int32, threads)}, threads)
			}
			if i%7 == 0 {
				untilAsleep(p)
			}
			m.on(p)
		}
		p.Close()
	}
}

// TestIdlePoolSleeps waits until no helper looks out for work, after which none
// uses the CPU. The test ends by its time limit if they never sleep.
func TestIdlePoolSleeps(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	new(meeting).on(p)
	untilAsleep(p)
}

func untilAsleep(p *Pool) {
	for i := range p.helpers {
		for p.helpers[i].state.Load() != asleep {
			runtime.Gosched()
		}
	}
}

// BenchmarkHandOver gives a block each to two threads and waits for both to have
// met: warm, when the helper looks out for work, and asleep.
func BenchmarkHandOver(b *testing.B) {
	p := NewPool(2)
	defer p.Close()
	m := new(meeting)
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.on(p)
		}
	})
	b.Run("asleep", func(b *testing.B) {
		for b.Loop() {
			untilAsleep(p)
			m.on(p)
		}
	})
}
