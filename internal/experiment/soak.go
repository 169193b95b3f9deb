package experiment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/frame"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// SoakConfig says how Soak runs.
type SoakConfig struct {
	Command  []string // starts a worker; see flock.Config
	Data     int
	Parity   int
	Duration time.Duration
	Slice    time.Duration // that a slice takes on each device, by sleeping
	Load     float64       // of what the flock answers at most without faults
	Every    time.Duration // a fault strikes some worker
	Clients  int           // requests under way at once
	Seed     uint64        // of faults and arrivals
	StateDir string
	// Sampled, if set, is told of each tenth of the run.
	Sampled func(*SoakSample) error
}

// SoakSample is a tenth of a soak.
type SoakSample struct {
	Minutes    float64       `json:"minutes"` // since the start
	Requests   int           `json:"requests"`
	Refused    int           `json:"refused"` // sent again later, as the flock asked
	Lost       int           `json:"lost"`
	Wrong      int           `json:"wrong"`
	Decoded    int           `json:"decoded"`
	Recomputed int           `json:"recomputed"`
	Faults     int           `json:"faults"`
	Latency    flock.Latency `json:"latency_ms"`          // from when a request was due
	HeapMB     float64       `json:"heap_mb"`             // of the coordinator, live
	MB         float64       `json:"resident_mb"`         // of the coordinator's process
	WorkersMB  float64       `json:"workers_resident_mb"` // of all workers
	Routines   int           `json:"goroutines"`
}

// SoakReport is what a soak gave.
type SoakReport struct {
	Workers  int           `json:"workers"`
	Capacity float64       `json:"capacity"` // requests a second, without faults
	Rate     float64       `json:"rate"`     // requests a second that were due
	Samples  []*SoakSample `json:"samples"`
}

const (
	soakSamples = 10
	measureTime = 5 * time.Second
	// memoryMay is how much more memory the last fifth of a soak may have than
	// the second: the allocator's own noise, and waitingMB for requests that happen
	// to be under way or to wait just then, some hundred of a few kB each.
	memoryMay = 1.15
	waitingMB = 2
)

// Soak runs the digit network over many workers on this machine, at a share of
// what they can do, while workers fail in every way and come back. It fails,
// also with a report, if a request was lost or answered wrongly, or if the
// coordinator's memory grew.
func Soak(ctx context.Context, c SoakConfig) (r *SoakReport, err error) {
	want, err := digitScores(ctx)
	if err != nil {
		return nil, err
	}
	f, err := startDigits(ctx, flock.Config{
		Plan: plan.Options{Data: c.Data, Parity: c.Parity}, StateDir: c.StateDir, Concurrency: c.Clients,
		Command: append(slices.Clone(c.Command), "--emulate-slice", c.Slice.String()),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r = &SoakReport{Workers: f.Plan.N()}
	s := &soak{f: f, inputs: digitInputs(), want: want, sample: new(SoakSample)}
	if r.Capacity, err = s.capacity(ctx, c.Clients); err != nil {
		return r, err
	}
	r.Rate = c.Load * r.Capacity

	// Requests under way are answered to the end; faults are not.
	soaking, stop := context.WithTimeout(ctx, c.Duration)
	defer stop()
	begin := time.Now()
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	var struck error
	others.Go(func() { struck = s.fail(soaking, c) })
	others.Go(func() { s.arrive(ctx, soaking, c, r.Rate) })
	for i := range soakSamples {
		if err := pause(ctx, time.Until(begin.Add(c.Duration*time.Duration(i+1)/soakSamples))); err != nil {
			return r, err
		}
		sample := s.take(time.Since(begin))
		r.Samples = append(r.Samples, sample)
		if c.Sampled != nil {
			if err := c.Sampled(sample); err != nil {
				return r, err
			}
		}
	}
	stop()
	others.Wait()
	return r, errors.Join(struck, r.check())
}

// check demands what is promised.
func (r *SoakReport) check() error {
	var errs []error
	lost, wrong := 0, 0
	for _, s := range r.Samples {
		lost, wrong = lost+s.Lost, wrong+s.Wrong
	}
	if lost+wrong > 0 {
		errs = append(errs, fmt.Errorf("%d requests lost and %d answered wrongly", lost, wrong))
	}
	early := max(r.Samples[2].HeapMB, r.Samples[3].HeapMB)
	last := min(r.Samples[soakSamples-2].HeapMB, r.Samples[soakSamples-1].HeapMB)
	if last > early*memoryMay+waitingMB {
		errs = append(errs, fmt.Errorf("the coordinator's live memory grew from %.1f to %.1f MB", early, last))
	}
	return errors.Join(errs...)
}

// soak is a soak under way.
type soak struct {
	f      *flock.Flock
	inputs []*tensor.Tensor
	want   []*tensor.Tensor

	mu     sync.Mutex // guards the fields below
	sample *SoakSample
	took   []time.Duration
}

// capacity is how many requests a second clients that ask without a pause get
// answered.
func (s *soak) capacity(ctx context.Context, clients int) (float64, error) {
	asking, stop := context.WithTimeout(ctx, measureTime)
	defer stop()
	cell := new(FaultCell)
	a := &asked{f: s.f, inputs: s.inputs, want: s.want, cell: cell}
	begin := time.Now()
	for i := range clients {
		a.clients.Go(func() { a.client(asking, i) })
	}
	a.clients.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if cell.Lost+cell.Wrong > 0 || cell.Requests == 0 {
		return 0, fmt.Errorf("%d of %d requests lost and %d answered wrongly without any fault", cell.Lost, cell.Requests, cell.Wrong)
	}
	return float64(cell.Requests) / time.Since(begin).Seconds(), nil
}

// arrive lets requests arrive at random times, so many a second.
func (s *soak) arrive(ctx, soaking context.Context, c SoakConfig, rate float64) {
	rng := rand.New(rand.NewPCG(c.Seed, 1))
	var requests sync.WaitGroup
	defer requests.Wait()
	due := time.Now()
	for i := 0; ; i++ {
		due = due.Add(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
		if pause(soaking, time.Until(due)) != nil {
			return
		}
		at := due
		requests.Go(func() { s.ask(ctx, i%len(s.inputs), at) })
	}
}

// ask asks until it is answered; being refused is being told to come again.
func (s *soak) ask(ctx context.Context, digit int, due time.Time) {
	var answer coordinator.Answer
	err := s.f.Infer(ctx, s.inputs[digit:digit+1], &answer)
	for {
		busy, ok := errors.AsType[*coordinator.BusyError](err)
		if !ok {
			break
		}
		s.mu.Lock()
		s.sample.Refused++
		s.mu.Unlock()
		if pause(ctx, busy.RetryAfter) != nil {
			return
		}
		err = s.f.Infer(ctx, s.inputs[digit:digit+1], &answer)
	}
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sample.Requests++
	if err != nil {
		s.sample.Lost++
		return
	}
	s.took = append(s.took, time.Since(due))
	s.sample.Decoded += len(answer.Decoded)
	s.sample.Recomputed += len(answer.Recomputed)
	if !same(answer.Outputs[0], s.want[digit], len(answer.Decoded) == 0) {
		s.sample.Wrong++
	}
}

// fail has some worker fail in some way every so often, until ctx ends. Each
// failure is over before the next.
func (s *soak) fail(ctx context.Context, c SoakConfig) error {
	rng := rand.New(rand.NewPCG(c.Seed, 2))
	lasts := func() time.Duration { return time.Duration((0.2 + 0.8*rng.Float64()) * float64(c.Every)) }
	for pause(ctx, time.Duration(rng.ExpFloat64()*float64(c.Every)/2)) == nil {
		w := rng.IntN(s.f.Plan.N())
		how := frame.EmulateInfo{Speed: 1}
		var err error
		switch rng.IntN(8) {
		case 0:
			s.f.Kill(w)
			_ = pause(ctx, lasts())
			err = s.f.Restart(w)
		case 1:
			s.f.Freeze(w)
			_ = pause(ctx, lasts())
			s.f.Thaw(w)
		case 2: // two at once are more than one parity makes good
			v := rng.IntN(s.f.Plan.N())
			s.f.Kill(w)
			s.f.Kill(v)
			_ = pause(ctx, lasts())
			if err = s.f.Restart(w); v != w {
				err = errors.Join(err, s.f.Restart(v))
			}
		case 3:
			how.Mute = true
		case 4:
			how.Drop = 0.3
		case 5:
			how.JitterMs = 200
		case 6:
			how.Speed = 0.1
		case 7:
			how.Corrupt = 0.5
		}
		if err != nil {
			return err
		}
		if how != (frame.EmulateInfo{Speed: 1}) {
			_ = s.f.Emulate(ctx, w, &how) // one that is still coming back can't be made worse
			_ = pause(ctx, lasts())
			_ = s.f.Emulate(ctx, w, &frame.EmulateInfo{Speed: 1})
		}
		s.mu.Lock()
		s.sample.Faults++
		s.mu.Unlock()
	}
	return nil
}

// take ends a sample and begins the next.
func (s *soak) take(since time.Duration) *SoakSample {
	debug.FreeOSMemory() // what is live, not what the collector has yet to see
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.mu.Lock()
	sample := s.sample
	sample.Latency = flock.LatencyOf(s.took)
	s.sample, s.took = new(SoakSample), slices.Clip(s.took[:0])
	s.mu.Unlock()
	sample.Minutes = since.Minutes()
	sample.HeapMB = float64(m.HeapAlloc) / 1e6
	sample.Routines = runtime.NumGoroutine()
	pids := s.f.PIDs()
	sample.MB = resident("self")
	for _, pid := range pids {
		sample.WorkersMB += resident(fmt.Sprint(pid))
	}
	return sample
}

// PrintSoakHead and PrintSoak write samples as lines of a table.
func PrintSoakHead(w io.Writer) error {
	return soakLine(w, "minutes\trequests\trefused\tlost\twrong\tdecoded\trecomputed\tfaults\tms: p50\tp99\tp99.9\tmax\theap MB\tresident MB\tworkers' MB\tgoroutines\t")
}

// PrintSoak writes a sample.
func PrintSoak(w io.Writer, s *SoakSample) error {
	return soakLine(w, fmt.Sprintf("%.1f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\t%d\t", s.Minutes, s.Requests, s.Refused, s.Lost, s.Wrong, s.Decoded, s.Recomputed,
		s.Faults, s.Latency.P50, s.Latency.P99, s.Latency.P999, s.Latency.Max, s.HeapMB, s.MB, s.WorkersMB, s.Routines))
}

func soakLine(w io.Writer, line string) error {
	t := tabwriter.NewWriter(w, 11, 0, 1, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, line)
	return t.Flush()
}
