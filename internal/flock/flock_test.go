package flock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"starling/internal/coordinator"
	"starling/internal/digits"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// command starts a worker: the real program, built for these tests.
var command []string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flock-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "starling")
	if out, err := exec.Command("go", "build", "-o", program, "starling/cmd/starling").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		return 1
	}
	command = []string{program, "worker"}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func digitModel(t *testing.T) *graph.Graph {
	t.Helper()
	g, err := onnx.DecodeBytes(digits.Model)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// digitInput is the inputs of request i, the digits in turn.
func digitInput(i int) ([]*tensor.Tensor, error) {
	const size = digits.Rows * digits.Cols
	i %= digits.Count
	x := tensor.New(tensor.Float32, 1, 1, digits.Rows, digits.Cols)
	for p, v := range pixels[i*size : (i+1)*size] {
		x.F32()[p] = float32(v) / 255
	}
	return []*tensor.Tensor{x}, nil
}

var pixels, labels = digits.Images(), digits.Labels()

// start starts a flock on the digit model that ends with the test.
func start(t *testing.T, cfg flock.Config, faults ...string) *flock.Flock {
	t.Helper()
	return startOn(t, digitModel(t), cfg, faults...)
}

// startOn starts a flock on a prepared graph, which it simplifies in place. A busy
// machine may keep a worker silent until it counts as gone: where nothing is to fail
// and nothing covers it, the coordinator computes for it.
func startOn(t *testing.T, g *graph.Graph, cfg flock.Config, faults ...string) *flock.Flock {
	t.Helper()
	for _, spec := range faults {
		fault, err := flock.ParseFault(spec)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Faults = append(cfg.Faults, fault)
	}
	if cfg.Plan.Parity == 0 && len(cfg.Faults) == 0 {
		cfg.Patience = 4
	}
	cfg.Command, cfg.StateDir = command, t.TempDir()
	f, err := flock.Start(t.Context(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if entries, err := os.ReadDir(cfg.StateDir); err != nil || len(entries) > 0 {
			t.Errorf("the state folder holds %v (%v)", entries, err)
		}
	})
	return f
}

// drive sends requests and checks each answer's bits and class.
func drive(t *testing.T, f *flock.Flock, o *oracle, requests, concurrency int) *flock.Report {
	t.Helper()
	r, err := f.Drive(t.Context(), flock.Load{
		Requests: requests, Concurrency: concurrency, Input: digitInput,
		Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
			inputs, _ := digitInput(i)
			o.check(fmt.Sprintf("request %d", i+1), inputs, a)
			if got := argmax(a.Outputs[0].F32()); got != int(labels[i%digits.Count]) {
				t.Errorf("request %d: the digit %d is read as %d", i+1, labels[i%digits.Count], got)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 || r.Answered != requests {
		t.Errorf("%d of %d requests lost, the first one: %v", r.Lost, requests, r.FirstLoss)
	}
	if left := f.Unstruck(); len(left) > 0 {
		t.Errorf("did not strike: %v", left)
	}
	return r
}

func argmax(scores []float32) int {
	best := 0
	for c, s := range scores {
		if s > scores[best] {
			best = c
		}
	}
	return best
}

// TestAnswers runs all digits over whole and failing flocks: nothing is lost,
// every answer has the bits it must have, and every digit is read right, as by
// the model in one process (digits.README: 200 of 200).
func TestAnswers(t *testing.T) {
	type want struct {
		decoded, recomputed bool // at least one slice
		damaged             bool // at least one result
		state               coordinator.State
	}
	type test struct {
		name            string
		workers, parity int
		concurrency     int
		faults          []string
		worker          int // whose state is checked, from 0
		want            want
	}
	tests := []test{
		{"local", 0, 0, 1, nil, 0, want{}},
		{"1 worker", 1, 0, 1, nil, 0, want{}},
		{"6 workers", 6, 0, 2, nil, 5, want{}},
		{"1+1", 1, 1, 2, nil, 0, want{}},
		{"4+1", 4, 1, 1, nil, 0, want{}},
		{"4+1, 8 at once", 4, 1, 8, nil, 0, want{}},
		{"6+1, one killed", 6, 1, 4, []string{"kill:w7@20"}, 6, want{decoded: true, state: coordinator.Gone}},
		{"1+1, one killed", 1, 1, 4, []string{"kill:w1@20"}, 0, want{decoded: true, state: coordinator.Gone}},
		{"4+1, two killed", 4, 1, 4, []string{"kill:w2@20", "kill:w3@60"}, 2, want{decoded: true, recomputed: true, state: coordinator.Gone}},
		{"4+1, two killed at once", 4, 1, 1, []string{"kill:w1@20", "kill:w5@20"}, 0, want{recomputed: true, state: coordinator.Gone}},
		{"4+1, all killed", 4, 1, 2, []string{"kill:w1@20", "kill:w2@20", "kill:w3@20", "kill:w4@20", "kill:w5@20"}, 3, want{recomputed: true, state: coordinator.Gone}},
		{"4+1, one killed and one slow", 4, 1, 2, []string{"kill:w1@20", "slow:w2@180=20ms"}, 0, want{decoded: true, state: coordinator.Gone}},
		{"4+1, restarts in turn", 4, 1, 8, []string{"restart:w1@20", "restart:w2@50", "restart:w3@80", "restart:w4@110", "restart:w5@140", "restart:w1@170"}, 0, want{}},
		{"4+1, restarted, stopped and killed", 4, 1, 2, []string{"restart:w2@20", "stop:w2@120", "kill:w2@160"}, 1, want{decoded: true, state: coordinator.Gone}},
	}
	for w := range 5 {
		for i, fault := range []struct {
			spec string
			want want
		}{
			{"kill:w%d@50", want{decoded: true, state: coordinator.Gone}},
			{"stop:w%d@50", want{decoded: true}},
			{"slow:w%d@50=200ms", want{decoded: true}},
			{"slow:w%d@50=5x", want{}},
			{"restart:w%d@50", want{}},
			{"cut:w%d@50", want{decoded: true}},
			{"drop:w%d@50=50%%", want{decoded: true}},
			{"corrupt:w%d@50", want{decoded: true, damaged: true}},
		} {
			if testing.Short() && i%5 != w {
				continue // each fault of one worker
			}
			spec := fmt.Sprintf(fault.spec, w+1)
			tests = append(tests, test{"4+1, " + spec, 4, 1, 4, []string{spec}, w, fault.want})
		}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, flock.Config{Plan: plan.Options{Data: test.workers, Parity: test.parity}, Concurrency: test.concurrency}, test.faults...)
			o := newOracle(t, digitModel(t), max(test.workers, 1), test.parity)
			r := drive(t, f, o, digits.Count, test.concurrency)
			if test.want.decoded && r.Decoded == 0 {
				t.Error("nothing was decoded")
			}
			if test.want.recomputed && r.Recomputed == 0 {
				t.Error("nothing was recomputed")
			}
			if test.want.damaged != (r.Wrong > 0) {
				t.Errorf("%d results arrived damaged", r.Wrong)
			}
			if test.parity == 0 && r.Decoded != 0 {
				t.Errorf("%d slices decoded without parity", r.Decoded)
			}
			if test.want.state != "" && r.Workers[test.worker].State != test.want.state {
				t.Errorf("w%d is %s, want %s", test.worker+1, r.Workers[test.worker].State, test.want.state)
			}
			if len(test.faults) > 0 && strings.HasPrefix(test.faults[len(test.faults)-1], "restart:") {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if err := f.WaitReady(ctx); err != nil {
					t.Errorf("after the restart: %v", err)
				}
			}
		})
	}
}

// TestBitsOfAnUnhurtFlock: answers of which nothing was decoded have the bits of
// a run in one process. A busy machine may make a worker late; what is decoded
// for it is as the oracle has it.
func TestBitsOfAnUnhurtFlock(t *testing.T) {
	local := make([][]byte, digits.Count)
	f := start(t, flock.Config{})
	if _, err := f.Drive(t.Context(), flock.Load{
		Requests: digits.Count, Input: digitInput,
		Answered: func(i int, a *coordinator.Answer, _ time.Duration) { local[i] = bytes.Clone(a.Outputs[0].Data) },
	}); err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= 6; k++ {
		for parity := range 2 {
			t.Run(fmt.Sprintf("%d+%d", k, parity), func(t *testing.T) {
				f := start(t, flock.Config{Plan: plan.Options{Data: k, Parity: parity}, Concurrency: 2})
				o := newOracle(t, digitModel(t), k, parity)
				r, err := f.Drive(t.Context(), flock.Load{
					Requests: digits.Count, Concurrency: 2, Input: digitInput,
					Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
						if len(a.Decoded) > 0 {
							inputs, _ := digitInput(i)
							o.check(fmt.Sprintf("digit %d", i), inputs, a)
						} else if !bytes.Equal(a.Outputs[0].Data, local[i]) {
							t.Errorf("digit %d has other bits than in one process", i)
						}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				if r.Answered != digits.Count || parity == 0 && r.Decoded > 0 {
					t.Errorf("%d of %d answered, %d slices decoded", r.Answered, digits.Count, r.Decoded)
				}
			})
		}
	}
}

// TestLostWithoutParity: the error says what was lost, at once for a dead
// worker and after the link's deadline for a stopped one, and the flock closes.
func TestLostWithoutParity(t *testing.T) {
	for _, fault := range []string{"kill:w2@5", "stop:w2@5"} {
		t.Run(fault, func(t *testing.T) {
			f := start(t, flock.Config{Plan: plan.Options{Data: 4}}, fault)
			last := -1 // of the requests that were answered
			r, err := f.Drive(t.Context(), flock.Load{
				Requests: 20, Input: digitInput,
				Answered: func(i int, _ *coordinator.Answer, _ time.Duration) { last = i },
			})
			if err != nil {
				t.Fatal(err)
			}
			// A stop takes effect soon, not at once; from then on nothing is answered.
			var lost *coordinator.LostError
			plausible := r.Lost == 16 || strings.HasPrefix(fault, "stop:") && r.Lost > 0 && r.Lost < 16
			if !plausible || last+1+r.Lost != 20 || !errors.As(r.FirstLoss, &lost) || !errors.Is(r.FirstLoss, parity.ErrTooFewSlices) {
				t.Fatalf("%d requests lost by %v, request %d was the last answered; want 16 by a LostError", r.Lost, r.FirstLoss, last+1)
			}
			if len(lost.Slices) != 1 || len(lost.Workers) != 1 || lost.Workers[0] != "w2" || lost.Layer == "" {
				t.Errorf("lost is %+v, want one slice of w2", lost)
			}
		})
	}
}

// TestDriveEnds: an input that cannot be read and a context that ends end a run
// with their error; the flock goes on.
func TestDriveEnds(t *testing.T) {
	f := start(t, flock.Config{Plan: plan.Options{Data: 2, Parity: 1}, Concurrency: 4})
	broken := errors.New("broken input")
	_, err := f.Drive(t.Context(), flock.Load{Requests: 50, Concurrency: 4, Input: func(i int) ([]*tensor.Tensor, error) {
		if i == 20 {
			return nil, broken
		}
		return digitInput(i)
	}})
	if !errors.Is(err, broken) {
		t.Errorf("a broken input ends the run with %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, err = f.Drive(ctx, flock.Load{
		Requests: math.MaxInt, Concurrency: 4, Input: digitInput,
		Answered: func(i int, _ *coordinator.Answer, _ time.Duration) {
			if i == 20 {
				cancel(enough)
			}
		},
	})
	if !errors.Is(err, enough) {
		t.Errorf("a context that ends ends the run with %v", err)
	}
	drive(t, f, newOracle(t, digitModel(t), 2, 1), 20, 4)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	inputs, _ := digitInput(0)
	if err := f.Infer(t.Context(), inputs, new(coordinator.Answer)); !errors.Is(err, coordinator.ErrClosed) {
		t.Errorf("a request after Close gives %v", err)
	}
}

// TestStartFails: whatever goes wrong is said, and nothing is left.
func TestStartFails(t *testing.T) {
	tests := []struct {
		name string
		cfg  flock.Config
		ctx  func(context.Context) context.Context
		want string
	}{
		{"no program", flock.Config{Plan: plan.Options{Data: 2}, Command: []string{"/nowhere/starling", "worker"}}, nil, "start worker w1: "},
		{"a program that ends", flock.Config{Plan: plan.Options{Data: 2}, Command: []string{"sh", "-c", "echo first >&2; echo 'starling: it hurts' >&2; exit 3", "sh"}}, nil, "ended (exit status 3): it hurts"},
		{"a program that does nothing", flock.Config{Plan: plan.Options{Data: 2}, Command: []string{"sh", "-c", "exec sleep 1000", "sh"}, ReadyTime: 50 * time.Millisecond}, nil, "2 of 2 workers are not ready: not within 50ms"},
		{"a context that has ended", flock.Config{Plan: plan.Options{Data: 2, Parity: 1}}, func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errors.New("enough"))
			return ctx
		}, "enough"},
		{"five parities", flock.Config{Plan: plan.Options{Data: 2, Parity: 5}}, nil, "a code has 0 to 4 parity slices, not 5"},
		{"a fault of nobody", flock.Config{Plan: plan.Options{Data: 2}, Faults: []flock.Fault{{Kind: "kill", Worker: 2, Request: 1}}}, nil, "fault kill:w3@1: there are only 2 workers"},
		{"no state folder", flock.Config{Plan: plan.Options{Data: 2}, StateDir: "/nowhere/state"}, nil, "make a folder for this run: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			ctx := t.Context()
			if test.ctx != nil {
				ctx = test.ctx(ctx)
			}
			state := t.TempDir()
			if test.cfg.StateDir == "" {
				test.cfg.StateDir = state
			}
			if test.cfg.Command == nil {
				test.cfg.Command = command
			}
			f, err := flock.Start(ctx, digitModel(t), test.cfg)
			if err == nil {
				f.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %q, want one line with %q", err, test.want)
			}
			if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
				t.Errorf("the state folder holds %v (%v)", entries, err)
			}
			goleak.VerifyNone(t, before)
		})
	}
}
