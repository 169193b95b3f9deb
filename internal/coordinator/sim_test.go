package coordinator_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/link"
	"starling/internal/mark"
	"starling/internal/plan"
	"starling/internal/tensor"
)

var (
	seedsFlag  = flag.Int("seeds", 0, "how many seeds TestSimulation runs, from -seed on; 0 is 300, 40 with -short, 1 with -seed")
	eventsFlag = flag.Bool("events", false, "TestSimulation prints what happened")
)

// TestSimulation runs the real coordinator and real workers in virtual time, on
// links and devices that fail by a schedule drawn from a seed: each seed has its
// own model, plan, load and kinds of fault. Whatever happens,
//
//   - every request is answered once: with the answer of a local run, bit for
//     bit, or with an error that its caller has asked for: his deadline, a loss
//     without any cover, or that he sends more than may wait;
//   - within a bounded time;
//   - with a bounded number of payloads in memory, and none once nothing is
//     under way; no request, session or goroutine is left behind;
//   - and soon after the last fault the flock answers without decoding.
//
// The seeds are fixed, so that a run says the same on every machine, and passes
// every recovery path: TestMarks demands that. `make soak SEEDS=5000` takes
// others. One that fails is run again with -seed, and with -events and -v shows why:
// TestSimulationRepeats demands that it does the same again.
func TestSimulation(t *testing.T) {
	first, n := uint64(1), 300
	switch {
	case *seedFlag != 0:
		first, n = *seedFlag, 1
	case testing.Short():
		n = 40
	}
	if *seedsFlag != 0 {
		n = *seedsFlag
	}
	for seed := first; seed < first+uint64(n); seed++ {
		simulate(t, seed, false)
	}
	if n < 300 {
		return
	}
	for name, passed := range mark.Counts() {
		if passed == 0 {
			t.Errorf("no seed came past %q", name)
		}
	}
}

// The same seed gives the same run: every frame, fault, answer and time of it. The
// system may take the processor away in the middle of a run, and another goroutine
// come first then; so one of five runs has to be as one before.
func TestSimulationRepeats(t *testing.T) {
	n := uint64(20)
	if testing.Short() {
		n = 5
	}
	first := max(*seedFlag, 1)
	for seed := first; seed < first+n; seed++ {
		var runs []uint64
		for again := false; !again; {
			if len(runs) == 5 {
				t.Errorf("seed %d ran as %016x", seed, runs)
				break
			}
			run := simulate(t, seed, false)
			again = slices.Contains(runs, run)
			runs = append(runs, run)
		}
	}
}

// TestSimulationTogether has most frames arrive in the instant in which they are
// sent, on all processors: what TestSimulation keeps apart, so that it repeats,
// runs side by side here, best under the race detector. A seed need not repeat.
func TestSimulationTogether(t *testing.T) {
	n := uint64(100)
	if testing.Short() {
		n = 20
	}
	first := max(*seedFlag, 1)
	for seed := first; seed < first+n; seed++ {
		simulate(t, seed, true)
	}
}

// simulate runs a seed, and returns the hash of all that happened. On one
// processor goroutines that wake at the same instant run in the order in which
// they were woken.
func simulate(t *testing.T, seed uint64, together bool) (hash uint64) {
	if !together {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
		s := newScenario(t, seed)
		s.together = together
		dir, err := os.MkdirTemp(shardsDir, "") //nolint:usetesting // beside the shards of the other tests
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, s, dir)
			w.run()
			hash = w.trace.hash()
			if *eventsFlag {
				w.trace.print(t)
			}
		})
		if t.Failed() {
			t.Logf("%+v", s)
			t.Logf("repeat with: go test ./internal/coordinator -run '%s$' -seed %d -events -v", strings.Split(t.Name(), "/")[0], seed)
		}
	})
	return hash
}

// scenario is what a seed draws before anything runs.
type scenario struct {
	seed     uint64
	r        *rand.Rand
	model    *prepared
	opt      plan.Options
	cfg      coordinator.Config
	clients  int
	requests int           // of each client
	think    time.Duration // between a client's requests, at most
	hurry    float64       // share of the requests whose caller soon gives up
	delay    time.Duration // of a frame, at most
	buffer   int           // of a link, in bytes
	pause    time.Duration // between faults, at most
	noise    chances       // of every link, all the time
	strikes  []int         // what may happen to devices
	own      bool          // each device has its own folder, empty at first
	lies     bool          // results are wrong, and nothing else
	together bool          // most frames arrive at once
}

// chances are those of a frame to suffer.
type chances struct{ lost, twice, flip, keep float64 }

// simPlans are the ways to cut the models; a model is cut when it is first used.
var simPlans = []plan.Options{
	{Data: 1, Parity: 1},
	{Data: 2, Parity: 1},
	{Data: 4, Parity: 1},
	{Data: 5, Parity: 1, Speeds: []float64{1, 1, 3, 1, 0.5, 1}},
	{Data: 2, Parity: 2},
	{Data: 3, Parity: 2},
	{Data: 2, Parity: 3},
	{Data: 4, Parity: 1, Split: plan.Spatial},
	{Data: 3, Parity: 2, Split: plan.Spatial},
	{Data: 3, Redundancy: plan.Replicate},
	{Data: 2, Redundancy: plan.Replicate, Split: plan.Input},
	{Data: 2, Redundancy: plan.Replicate, Split: plan.Filter},
	{Data: 3, Redundancy: plan.Replicate, Split: plan.Spatial},
	{Data: 3, Redundancy: plan.None},
}

// simModels have whole numbers in [-2, 2] as weights and inputs, and after each
// layer Round and Clip to [-8, 8]. So what a worker gives is a whole number of
// at most 63·2·8 = 1008, and what decoding by several parities adds in rounding
// is far less than a half: the published bound is a few u·K·Σ|d|·1008 with K ≤ 63
// and small coefficients, 0.1 at most. Round takes it away, so that every answer
// must be equal to a local run's.
var simModels = map[string]func(batch int) *graph.Graph{
	"dense": func(batch int) *graph.Graph {
		b := newBuilder(batch, 9)
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, b.whole(13, 9), b.whole(13))
		b.bounded()
		b.node("MatMul", nil, b.last, b.whole(13, 10))
		b.bounded()
		return b.graph()
	},
	"conv": func(batch int) *graph.Graph {
		b := newBuilder(batch, 2, 6, 6)
		b.node("Conv", graph.Attrs{"pads": []int64{1, 1, 1, 1}}, b.last, b.whole(5, 2, 3, 3), b.whole(5))
		b.bounded()
		b.node("Relu", nil, b.last)
		b.node("Conv", graph.Attrs{"strides": []int64{2, 2}, "pads": []int64{1, 1, 1, 1}}, b.last, b.whole(7, 5, 3, 3))
		b.bounded()
		b.node("Flatten", nil, b.last)
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, b.whole(9, 63))
		b.bounded()
		return b.graph()
	},
}

func (b *builder) bounded() {
	for name, v := range map[string]float32{"zero": 0, "least": -8, "most": 8} {
		b.g.Constants[name] = tensor.FromSlice([]float32{v})
	}
	b.node("Round", nil, b.last)
	b.node("Add", nil, b.last, "zero") // of -0 it makes 0
	b.node("Clip", nil, b.last, "least", "most")
}

func newScenario(t *testing.T, seed uint64) *scenario {
	r := rand.New(rand.NewPCG(seed, 2))
	s := &scenario{
		seed: seed, r: r, opt: simPlans[r.IntN(len(simPlans))],
		clients: 1 + r.IntN(6), requests: 4 + r.IntN(12),
		think:  time.Duration(r.IntN(100)) * time.Millisecond,
		delay:  []time.Duration{time.Microsecond, time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond}[r.IntN(4)],
		pause:  []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond, 200 * time.Millisecond}[r.IntN(4)],
		buffer: []int{0, 0, 600}[r.IntN(3)],
		own:    r.IntN(4) == 0,
		cfg: coordinator.Config{
			Concurrency: 1 + r.IntN(8),
			Grace:       []float64{0, 0, 3, -1}[r.IntN(4)],
			Audit:       []float64{0, 0, 0.3}[r.IntN(3)],
			Waiting:     []int{0, 0, 1, -1}[r.IntN(4)],
			Policy:      []string{"", "", coordinator.Hedged, coordinator.OnFailure}[r.IntN(4)],
			Patience:    []float64{0, 0, 2}[r.IntN(3)],
			Spares:      []int{0, 0, 1, 2}[r.IntN(4)],
			Moment:      []time.Duration{0, 50 * time.Millisecond}[r.IntN(2)],
		},
	}
	if s.buffer > 0 {
		// Two requests that go on at one instant would find room in a full link in
		// the scheduler's order.
		s.cfg.Concurrency = 1
	}
	name := "conv"
	if s.opt.Split == "" && r.IntN(3) == 0 {
		name = "dense"
	}
	if r.IntN(4) == 0 {
		s.hurry = 0.3
	}
	if r.IntN(3) == 0 {
		s.noise = chances{lost: 0.02, twice: 0.05, flip: 0.02, keep: 0.002}
	}
	for kind := range strikes {
		if r.IntN(2) == 0 || kind == 0 { // the first one heals
			s.strikes = append(s.strikes, kind)
		}
	}
	if s.opt.Parity > 0 && s.opt.Data > 1 && s.opt.Split == "" && r.IntN(4) == 0 {
		s.lies, s.cfg.Audit, s.cfg.Grace, s.noise, s.hurry, s.strikes = true, 1, 0, chances{}, 0, nil
		s.delay, s.buffer = min(s.delay, time.Millisecond/2), 0 // nobody is late: else an audit does not wait
	}
	if name == "conv" && s.opt.Split == "" && s.buffer == 0 && !s.lies && rand.New(rand.NewPCG(seed, 3)).IntN(4) == 0 {
		s.opt.Layers = []plan.Setting{{Node: "Conv0", To: "Relu4"}} // a stage; the rest stays
	}
	s.opt.Block = r.IntN(4) // rows; 0 makes one block of slices as small as these
	s.model = simModel(t, name, 1+r.IntN(2), s.opt)
	return s
}

func simModel(t *testing.T, name string, batch int, opt plan.Options) *prepared {
	cacheMu.Lock()
	defer cacheMu.Unlock()
	key := fmt.Sprintf("sim %s %d %+v", name, batch, opt)
	if cache[key] == nil {
		cache[key] = prepareBy(t, simModels[name](batch), opt)
	}
	return cache[key]
}

// world is one run of a scenario.
type world struct {
	*scenario
	t       *testing.T
	c       *coordinator.Coordinator
	dir     string
	devices []*device
	begin   time.Time
	trace   trace
	seen    sync.Map      // request numbers
	lied    []atomic.Bool // who ever gave wrong results
	lying   bool          // one of them has not been replaced
	calm    atomic.Bool   // all links are fast
}

func newWorld(t *testing.T, s *scenario, dir string) *world {
	g := *s.model.g
	g.Constants = maps.Clone(g.Constants)
	c, err := coordinator.New(&g, s.model.plan, s.model.infos, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{scenario: s, t: t, c: c, dir: dir, begin: time.Now()}
	w.lied = make([]atomic.Bool, s.model.plan.N()+s.cfg.Spares)
	for slot := range s.model.plan.N() + s.cfg.Spares {
		w.devices = append(w.devices, newDevice(w, slot))
	}
	return w
}

// longest is how long a request may take when it is not behind others: in each
// layer the first patience of 5 s, which is more than four times what is usual
// there (a delay of 100 ms or the 400 ms after which a silent worker is gone),
// then a grace as long.
func (w *world) longest() time.Duration {
	return time.Duration(len(w.model.plan.Layers)) * 2 * 5 * time.Second
}

// mostStrikes is how many there are in a run; those that are answered after it
// have only what ails the devices by then.
const mostStrikes = 200

func (w *world) run() {
	before := link.PayloadsInUse()
	for _, d := range w.devices {
		d.start()
		synctest.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.c.WaitComplete(ctx); err != nil {
		w.t.Error(err)
	}
	var clients sync.WaitGroup
	for i := range w.clients {
		r := rand.New(rand.NewPCG(w.r.Uint64(), 3))
		clients.Go(func() { w.client(i, r) })
	}
	done := make(chan struct{})
	go func() {
		clients.Wait()
		close(done)
	}()
	most := int64(0)
	for struck := 0; struck < mostStrikes; struck++ {
		select {
		case <-done:
			struck = mostStrikes
		case <-time.After(time.Duration(w.r.Int64N(int64(w.pause)))):
			w.strike()
			most = max(most, link.PayloadsInUse()-before)
		}
	}
	<-done
	// Each end of a link holds a queue of 16, as many being written and as many
	// short ones; a call one input for each result; a worker one result.
	if limit := int64(len(w.devices)*2*64 + w.cfg.Concurrency*16); most > limit {
		w.t.Errorf("%d payloads in use, limit %d", most, limit)
	}
	w.heal()
	w.rest(before)
	begin := time.Now()
	for _, d := range w.devices {
		d.halt()
	}
	w.c.Close()
	if took := time.Since(begin); took > time.Second {
		w.t.Errorf("the end took %v", took)
	}
	synctest.Wait()
	if n := link.PayloadsInUse() - before; n != 0 {
		w.t.Errorf("%d payloads in use after the end", n)
	}
}

// client sends requests one after the other.
func (w *world) client(number int, r *rand.Rand) {
	for range w.requests {
		time.Sleep(time.Duration(r.Int64N(int64(w.think) + 1_000_000)))
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if r.Float64() < w.hurry {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Int64N(int64(200*time.Millisecond))))
		} else if w.opt.Redundancy == plan.None {
			// Nothing replaces a result that was lost on its way.
			ctx, cancel = context.WithTimeout(ctx, time.Duration(2e9+r.Int64N(1e9)))
		}
		w.infer(ctx, number, r)
		cancel()
	}
}

// infer runs a request and checks everything about its answer.
func (w *world) infer(ctx context.Context, client int, r *rand.Rand) (a coordinator.Answer) {
	in := []*tensor.Tensor{whole(r, w.model.g.Inputs[0].Shape...)}
	begin := time.Now()
	err := w.c.Infer(ctx, in, &a)
	took := time.Since(begin)
	w.trace.add(time.Since(w.begin), "answer", uint64(client), answerHash(&a, err), uint64(len(a.Decoded)), uint64(len(a.Recomputed)))
	if _, twice := w.seen.LoadOrStore(a.Request, true); twice && a.Request != 0 {
		w.t.Errorf("request number %d twice", a.Request)
	}
	if took > time.Duration(w.clients)*w.longest() {
		w.t.Errorf("request %d took %v", a.Request, took)
	}
	if err != nil {
		var lost *coordinator.LostError
		var busy *coordinator.BusyError
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		case w.opt.Redundancy == plan.None && errors.As(err, &lost):
		case w.cfg.Waiting != 0 && w.clients > w.cfg.Concurrency && errors.As(err, &busy) && a.Request == 0:
		default:
			w.t.Errorf("request %d is lost: %v", a.Request, err)
		}
		return a
	}
	for _, wrong := range a.Wrong {
		if !w.lied[wrong.Worker].Load() {
			w.t.Errorf("request %d blames worker %d, who does not lie", a.Request, wrong.Worker)
		}
	}
	if want := w.model.local(w.t, in); !same(a.Outputs, want) {
		w.t.Errorf("request %d has a wrong answer: decoded %v, recomputed %v, wrong %v", a.Request, a.Decoded, a.Recomputed, a.Wrong)
	}
	return a
}

// heal ends all faults and waits until nothing needs to be decoded.
func (w *world) heal() {
	w.trace.add(time.Since(w.begin), "heal")
	for _, d := range w.devices {
		time.Sleep(time.Microsecond)
		d.heal()
	}
	time.Sleep(time.Second) // until everybody knows who is gone
	w.calm.Store(true)
	for _, d := range w.devices {
		d.start()
		synctest.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.c.WaitComplete(ctx); err != nil {
		w.t.Errorf("after the faults: %v: %+v", err, w.c.Status())
		return
	}
	const most = 8
	for i := range most {
		a := w.infer(context.Background(), 0, w.r)
		if len(a.Decoded)+len(a.Recomputed) == 0 || w.cfg.Grace < 0 && len(a.Recomputed) == 0 {
			return
		}
		if i == most-1 {
			w.t.Errorf("all are back for %d requests and yet: %+v, %+v", most, a, w.c.Status())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// rest demands that nothing is left of the requests.
func (w *world) rest(before int64) {
	time.Sleep(time.Second)
	synctest.Wait()
	if h := w.c.Health(); h.Redundancy != h.Planned {
		w.t.Errorf("all are back, and yet redundancy is %d of %d", h.Redundancy, h.Planned)
	}
	if err := w.c.AtRest(); err != nil {
		w.t.Error(err)
	}
	if n := link.PayloadsInUse() - before; n != 0 {
		w.t.Errorf("%d payloads in use while nothing is under way", n)
	}
}

func answerHash(a *coordinator.Answer, err error) uint64 {
	h := fnv.New64a()
	if err != nil {
		h.Write([]byte(err.Error()))
		return h.Sum64()
	}
	for _, o := range a.Outputs {
		h.Write(o.Data)
	}
	return h.Sum64()
}

// trace is what happened in a run.
type trace struct {
	mu  sync.Mutex // guards all
	all []event
}

type event struct {
	at   time.Duration // since the beginning
	what string
	args [8]uint64
}

func (t *trace) add(at time.Duration, what string, args ...uint64) {
	e := event{at: at, what: what}
	copy(e.args[:], args)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, e)
}

// sorted puts the events of an instant in one order: goroutines that run at the
// same virtual time may report in any.
func (t *trace) sorted() []event {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.all, func(a, b event) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		if a.what != b.what {
			return strings.Compare(a.what, b.what)
		}
		return slices.Compare(a.args[:], b.args[:])
	})
	return t.all
}

func (t *trace) hash() uint64 {
	h := fnv.New64a()
	for _, e := range t.sorted() {
		h.Write([]byte(e.what))
		_ = binary.Write(h, binary.LittleEndian, append(e.args[:], uint64(e.at)))
	}
	return h.Sum64()
}

func (t *trace) print(tb testing.TB) {
	for _, e := range t.sorted() {
		tb.Logf("%14v %s %d", e.at, e.what, e.args)
	}
}
