package experiment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// GatherConfig says how Gather measures.
type GatherConfig struct {
	Lab       string        // folder of the lab's script
	Prefix    string        // of its namespaces; labs with different ones coexist
	Scenarios []string      // by name; nil is all
	Policies  []string      // by name; nil is all
	Requests  int           // of each cell
	Turn      int           // requests that a policy has before the next one's turn
	Slice     time.Duration // that a device computes a slice, and the coordinator
	Threads   int           // of the coordinator
	Grace     float64       // see coordinator.Config
	Patience  float64       // the same, of policies with redundancy
	Wire      wire.Encoding // of all policies
	Seed      uint64        // of the random input
	StateDir  string
	// Progress, if set, is told of each cell's turns.
	Progress func(scenario, policy string, done int)
}

// Cell is what one policy gave in one scenario.
type Cell struct {
	Scenario   string        `json:"scenario"`
	Policy     string        `json:"policy"`
	Requests   int           `json:"requests"`
	Failed     int           `json:"failed"` // attempts that gave an error: the client asked again
	Lost       int           `json:"lost"`   // requests that were given up
	Wrong      int           `json:"wrong"`  // answers that are not the local run's
	Decoded    int           `json:"decoded"`
	Recomputed int           `json:"recomputed"`
	Late       int           `json:"late"`
	MFLOP      float64       `json:"mflop"` // asked of workers or computed by the coordinator for split layers, a request
	Latency    flock.Latency `json:"latency_ms"`
	// Phases are medians: until the first split layer's input is sent, then from
	// one such layer to the next or the end.
	Phases    []float64 `json:"phases_ms"`
	AirMs     float64   `json:"air_ms"`     // that the channel was busy, a request
	AirFrames float64   `json:"air_frames"` // delivered over it, a request
	// Struck, of a scenario in which a device dies, are the latencies of the
	// request in which it did and of the next.
	Struck []float64      `json:"struck_ms,omitempty"`
	Before *flock.Latency `json:"before_ms,omitempty"` // of the requests before it died
	Bound  float64        `json:"bound_ms"`            // no software can be faster at the median; see ideal
}

// gatherPolicy is a way of protecting the k data slices.
type gatherPolicy struct {
	name    string
	options plan.Options
}

const gatherK = 4

var gatherPolicies = []gatherPolicy{
	{"uncoded", plan.Options{Data: gatherK, Redundancy: plan.None, Split: plan.Output}},
	{"4+1", plan.Options{Data: gatherK, Parity: 1, Split: plan.Output}},
	{"4+2", plan.Options{Data: gatherK, Parity: 2, Split: plan.Output}},
	{"replicate", plan.Options{Data: gatherK, Redundancy: plan.Replicate, Split: plan.Output}},
}

// gatherScenario is what the air and the devices are like.
type gatherScenario struct {
	name string
	all  string  // settings of all stations, over baseAir
	one  string  // of the first worker's, over that
	slow float64 // the first worker computes so many times as long
	dies bool    // the first worker's power is cut in the middle of the middle request
}

// baseAir is every setting; the coordinator is a station like the others.
const baseAir = "rate=60 per=0.1 loss=0 delay=1 jitter=3 gb=0 bg=0 badper=0 queue=200000 down=0 wired=0"

var gatherScenarios = []gatherScenario{
	{name: "mild"},
	{name: "loss=0.002", all: "loss=0.002"},
	{name: "loss=0.005", all: "loss=0.005"},
	{name: "loss=0.01", all: "loss=0.01"},
	{name: "bursts", all: "gb=0.1 bg=3 badper=0.85"},
	{name: "double bursts", all: "gb=0.2 bg=2 badper=0.9"},
	{name: "jitter=8", all: "jitter=8"},
	{name: "slow link", one: "rate=6"},
	{name: "slow device", slow: 10},
	{name: "dead device", dies: true},
	{name: "rate=30", all: "rate=30"},
	{name: "unshared", all: "wired=1 delay=0.5"},
}

// GatherScenarios are the names of the scenarios, GatherPolicies those of the policies.
func GatherScenarios() (names []string) {
	for _, s := range gatherScenarios {
		names = append(names, s.name)
	}
	return names
}

// GatherPolicies are the policies' names.
func GatherPolicies() (names []string) {
	for _, p := range gatherPolicies {
		names = append(names, p.name)
	}
	return names
}

const (
	gatherWarm = 5                     // requests of each turn that do not count
	askAgain   = 20 * time.Millisecond // that a client waits after an error
	giveUp     = 10 * time.Second      // that a client asks for
)

// gatherRun is a measurement under way.
type gatherRun struct {
	c       GatherConfig
	lab     *lab
	slow    float64 // of the first worker, when it is started next
	inputs  []*tensor.Tensor
	want    *tensor.Tensor
	flocks  []*flock.Flock
	watches []*watch
}

// Gather runs the dense layers of a model over devices of a lab, each policy in
// turn, in each scenario, and calls done after each scenario. build makes the
// graph anew.
func Gather(ctx context.Context, build func() (*graph.Graph, error), c GatherConfig, done func([]*Cell) error) (err error) {
	policies := slices.Clone(gatherPolicies)
	if c.Policies != nil {
		policies = slices.DeleteFunc(policies, func(p gatherPolicy) bool { return !slices.Contains(c.Policies, p.name) })
	}
	most := 0
	for _, p := range policies {
		most = max(most, p.options.Workers())
	}
	r := &gatherRun{c: c, slow: 1}
	if err := r.local(ctx, build); err != nil {
		return err
	}
	if r.lab, err = openLab(ctx, c.Lab, c.Prefix, 1+most); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.lab.close()) }()
	if err := r.lab.set(0, baseAir+" wired=1"); err != nil {
		return err
	}
	defer func() {
		for _, f := range r.flocks {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, p := range policies {
		if err := r.start(ctx, build, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for _, s := range gatherScenarios {
		if c.Scenarios != nil && !slices.Contains(c.Scenarios, s.name) {
			continue
		}
		cells, err := r.scenario(ctx, s, policies)
		if err == nil {
			err = done(cells)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// local runs the model here, for what answers must be.
func (r *gatherRun) local(ctx context.Context, build func() (*graph.Graph, error)) error {
	g, err := build()
	if err != nil {
		return err
	}
	for _, in := range g.Inputs {
		r.inputs = append(r.inputs, input.Random(in, r.c.Seed, 0))
	}
	f, err := flock.Start(ctx, g, flock.Config{Threads: r.c.Threads})
	if err != nil {
		return err
	}
	defer f.Close()
	var answer coordinator.Answer
	if err := f.Infer(ctx, r.inputs, &answer); err != nil {
		return err
	}
	r.want = answer.Outputs[0].Clone()
	return nil
}

// start starts a policy's flock: worker i in device i+2, the coordinator in 1.
func (r *gatherRun) start(ctx context.Context, build func() (*graph.Graph, error), p gatherPolicy) error {
	g, err := build()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var listener net.Listener
	if listener, err = r.lab.listen(0); err != nil {
		return err
	}
	w := &watch{}
	p.options.Wire = r.c.Wire
	patience := r.c.Patience
	if p.options.Redundancy == plan.None {
		patience = 0
	}
	f, err := flock.Start(ctx, g, flock.Config{
		Plan: p.options, Threads: r.c.Threads, Grace: r.c.Grace, Patience: patience, Slice: r.c.Slice,
		StateDir: r.c.StateDir, Listener: listener, OnScatter: w.scattered,
		WorkerCommand: func(i int) []string {
			slice := r.c.Slice
			if i == 0 {
				slice = time.Duration(float64(slice) * r.slow)
			}
			return append(r.lab.command(i+2), self, "worker", "--emulate-slice", slice.String())
		},
	})
	if err != nil {
		listener.Close()
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	r.flocks, r.watches = append(r.flocks, f), append(r.watches, w)
	f.Rest()
	return nil
}

// turnOf is what a policy did so far in a scenario.
type turnOf struct {
	cell   *Cell
	took   []time.Duration
	phases [][]time.Duration
	air    airStat
}

func (r *gatherRun) scenario(ctx context.Context, s gatherScenario, policies []gatherPolicy) ([]*Cell, error) {
	r.slow = max(s.slow, 1)
	turns := make([]*turnOf, len(policies))
	cells := make([]*Cell, len(policies))
	for i, p := range policies {
		cells[i] = &Cell{Scenario: s.name, Policy: p.name, Requests: r.c.Requests}
		turns[i] = &turnOf{cell: cells[i]}
	}
	turn := r.c.Turn
	if s.dies {
		turn = r.c.Requests // its middle is the flock's
	}
	for round := 0; round*turn < r.c.Requests; round++ {
		n := min(turn, r.c.Requests-round*turn)
		for k := range policies {
			i := (k + round) % len(policies)
			if r.c.Progress != nil {
				r.c.Progress(s.name, policies[i].name, round*turn)
			}
			if err := r.turn(ctx, s, i, n, turns[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", policies[i].name, err)
			}
		}
	}
	for i, t := range turns {
		bound := r.bound(s, r.flocks[i].Plan)
		if phases := t.medians(); len(phases) > 0 {
			bound += phases[0] // what the coordinator computes
		}
		t.finish(bound, s.dies)
	}
	return cells, nil
}

// turn wakes a flock on good air and has it answer n requests in the scenario.
func (r *gatherRun) turn(ctx context.Context, s gatherScenario, i, n int, t *turnOf) error {
	if err := r.lab.set(0, baseAir+" wired=1"); err != nil {
		return err
	}
	f := r.flocks[i]
	if err := f.Wake(ctx); err != nil {
		return err
	}
	defer f.Rest()
	if err := r.lab.set(0, baseAir+" "+s.all); err != nil {
		return err
	}
	if s.one != "" {
		if err := r.lab.set(2, s.one); err != nil {
			return err
		}
	}
	for range gatherWarm {
		if _, err := r.ask(ctx, i, &Cell{}); err != nil {
			return err
		}
	}
	before, err := r.lab.stat()
	if err != nil {
		return err
	}
	w := r.watches[i]
	for q := range n {
		if s.dies && q == n/2 {
			w.strikeNext(func() error { return r.lab.set(2, "down=1") })
		}
		begin := time.Now()
		took, err := r.ask(ctx, i, t.cell)
		if err != nil {
			return err
		}
		t.took = append(t.took, took)
		if took > 0 {
			t.phases = append(t.phases, w.phases(begin, begin.Add(took)))
		}
		if err := w.failed(); err != nil {
			return err
		}
	}
	after, err := r.lab.stat()
	t.air = t.air.plus(after.since(before))
	return err
}

// ask asks until it is answered, or given up, which is 0.
func (r *gatherRun) ask(ctx context.Context, i int, cell *Cell) (time.Duration, error) {
	var answer coordinator.Answer
	begin := time.Now()
	for {
		r.watches[i].reset()
		err := r.flocks[i].Infer(ctx, r.inputs, &answer)
		took := time.Since(begin)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err == nil:
			cell.Decoded += len(answer.Decoded)
			cell.Recomputed += len(answer.Recomputed)
			cell.Late += answer.Late
			cell.MFLOP += float64(answer.FLOPs) / 1e6 / float64(cell.Requests)
			// How far rounding on the wire goes is in docs/link.md.
			if r.c.Wire == wire.F32 && !same(answer.Outputs[0], r.want, len(answer.Decoded) == 0) {
				cell.Wrong++
			}
			return took, nil
		}
		cell.Failed++
		if took > giveUp || r.watches[i].dead() {
			cell.Lost++
			return 0, nil
		}
		time.Sleep(askAgain)
	}
}

// roundings bounds what decoding may change, of the largest score: a thousand
// times what one decoded slice does (docs/parity.md), and a thousandth of what a
// missing one would.
const roundings = 1e-3

// same says whether an answer is the local run's, in every bit if exactly.
func same(got, want *tensor.Tensor, exactly bool) bool {
	if exactly || got.Type != tensor.Float32 {
		return bytes.Equal(got.Data, want.Data)
	}
	most := 0.0
	for _, v := range want.F32() {
		most = max(most, math.Abs(float64(v)))
	}
	for i, v := range got.F32() {
		if !(math.Abs(float64(v)-float64(want.F32()[i])) <= roundings*most) {
			return false
		}
	}
	return true
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// medians are the phases' medians in milliseconds.
func (t *turnOf) medians() (ms []float64) {
	if len(t.phases) == 0 {
		return nil
	}
	for i := range t.phases[0] {
		var all []time.Duration
		for _, p := range t.phases {
			if i < len(p) {
				all = append(all, p[i])
			}
		}
		ms = append(ms, flock.LatencyOf(all).P50)
	}
	return ms
}

func (t *turnOf) finish(bound float64, dies bool) {
	c := t.cell
	c.Phases, c.Bound = t.medians(), bound
	c.Latency = flock.LatencyOf(t.took)
	c.AirMs = milliseconds(t.air.busy) / float64(len(t.took))
	c.AirFrames = float64(t.air.sent) / float64(len(t.took))
	if !dies {
		return
	}
	half := len(t.took) / 2
	before := flock.LatencyOf(t.took[:half])
	c.Before = &before
	for _, took := range t.took[half:min(half+2, len(t.took))] {
		c.Struck = append(c.Struck, milliseconds(took))
	}
	c.Latency = flock.LatencyOf(t.took[min(half+1, len(t.took)):])
}

// watch sees when a request reaches its split layers.
type watch struct {
	mu     sync.Mutex // guards the fields below
	at     []time.Time
	strike func() error // in the next request's middle layer; nil if none
	struck bool
	err    error
}

func (w *watch) reset() {
	w.mu.Lock()
	w.at = w.at[:0]
	w.mu.Unlock()
}

// scattered is flock.Config.OnScatter.
func (w *watch) scattered(_ uint64, layer int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = append(w.at, time.Now())
	if w.strike != nil && layer == 1 {
		w.err, w.strike, w.struck = w.strike(), nil, true
	}
}

func (w *watch) strikeNext(f func() error) {
	w.mu.Lock()
	w.strike = f
	w.mu.Unlock()
}

// dead says whether a device is dead for good.
func (w *watch) dead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.struck
}

func (w *watch) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// phases are the times between begin, the scatters and the end.
func (w *watch) phases(begin, end time.Time) (out []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.at {
		out = append(out, at.Sub(begin))
		begin = at
	}
	return append(out, end.Sub(begin))
}

// PrintCells writes one scenario's cells as a table.
func PrintCells(w io.Writer, cells []*Cell) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tpolicy\trequests\tfailed\tlost\twrong\tms: p50\tp90\tp99\tp99.9\tmax\tdecoded\trecomputed\tlate\tMFLOP\tphases\tair ms\tframes\tbound\t")
	for _, c := range cells {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%d\t%d\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t\n", c.Scenario, c.Policy, c.Requests,
			c.Failed, c.Lost, c.Wrong, c.Latency.P50, c.Latency.P90, c.Latency.P99, c.Latency.P999, c.Latency.Max,
			c.Decoded, c.Recomputed, c.Late, c.MFLOP, c.Phases, c.AirMs, c.AirFrames, c.Bound)
	}
	return t.Flush()
}
