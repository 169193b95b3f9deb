//go:build check

package flock_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// trained are the models with trained weights that every test of bits runs.
var trained = []string{
	"lenet5_mnist.onnx", "lenet_caffe_mnist.onnx", "squeezenet1.1.onnx",
	"mobilenet_v1_1.0_224_dq.onnx", "mobilenet_v2_1.0_224_dq.onnx",
}

// modelFile is a file of the folder STARLING_MODELS, by default the one beside
// the repository; a test that lacks it is skipped.
func modelFile(t *testing.T, name ...string) string {
	t.Helper()
	dir := os.Getenv("STARLING_MODELS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "models")
	}
	path := filepath.Join(append([]string{dir}, name...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no file %s", path)
	}
	return path
}

func decode(t *testing.T, name string) *graph.Graph {
	t.Helper()
	g, err := onnx.Decode(modelFile(t, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// open opens requests, as starling run does.
func open(t *testing.T, g *graph.Graph, opt input.Options, seed uint64, files ...string) *input.Requests {
	t.Helper()
	r, err := input.OpenRequests(files, g.Inputs, opt, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// way is a way to run a model.
type way struct {
	name            string
	workers, parity int
	faults          []string
}

// local, split and coded flocks of the usual size.
var (
	local = way{name: "local"}
	split = way{name: "split 4+0", workers: 4}
	coded = way{name: "coded 4+1", workers: 4, parity: 1}
)

// without is coded with one worker, from 1, killed in the second request.
func without(worker int) way {
	return way{fmt.Sprintf("coded 4+1, w%d killed", worker), 4, 1, []string{fmt.Sprintf("kill:w%d@2", worker)}}
}

// outputs runs n requests and hands over the answers; none may be lost.
func (w way) outputs(t *testing.T, g *graph.Graph, requests *input.Requests, n, concurrency int, see func(i int, a *coordinator.Answer)) *flock.Report {
	t.Helper()
	f := startOn(t, g, flock.Config{Plan: plan.Options{Data: w.workers, Parity: w.parity}, Concurrency: concurrency}, w.faults...)
	r, err := f.Drive(t.Context(), flock.Load{
		Requests: n, Concurrency: concurrency, Input: requests.Tensors,
		Answered: func(i int, a *coordinator.Answer, _ time.Duration) { see(i, a) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost > 0 {
		t.Errorf("%s: %d of %d requests lost, the first one: %v", w.name, r.Lost, n, r.FirstLoss)
	}
	if len(w.faults) > 0 && r.Decoded == 0 {
		t.Errorf("%s: nothing was decoded", w.name)
	}
	if left := f.Unstruck(); len(left) > 0 {
		t.Errorf("%s: did not strike: %v", w.name, left)
	}
	return r
}

// TestMNIST counts the digits of the whole MNIST test set that are read right:
// ONNX Runtime's count, in one process, in several, and with one dead. Whoever is
// dead: package coordinator's TestAnswersStay.
func TestMNIST(t *testing.T) {
	tests := []struct {
		model     string
		mean, std float32
		right     int
	}{
		{"lenet5_mnist.onnx", 33.3285, 78.5655, 9913},
		{"lenet_caffe_mnist.onnx", 0, 255, 9895},
	}
	for _, test := range tests {
		t.Run(test.model, func(t *testing.T) {
			opt := input.Options{Mean: []float32{test.mean}, Std: []float32{test.std}}
			answers := mnistLabels(t)
			for _, w := range []way{local, coded, without(2)} {
				g := decode(t, test.model)
				requests := open(t, g, opt, 0, modelFile(t, "data", "mnist", "t10k-images-idx3-ubyte.gz"))
				right := 0
				begin := time.Now()
				r := w.outputs(t, g, requests, len(answers), 8, func(i int, a *coordinator.Answer) {
					if argmax(a.Outputs[0].F32()) == int(answers[i]) {
						right++
					}
				})
				t.Logf("%-22s %d of %d right, %d slices decoded, %d recomputed, p50 %.2f ms, %.1f s",
					w.name, right, len(answers), r.Decoded, r.Recomputed, r.Latency.P50, time.Since(begin).Seconds())
				if right != test.right || len(answers) != 10000 {
					t.Errorf("%s: %d of %d digits right, want %d of 10000", w.name, right, len(answers), test.right)
				}
			}
		})
	}
}

func mnistLabels(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(modelFile(t, "data", "mnist", "t10k-labels-idx1-ubyte.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	labels, err := input.ReadIDXLabels(f)
	if err != nil {
		t.Fatal(err)
	}
	return labels
}

// TestSqueezeNetVector runs the model's own test vector, which ONNX Runtime
// meets within 1.1e-4; this project promises 2e-4 of what was computed. Scores
// go up to 203, of which a float32 has steps of 1.5e-5, so a decoded slice may
// take an answer past that: it has the bits that follow from its slices, each
// within its bound, and lies within what scoreBound derives.
func TestSqueezeNetVector(t *testing.T) {
	const name = "squeezenet1.1.onnx"
	f, err := os.Open(modelFile(t, "data", "squeezenet1.1_test_vector", "output_0.npy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := input.ReadNPY(f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	o := newOracle(t, decode(t, name), 4, 1)
	decodedBound := decodedShares * scoreBound(decode(t, name), want.F32())
	for _, w := range []way{local, split, coded, without(1), without(2), without(3), without(4), without(5)} {
		g := decode(t, name)
		requests := open(t, g, input.Options{}, 0, modelFile(t, "data", "squeezenet1.1_test_vector", "input_0.npy"))
		var computed, decoded float64 // the largest differences
		r := w.outputs(t, g, requests, 5, 1, func(i int, a *coordinator.Answer) {
			limit, worst := 2e-4, &computed
			if len(a.Decoded) > 0 {
				limit, worst = 2e-4+decodedBound, &decoded
				inputs, err := requests.Tensors(i)
				if err != nil {
					t.Error(err)
				}
				o.check(fmt.Sprintf("%s, request %d", w.name, i+1), inputs, a)
			}
			for c, v := range a.Outputs[0].F32() {
				diff := math.Abs(float64(v) - float64(want.F32()[c]))
				if *worst = max(*worst, diff); !(diff <= limit) {
					t.Errorf("%s: request %d: class %d is %g, want %g", w.name, i+1, c, v, want.F32()[c])
				}
			}
		})
		t.Logf("%-22s within %.2g where all was computed, %.2g with decoded slices (%d; bound %.2g)", w.name, computed, decoded, r.Decoded, 2e-4+decodedBound)
	}
}

// TestPhotos looks at six photos through three networks of 1000 classes.
func TestPhotos(t *testing.T) {
	text, err := os.ReadFile(modelFile(t, "data", "photos", "expected_ort1.30.json"))
	if err != nil {
		t.Fatal(err)
	}
	var models map[string]struct {
		Mean, Std string
		Classes   int
		Results   map[string]struct {
			Class int `json:"top1_imagenet_index"`
		}
	}
	if err := json.Unmarshal(text, &models); err != nil {
		t.Fatal(err)
	}
	if len(models) != 3 {
		t.Fatalf("there are %d models, want 3", len(models))
	}
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			opt := input.Options{Mean: numbers(t, m.Mean), Std: numbers(t, m.Std)}
			photos := slices.Sorted(maps.Keys(m.Results))
			var files []string
			for _, photo := range photos {
				files = append(files, modelFile(t, "data", "photos", "crop224", photo+".png"))
			}
			for _, w := range []way{local, coded, without(2), without(5)} {
				g := decode(t, name+".onnx")
				w.outputs(t, g, open(t, g, opt, 0, files...), 2*len(files), 2, func(i int, a *coordinator.Answer) {
					photo := photos[i%len(photos)]
					// A model of 1001 classes has the background before the others.
					if got := argmax(a.Outputs[0].F32()) - (m.Classes - 1000); got != m.Results[photo].Class {
						t.Errorf("%s: %s is class %d, want %d", w.name, photo, got, m.Results[photo].Class)
					}
				})
			}
		})
	}
}

func numbers(t *testing.T, list string) (out []float32) {
	t.Helper()
	for _, s := range strings.Split(list, ",") {
		v, err := strconv.ParseFloat(s, 32)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, float32(v))
	}
	return out
}

// TestBits compares every trained model's outputs, split and coded, with those
// of one process: equal where nothing was decoded, and what follows from the
// decoded slices where a worker is dead.
func TestBits(t *testing.T) {
	const n = 6
	for _, name := range trained {
		t.Run(name, func(t *testing.T) {
			var want [n][]*tensor.Tensor
			g := decode(t, name)
			requests := seeded(g, n)
			run := func(w way, see func(i int, a *coordinator.Answer)) {
				f := startOn(t, decode(t, name), flock.Config{Plan: plan.Options{Data: w.workers, Parity: w.parity}}, w.faults...)
				r, err := f.Drive(t.Context(), flock.Load{
					Requests: n, Input: func(i int) ([]*tensor.Tensor, error) { return requests[i], nil },
					Answered: func(i int, a *coordinator.Answer, _ time.Duration) { see(i, a) },
				})
				if err != nil || r.Lost > 0 {
					t.Fatalf("%s: %d lost, %v", w.name, r.Lost, err)
				}
			}
			run(local, func(i int, a *coordinator.Answer) {
				for _, out := range a.Outputs {
					want[i] = append(want[i], out.Clone())
				}
			})
			o := newOracle(t, decode(t, name), 4, 1)
			for _, w := range []way{split, coded, without(3)} {
				compared := 0
				run(w, func(i int, a *coordinator.Answer) {
					if len(a.Decoded) > 0 {
						o.check(fmt.Sprintf("%s, request %d", w.name, i+1), requests[i], a)
						return
					}
					compared++
					for k, out := range a.Outputs {
						if !bytes.Equal(out.Data, want[i][k].Data) {
							t.Errorf("%s: output %d of request %d has other bits than in one process", w.name, k, i+1)
						}
					}
				})
				t.Logf("%-22s %d of %d answers without a decoded slice", w.name, compared, n)
				if w.parity == 0 && compared < n {
					t.Errorf("%s: only %d answers could be compared", w.name, compared)
				}
			}
		})
	}
}

// seeded are n requests of random inputs for a model.
func seeded(g *graph.Graph, n int) (all [][]*tensor.Tensor) {
	for i := range n {
		var inputs []*tensor.Tensor
		for _, in := range g.Inputs {
			inputs = append(inputs, input.Random(in, uint64(i+1), 0))
		}
		all = append(all, inputs)
	}
	return all
}
