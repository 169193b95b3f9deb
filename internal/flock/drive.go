package flock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/coordinator"
	"starling/internal/tensor"
)

// Load is a number of requests to send to a flock.
type Load struct {
	Requests    int
	Concurrency int // in flight at once; 0 is 1
	// Input returns the inputs of request i, from 0. It is called from several
	// goroutines; an error ends the run.
	Input func(i int) ([]*tensor.Tensor, error)
	// Restart has all workers restarted in turn meanwhile; see RollingRestart.
	Restart bool
	// Answered, if set, sees each right answer; one call at a time, in the
	// order of finishing. The outputs must not be kept.
	Answered func(i int, answer *coordinator.Answer, took time.Duration)
}

// Report is what happened. Its JSON is documented in docs/cli.md.
type Report struct {
	Model       string                     `json:"model"`
	Requests    int                        `json:"requests"`
	Answered    int                        `json:"answered"`
	Lost        int                        `json:"lost"`           // requests without an answer
	Decoded     int                        `json:"decoded"`        // slices recovered by parity
	Late        int                        `json:"late"`           // results that were not waited for
	Recomputed  int                        `json:"recomputed"`     // slices that the coordinator computed itself
	Reasked     int                        `json:"reasked"`        // slices that a spare gave for a late worker
	Wrong       uint64                     `json:"wrong_detected"` // results that arrived damaged, or that an audit found wrong
	Latency     Latency                    `json:"latency_ms"`
	DecodeMs    float64                    `json:"decode_ms"` // mean of all answered requests
	Cost        Cost                       `json:"cost"`
	FirstSHA256 string                     `json:"first_output_sha256"`
	Restarted   int                        `json:"restarted,omitempty"`  // workers, in turn
	Redundancy  *Redundancy                `json:"redundancy,omitempty"` // nil without workers
	Workers     []coordinator.WorkerStatus `json:"workers"`

	// FirstLoss is why the first lost request was lost, LongestLoss how long
	// one was kept waiting at most.
	FirstLoss   error         `json:"-"`
	LongestLoss time.Duration `json:"-"`
	// Took is the latency of each request in order; 0 for a lost one.
	Took []time.Duration `json:"-"`
}

// Cost is what all requests took of the flock, for comparing policies.
type Cost struct {
	Bytes  uint64  `json:"bytes"`  // over the workers' links
	FLOPs  int64   `json:"flops"`  // of split layers, asked for or computed at the coordinator
	Joules float64 `json:"joules"` // about, from these; see below
}

// Add adds what other requests took.
func (c *Cost) Add(other Cost) {
	c.Bytes += other.Bytes
	c.FLOPs += other.FLOPs
	c.Joules += other.Joules
}

// Assumed of small devices: 5 W at 10 GFLOP/s, and 1 W more at 5 MB/s of WiFi, at
// both ends. Real devices differ; the ratio of two runs does so less.
const (
	joulesPerFLOP = 0.5e-9
	joulesPerByte = 400e-9
)

// Redundancy is coordinator.Health at the end of a run.
type Redundancy struct {
	Planned int     `json:"planned"`
	Least   int     `json:"least"`
	Now     int     `json:"now"`
	Healed  int     `json:"healed"`
	HealMs  float64 `json:"heal_ms"` // from a loss to full redundancy at most
}

// Drive sends a load and reports. Requests that get no answer are counted, not
// an error; the error is Input's or ctx's.
func (f *Flock) Drive(ctx context.Context, load Load) (*Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &Report{Requests: load.Requests}
	before := f.bytes()
	var (
		mu       sync.Mutex // guards r and the calls of Answered
		decoding time.Duration
		next     atomic.Int64
		clients  sync.WaitGroup
	)
	client := func() {
		var answer coordinator.Answer
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= load.Requests {
				return
			}
			inputs, err := load.Input(i)
			if err != nil {
				cancel(err)
				return
			}
			begin := time.Now()
			err = f.Infer(ctx, inputs, &answer)
			took := time.Since(begin)
			if ctx.Err() != nil {
				return
			}
			mu.Lock()
			if missing := i + 1 - len(r.Took); missing > 0 { // grows with what is done, not with what is asked for
				r.Took = append(r.Took, make([]time.Duration, missing)...)
			}
			if err != nil {
				r.Lost++
				r.LongestLoss = max(r.LongestLoss, took)
				if r.FirstLoss == nil {
					r.FirstLoss = err
				}
				mu.Unlock()
				continue
			}
			r.Took[i] = took
			r.Answered++
			r.Decoded += len(answer.Decoded)
			r.Recomputed += len(answer.Recomputed)
			r.Reasked += len(answer.Reasked)
			r.Cost.FLOPs += answer.FLOPs
			r.Late += answer.Late
			decoding += answer.Decoding
			if i == 0 {
				sum := sha256.Sum256(answer.Outputs[0].Data)
				r.FirstSHA256 = hex.EncodeToString(sum[:])
			}
			if load.Answered != nil {
				load.Answered(i, &answer, took)
			}
			mu.Unlock()
		}
	}
	for range max(load.Concurrency, 1) {
		clients.Go(client)
	}
	var (
		restarting    sync.WaitGroup
		driving, over = context.WithCancel(ctx)
	)
	defer over()
	if load.Restart {
		restarting.Go(func() {
			n, err := f.RollingRestart(driving)
			if err != nil && driving.Err() == nil {
				cancel(fmt.Errorf("rolling restart: %w", err))
			}
			r.Restarted = n
		})
	}
	clients.Wait()
	over()
	restarting.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if r.Answered > 0 {
		r.DecodeMs = milliseconds(decoding) / float64(r.Answered)
	}
	r.Latency = LatencyOf(r.Took)
	r.Workers = f.Status()
	r.Cost.Bytes = f.bytes() - before
	r.Cost.Joules = joulesPerFLOP*float64(r.Cost.FLOPs) + joulesPerByte*float64(r.Cost.Bytes)
	if f.Plan.N() > 0 {
		h := f.Health()
		r.Redundancy = &Redundancy{h.Planned, h.Least, h.Redundancy, h.Healed, milliseconds(h.Longest)}
	}
	r.Wrong = f.Damaged() + f.Coordinator.Wrong()
	return r, nil
}

// bytes is how many went over the workers' links so far.
func (f *Flock) bytes() (n uint64) {
	for _, s := range f.Status() {
		n += s.Bytes
	}
	return n
}
