package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"starling/internal/coordinator"
	"starling/internal/digits"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/mark"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/worker"
)

// TestMain is a worker process too, one that notes its marks in a folder.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "worker" {
		if err := runWorker(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func runWorker(marks string, args []string) error {
	var cfg worker.Config
	f := flag.NewFlagSet("worker", flag.ContinueOnError)
	f.StringVar(&cfg.Join, "join", "", "")
	f.StringVar(&cfg.Name, "name", "", "")
	f.StringVar(&cfg.ID, "id", "", "")
	f.StringVar(&cfg.StateDir, "state", "", "")
	f.IntVar(&cfg.Threads, "threads", 1, "")
	f.DurationVar(&cfg.Slice, "emulate-slice", 0, "")
	f.Bool("end-with-stdin", true, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg.Token = os.Getenv("STARLING_TOKEN")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var noting sync.WaitGroup
	noting.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for path := filepath.Join(marks, cfg.ID); ctx.Err() == nil; <-tick.C {
			b, _ := json.Marshal(mark.Counts()) // a map of numbers never fails
			if os.WriteFile(path+".tmp", b, 0o600) == nil {
				_ = os.Rename(path+".tmp", path) // the test waits for it
			}
		}
	})
	defer noting.Wait()
	return worker.Run(ctx, cfg)
}

// digitModel is a flock without workers, unless cfg has some, as a model.
func digitModel(t testing.TB, cfg flock.Config) Model {
	t.Helper()
	g, err := onnx.DecodeBytes(digits.Model)
	if err != nil {
		t.Fatal(err)
	}
	return modelOf(t, "digits", g, cfg)
}

func modelOf(t testing.TB, name string, g *graph.Graph, cfg flock.Config) Model {
	t.Helper()
	m := Model{Name: name, Inputs: g.Inputs}
	for _, out := range g.Outputs {
		m.Outputs = append(m.Outputs, graph.Value{Name: out, Info: g.Infos[out]})
	}
	f, err := flock.Start(t.Context(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	m.Flock = f
	return m
}

// running is a server that runs in this process.
type running struct {
	server *Server
	rest   string // URL before the path
	rpc    string // address
	end    context.CancelFunc
	ended  chan error
}

// run serves models until the test ends.
func run(t testing.TB, cfg Config, models ...Model) *running {
	t.Helper()
	s, err := New(models, cfg)
	if err != nil {
		t.Fatal(err)
	}
	rest, rpc := listen(t), listen(t)
	r := &running{server: s, rest: "http://" + rest.Addr().String(), rpc: rpc.Addr().String(), ended: make(chan error, 1)}
	var ctx context.Context
	ctx, r.end = context.WithCancel(context.Background())
	go func() { r.ended <- s.Run(ctx, rest, rpc) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		r.end()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		close(r.ended)
	})
	return r
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// answered is what a client sees.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// post sends a body to a model's infer; header are pairs.
func (r *running) post(t testing.TB, model string, body []byte, header ...string) answered {
	t.Helper()
	return r.do(t, "POST", "/v2/models/"+model+"/infer", body, header...)
}

func (r *running) do(t testing.TB, method, path string, body []byte, header ...string) answered {
	t.Helper()
	return r.send(t, method, path, bytes.NewReader(body), header...)
}

// send is do of a body that comes in chunks, unless its length is known.
func (r *running) send(t testing.TB, method, path string, body io.Reader, header ...string) answered {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, r.rest+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{a.StatusCode, a.Header, text}
}

// digit is digit i as the model takes it.
func digit(i int) *tensor.Tensor {
	const size = digits.Rows * digits.Cols
	x := tensor.New(tensor.Float32, 1, 1, digits.Rows, digits.Cols)
	for p, v := range pixels[i%digits.Count*size:][:size] {
		x.F32()[p] = float32(v) / 255
	}
	return x
}

var pixels = digits.Images()

// local is what the model gives for digit i.
func local(t testing.TB, m Model, i int) *tensor.Tensor {
	t.Helper()
	var answer coordinator.Answer
	if err := m.Flock.Infer(t.Context(), []*tensor.Tensor{digit(i)}, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Outputs[0]
}

// within is how long anything may take that takes no time.
const within = 30 * time.Second

var withWorkers = plan.Options{Data: 2, Parity: 1}
