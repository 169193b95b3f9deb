package starling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"starling"
	"starling/internal/digits"
)

// worker is the command that starts one: the real program, built for these
// tests. model is the digit model's file.
var (
	worker []string
	model  = filepath.Join("internal", "digits", "digits.onnx")
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "starling-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "starling")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/starling").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		return 1
	}
	worker = []string{program, "worker"}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// digit is digit i as the model wants it.
func digit(i int) *starling.Tensor {
	const size = digits.Rows * digits.Cols
	x := make([]float32, size)
	for p, v := range pixels[i*size : (i+1)*size] {
		x[p] = float32(v) / 255
	}
	return starling.NewTensor(x, 1, 1, digits.Rows, digits.Cols)
}

var pixels, labels = digits.Images(), digits.Labels()

func class(outputs []*starling.Tensor) int {
	best, scores := 0, outputs[0].F32()
	for c, s := range scores {
		if s > scores[best] {
			best = c
		}
	}
	return best
}

// TestModel opens the digit model in every way and asks it from several
// goroutines at once. Without parity the bits are those of the plain run.
func TestModel(t *testing.T) {
	plain := make([][]byte, digits.Count)
	tests := []struct {
		name string
		opt  starling.Options
	}{
		{"in this process", starling.Options{}}, // first: it fills plain
		{"one at a time", starling.Options{Concurrency: 1, Threads: 2}},
		{"3 workers", starling.Options{Workers: 3}},
		{"6 workers, convolutions split", starling.Options{Workers: 6, Split: "channel", Concurrency: 2}},
		{"4+1 workers", starling.Options{Workers: 4, Parity: 1, Threads: 2}},
		{"halves on the link", starling.Options{Workers: 4, Parity: 1, Wire: "f16"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.opt.WorkerCommand = worker
			m, err := starling.Open(model, test.opt)
			if err != nil {
				t.Fatal(err)
			}
			if in := m.Inputs(); len(in) != 1 || in[0].Name != "input" || in[0].Shape.String() != "[1,1,28,28]" {
				t.Errorf("the inputs are %v", in)
			}
			var clients sync.WaitGroup
			for c := range 10 {
				clients.Go(func() {
					for i := c; i < digits.Count; i += 10 {
						outputs, err := m.Infer(t.Context(), digit(i))
						if err != nil {
							t.Errorf("digit %d: %v", i, err)
							return
						}
						if got := class(outputs); got != int(labels[i]) {
							t.Errorf("digit %d is read as %d", labels[i], got)
						}
						if plain[i] == nil {
							plain[i] = outputs[0].Data // the caller owns it
						} else if test.opt.Parity == 0 && !bytes.Equal(outputs[0].Data, plain[i]) {
							t.Errorf("digit %d has other bits than in the plain run", i)
						}
					}
				})
			}
			clients.Wait()
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if err := m.Close(); err != nil {
				t.Errorf("a second Close: %v", err)
			}
			if _, err := m.Infer(t.Context(), digit(0)); err == nil {
				t.Error("a closed model answers")
			}
		})
	}
}

// TestInferRefuses: what does not fit is an error that names it, and the model
// goes on.
func TestInferRefuses(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, opt := range []starling.Options{{}, {Workers: 2, Parity: 1, WorkerCommand: worker}} {
		m, err := starling.Open(model, opt)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		tests := []struct {
			name   string
			ctx    context.Context
			inputs []*starling.Tensor
			want   string
		}{
			{"no input", t.Context(), nil, "wrong number of inputs: want 1, got 0"},
			{"two inputs", t.Context(), []*starling.Tensor{digit(0), digit(1)}, "wrong number of inputs: want 1, got 2"},
			{"nil", t.Context(), []*starling.Tensor{nil}, `input "input": want float32 [1,1,28,28], got nothing`},
			{"another shape", t.Context(), []*starling.Tensor{starling.NewTensor(make([]float32, 784), 784)}, `input "input": want float32 [1,1,28,28], got float32 [784]`},
			{"a context that has ended", ended, []*starling.Tensor{digit(0)}, "context canceled"},
		}
		for _, test := range tests {
			t.Run(fmt.Sprintf("%d workers, %s", opt.Workers, test.name), func(t *testing.T) {
				if _, err := m.Infer(test.ctx, test.inputs...); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("the error is %v, want %s", err, test.want)
				}
				outputs, err := m.Infer(t.Context(), digit(7))
				if err != nil || class(outputs) != int(labels[7]) {
					t.Errorf("afterwards: %v, %v", outputs, err)
				}
			})
		}
	}
}

func TestOpenFails(t *testing.T) {
	letter := filepath.Join(t.TempDir(), "letter.onnx")
	if err := os.WriteFile(letter, []byte("Dear model,"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		path string
		opt  starling.Options
		want string
		is   error
	}{
		{"no file", filepath.Join(t.TempDir(), "none.onnx"), starling.Options{}, "none.onnx: ", fs.ErrNotExist},
		{"no model", letter, starling.Options{}, "letter.onnx: not a valid ONNX file", nil},
		{"negative workers", model, starling.Options{Workers: -1, WorkerCommand: worker}, "-1", nil},
		{"five parities", model, starling.Options{Workers: 2, Parity: 5, WorkerCommand: worker}, "0 to 4 parity slices, not 5", nil},
		{"unknown split", model, starling.Options{Workers: 2, Split: "even", WorkerCommand: worker}, `unknown split "even"`, nil},
		{"no program", model, starling.Options{Workers: 2, WorkerCommand: []string{letter, "worker"}}, "start worker w1", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, err := starling.Open(test.path, test.opt)
			if err == nil {
				m.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("the error is %q, want one with %q", err, test.want)
			}
		})
	}
}

// ExampleOpen reads a digit over four workers and a parity worker.
func ExampleOpen() {
	m, err := starling.Open(model, starling.Options{Workers: 4, Parity: 1, WorkerCommand: worker})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	outputs, err := m.Infer(context.Background(), digit(7))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("this is a", class(outputs))
	// Output: this is a 7
}

// Without the worker's command, the caller's own program would be started.
func TestOpenWantsTheWorkersCommand(t *testing.T) {
	if _, err := starling.Open(model, starling.Options{Workers: 4}); err == nil || !strings.Contains(err.Error(), "WorkerCommand") {
		t.Errorf("got %v", err)
	}
}
