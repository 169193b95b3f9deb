package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"starling/internal/wire"
)

// stage is a plan for the network's convolutions as a stage, and what is said of
// its dense layers.
func stage(more ...Setting) Options {
	return Options{Data: 3, Parity: 1, Layers: append([]Setting{{Node: "conv", To: "flat"}}, more...)}
}

// The first three nodes live whole on one worker and a copy on another, the dense
// layers are split and coded as ever; which losses that survives is enumerated.
func TestHybrid(t *testing.T) {
	g := network(t)
	opt := stage()
	opt.Layers[0].Data, opt.Layers[0].Spare = []int{1}, []int{3}
	opt.Layers[0].Wire = new(wire.Encoding)
	*opt.Layers[0].Wire = wire.F16
	p, err := New(g, opt)
	if err != nil {
		t.Fatal(err)
	}
	l := &p.Layers[0]
	if len(p.Layers) != 3 || l.Node != "conv to flat" || l.Kind != Stage || l.Cover != Replicate ||
		!slices.Equal(l.Nodes, []string{"conv", "deep", "flat"}) || !slices.Equal(l.Workers, []int{1, 3}) {
		t.Fatalf("%d layers, first %+v", len(p.Layers), l)
	}
	if l.K() != 1 || l.N() != 2 || l.R() != 0 || l.MostBlocks() != 1 || !l.SharesInput() {
		t.Errorf("k %d, n %d, r %d, %d blocks", l.K(), l.N(), l.R(), l.MostBlocks())
	}
	weights := 4 * (6*27 + 6*9)
	flops := int64(2 * (6*36*27 + 6*16*9))
	want := Work{InputLen: 192, InputBytes: 768, OutputLen: 96, OutputBytes: 384, WeightBytes: weights, FLOPs: flops}
	if got := l.Work(1); got != want || got != l.BlockWork(0, 0) {
		t.Errorf("work %+v, want %+v", got, want)
	}
	r, err := p.Report(g, Devices{GFLOPS: 1e-6, ReadGBs: 1e-9, LinkMbps: 8e-3, RTT: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Layers[0]
	if s.Split != Stage || s.Wire != "f16" || s.Weights != "float32" || s.Slices[1].Role != "copy" || s.Slices[1].MemoryBytes != int64(weights) || r.LocalFLOPs != 0 {
		t.Errorf("report %+v, %d FLOPs here", s, r.LocalFLOPs)
	}
	sent, returned := int64(2*wire.F16.Size(192)), int64(2*wire.F16.Size(96))
	computed := float64(weights) * 1e3 // reading takes longer
	if math.Abs(s.LatencyMs-(2+float64(sent+returned)+computed)) > 1e-6 || s.Sent != sent || s.Returned != returned {
		t.Errorf("%v ms, %d bytes sent, %d returned", s.LatencyMs, s.Sent, s.Returned)
	}
	checkCoverage(t, p, 1)
}

// checkCoverage checks what a plan says of losses against what its layers need: of
// every layer some worker of each data slice of a stage, or k of n.
func checkCoverage(t *testing.T, p *Plan, single float64) {
	t.Helper()
	c := p.Coverage()
	survived, all := 0, 0
	for a := range p.Workers {
		for b := a + 1; b < p.Workers; b++ {
			all++
			ok := true
			for i := range p.Layers {
				l, left := &p.Layers[i], 0
				for _, w := range l.Workers {
					if w != a && w != b {
						left++
					}
				}
				ok = ok && left >= l.K()
			}
			if ok {
				survived++
			}
		}
	}
	if want := float64(survived) / float64(all); c.Single != single || math.Abs(c.Double-want) > 1e-9 {
		t.Errorf("coverage %v and %v, want %v and %v", c.Single, c.Double, single, want)
	}
}

// Coverage of a stage with no, one and two copies, the dense layers being computed
// here.
func TestCoverageOfStages(t *testing.T) {
	dense := []Setting{{Node: "gemm", Split: Local}, {Node: "matmul", Split: Local}}
	for _, c := range []struct {
		redundancy     string
		spare          []int
		single, double float64
		margin         int
	}{
		{None, nil, 3. / 4, 3. / 6, 0},
		{Replicate, []int{2}, 1, 5. / 6, 1},
		{Replicate, []int{2, 3}, 1, 1, 2},
	} {
		opt := stage(dense...)
		opt.Layers[0].Redundancy, opt.Layers[0].Data, opt.Layers[0].Spare = c.redundancy, []int{0}, c.spare
		p, err := New(network(t), opt)
		if err != nil {
			t.Fatal(err)
		}
		got := p.Coverage()
		if got.Single != c.single || math.Abs(got.Double-c.double) > 1e-9 || p.Margin(make([]bool, p.Workers)) != c.margin {
			t.Errorf("spare %v: %+v, margin %d", c.spare, got, p.Margin(make([]bool, p.Workers)))
		}
	}
}

// The fastest workers hold a stage, if they have the memory for it.
func TestWhoHoldsAStage(t *testing.T) {
	for _, c := range []struct {
		speeds []float64
		memory []int64
		want   []int
	}{
		{nil, nil, []int{0, 1}},
		{[]float64{1, 1, 3, 2}, nil, []int{2, 3}},
		{[]float64{1, 1, 3, 2}, []int64{1e6, 1e6, 800, 1e6}, []int{3, 0}},
	} {
		opt := stage(Setting{Node: "gemm", Split: Local}, Setting{Node: "matmul", Split: Local})
		opt.Speeds, opt.Memory = c.speeds, c.memory
		p, err := New(network(t), opt)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Layers[0].Workers; !slices.Equal(got, c.want) {
			t.Errorf("speeds %v, memory %v: %v, want %v", c.speeds, c.memory, got, c.want)
		}
	}
}

func TestNoStage(t *testing.T) {
	for _, c := range []struct{ yaml, says string }{
		{"layers: [{layer: conv, to: flat, redundancy: none}]", ""},
		{"layers: [{layer: conv, to: flat, data: [w2], spare: [w1, w3]}]", ""},
		{"layers: [{layer: conv, to: deep}, {layer: flat, to: matmul, split: stage}]", ""},
		{"layers: [{layer: conv, split: stage}]", "layer conv: a stage has a last node: say which with to"},
		{"layers: [{layer: conv, to: flat, split: channel}]", "stage conv to flat is computed whole, not split by channel"},
		{"layers: [{layer: conv, to: flat, redundancy: parity}]", "a stage is not linear, so no combination covers it: use replicate"},
		{"layers: [{layer: conv, to: flat, redundancy: inputs}]", "a stage is not linear"},
		{"layers: [{layer: conv, to: flat, data: [w1, w2]}]", "a stage lives whole on one worker, not on 2: name the others as spare"},
		{"layers: [{layer: conv, to: flat, data: [w1], spare: [w1]}]", "w1 is named twice"},
		{"layers: [{layer: conv, to: flat}, {layer: deep, split: channel}]", "layer deep is in the stage conv to flat"},
		{"layers: [{layer: conv, to: flat}, {layer: deep, to: gemm}]", "would be in two stages"},
		{"layers: [{layer: flat, to: conv}]", "stage flat to conv: node conv does not depend on node flat"},
		{"layers: [{layer: conv, to: nowhere}]", "stage conv to nowhere: node nowhere is not in the model"},
		{"layers: [{layer: conv, to: \"a\\nb\"}]", "control characters"},
	} {
		opt, err := parseFile([]byte(c.yaml))
		if err == nil {
			_, err = New(network(t), opt)
		}
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.yaml, err, c.says)
		}
	}
	if _, err := New(network(t), Options{Data: 2, Split: Stage}); err == nil || !strings.Contains(fmt.Sprint(err), "unknown split") {
		t.Errorf("split by stage without saying where: %v", err)
	}
}
