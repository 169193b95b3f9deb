package coordinator_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
	"starling/internal/worker"
)

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0 picks one")

// shardsDir holds the shards of all tests: building them costs more than most
// tests do.
var shardsDir string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "coordinator-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shardsDir = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// random returns a generator whose seed is printed if the test fails.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat with -seed %d", seed, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// A model's numbers are whole and small: weights and inputs in [-2, 2]. The
// largest sum of absolute products, in the last layer of "conv" with the
// parity of 5 slices, is 5 · 7·9·2 · 2·45·(18·4+2) < 2^23 with the biases, so
// float32 is exact in every order of summing, and decoded results are equal to
// computed ones: every test compares with ==.
var models = map[string]func(batch int) *graph.Graph{
	"dense": func(batch int) *graph.Graph {
		b := newBuilder(batch, 9)
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, b.whole(13, 9), b.whole(13))
		b.node("Relu", nil, b.last)
		b.node("MatMul", nil, b.last, b.whole(13, 10))
		return b.graph()
	},
	"conv": func(batch int) *graph.Graph {
		b := newBuilder(batch, 2, 6, 6)
		b.node("Conv", graph.Attrs{"pads": []int64{1, 1, 1, 1}}, b.last, b.whole(5, 2, 3, 3), b.whole(5))
		b.node("Relu", nil, b.last)
		b.node("Conv", graph.Attrs{"strides": []int64{2, 2}, "pads": []int64{1, 1, 1, 1}}, b.last, b.whole(7, 5, 3, 3))
		b.node("Flatten", nil, b.last)
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, b.whole(9, 63))
		return b.graph()
	},
	"quantised": quantisedModel,
}

type builder struct {
	g    graph.Graph
	r    *rand.Rand
	last string
}

func newBuilder(shape ...int) *builder {
	return &builder{r: rand.New(rand.NewPCG(7, 7)), last: "x", g: graph.Graph{
		Opset: 13, Constants: map[string]*tensor.Tensor{},
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: shape}}},
	}}
}

// whole adds a constant of whole numbers and returns its name.
func (b *builder) whole(shape ...int) string {
	name := fmt.Sprintf("c%d", len(b.g.Constants))
	b.g.Constants[name] = whole(b.r, shape...)
	return name
}

func whole(r *rand.Rand, shape ...int) *tensor.Tensor {
	x := tensor.New(tensor.Float32, shape...)
	for i := range x.F32() {
		x.F32()[i] = float32(r.IntN(5) - 2)
	}
	return x
}

func (b *builder) node(op string, attrs graph.Attrs, inputs ...string) {
	name := fmt.Sprintf("%s%d", op, len(b.g.Nodes))
	b.last = name + "_y"
	b.g.Nodes = append(b.g.Nodes, &graph.Node{Name: name, Op: op, Inputs: inputs, Outputs: []string{b.last}, Attrs: attrs})
}

func (b *builder) graph() *graph.Graph {
	b.g.Outputs = []string{b.last}
	if err := b.g.Prepare(); err != nil {
		panic(err)
	}
	return &b.g
}

// prepared is a model, its plan and shards.
type prepared struct {
	g     *graph.Graph
	plan  *plan.Plan
	infos []shard.Info
	dir   string // of the shards
}

// prepare cuts a graph.
func prepare(t testing.TB, g *graph.Graph, k, r int) *prepared {
	t.Helper()
	return prepareBy(t, g, plan.Options{Data: k, Parity: r})
}

func prepareBy(t testing.TB, g *graph.Graph, opt plan.Options) *prepared {
	t.Helper()
	p, err := plan.New(g, opt)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(shardsDir, "") //nolint:usetesting // models live as long as the whole test run
	if err != nil {
		t.Fatal(err)
	}
	store, err := shard.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := shard.Build(store, g, p)
	if err != nil {
		t.Fatal(err)
	}
	return &prepared{g, p, infos, dir}
}

var (
	cacheMu sync.Mutex // guards cache
	cache   = map[string]*prepared{}
)

// model returns one of the models, cut.
func model(t testing.TB, name string, batch, k, r int) *prepared {
	t.Helper()
	cacheMu.Lock()
	defer cacheMu.Unlock()
	key := fmt.Sprint(name, batch, k, r)
	if cache[key] == nil {
		cache[key] = prepare(t, models[name](batch), k, r)
	}
	return cache[key]
}

// request makes an input and the answer that a local run gives.
func (p *prepared) request(t testing.TB, r *rand.Rand) (in, want []*tensor.Tensor) {
	t.Helper()
	if x := p.g.Inputs[0]; x.Type == tensor.Float32 {
		in = []*tensor.Tensor{whole(r, x.Shape...)}
	} else {
		in = []*tensor.Tensor{bytesOf(r, x.Type, x.Shape...)}
	}
	return in, p.local(t, in)
}

func (p *prepared) local(t testing.TB, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	program, err := engine.Compile(p.g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := program.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(a, b []*tensor.Tensor) bool {
	for i := range b {
		if i >= len(a) || !a[i].Shape.Equal(b[i].Shape) || string(a[i].Data) != string(b[i].Data) {
			return false
		}
	}
	return len(a) == len(b)
}

// lab is a coordinator and the machines of its workers, joined in memory.
type lab struct {
	*prepared
	t        *testing.T
	c        *coordinator.Coordinator
	machines []*machine
	r        *rand.Rand
	far      time.Duration // a frame's way, either way, of links that are made from now on
}

// inLab runs test in virtual time with a coordinator and machines that are off.
func inLab(t *testing.T, p *prepared, cfg coordinator.Config, test func(t *testing.T, l *lab)) {
	t.Helper()
	r := random(t)
	synctest.Test(t, func(t *testing.T) {
		g := *p.g // without workers the coordinator takes its constants
		g.Constants = maps.Clone(g.Constants)
		c, err := coordinator.New(&g, p.plan, p.infos, cfg)
		if err != nil {
			t.Fatal(err)
		}
		l := &lab{prepared: p, t: t, c: c, r: r}
		for i := range p.plan.N() + cfg.Spares {
			l.machines = append(l.machines, &machine{lab: l, slot: i, dir: p.dir})
		}
		defer func() {
			for _, m := range l.machines {
				m.halt()
			}
			c.Close()
		}()
		test(t, l)
	})
}

// start switches on all machines but those named, and waits for the others.
func (l *lab) start(but ...int) {
	l.t.Helper()
	off := map[int]bool{}
	for _, i := range but {
		off[i] = true
	}
	for i, m := range l.machines {
		if !off[i] {
			m.start()
		}
	}
	synctest.Wait()
	for i, s := range l.c.Status() {
		if (s.State == coordinator.Ready || s.State == coordinator.Spare) == off[i] {
			l.t.Fatalf("worker %d is %s", i, s.State)
		}
	}
}

// delay lets every answer of those workers take that much longer.
func (l *lab) delay(d time.Duration, workers ...int) {
	l.t.Helper()
	for _, w := range workers {
		if err := l.c.Emulate(context.Background(), w, delayed(d)); err != nil {
			l.t.Error(err)
		}
	}
	synctest.Wait()
}

func (l *lab) all() []int {
	all := make([]int, len(l.machines))
	for i := range all {
		all[i] = i
	}
	return all
}

// infer runs a request that must be answered rightly, and returns the answer
// and how long it took.
func (l *lab) infer() (*coordinator.Answer, time.Duration) {
	l.t.Helper()
	in, want := l.request(l.t, l.r)
	var a coordinator.Answer
	begin := time.Now()
	if err := l.c.Infer(context.Background(), in, &a); err != nil {
		l.t.Fatalf("request %d: %v", a.Request, err)
	}
	if !same(a.Outputs, want) {
		l.t.Fatalf("request %d has another answer than a local run: decoded %v, recomputed %v", a.Request, a.Decoded, a.Recomputed)
	}
	return &a, time.Since(begin).Round(time.Microsecond) // without what keeps requests apart
}

// dataLayers counts the layers in which a worker holds a data slice.
func (l *lab) dataLayers(worker int) int {
	n := 0
	for i := range l.plan.Layers {
		if l.plan.SliceOf(i, worker) < l.plan.Data {
			n++
		}
	}
	return n
}

// machine runs a worker.
type machine struct {
	lab  *lab
	slot int
	dir  string // its shards

	mu       sync.Mutex   // guards the fields below
	up, down *link.Faults // of the connection, worker to coordinator and back
	conn     *link.Conn   // the worker's end
	off      bool         // cannot dial
	dials    int
	flip     int64 // the byte to damage in what the next connection sends
	stop     context.CancelFunc
	done     chan error
}

var errOff = errors.New("no route")

func (m *machine) dial(context.Context) (*link.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dials++
	if m.off {
		return nil, errOff
	}
	m.up, m.down = &link.Faults{FlipAt: m.flip, Delay: m.lab.far}, &link.Faults{Delay: m.lab.far}
	m.flip = 0
	here, there := link.FaultyPipe(link.Config{}, m.up, m.down)
	if err := m.lab.c.Attach(there); err != nil {
		here.Close()
		return nil, err
	}
	m.conn = here
	return here, nil
}

func (m *machine) config() worker.Config {
	return worker.Config{
		ID: fmt.Sprintf("machine-%d", m.slot), Name: fmt.Sprintf("w%d", m.slot+1),
		StateDir: m.dir, Threads: 1, Dial: m.dial,
	}
}

// start runs the worker's process.
func (m *machine) start() {
	ctx, stop := context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop, m.done, m.off = stop, make(chan error, 1), false
	go func(done chan<- error) { done <- worker.Run(ctx, m.config()) }(m.done)
}

// crash ends the connection at once, as the kernel does for a killed process,
// and then the process.
func (m *machine) crash() {
	m.mu.Lock()
	conn, stop := m.conn, m.stop
	m.off = true
	m.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
	if stop != nil {
		stop()
	}
}

// halt crashes, and waits for the process to end.
func (m *machine) halt() {
	m.crash()
	m.ended()
}

// leave ends the process in an orderly way.
func (m *machine) leave() {
	m.mu.Lock()
	m.stop()
	m.mu.Unlock()
	m.ended()
}

func (m *machine) ended() {
	m.mu.Lock()
	done := m.done
	m.done, m.stop, m.conn = nil, nil, nil
	m.mu.Unlock()
	if done != nil {
		if err := <-done; err != nil {
			m.lab.t.Errorf("worker %d: %v", m.slot, err)
		}
	}
}

// cut makes the machine silent: its connection stays, nothing comes through,
// and it cannot dial.
func (m *machine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up != nil {
		m.up.Cut()
		m.down.Cut()
	}
	m.off = true
}

// heal lets it dial again.
func (m *machine) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = false
}

func folder(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "state")
}

func runWorker(ctx context.Context, t *testing.T, cfg worker.Config) {
	if err := worker.Run(ctx, cfg); err != nil {
		t.Error(err)
	}
}

// delayed has a worker wait so long before each answer.
func delayed(d time.Duration) *frame.EmulateInfo {
	return &frame.EmulateInfo{Speed: 1, DelayMs: float64(d) / float64(time.Millisecond)}
}
