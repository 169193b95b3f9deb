//go:build !race

package coordinator_test

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// A warm request allocates nothing, on neither side. Both sides run in this
// process and all that it allocates is counted, up to one in ten requests for a
// pool that still grows: how many buffers are under way at once is a matter of
// chance. The garbage collector is off, as it empties the pools; so does the
// race detector, under which this file is left out.
func TestWarmRequestAllocatesNothing(t *testing.T) {
	const requests = 500
	for _, c := range []struct {
		name, model string
		parity      int
		dead        []int
		audit       float64
		wire        wire.Encoding
	}{
		{"dense", "dense", 1, nil, 0, wire.F32},
		{"convolutions", "conv", 1, nil, 0, wire.F32},
		{"one is dead", "conv", 1, []int{1}, 0, wire.F32},
		{"two are dead", "conv", 1, []int{0, 2}, 0, wire.F32},
		{"all is audited", "conv", 2, nil, 1, wire.F32},
		{"two are dead of two parities", "conv", 2, []int{0, 2}, 0, wire.F32},
		{"f16", "conv", 1, []int{1}, 0, wire.F16},
		{"int8", "conv", 1, []int{1}, 0, wire.Int8},
		{"quantised", "quantised", 1, []int{1}, 0, wire.F32},
		{"quantised, two are dead, all is audited", "quantised", 2, []int{0, 2}, 1, wire.F32},
		{"stage", "conv", 1, []int{0}, 1, wire.F32},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := plan.Options{Data: 3, Parity: c.parity, Wire: c.wire}
			if c.name == "stage" {
				opt.Layers = []plan.Setting{{Node: "Conv0", To: "Flatten3"}}
			}
			p := prepareBy(t, models[c.model](2), opt)
			in, want := p.request(t, random(t))
			overTCP(t, p, coordinator.Config{Audit: c.audit}, func(f *flock) {
				for _, w := range c.dead {
					f.kill(w)
				}
				var a coordinator.Answer
				infer := func() {
					if err := f.c.Infer(context.Background(), in, &a); err != nil || c.parity == 1 && c.wire == wire.F32 && !same(a.Outputs, want) {
						t.Fatalf("request %d: %v", a.Request, err)
					}
				}
				for range 200 {
					infer()
				}
				defer debug.SetGCPercent(debug.SetGCPercent(-1))
				// What allocates per request shows in every round; a pool that grows,
				// or a worker that a busy machine made join anew, does not: hence half.
				least := uint64(math.MaxUint64)
				for range 5 {
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					for range requests {
						infer()
					}
					runtime.ReadMemStats(&after)
					least = min(least, after.Mallocs-before.Mallocs)
				}
				t.Logf("%d allocations in %d requests", least, requests)
				if least >= requests/2 {
					t.Errorf("%d allocations in %d requests", least, requests)
				}
			})
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	p := model(b, "conv", 1, 3, 1)
	in := []*tensor.Tensor{tensor.New(tensor.Float32, p.g.Inputs[0].Shape...)}
	overTCP(b, p, coordinator.Config{}, func(f *flock) {
		var a coordinator.Answer
		b.ReportAllocs()
		for b.Loop() {
			if err := f.c.Infer(context.Background(), in, &a); err != nil {
				b.Fatal(err)
			}
		}
	})
}
