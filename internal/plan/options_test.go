package plan

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// network is a convolution, a depthwise one and two dense layers.
func network(t testing.TB) *graph.Graph {
	t.Helper()
	g := &graph.Graph{
		Opset:  13,
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 3, 8, 8}}}},
		Constants: map[string]*tensor.Tensor{
			"w1": tensor.New(tensor.Float32, 6, 3, 3, 3), "w2": tensor.New(tensor.Float32, 6, 1, 3, 3),
			"w3": tensor.New(tensor.Float32, 10, 96), "w4": tensor.New(tensor.Float32, 10, 7),
		},
		Nodes: []*graph.Node{
			{Name: "conv", Op: "Conv", Inputs: []string{"x", "w1"}, Outputs: []string{"a"}},
			{Name: "deep", Op: "Conv", Inputs: []string{"a", "w2"}, Outputs: []string{"b"}, Attrs: graph.Attrs{"group": int64(6)}},
			{Name: "flat", Op: "Flatten", Inputs: []string{"b"}, Outputs: []string{"c"}},
			{Name: "gemm", Op: "Gemm", Inputs: []string{"c", "w3"}, Outputs: []string{"d"}, Attrs: graph.Attrs{"transB": int64(1)}},
			{Name: "matmul", Op: "MatMul", Inputs: []string{"d", "w4"}, Outputs: []string{"y"}},
		},
		Outputs: []string{"y"},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

// manyKeys is a mapping that a file has room for.
var manyKeys = func() string {
	var b strings.Builder
	for i := range 65 {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}()

func TestPlanFiles(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		says       string // the error; empty if there is none
	}{
		{"nothing", "", ""},
		{"a comment", "# default\n", ""},
		{"all of it", `
workers: 3
parity: 1
redundancy: parity
split: channel
speeds: [1, 2, 0.5, 1]
memory_mb: [1, 1, 1, 1]
layers:
  - {layer: conv, split: spatial, redundancy: inputs}
  - {layer: deep, split: channel, redundancy: replicate, data: [w1, w2], spare: [w3, w4]}
  - {layer: gemm, split: input, data: [w2], spare: [w4]}
  - {layer: matmul, split: local}
`, ""},
		{"no YAML", "\t{", "cannot start any token"},
		{"a list", "[1]", "cannot unmarshal"},
		{"an unknown key", "worker: 3", "line 1: unknown key worker"},
		{"two unknown keys", "worker: 3\nsplits: x", "line 1: unknown key worker   line 2: unknown key splits"},
		{"more keys than can be", manyKeys, "more than 64 keys in one place"},
		{"an unknown key of a layer", "layers:\n- node: gemm", "line 2: unknown key node"},
		{"two documents", "workers: 3\n---\nworkers: 4\n", "more than one document"},
		{"a worker of another name", "layers: [{layer: gemm, data: [pi]}]", `worker "pi": they are named w1`},
		{"a worker beyond", "layers: [{layer: gemm, data: [w9], spare: [w1]}]", "layer gemm: there is no worker w9 among 5"},
		{"a worker twice", "layers: [{layer: gemm, data: [w1, w1]}]", "w1 is named twice"},
		{"a copy beside the slice", "layers: [{layer: gemm, redundancy: replicate, data: [w1, w2], spare: [w1, w3]}]", "w1 is named twice"},
		{"half the copies", "layers: [{layer: gemm, redundancy: replicate, data: [w1, w2], spare: [w3]}]", "1 spare workers for copies of 2"},
		{"shares of others", "layers: [{layer: gemm, data: [w1, w2], shares: [1]}]", "1 shares for 2"},
		{"shares without workers", "layers: [{layer: gemm, shares: [1]}]", "no data workers"},
		{"a share of nothing", "layers: [{layer: gemm, data: [w1], shares: [.nan]}]", "share NaN"},
		{"spare without redundancy", "layers: [{layer: gemm, redundancy: none, data: [w1], spare: [w2]}]", "no redundancy"},
		{"no worker left for parity", "layers: [{layer: gemm, data: [w1, w2, w3, w4, w5]}]", "too few"},
		{"a layer of another model", "layers: [{layer: fc6}]", "layer fc6 is not in the model"},
		{"a layer that is none", "layers: [{layer: flat}]", "not a layer that can be split"},
		{"a layer twice", "layers: [{layer: gemm}, {layer: gemm}]", "twice"},
		{"dense by channel", "layers: [{layer: gemm, split: channel}]", "layer gemm: it is dense: use output or input"},
		{"convolution by rows", "layers: [{layer: conv, split: output}]", "layer conv: it is a convolution"},
		{"groups by filter", "layers: [{layer: deep, split: filter}]", "layer deep: it has 6 groups"},
		{"parity of partial sums", "layers: [{layer: gemm, split: input, redundancy: parity}]", "differ in weights and in inputs"},
		{"parity of tiles", "layers: [{layer: conv, split: spatial, redundancy: parity}]", "the same weights"},
		{"inputs of rows", "layers: [{layer: gemm, redundancy: inputs}]", "a spatial split, not output"},
		{"unknown redundancy", "redundancy: twice", `unknown redundancy "twice"`},
		{"unknown redundancy of a layer", "layers: [{layer: gemm, redundancy: twice}]", `unknown redundancy "twice"`},
		{"negative workers", "workers: -1", "-1"},
		{"huge workers", "workers: 1000000000000", "1000000000000"},
		{"negative memory", "memory_mb: [-1]", "memory_mb of -1"},
		{"memory of others", "memory_mb: [1]", "1 memory limits for 5 workers"},
		{"too little memory", "{workers: 1, parity: 0, memory_mb: [0.001]}", "do not fit the workers' memory: w1 by"},
		{"too long", strings.Repeat("#", maxFile+1), "more than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "plan.yaml")
			if err := os.WriteFile(path, []byte(c.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			opt, err := ReadFile(path)
			if err == nil {
				_, err = New(network(t), opt)
			}
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %v, want %q in one line", err, c.says)
			}
		})
	}
}

// Dense nodes that read the same input are one layer, but for those that the
// plan names.
func TestNodesOfOneInput(t *testing.T) {
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{3, 8}}}},
		Constants: map[string]*tensor.Tensor{"w": tensor.New(tensor.Float32, 8, 8), "w5": tensor.New(tensor.Float32, 8, 5)},
		Nodes: []*graph.Node{
			{Name: "q", Op: "MatMul", Inputs: []string{"x", "w"}, Outputs: []string{"a"}},
			{Name: "k", Op: "MatMul", Inputs: []string{"x", "w"}, Outputs: []string{"b"}},
			{Name: "other", Op: "MatMul", Inputs: []string{"a", "w"}, Outputs: []string{"c"}},
			{Name: "v", Op: "Gemm", Inputs: []string{"x", "w5"}, Outputs: []string{"d"}},
		},
		Outputs: []string{"b", "c", "d"},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sets []Setting
		want string
	}{
		{nil, "[q k v] 21, [other] 8"},
		{[]Setting{{Node: "k"}}, "[q] 8, [k v] 13, [other] 8"},
		{[]Setting{{Node: "k", Split: Local}, {Node: "q", Split: Input}}, "[q v] 13, [other] 8"},
		{[]Setting{{Node: "v", Redundancy: None}}, "[q k] 16, [other] 8, [v] 5"},
	} {
		p, err := New(g, Options{Data: 3, Parity: 1, Layers: c.sets})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range p.Layers {
			got = append(got, fmt.Sprint(p.Layers[i].Nodes, p.Layers[i].Linear.Rows))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%+v: layers %s, want %s", c.sets, text, c.want)
		}
	}
}

// Coverage against a count by hand.
func TestCoverage(t *testing.T) {
	for _, c := range []struct {
		name           string
		opt            Options
		single, double float64
	}{
		{"none", Options{Data: 4, Redundancy: None}, 0, 0},
		{"parity", Options{Data: 4, Parity: 1}, 1, 0},
		{"2MR: all pairs but those of a slice", Options{Data: 4, Redundancy: Replicate}, 1, 24. / 28},
		{"partial sums in a ring: neighbours hold the same", Options{Data: 4, Parity: 1, Split: Input}, 1, 0.5},
		{"a layer on one worker", Options{Data: 4, Parity: 1, Layers: []Setting{{Node: "gemm", Redundancy: None, Data: []int{2}}}}, 0.8, 0},
		{"of two pairs one holds all", Options{
			Data: 2, Parity: 1, Split: Output, Layers: []Setting{
				{Node: "gemm", Redundancy: Replicate, Data: []int{0}, Spare: []int{1}}, {Node: "matmul", Split: Local},
			},
		}, 1, 2. / 3},
	} {
		p, err := New(network(t), c.opt)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Coverage(); got.Single != c.single || got.Double != c.double {
			t.Errorf("%s: %+v, want %v and %v", c.name, got, c.single, c.double)
		}
		checkMargins(t, c.name, p)
	}
	p, err := New(network(t), Options{Data: 3, Parity: 2})
	if err != nil {
		t.Fatal(err)
	}
	checkMargins(t, "two parities", p)
}

// checkMargins compares the margin after every set of losses with what trying
// says: the most losses more of which all are survived.
func checkMargins(t *testing.T, name string, p *Plan) {
	t.Helper()
	at := func(set int) (lost []bool) {
		for w := range p.Workers {
			lost = append(lost, set>>w&1 == 1)
		}
		return lost
	}
	for set := range 1 << p.Workers {
		most := p.Workers - bits.OnesCount(uint(set))
		for more := range 1 << p.Workers {
			if n := bits.OnesCount(uint(more)); more&set == 0 && !p.survives(at(set|more)) {
				most = min(most, n-1)
			}
		}
		if got := p.Margin(at(set)); got != most {
			t.Errorf("%s: margin %d with %v lost, want %d", name, got, at(set), most)
		}
	}
}

// Slices follow speeds, and no worker is given more than parity can do in the
// same time, nor more than its memory.
func TestUneven(t *testing.T) {
	rows := func(opt Options) (heights [4]int, parity int) {
		opt.Data, opt.Parity, opt.Split = 3, 1, Output
		opt.Layers = append(opt.Layers, Setting{Node: "matmul", Split: Local})
		p, err := New(network(t), opt)
		if err != nil {
			t.Fatal(err)
		}
		l := &p.Layers[0]
		for s, w := range l.Workers {
			heights[w] = l.Height(s)
		}
		return heights, l.Workers[l.N()-1]
	}
	for _, c := range []struct {
		name   string
		opt    Options
		want   [4]int
		parity int
	}{
		{"alike", Options{}, [4]int{3, 3, 4, 4}, 3},
		{"one fast", Options{Speeds: []float64{1, 4, 1, 1}}, [4]int{3, 4, 3, 4}, 1},
		{"two fast", Options{Speeds: []float64{1, 1, 3, 3}}, [4]int{2, 2, 6, 6}, 3},
		{"one slow", Options{Speeds: []float64{0.25, 1, 1, 1}}, [4]int{1, 4, 5, 5}, 3},
		{"little memory", Options{Memory: []int64{400, 1e6, 1e6, 1e6}}, [4]int{1, 4, 5, 5}, 3},
		{"shares", Options{Layers: []Setting{{Node: "gemm", Data: []int{3, 0}, Shares: []float64{4, 1}, Spare: []int{1}}}}, [4]int{2, 8, 0, 8}, 1},
	} {
		if got, parity := rows(c.opt); got != c.want || parity != c.parity {
			t.Errorf("%s: heights %v, parity %d; want %v, %d", c.name, got, parity, c.want, c.parity)
		}
	}
}

// FuzzFile: a plan file is refused in one line, or makes a plan whose layers all
// have workers that are there and that can be reported.
func FuzzFile(f *testing.F) {
	for _, yaml := range []string{
		"workers: 3\nparity: 1\nspeeds: [1, 2, 0.5, 1]\nmemory_mb: [1, 1, 1, 1]\n",
		"layers: [{layer: conv, split: spatial, redundancy: inputs}, {layer: matmul, split: local}]",
		"layers: [{layer: gemm, split: input, data: [w2], spare: [w4], shares: [1]}]",
		"redundancy: replicate\nsplit: filter\nworkers: 2",
		"layers: [{layer: conv, to: deep, data: [w2], spare: [w1, w3]}, {layer: gemm, to: matmul, redundancy: none}]",
		"a: &a [1]\nb: [*a, *a]",
	} {
		f.Add([]byte(yaml))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		opt, err := parseFile(raw)
		g := network(t)
		var p *Plan
		if err == nil {
			p, err = New(g, opt)
		}
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: not one line: %v", raw, err)
			}
			return
		}
		for _, l := range p.Layers {
			if len(l.Workers) == 0 {
				t.Errorf("%q: layer %s has no workers", raw, l.Node)
			}
			for _, w := range l.Workers {
				if w < 0 || w >= p.N() {
					t.Errorf("%q: layer %s has worker %d of %d", raw, l.Node, w, p.N())
				}
			}
		}
		if _, err := p.Report(g, Devices{GFLOPS: 1, ReadGBs: 1, LinkMbps: 1}); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
