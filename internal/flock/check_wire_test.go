//go:build check

package flock_test

import (
	"flag"
	"fmt"
	"math"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

var wireInputs = flag.Int("wire-inputs", 500, "at most so many inputs of a model in TestWireAndAnswers")

// TestWireAndAnswers measures what rounding on the wire does to answers, with all
// results there and with a slice decoded in every layer: docs/link.md has the
// table. A class may change where one process is hardly sure.
func TestWireAndAnswers(t *testing.T) {
	for _, c := range []struct {
		model  string
		inputs func(t *testing.T) (n int, get func(i int) ([]*tensor.Tensor, error))
		split  string
	}{
		{"lenet5_mnist.onnx", mnistDigits, plan.Auto},
		{"kws_dscnn.onnx", keywords, plan.Auto},
		{"squeezenet1.1.onnx", photosOf("squeezenet1.1.onnx"), plan.Auto},
		{"squeezenet1.1.onnx", photosOf("squeezenet1.1.onnx"), plan.Spatial},
		{"mobilenet_v2_1.0_224_dq.onnx", photosOf("mobilenet_v2_1.0_224_dq.onnx"), plan.Auto},
	} {
		t.Run(c.model+" "+c.split, func(t *testing.T) {
			n, get := c.inputs(t)
			n = min(n, *wireInputs)
			want := make([][]float32, n)
			run := func(opt plan.Options, faults ...string) {
				f := startOn(t, decode(t, c.model), flock.Config{Plan: opt, Concurrency: 4}, faults...)
				changed, worst := 0, 0.0
				r, err := f.Drive(t.Context(), flock.Load{
					Requests: n, Concurrency: 4, Input: get,
					Answered: func(i int, a *coordinator.Answer, _ time.Duration) {
						y := a.Outputs[0].F32()
						if opt.Data == 0 {
							want[i] = append([]float32(nil), y...)
							return
						}
						if argmax(y) != argmax(want[i]) {
							changed++
						}
						worst = max(worst, farthest(y, want[i]))
					},
				})
				if err != nil || r.Lost > 0 {
					t.Fatalf("%d lost, %v", r.Lost, err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
				if opt.Data == 0 {
					return
				}
				var bytes uint64
				for _, w := range r.Workers {
					bytes += w.Bytes
				}
				t.Logf("%-5v %-9s %d of %d classes changed, largest error %.2g of the largest score, %d slices decoded, %.3g kB a request",
					opt.Wire, fmt.Sprint(faults), changed, n, worst, r.Decoded, float64(bytes)/1e3/float64(n))
				if limit := map[wire.Encoding]int{wire.F16: n / 1000, wire.Int8: 1 + n/100}[opt.Wire]; changed > limit {
					t.Errorf("%v: %d of %d classes changed", opt.Wire, changed, n)
				}
			}
			run(plan.Options{})
			for _, as := range []wire.Encoding{wire.F32, wire.F16, wire.Int8} {
				run(plan.Options{Data: 4, Parity: 1, Split: c.split, Wire: as})
				run(plan.Options{Data: 4, Parity: 1, Split: c.split, Wire: as}, "kill:w2@1")
			}
		})
	}
}

// farthest is the largest difference between scores, relative to the largest.
func farthest(got, want []float32) float64 {
	most, worst := 0.0, 0.0
	for i, v := range want {
		most = max(most, math.Abs(float64(v)))
		worst = max(worst, math.Abs(float64(got[i])-float64(v)))
	}
	return worst / most
}
