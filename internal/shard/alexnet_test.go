package shard_test

import (
	"runtime"
	"testing"

	"starling/internal/engine"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/zoo"
)

// BenchmarkBuildAlexNet builds the shards of AlexNet for 4+1 and for 4+4. All that
// a build for 4+1 allocates from its beginning to its end, the parity slice of one
// layer after the other, is less than the weights of the largest layer.
func BenchmarkBuildAlexNet(b *testing.B) {
	g, err := zoo.Build("alexnet", 1)
	if err != nil {
		b.Fatal(err)
	}
	largest := 0
	for _, n := range g.Nodes {
		if l, _, err := engine.LinearOf(g, n); err == nil {
			largest = max(largest, l.WeightBytes())
		}
	}
	for _, c := range []struct {
		name   string
		parity int
	}{{"4+1", 1}, {"4+4", 4}} {
		b.Run(c.name, func(b *testing.B) {
			p, err := plan.New(g, plan.Options{Data: 4, Parity: c.parity})
			if err != nil {
				b.Fatal(err)
			}
			var before, after runtime.MemStats
			for b.Loop() {
				b.StopTimer()
				store, err := shard.OpenStore(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				runtime.ReadMemStats(&before)
				b.StartTimer()
				if _, err := shard.Build(store, g, p); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				runtime.ReadMemStats(&after)
				if made := after.TotalAlloc - before.TotalAlloc; c.parity == 1 && made > uint64(largest) {
					b.Errorf("a build allocates %d bytes, the largest layer has %d", made, largest)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6, "MB/build")
			b.ReportMetric(float64(largest)/1e6, "MB-layer")
		})
	}
}
