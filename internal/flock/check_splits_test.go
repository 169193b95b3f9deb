//go:build check

package flock_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/input"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// splits are all kinds of split and cover; as many workers as they cover die in
// the middle of each.
var splits = []plan.Options{
	{Data: 4, Parity: 1},
	{Data: 4, Parity: 1, Split: plan.Channel},
	{Data: 4, Parity: 1, Split: plan.Spatial},
	{Data: 4, Parity: 1, Split: plan.Filter},
	{Data: 4, Parity: 1, Split: plan.Input},
	{Data: 3, Redundancy: plan.Replicate},
	{Data: 2, Redundancy: plan.Replicate, Split: plan.Spatial},
	{Data: 3, Parity: 1, Speeds: []float64{1, 0.3, 2, 1}},
	{Data: 3, Parity: 2},
	{Data: 3, Parity: 2, Split: plan.Spatial},
	{Data: 3, Parity: 1, Split: plan.Stage},
}

// TestSplitsKeepAnswers: however a model is split over processes and whichever
// of them is killed, every class is that of one process. All inputs and all sets
// of dead workers are in package coordinator's TestAnswersStay.
func TestSplitsKeepAnswers(t *testing.T) {
	for _, c := range []struct {
		model  string
		inputs func(t *testing.T) (n int, get func(i int) ([]*tensor.Tensor, error))
		most   int

		convolutions bool // it has no dense layer
	}{
		{"lenet5_mnist.onnx", mnistDigits, 1000, false},
		{"kws_dscnn.onnx", keywords, 100, false},
		{"mobilenet_v2_1.0_224_dq.onnx", photosOf("mobilenet_v2_1.0_224_dq.onnx"), 6, true},
	} {
		t.Run(c.model, func(t *testing.T) {
			n, get := c.inputs(t)
			n = min(n, c.most)
			want := make([]int, n)
			run := func(opt plan.Options, faults ...string) {
				f := startOn(t, decode(t, c.model), flock.Config{Plan: opt, Concurrency: 4}, faults...)
				r, err := f.Drive(t.Context(), flock.Load{
					Requests: n, Concurrency: 4, Input: get,
					Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
						class := argmax(a.Outputs[0].F32())
						if opt.Data == 0 {
							want[i] = class
						} else if class != want[i] {
							t.Errorf("%+v, %v: input %d is class %d, in one process %d", opt, faults, i, class, want[i])
						}
					},
				})
				if err != nil || r.Lost > 0 || len(f.Unstruck()) > 0 {
					t.Fatalf("%+v, %v: %d lost, %v", opt, faults, r.Lost, err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				t.Logf("%d+%d %s %s, %v: %d decoded, %d recomputed, p50 %.2f ms", opt.Data, opt.Parity, opt.Split, opt.Redundancy, faults, r.Decoded, r.Recomputed, r.Latency.P50)
			}
			run(plan.Options{})
			for i, opt := range splits {
				if opt.Split == plan.Input && c.convolutions {
					continue
				}
				var faults []string
				for dead := range max(opt.Parity, 1) {
					faults = append(faults, fmt.Sprintf("kill:w%d@%d", (i+dead)%opt.Workers()+1, (n+1)/2+dead))
				}
				run(opt, faults...)
			}
		})
	}
}

func mnistDigits(t *testing.T) (int, func(i int) ([]*tensor.Tensor, error)) {
	t.Helper()
	g := decode(t, "lenet5_mnist.onnx")
	opt := input.Options{Mean: []float32{33.3285}, Std: []float32{78.5655}}
	r := open(t, g, opt, 0, modelFile(t, "data", "mnist", "t10k-images-idx3-ubyte.gz"))
	return r.Count(), r.Tensors
}

func photosOf(model string) func(t *testing.T) (int, func(i int) ([]*tensor.Tensor, error)) {
	return func(t *testing.T) (int, func(i int) ([]*tensor.Tensor, error)) {
		t.Helper()
		var files []string
		for _, name := range []string{"bird", "cat", "parrot", "hot_dog", "dragonfly", "sunflower"} {
			files = append(files, modelFile(t, "data", "photos", name+".jpg"))
		}
		r := open(t, decode(t, model), input.Options{}, 0, files...)
		return r.Count(), r.Tensors
	}
}

// keywords are 1,000 quantised spectrograms; float = (q − 83) · 0.5847029.
func keywords(t *testing.T) (int, func(i int) ([]*tensor.Tensor, error)) {
	t.Helper()
	raw, err := os.ReadFile(modelFile(t, "data", "kws01", "kws01_1000x49x10_int8.bin"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 49 * 10
	return len(raw) / size, func(i int) ([]*tensor.Tensor, error) {
		x := tensor.New(tensor.Float32, 1, 1, 49, 10)
		for j, q := range raw[i*size : (i+1)*size] {
			x.F32()[j] = (float32(int8(q)) - 83) * 0.5847029
		}
		return []*tensor.Tensor{x}, nil
	}
}
