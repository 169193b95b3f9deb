package plan

import (
	"math"
	"testing"
	"time"
)

// A layer takes as long as its slowest data slice: its operations, or reading its
// weights if that takes longer; then the round trip and what travels.
func TestPredictedLatency(t *testing.T) {
	g := network(t)
	p, err := New(g, Options{Data: 2, Parity: 1, Layers: []Setting{{Node: "conv", Split: Local}, {Node: "matmul", Split: Local}}})
	if err != nil {
		t.Fatal(err)
	}
	const rtt = 2 // ms
	for _, c := range []struct {
		name       string
		gflops, gb float64
		want       float64 // ms of the gemm's 5 rows of 96
	}{
		{"operations", 1e-6, 1, 2 * 5 * 96},
		{"reading", 1, 1e-6, 4 * 5 * 96},
	} {
		r, err := p.Report(g, Devices{GFLOPS: c.gflops, ReadGBs: c.gb, LinkMbps: 8e-3, RTT: rtt * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		moved := float64(3 * 4 * (96 + 5)) // bytes, at one a millisecond
		if got := r.Layers[0].LatencyMs; math.Abs(got-(c.want+rtt+moved)) > 1e-6 {
			t.Errorf("%s: %v ms, want %v", c.name, got, c.want+rtt+moved)
		}
		if r.LatencyMs <= r.Layers[0].LatencyMs || r.AloneMs <= c.want {
			t.Errorf("%s: %v ms, alone %v: the rest takes none", c.name, r.LatencyMs, r.AloneMs)
		}
	}
}
