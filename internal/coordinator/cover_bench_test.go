package coordinator_test

import (
	"context"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// stack is three convolutions of 64 channels on maps of 56 by 56.
func stack() *graph.Graph {
	b := newBuilder(1, 64, 56, 56)
	for range 3 {
		b.node("Conv", graph.Attrs{"pads": []int64{1, 1, 1, 1}}, b.last, b.whole(64, 64, 3, 3), b.whole(64))
		b.node("Relu", nil, b.last)
	}
	return b.graph()
}

// BenchmarkCovers compares what covers cost on the same layers, k = 4, over
// TCP on this machine: time, and bytes to and from all workers a request.
// Every worker computes on one thread; all share this machine's processors, so
// time follows the work of all workers together. "dead" is without worker 2.
func BenchmarkCovers(b *testing.B) {
	for _, c := range []struct {
		name string
		opt  plan.Options
		dead bool
	}{
		{"channel/none", plan.Options{Data: 4, Split: plan.Channel}, false},
		{"channel/parity", plan.Options{Data: 4, Parity: 1, Split: plan.Channel}, false},
		{"channel/parity dead", plan.Options{Data: 4, Parity: 1, Split: plan.Channel}, true},
		{"channel/replicate", plan.Options{Data: 4, Redundancy: plan.Replicate, Split: plan.Channel}, false},
		{"spatial/none", plan.Options{Data: 4, Split: plan.Spatial}, false},
		{"spatial/inputs", plan.Options{Data: 4, Parity: 1, Split: plan.Spatial}, false},
		{"spatial/inputs dead", plan.Options{Data: 4, Parity: 1, Split: plan.Spatial}, true},
		{"spatial/replicate", plan.Options{Data: 4, Redundancy: plan.Replicate, Split: plan.Spatial}, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := prepareBy(b, stack(), c.opt)
			in := []*tensor.Tensor{tensor.New(tensor.Float32, p.g.Inputs[0].Shape...)}
			overTCP(b, p, coordinator.Config{}, func(f *flock) {
				if c.dead {
					f.kill(1)
				}
				var a coordinator.Answer
				infer := func() {
					if err := f.c.Infer(context.Background(), in, &a); err != nil {
						b.Fatal(err)
					}
				}
				moved := func() (sum uint64) {
					for _, s := range f.c.Status() {
						sum += s.Bytes
					}
					return sum
				}
				for range 10 {
					infer()
				}
				before := moved()
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					infer()
					n++
				}
				b.ReportMetric(float64(moved()-before)/float64(n)/1e3, "kB/request")
			})
		})
	}
}
