package worker_test

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
	"starling/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shards makes the shards of a model of two layers, [6,4] and [5,6], for k
// workers. With scale, one model's weights are a multiple of another's.
func shards(t testing.TB, k int, scale float32) []shard.Info {
	t.Helper()
	ramp := func(shape ...int) *tensor.Tensor {
		x := tensor.New(tensor.Float32, shape...)
		for i := range x.F32() {
			x.F32()[i] = scale * float32(i+1)
		}
		return x
	}
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 4}}}},
		Constants: map[string]*tensor.Tensor{"a": ramp(6, 4), "b": ramp(5, 6)},
		Nodes: []*graph.Node{
			{Name: "first", Op: "Gemm", Inputs: []string{"x", "a"}, Outputs: []string{"y"}, Attrs: graph.Attrs{"transB": int64(1)}},
			{Name: "second", Op: "Gemm", Inputs: []string{"y", "b"}, Outputs: []string{"z"}, Attrs: graph.Attrs{"transB": int64(1)}},
		},
		Outputs: []string{"z"},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(g, plan.Options{Data: k})
	if err != nil {
		t.Fatal(err)
	}
	store, err := shard.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	infos, err := shard.Build(store, g, p)
	if err != nil {
		t.Fatal(err)
	}
	return infos
}

// boss is a coordinator whose every word the test says.
type boss struct {
	t     *testing.T
	conns chan *link.Conn // as the worker dials
	conn  *link.Conn      // the latest
	done  chan error      // Run's result
	stop  context.CancelFunc
	read  sync.WaitGroup
	said  chan said // what the worker said on any connection

	keeps bool          // does not let the worker go when it asks to
	ends  time.Duration // that the worker takes to end after the test
}

type said struct {
	h       frame.Header
	payload string
}

// inRoom runs test in virtual time with a worker that has dialled once and said
// Hello.
func inRoom(t *testing.T, change func(*worker.Config), test func(t *testing.T, b *boss)) {
	t.Helper()
	inRoomOver(t, func() (here, there *link.Conn) { return link.Pipe(link.Config{}) }, change, test)
}

// inRoomOver is inRoom over links that pipe makes, the worker's end first.
func inRoomOver(t *testing.T, pipe func() (here, there *link.Conn), change func(*worker.Config), test func(t *testing.T, b *boss)) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		b := &boss{t: t, conns: make(chan *link.Conn, 100), said: make(chan said, 1000), done: make(chan error, 1)}
		cfg := worker.Config{ID: "id", Name: "w1", Token: "secret", StateDir: dir, Threads: 1}
		cfg.Dial = func(context.Context) (*link.Conn, error) {
			here, there := pipe()
			b.conns <- there
			return here, nil
		}
		if change != nil {
			change(&cfg)
		}
		ctx, stop := context.WithCancel(context.Background())
		b.stop = stop
		go func() { b.done <- worker.Run(ctx, cfg) }()
		b.meet()
		test(t, b)
		begin := time.Now()
		stop()
		if err := <-b.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begin); took != b.ends {
			t.Errorf("ended after %v, want %v", took, b.ends)
		}
		close(b.conns)
		b.conn.Close()
		for c := range b.conns {
			c.Close()
		}
		b.read.Wait()
	})
}

// meet takes the worker's next connection and hears its Hello.
func (b *boss) meet() {
	b.t.Helper()
	if b.conn != nil {
		b.conn.Close()
	}
	conn := <-b.conns
	b.conn = conn
	b.read.Go(func() {
		for {
			h, p, err := conn.Receive()
			if corrupt, ok := errors.AsType[*link.CorruptError](err); ok {
				b.said <- said{corrupt.Header, "damaged"}
				continue
			}
			if err != nil {
				return
			}
			if h.Type == frame.Leave && !b.keeps {
				conn.TrySend(frame.Header{Type: frame.Bye}, nil)
				continue
			}
			b.said <- said{h, string(p)}
		}
	})
	h := b.hear(frame.Hello)
	var hello frame.HelloInfo
	if err := frame.Unmarshal([]byte(h.payload), &hello); err != nil || hello.ID != "id" || hello.Token != "secret" || hello.Cores == 0 {
		b.t.Errorf("hello %+v, %v", hello, err)
	}
}

// hear returns the next frame, which must come now and be of that type.
func (b *boss) hear(want frame.Type) said {
	b.t.Helper()
	synctest.Wait()
	select {
	case s := <-b.said:
		if s.h.Type != want {
			b.t.Fatalf("heard %v %q, want %v", s.h.Type, s.payload, want)
		}
		return s
	default:
		b.t.Fatalf("heard nothing, want %v", want)
		panic("unreachable")
	}
}

// hearNothing demands that the worker is silent now.
func (b *boss) hearNothing() {
	b.t.Helper()
	synctest.Wait()
	select {
	case s := <-b.said:
		b.t.Fatalf("heard %v %+v %q", s.h.Type, s.h, s.payload)
	default:
	}
}

func (b *boss) tell(h frame.Header, payload []byte) {
	b.t.Helper()
	p := link.PayloadOf(payload)
	defer p.Release()
	if err := b.conn.Send(context.Background(), h, p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *boss) info(typ frame.Type, i frame.Info) {
	b.t.Helper()
	if err := b.conn.SendInfo(context.Background(), typ, i); err != nil {
		b.t.Fatal(err)
	}
}

func (b *boss) assign(i shard.Info) {
	b.t.Helper()
	b.info(frame.Welcome, &frame.WelcomeInfo{Worker: "w1"})
	b.info(frame.Assign, &frame.AssignInfo{SHA256: i.SHA256, Size: i.Size, Description: i.Description})
}

// give sends the shard in pieces, from an offset on.
func (b *boss) give(i shard.Info, from int) {
	b.t.Helper()
	raw, err := os.ReadFile(i.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	for at := from; at < len(raw); at += 300 {
		b.tell(frame.Header{Type: frame.Chunk, Request: uint64(at)}, raw[at:min(at+300, len(raw))])
	}
}

// employ assigns a shard that the worker does not have.
func (b *boss) employ(i shard.Info) {
	b.t.Helper()
	b.assign(i)
	if h := b.hear(frame.Want); h.h.Request != 0 {
		b.t.Errorf("wants from byte %d on", h.h.Request)
	}
	b.give(i, 0)
	b.hear(frame.Ready)
}

// inputs of the two layers.
var inputs = [2][]float32{{1, 2, 3, 4}, {1, 2, 3, 4, 5, 6}}

func (b *boss) compute(request uint64, layer uint32) {
	b.t.Helper()
	b.tell(frame.Header{Type: frame.Compute, Request: request, Layer: layer, Slice: 7}, tensor.Bytes(inputs[layer]))
}

// result hears a result and compares it with what the shard gives.
func (b *boss) result(i shard.Info, request uint64, layer uint32) {
	b.t.Helper()
	got := b.hear(frame.Result)
	if got.h.Request != request || got.h.Layer != layer || got.h.Slice != 7 {
		b.t.Errorf("result %+v, want request %d layer %d slice 7", got.h, request, layer)
	}
	sh, err := shard.Open(i.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer sh.Close()
	for _, s := range sh.Slices {
		if s.Layer != int(layer) {
			continue
		}
		e, err := engine.NewSlice(s.Linear, s.Weights)
		if err != nil {
			b.t.Fatal(err)
		}
		want := make([]float32, s.Linear.Rows)
		e.Run(nil, tensor.Bytes(want), tensor.Bytes(inputs[layer]), nil)
		if got.payload != string(tensor.Bytes(want)) {
			b.t.Errorf("request %d layer %d: wrong result", request, layer)
		}
	}
}

func (b *boss) failed(request uint64, says string) {
	b.t.Helper()
	if got := b.hear(frame.Failed); got.h.Request != request || !strings.Contains(got.payload, says) {
		b.t.Errorf("request %d failed with %q, want request %d with %q", got.h.Request, got.payload, request, says)
	}
}

func (b *boss) delay(d time.Duration) {
	b.info(frame.Emulate, &frame.EmulateInfo{Speed: 1, DelayMs: float64(d) / float64(time.Millisecond)})
}

func TestServes(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.employ(infos[0])
		for request := uint64(1); request <= 5; request++ {
			for layer := range uint32(2) {
				b.compute(request, layer)
				b.result(infos[0], request, layer)
			}
		}
	})
}

// Frames that ask for the impossible cost an answer, not the worker.
func TestImpossibleJobs(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.compute(1, 0)
		b.failed(1, "no shard is held yet")
		b.employ(infos[0])
		for i, size := range []int{0, 4, 15, 17, 1 << 20} {
			b.tell(frame.Header{Type: frame.Compute, Request: uint64(10 + i)}, make([]byte, size))
			b.failed(uint64(10+i), "another size")
		}
		for i, layer := range []uint32{2, 1 << 31, math.MaxUint32} {
			b.tell(frame.Header{Type: frame.Compute, Request: uint64(20 + i), Layer: layer}, make([]byte, 16))
			b.failed(uint64(20+i), "no such slice")
		}
		b.tell(frame.Header{Type: frame.Cancel, Request: 99, Layer: 99}, nil)
		b.compute(30, 0)
		b.result(infos[0], 30, 0)
	})
}

// 128 jobs are held, one of them running; the next ones are refused at once.
func TestTooManyJobs(t *testing.T) {
	const most = 128
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.employ(infos[0])
		b.delay(time.Second)
		for request := range uint64(most) {
			b.compute(request, 0)
		}
		b.hearNothing()
		for request := uint64(most); request < most+3; request++ {
			b.compute(request, 0)
			b.failed(request, "128 requests wait already")
		}
		for request := range uint64(most) {
			time.Sleep(time.Second)
			b.result(infos[0], request, 0)
		}
		b.delay(0)
		b.compute(100, 1)
		b.result(infos[0], 100, 1)
	})
}

func TestCancel(t *testing.T) {
	infos := shards(t, 2, 1)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		cancel := func(request uint64, layer uint32) {
			b.tell(frame.Header{Type: frame.Cancel, Request: request, Layer: layer, Slice: 7}, nil)
		}
		b.employ(infos[0])
		b.delay(time.Second)
		for request := uint64(1); request <= 4; request++ {
			b.compute(request, 0)
		}
		cancel(3, 0) // waits
		cancel(4, 1) // is another layer
		time.Sleep(500 * time.Millisecond)
		cancel(1, 0) // runs
		b.failed(1, "")
		b.hearNothing()
		time.Sleep(time.Second) // of the second; the first has ended half-way
		b.result(infos[0], 2, 0)
		b.failed(3, "")
		time.Sleep(time.Second)
		b.result(infos[0], 4, 0)
		// A cancel, even one that comes too late, touches no later job in the same
		// place.
		cancel(1, 0)
		cancel(4, 0)
		for request := uint64(5); request < 10; request++ {
			b.compute(request, 0)
		}
		for request := uint64(5); request < 10; request++ {
			time.Sleep(time.Second)
			b.result(infos[0], request, 0)
		}
		// All places are free again, whatever was cancelled.
		for request := uint64(10); request < 100; request++ {
			b.compute(request, 0)
			cancel(request, 0)
			b.failed(request, "")
		}
	})
}

// Another shard takes the place of the one held; jobs for the old one are
// dropped, and the old one is still kept.
func TestReassign(t *testing.T) {
	infos, others := shards(t, 2, 1), shards(t, 2, 3)
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.employ(infos[0])
		b.delay(time.Second)
		b.compute(1, 0) // runs
		b.compute(2, 0) // waits
		b.assign(others[1])
		b.failed(1, "")
		b.failed(2, "")
		b.hear(frame.Want)
		b.give(others[1], 0)
		b.hear(frame.Ready)
		b.compute(3, 0)
		time.Sleep(time.Second)
		b.result(others[1], 3, 0)
		b.assign(infos[0])
		b.hear(frame.Ready)
		b.delay(0)
		b.compute(4, 1)
		b.result(infos[0], 4, 1)
		b.assign(infos[0])
		b.hear(frame.Ready)
		// An assignment in the middle of a shard's arrival.
		third := shards(b.t, 2, 5)[0]
		b.assign(third)
		b.hear(frame.Want)
		b.tell(frame.Header{Type: frame.Chunk}, make([]byte, 300))
		b.compute(5, 0)
		b.failed(5, "no shard is held yet")
		b.employ(third)
		b.compute(6, 0)
		b.result(third, 6, 0)
	})
}

// Every request is answered, also one whose result waits for room on the link when
// another shard is assigned: else the coordinator would count this worker as behind
// for as long as the connection lasts.
func TestReassignOnFullLink(t *testing.T) {
	infos, others := shards(t, 2, 1), shards(t, 2, 3)
	var door chan struct{} // full while nothing is read of what the worker says
	pipe := func() (here, there *link.Conn) {
		patient := link.Config{Queue: 1, ReadDeadline: time.Minute, WriteDeadline: time.Minute}
		x, y := net.Pipe() // without buffers
		door = make(chan struct{}, 1)
		return link.New(x, patient), link.New(gate{y, door}, patient)
	}
	inRoomOver(t, pipe, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		door <- struct{}{}
		for request := range uint64(4) {
			b.compute(request, 0)
		}
		synctest.Wait()
		b.info(frame.Assign, &frame.AssignInfo{SHA256: others[1].SHA256, Size: others[1].Size, Description: others[1].Description})
		synctest.Wait()
		<-door
		synctest.Wait()
		for request := range uint64(4) {
			if s := <-b.said; s.h.Request != request || s.h.Type != frame.Result && s.h.Type != frame.Failed {
				t.Errorf("heard %+v, want an answer to request %d", s.h, request)
			}
		}
		b.hear(frame.Want)
	})
}

// gate is a connection of which nothing is read while door is full.
type gate struct {
	net.Conn
	door chan struct{}
}

func (g gate) Read(b []byte) (int, error) {
	g.door <- struct{}{}
	<-g.door
	return g.Conn.Read(b)
}

// What goes wrong with a shard's arrival ends the connection; the worker dials
// again and nothing of it is left.
func TestWrongShard(t *testing.T) {
	infos := shards(t, 2, 1)
	for _, c := range []struct {
		name string
		send func(b *boss)
	}{
		{"wrong bytes", func(b *boss) {
			b.tell(frame.Header{Type: frame.Chunk}, make([]byte, infos[0].Size))
		}},
		{"too many bytes", func(b *boss) {
			b.tell(frame.Header{Type: frame.Chunk}, make([]byte, infos[0].Size+1))
		}},
		{"a piece left out", func(b *boss) { b.give(infos[0], 300) }},
		{"a piece twice", func(b *boss) {
			b.tell(frame.Header{Type: frame.Chunk}, make([]byte, 300))
			b.tell(frame.Header{Type: frame.Chunk}, make([]byte, 300))
		}},
		{"an end in the middle", func(b *boss) {
			b.tell(frame.Header{Type: frame.Chunk}, make([]byte, 300))
			b.tell(frame.Header{Type: frame.Bye}, nil)
		}},
		{"a frame of another type", func(b *boss) { b.tell(frame.Header{Type: frame.Ready}, nil) }},
		{"an assignment that is no JSON", func(b *boss) { b.tell(frame.Header{Type: frame.Assign}, []byte("x")) }},
		{"an assignment out of the folder", func(b *boss) {
			b.tell(frame.Header{Type: frame.Assign}, []byte(`{"sha256":"../../../../etc/passwd","size":5}`))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dir string
			inRoom(t, func(cfg *worker.Config) { dir = cfg.StateDir }, func(t *testing.T, b *boss) {
				b.assign(infos[0])
				b.hear(frame.Want)
				c.send(b)
				synctest.Wait()
				names, err := os.ReadDir(dir)
				if err != nil || len(names) != 0 {
					t.Errorf("left %v, %v", names, err)
				}
				b.meet()
				b.employ(infos[0])
				b.compute(1, 0)
				b.result(infos[0], 1, 0)
			})
		})
	}
}

// A kept shard is served at once on a new connection and by a new process. If
// it was damaged meanwhile, it is asked for again.
func TestKeptShard(t *testing.T) {
	infos := shards(t, 2, 1)
	dir := t.TempDir()
	same := func(cfg *worker.Config) { cfg.StateDir = dir }
	inRoom(t, same, func(_ *testing.T, b *boss) {
		b.employ(infos[0])
		b.meet() // a new connection
		b.assign(infos[0])
		b.hear(frame.Ready)
		b.compute(1, 0)
		b.result(infos[0], 1, 0)
	})
	inRoom(t, same, func(_ *testing.T, b *boss) {
		b.assign(infos[0])
		b.hear(frame.Ready)
		b.compute(1, 0)
		b.result(infos[0], 1, 0)
	})
	path := filepath.Join(dir, infos[0].SHA256+".shard")
	other, err := os.ReadFile(shards(t, 2, 3)[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []func(raw []byte) []byte{
		func(raw []byte) []byte { raw[64] ^= 1; return raw },
		func(raw []byte) []byte { return raw[:len(raw)/2] },
		func([]byte) []byte { return nil },
		func([]byte) []byte { return other }, // whole, and as long: under another's name
	} {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, damage(raw), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		inRoom(t, same, func(_ *testing.T, b *boss) {
			b.employ(infos[0])
			b.compute(1, 0)
			b.result(infos[0], 1, 0)
		})
	}
}

// New rows make the next shard out of the one that is held; rows that do not fit
// cost the whole shard.
func TestNewRows(t *testing.T) {
	infos, others := shards(t, 2, 1), shards(t, 2, 3)
	update := func(b *boss, layer uint32, begin uint64, rows []byte) {
		b.tell(frame.Header{Type: frame.Update, Layer: layer, Request: begin}, rows)
	}
	sh, err := shard.Open(others[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	first, second := sh.Slices[0].Weights, sh.Slices[1].Weights
	cols := sh.Slices[1].Linear.RowBytes()
	inRoom(t, nil, func(t *testing.T, b *boss) {
		b.employ(infos[0])
		update(b, 0, 0, first)
		update(b, 1, 0, second[:cols])
		update(b, 1, 1, second[cols:])
		b.assign(others[0])
		b.hear(frame.Ready)
		for layer := range uint32(2) {
			b.compute(uint64(layer)+1, layer)
			b.result(others[0], uint64(layer)+1, layer)
		}
		for i, c := range []struct {
			layer uint32
			begin uint64
			rows  []byte
		}{
			{0, 0, first},           // not all that is new
			{7, 0, first},           // no such layer
			{0, 1, first},           // beyond the last row
			{0, 1 << 40, first[:4]}, // far beyond
			{0, 0, first[:3]},       // no whole row
		} {
			// There is no way back: the earlier shard was in use only here.
			other := shards(t, 2, float32(10+i))
			update(b, c.layer, c.begin, c.rows)
			b.assign(other[0])
			b.hear(frame.Want)
			b.give(other[0], 0)
			b.hear(frame.Ready)
			b.compute(uint64(10+i), 0)
			b.result(other[0], uint64(10+i), 0)
		}
		// More rows than the shard has: what is too much is not kept.
		other := shards(t, 2, 20)
		sh, err := shard.Open(other[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		defer sh.Close()
		for range 1 + (len(first)+len(second))/len(first) {
			update(b, 0, 0, sh.Slices[0].Weights)
		}
		update(b, 1, 0, sh.Slices[1].Weights)
		b.assign(other[0])
		b.hear(frame.Want)
	})
}
