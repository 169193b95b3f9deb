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

// splits are all kinds of split and cover; a worker dies in the middle of each.
var splits = []plan.Options{
	{Data: 4, Parity: 1},
	{Data: 4, Parity: 1, Split: plan.Channel},
	{Data: 4, Parity: 1, Split: plan.Spatial},
	{Data: 4, Parity: 1, Split: plan.Filter},
	{Data: 4, Parity: 1, Split: plan.Input},
	{Data: 3, Redundancy: plan.Replicate},
	{Data: 2, Redundancy: plan.Replicate, Split: plan.Spatial},
	{Data: 3, Parity: 1, Speeds: []float64{1, 0.3, 2, 1}},
}

// doubled survive two losses; every worker and every pair dies in a part of the
// inputs.
var doubled = []plan.Options{
	{Data: 3, Parity: 2},
	{Data: 3, Parity: 2, Split: plan.Spatial},
}

// TestSplitsKeepAnswers: however a model is split and whoever dies, every
// class is that of one process; all of MNIST, all keywords, all photos.
func TestSplitsKeepAnswers(t *testing.T) {
	for _, c := range []struct {
		model  string
		inputs func(t *testing.T) (n int, get func(i int) ([]*tensor.Tensor, error))
		right  int // that one process gets right; 0 is not counted

		convolutions bool // it has no dense layer
	}{
		{"lenet5_mnist.onnx", mnistDigits, 0, false},
		{"kws_dscnn.onnx", keywords, 902, false},
		{"squeezenet1.1.onnx", photosOf("squeezenet1.1.onnx"), 0, true},
		{"mobilenet_v2_1.0_224_dq.onnx", photosOf("mobilenet_v2_1.0_224_dq.onnx"), 0, true},
	} {
		t.Run(c.model, func(t *testing.T) {
			n, get := c.inputs(t)
			want := make([]int, n)
			// run has the workers named die in the middle of the inputs first,
			// first + step and so on.
			run := func(opt plan.Options, first, step int, dead ...int) *flock.Report {
				requests := (n - first + step - 1) / step
				var faults []string
				for _, w := range dead {
					faults = append(faults, fmt.Sprintf("kill:w%d@%d", w+1, max(requests/2, 1)))
				}
				f := startOn(t, decode(t, c.model), flock.Config{Plan: opt, Concurrency: 4}, faults...)
				r, err := f.Drive(t.Context(), flock.Load{
					Requests: requests, Concurrency: 4,
					Input: func(i int) ([]*tensor.Tensor, error) { return get(first + i*step) },
					Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
						i, class := first+i*step, argmax(a.Outputs[0].F32())
						if opt.Data == 0 {
							want[i] = class
						} else if class != want[i] {
							t.Errorf("%+v, workers %v killed: input %d is class %d, in one process %d", opt, dead, i, class, want[i])
						}
					},
				})
				if err != nil || r.Lost > 0 || len(f.Unstruck()) > 0 {
					t.Fatalf("%+v, workers %v killed: %d lost, %v", opt, dead, r.Lost, err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				return r
			}
			run(plan.Options{}, 0, 1)
			if c.right > 0 {
				right := 0
				for i, label := range keywordLabels(t) {
					if want[i] == int(label) {
						right++
					}
				}
				if right != c.right {
					t.Errorf("%d right, want %d", right, c.right)
				}
			}
			for i, opt := range splits {
				if opt.Split == plan.Input && c.convolutions {
					continue
				}
				dead := i % opt.Workers()
				r := run(opt, 0, 1, dead)
				t.Logf("%d+%d %s %s: w%d killed, %d decoded, %d recomputed, p50 %.2f ms", opt.Data, opt.Parity, opt.Split, opt.Redundancy, dead+1, r.Decoded, r.Recomputed, r.Latency.P50)
			}
			for _, opt := range doubled {
				var all [][]int
				for a := range opt.Workers() {
					all = append(all, []int{a})
					for b := range a {
						all = append(all, []int{b, a})
					}
				}
				decoded, recomputed := 0, 0
				for i, dead := range all {
					step := min(len(all), n)
					r := run(opt, i%step, step, dead...)
					decoded, recomputed = decoded+r.Decoded, recomputed+r.Recomputed
				}
				t.Logf("%d+%d %s: each and each two of the workers killed, %d decoded, %d recomputed", opt.Data, opt.Parity, opt.Split, decoded, recomputed)
				if decoded == 0 {
					t.Errorf("%+v: nothing was decoded", opt)
				}
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

func keywordLabels(t *testing.T) []byte {
	t.Helper()
	labels, err := os.ReadFile(modelFile(t, "data", "kws01", "kws01_labels_u8.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return labels
}
