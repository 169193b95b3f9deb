package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"starling/internal/graph"
	"starling/internal/tensor"
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
}

// chain is a network of so many dense layers of one size, each with an activation, and
// two at the end that read the same.
func chain(t *testing.T, layers int) *graph.Graph {
	t.Helper()
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 8}}}},
		Constants: map[string]*tensor.Tensor{},
	}
	last := "x"
	node := func(name, op string, inputs ...string) {
		if op == "MatMul" {
			w := "w" + name
			g.Constants[w] = tensor.New(tensor.Float32, 8, 8)
			inputs = append(inputs, w)
		}
		g.Nodes = append(g.Nodes, &graph.Node{Name: name, Op: op, Inputs: inputs, Outputs: []string{name + "y"}})
		last = name + "y"
	}
	for i := range layers {
		node(fmt.Sprintf("l%d", i), "MatMul", last)
		node(fmt.Sprintf("r%d", i), "Relu", last)
	}
	joint := last
	node("a", "MatMul", joint)
	node("b", "MatMul", joint)
	node("sum", "Add", "ay", "by")
	g.Outputs = []string{last}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

// A model that is split by stage is cut where one value passes, in proportion to speeds
// and within memory, and around what the plan says otherwise.
func TestSplitByStage(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  Options
		want string
	}{
		{"pairs", Options{Data: 2, Redundancy: Replicate}, "l0 to r3 [0 1], l4 to sum [2 3]"},
		{"copies in a ring", Options{Data: 3, Parity: 1}, "l0 to r1 [0 1], l2 to r3 [1 2], l4 to r5 [2 3], a to sum [3 0]"},
		{"two copies", Options{Data: 2, Parity: 2}, "l0 to r1 [0 1 2], l2 to r3 [1 2 3], l4 to r5 [2 3 0], a to sum [3 0 1]"},
		{"no copies", Options{Data: 1, Redundancy: None}, "l0 to sum [0]"},
		{"more workers than cuts", Options{Data: 12, Redundancy: None}, "l0 to r1 [0], l2 to r3 [1], l4 to r5 [2], a to sum [3]"},
		{"speeds", Options{Data: 2, Redundancy: None, Speeds: []float64{3, 1}}, "l0 to r5 [0], a to sum [1]"},
		{"memory", Options{Data: 2, Redundancy: None, Memory: []int64{600, 1e6}}, "l0 to r1 [0], l2 to sum [1]"},
		{"a layer by itself", Options{Data: 2, Redundancy: None, Layers: []Setting{{Node: "l2"}}}, "l0 to r1 [0], l2 [1 0], r2 to r4 [0], l5 to sum [1]"},
		{"one at the end", Options{Data: 2, Redundancy: None, Layers: []Setting{{Node: "b", Split: Local}}}, "l0 to r2 [0], l3 to r5 [1]"},
		{"a stage by itself", Options{Data: 2, Redundancy: None, Layers: []Setting{{Node: "l1", To: "l3", Data: []int{1}}}}, "l0 to r0 [0], l1 to l3 [1], r3 to r5 [0], a to sum [1]"},
	} {
		c.opt.Split = Stage
		p, err := New(chain(t, 6), c.opt)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, l := range p.Layers {
			got = append(got, fmt.Sprint(l.Node, " ", l.Workers))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, text, c.want)
		}
	}
	g := chain(t, 1)
	g.Inputs = append(g.Inputs, graph.Value{Name: "state", Info: g.Inputs[0].Info})
	g.Nodes = append(g.Nodes, &graph.Node{Name: "mix", Op: "Mul", Inputs: []string{"state", "x"}, Outputs: []string{"m"}})
	g.Outputs = append(g.Outputs, "m")
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(g, Options{Data: 2, Redundancy: None, Split: Stage}); !errors.Is(err, ErrNothingToSplit) {
		t.Errorf("two values all the way: %v", err)
	}
	if _, err := New(chain(t, 6), Options{Data: 2, Redundancy: None, Split: Stage, Memory: []int64{600, 600}}); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("too little memory: %v", err)
	}
}
