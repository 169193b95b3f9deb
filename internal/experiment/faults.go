package experiment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"starling/internal/coordinator"
	"starling/internal/digits"
	"starling/internal/flock"
	"starling/internal/frame"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// FaultsConfig says how Faults measures.
type FaultsConfig struct {
	Command  []string      // starts a worker; see flock.Config
	Faults   []string      // by name; nil is all
	Policies []string      // by name; nil is all
	Lasts    time.Duration // that a fault lasts; each cell takes about twice as long
	Clients  int           // that ask without a pause
	StateDir string        // see flock.Config
	// Progress, if set, is told of each cell.
	Progress func(fault, policy string)
}

// FaultCell is what one policy gave under one fault: all requests from when it
// struck until it has been over for half as long as it lasted.
type FaultCell struct {
	Fault      string        `json:"fault"`
	Policy     string        `json:"policy"`
	Requests   int           `json:"requests"`
	Lost       int           `json:"lost"`
	Wrong      int           `json:"wrong"` // answers that are not the local run's
	Latency    flock.Latency `json:"latency_ms"`
	Decoded    int           `json:"decoded"`    // slices that parity gave
	Recomputed int           `json:"recomputed"` // slices that the coordinator computed itself
	Late       int           `json:"late"`       // results that were not waited for
	Damaged    uint64        `json:"damaged"`    // results with a wrong checksum
	Found      uint64        `json:"found"`      // results that an audit found wrong
	// Degraded is how long in milliseconds redundancy was not what was planned,
	// until a worker had been back for long enough to have its shard again; -1
	// if it is not whole again, 0 if it always was.
	Degraded float64 `json:"degraded_ms"`

	coded bool
}

// faultPolicies are those of Gather, every layer of the digit network split.
func faultPolicies() []gatherPolicy {
	policies := slices.Clone(gatherPolicies)
	for i := range policies {
		policies[i].options.Split = plan.Auto
	}
	return policies
}

// trouble is a fault of the suite.
type trouble struct {
	name  string
	audit float64
	heals bool // redundancy is whole again after it
	// starves: there is too little memory for the victim; strike is starver's.
	starves bool
	// strike makes it, and returns when it is over.
	strike func(ctx context.Context, f *flock.Flock, lasts time.Duration) error
}

// victim is the worker that most faults strike.
const victim = 1

func troubles() []trouble {
	return []trouble{
		{name: "none", heals: true, strike: func(ctx context.Context, _ *flock.Flock, lasts time.Duration) error { return pause(ctx, lasts) }},
		{name: "kill", heals: true, strike: func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
			f.Kill(victim)
			return errors.Join(pause(ctx, lasts), f.Restart(victim))
		}},
		{name: "stop", heals: true, strike: func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
			f.Freeze(victim)
			defer f.Thaw(victim)
			return pause(ctx, lasts)
		}},
		{name: "cut", heals: true, strike: func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
			return errors.Join(f.Emulate(ctx, victim, &frame.EmulateInfo{Speed: 1, Cut: true}), pause(ctx, lasts), f.Restart(victim))
		}},
		{name: "half-open", heals: true, strike: func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
			return errors.Join(f.Emulate(ctx, victim, &frame.EmulateInfo{Speed: 1, Mute: true}), pause(ctx, lasts))
		}},
		{name: "two killed", heals: true, strike: func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
			f.Kill(0)
			f.Kill(victim)
			return errors.Join(pause(ctx, lasts), f.Restart(0), f.Restart(victim))
		}},
		{name: "restart storm", heals: true, strike: storm},
		{name: "slow disk", heals: true, strike: func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
			return errors.Join(f.Restart(victim, "--emulate-load", lasts.String()), pause(ctx, lasts))
		}},
		{name: "out of memory", heals: true, starves: true},
		{name: "loss", heals: true, strike: all(frame.EmulateInfo{Speed: 1, Drop: 0.05})},
		{name: "bursts", heals: true, strike: bursts},
		{name: "jitter", heals: true, strike: one(frame.EmulateInfo{Speed: 1, JitterMs: 200})},
		{name: "slow", heals: true, strike: one(frame.EmulateInfo{Speed: 0.1})},
		{name: "damaged", heals: true, strike: one(frame.EmulateInfo{Speed: 1, Corrupt: 1})},
		{name: "wrong", audit: 1, strike: one(frame.EmulateInfo{Speed: 1, Wrong: 0.05})},
	}
}

// FaultNames are the names of the faults.
func FaultNames() (names []string) {
	for _, t := range troubles() {
		names = append(names, t.name)
	}
	return names
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// one makes one worker or its link worse for a while.
func one(how frame.EmulateInfo) func(context.Context, *flock.Flock, time.Duration) error {
	return func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
		return errors.Join(f.Emulate(ctx, victim, &how), pause(ctx, lasts), f.Emulate(ctx, victim, &frame.EmulateInfo{Speed: 1}))
	}
}

// all makes all workers or their links worse for a while.
func all(how frame.EmulateInfo) func(context.Context, *flock.Flock, time.Duration) error {
	return func(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
		return errors.Join(emulateAll(ctx, f, how), pause(ctx, lasts), emulateAll(ctx, f, frame.EmulateInfo{Speed: 1}))
	}
}

func emulateAll(ctx context.Context, f *flock.Flock, how frame.EmulateInfo) error {
	for i := range f.Plan.N() {
		if err := f.Emulate(ctx, i, &how); err != nil {
			return err
		}
	}
	return nil
}

// bursts loses most answers of one worker after the other, each for a while.
func bursts(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
	const times = 10
	for i := range times {
		w := i % f.Plan.N()
		if err := errors.Join(
			f.Emulate(ctx, w, &frame.EmulateInfo{Speed: 1, Drop: 0.9}), pause(ctx, lasts/times/2),
			f.Emulate(ctx, w, &frame.EmulateInfo{Speed: 1}), pause(ctx, lasts/times/2),
		); err != nil {
			return err
		}
	}
	return nil
}

// storm restarts one worker after the other, without waiting for any.
func storm(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
	const times = 16
	for i := range times {
		if err := errors.Join(f.Restart(i%f.Plan.N()), pause(ctx, lasts/times)); err != nil {
			return err
		}
	}
	return nil
}

// Faults runs the digit network over worker processes on this machine, with
// each policy under each fault. Answers are compared with a local run. It
// fails, also with cells, if a flock with redundancy lost a request or gave a
// wrong answer, or if a way of recovering never ran.
func Faults(ctx context.Context, c FaultsConfig) (cells []*FaultCell, err error) {
	want, err := digitScores(ctx)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, t := range troubles() {
		if c.Faults != nil && !slices.Contains(c.Faults, t.name) {
			continue
		}
		for _, p := range faultPolicies() {
			if c.Policies != nil && !slices.Contains(c.Policies, p.name) {
				continue
			}
			if c.Progress != nil {
				c.Progress(t.name, p.name)
			}
			cell, err := faultCell(ctx, c, t, p, want)
			if errors.Is(err, errNotHere) {
				break
			}
			if err != nil {
				return cells, fmt.Errorf("%s, %s: %w", t.name, p.name, err)
			}
			if err := cell.check(); err != nil {
				failures = append(failures, err)
			}
			cells = append(cells, cell)
		}
	}
	if c.Faults == nil {
		failures = append(failures, everyWay(cells))
	}
	return cells, errors.Join(failures...)
}

// check demands what is promised of flocks with redundancy: nothing lost,
// nothing wrong.
func (c *FaultCell) check() error {
	if c.Policy == "uncoded" {
		return nil
	}
	if c.Lost > 0 || c.Wrong > 0 {
		return fmt.Errorf("%s, %s: %d requests lost and %d answered wrongly of %d", c.Fault, c.Policy, c.Lost, c.Wrong, c.Requests)
	}
	if c.Degraded < 0 {
		return fmt.Errorf("%s, %s: redundancy was not whole again", c.Fault, c.Policy)
	}
	return nil
}

// everyWay fails if a way of recovering was never gone: then the suite did not
// test it.
func everyWay(cells []*FaultCell) error {
	ways := map[string]bool{"decoded": false, "recomputed": false, "late": false, "damaged": false, "found wrong": false, "whole again": false}
	for _, c := range cells {
		if !c.coded {
			continue
		}
		ways["decoded"] = ways["decoded"] || c.Decoded > 0
		ways["recomputed"] = ways["recomputed"] || c.Recomputed > 0
		ways["late"] = ways["late"] || c.Late > 0
		ways["damaged"] = ways["damaged"] || c.Damaged > 0
		ways["found wrong"] = ways["found wrong"] || c.Found > 0
		ways["whole again"] = ways["whole again"] || c.Degraded > 0
	}
	var never []string
	for way, gone := range ways {
		if !gone {
			never = append(never, way)
		}
	}
	if len(never) == 0 {
		return nil
	}
	slices.Sort(never)
	return fmt.Errorf("no coded flock met this: %s", strings.Join(never, ", "))
}

// digitScores are the scores of a local run, by digit.
func digitScores(ctx context.Context) ([]*tensor.Tensor, error) {
	f, err := startDigits(ctx, flock.Config{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var want []*tensor.Tensor
	var answer coordinator.Answer
	for _, in := range digitInputs() {
		if err := f.Infer(ctx, []*tensor.Tensor{in}, &answer); err != nil {
			return nil, err
		}
		want = append(want, answer.Outputs[0].Clone())
	}
	return want, nil
}

func startDigits(ctx context.Context, c flock.Config) (*flock.Flock, error) {
	g, err := onnx.DecodeBytes(digits.Model)
	if err != nil {
		return nil, err
	}
	f, err := flock.Start(ctx, g, c)
	if err != nil && f != nil {
		err = errors.Join(err, f.Close())
	}
	return f, err
}

const (
	calm       = 300 * time.Millisecond // before a fault strikes
	waitForAll = 1e6                    // Grace
	wholeTime  = time.Minute            // that redundancy may take to be whole again
)

func faultCell(ctx context.Context, c FaultsConfig, t trouble, p gatherPolicy, want []*tensor.Tensor) (cell *FaultCell, err error) {
	fc := flock.Config{Plan: p.options, Command: c.Command, Concurrency: c.Clients, Audit: t.audit, StateDir: c.StateDir}
	if t.audit > 0 {
		fc.Grace = waitForAll // an audit that is late is none
	}
	if t.starves {
		s, err := newStarver()
		if err != nil {
			return nil, err
		}
		defer s.close()
		fc.WorkerCommand, t.strike = s.command(c.Command), s.strike
	}
	f, err := startDigits(ctx, fc)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	cell = &FaultCell{Fault: t.name, Policy: p.name, coded: p.options.Parity > 0}
	asking, stop := context.WithCancel(ctx)
	r := &asked{f: f, inputs: digitInputs(), want: want}
	for i := range c.Clients {
		r.clients.Go(func() { r.client(asking, i) })
	}
	defer r.clients.Wait()
	defer stop()
	if err := pause(ctx, calm); err != nil {
		return nil, err
	}
	r.begin(cell)
	if err := t.strike(ctx, f, c.Lasts); err != nil {
		return nil, err
	}
	if t.heals {
		waiting, cancel := context.WithTimeout(ctx, wholeTime)
		err := f.WaitReady(waiting)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			cell.Degraded = -1
		}
	}
	if err := pause(ctx, c.Lasts/2); err != nil {
		return nil, err
	}
	stop()
	r.clients.Wait()
	cell.Latency = flock.LatencyOf(r.took)
	cell.Damaged, cell.Found = f.Damaged(), f.Wrong()
	if cell.Degraded == 0 && t.heals {
		cell.Degraded = milliseconds(f.Health().Longest)
	}
	return cell, nil
}

// asked is what clients asked of a flock and how it answered.
type asked struct {
	f       *flock.Flock
	inputs  []*tensor.Tensor
	want    []*tensor.Tensor
	clients sync.WaitGroup

	mu   sync.Mutex // guards the fields below
	cell *FaultCell // nil: nothing counts yet
	took []time.Duration
}

// begin has what is asked from now on count.
func (r *asked) begin(cell *FaultCell) {
	r.mu.Lock()
	r.cell = cell
	r.mu.Unlock()
}

// client asks until ctx ends.
func (r *asked) client(ctx context.Context, i int) {
	var answer coordinator.Answer
	for ; ctx.Err() == nil; i++ {
		d := i % len(r.inputs)
		begin := time.Now()
		err := r.f.Infer(ctx, r.inputs[d:d+1], &answer)
		took := time.Since(begin)
		if ctx.Err() != nil {
			return
		}
		if r.count(err, d, &answer, took) {
			_ = pause(ctx, askAgain) // the loop sees how it ended
		}
	}
}

// count counts a request, and says whether it was lost.
func (r *asked) count(err error, d int, answer *coordinator.Answer, took time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.cell
	if c == nil {
		return err != nil
	}
	c.Requests++
	if err != nil {
		c.Lost++
		return true
	}
	r.took = append(r.took, took)
	c.Decoded += len(answer.Decoded)
	c.Recomputed += len(answer.Recomputed)
	c.Late += answer.Late
	if !same(answer.Outputs[0], r.want[d], len(answer.Decoded) == 0) {
		c.Wrong++
	}
	return false
}

// PrintFaults writes cells as a table.
func PrintFaults(w io.Writer, cells []*FaultCell) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fault\tpolicy\trequests\tlost\twrong\tms: p50\tp99\tp99.9\tmax\tdecoded\trecomputed\tlate\tdamaged\tfound wrong\tdegraded ms\t")
	for _, c := range cells {
		degraded := fmt.Sprintf("%.0f", c.Degraded)
		if c.Degraded < 0 {
			degraded = "stays"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.1f\t%d\t%d\t%d\t%d\t%d\t%s\t\n", c.Fault, c.Policy, c.Requests, c.Lost, c.Wrong,
			c.Latency.P50, c.Latency.P99, c.Latency.P999, c.Latency.Max, c.Decoded, c.Recomputed, c.Late, c.Damaged, c.Found, degraded)
	}
	return t.Flush()
}
