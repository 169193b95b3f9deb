package shard

import (
	"context"
	"encoding/json"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// branches is a convolution, two branches of it that are put together, and a dense
// layer, of float32 or quantised to uint8.
func branches(t testing.TB, quantised bool) *graph.Graph {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 2, 5, 5}}}},
		Constants: map[string]*tensor.Tensor{},
		Outputs:   []string{"y"},
	}
	weights := func(name string, shape ...int) string {
		w := tensor.New(tensor.Float32, shape...)
		for i := range w.F32() {
			w.F32()[i] = float32(r.NormFloat64())
		}
		g.Constants[name] = w
		return name
	}
	node := func(op string, attrs graph.Attrs, output string, inputs ...string) {
		g.Nodes = append(g.Nodes, &graph.Node{Name: op, Op: op, Inputs: inputs, Outputs: []string{output}, Attrs: attrs})
	}
	first := "x"
	if quantised {
		g.Inputs[0].Type = tensor.Uint8
		g.Constants["scale"], g.Constants["zero"] = tensor.FromSlice([]float32{0.25}), tensor.FromSlice([]uint8{9})
		bytes := tensor.New(tensor.Uint8, 3, 2, 3, 3)
		for i := range bytes.Data {
			bytes.Data[i] = byte(r.Uint32())
		}
		g.Constants["bytes"] = bytes
		node("QLinearConv", nil, "a", first, "scale", "zero", "bytes", "scale", "zero", "scale", "zero")
		node("MaxPool", graph.Attrs{"kernel_shape": []int64{2, 2}, "auto_pad": "SAME_UPPER"}, "c", "a")
	} else {
		node("Conv", graph.Attrs{"strides": []int64{1, 1}}, "a", first, weights("w1", 3, 2, 3, 3), weights("b1", 3))
		node("LeakyRelu", graph.Attrs{"alpha": float32(0.3)}, "b1y", "a")
		node("MaxPool", graph.Attrs{"kernel_shape": []int64{3, 3}, "pads": []int64{1, 1, 1, 1}}, "b2y", "a")
		node("Concat", graph.Attrs{"axis": int64(1)}, "c", "b1y", "b2y")
	}
	g.Constants["shape"] = tensor.FromSlice([]int64{1, -1}, 2)
	node("Reshape", nil, "y", "c", "shape")
	if !quantised {
		g.Nodes[len(g.Nodes)-1].Outputs[0] = "d"
		node("MatMul", nil, "y", "d", weights("w2", 54, 7))
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

// staged writes the shards of a plan in which the model's nodes up to some are one
// stage with a copy, and returns the files' bytes.
func staged(t testing.TB, g *graph.Graph, to string) (*Store, []Info) {
	t.Helper()
	set := plan.Setting{Node: g.Nodes[0].Name, To: to, Redundancy: plan.Replicate, Data: []int{0}, Spare: []int{1}}
	p, err := plan.New(g, plan.Options{Data: 2, Parity: 1, Layers: []plan.Setting{set}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := OpenStore(filepath.Join(t.TempDir(), "shards"))
	if err != nil {
		t.Fatal(err)
	}
	infos, err := Build(store, g, p)
	if err != nil {
		t.Fatal(err)
	}
	return store, infos
}

// outputs runs a graph.
func outputs(t testing.TB, g *graph.Graph, x *tensor.Tensor) []byte {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	y, err := p.NewSession().Run(context.Background(), nil, []*tensor.Tensor{x})
	if err != nil {
		t.Fatal(err)
	}
	return y[0].Data
}

// A stage that is read back computes the bits of the model it was cut from, as does
// its copy; the file is the same each time.
func TestStageOfAFile(t *testing.T) {
	for _, quantised := range []bool{false, true} {
		g := branches(t, quantised)
		last := g.Nodes[len(g.Nodes)-1].Name
		_, infos := staged(t, g, last)
		if _, again := staged(t, g, last); again[0].SHA256 != infos[0].SHA256 || infos[0].SHA256 != infos[1].SHA256 {
			t.Errorf("%v, again %v", infos, again)
		}
		s, err := Open(infos[1].Path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if len(s.Slices) != 1 || s.Slices[0].Stage == nil {
			t.Fatalf("%d slices", len(s.Slices))
		}
		own, err := s.Slices[0].Stage.Graph(s.Slices[0].Weights)
		if err != nil {
			t.Fatal(err)
		}
		x := tensor.New(g.Inputs[0].Type, g.Inputs[0].Shape...)
		r := rand.New(rand.NewPCG(5, 6))
		if quantised {
			for i := range x.Data {
				x.Data[i] = byte(r.Uint32())
			}
		} else {
			for i := range x.F32() {
				x.F32()[i] = float32(r.NormFloat64())
			}
		}
		if !slices.Equal(outputs(t, own, x), outputs(t, g, x)) {
			t.Errorf("quantised %v: other bits", quantised)
		}
	}
}

// Beside a stage the rows of other layers can still be changed: the file is that
// which would be built anew.
func TestPatchBesideAStage(t *testing.T) {
	g := branches(t, false)
	store, infos := staged(t, g, g.Nodes[len(g.Nodes)-2].Name)
	from, err := Open(infos[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	same, err := store.Patch(from, nil)
	if err != nil || same.SHA256 != infos[0].SHA256 {
		t.Errorf("without patches: %v, %v", same, err)
	}
	if _, err := store.Patch(from, []Patch{{Rows: make([]byte, 4)}}); err == nil || !strings.Contains(err.Error(), "a stage") {
		t.Errorf("patch of a stage: %v", err)
	}
}

// An attribute that a description cannot hold is refused when shards are built.
func TestStageThatCannotBeDescribed(t *testing.T) {
	for _, c := range []struct {
		value any
		says  string
	}{
		{float32(1) / float32(0*rand.Float32()), "no finite number"},
		{"\xff", "no text"},
		{tensor.FromSlice([]int64{1}), "neither number nor text"},
	} {
		if _, err := describeAttr(c.value); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", c.value, err)
		}
	}
}

// honestStage is a description of a stage, a convolution and an addition, that 192 bytes
// of zeros fulfil.
func honestStage() []sliceMeta {
	kernel := []int64{2, 2}
	return []sliceMeta{{Layer: 0, Block: 1, Offset: 64, CRC: crc32.Checksum(make([]byte, 132), castagnoli), Stage: &Stage{
		Opset: 13, Input: typeMeta{tensor.Float32, tensor.Shape{1, 2, 3, 3}},
		Constants: []typeMeta{{tensor.Float32, tensor.Shape{1, 2, 2, 2}}, {tensor.Float32, tensor.Shape{}}, {tensor.Float32, tensor.Shape{1}}},
		Nodes: []nodeMeta{
			{Op: "Conv", In: []int{0, 1}, Out: []int{4}, Attrs: map[string]attrMeta{"kernel_shape": {Ints: &kernel}}},
			{Op: "Add", In: []int{4, 2}, Out: []int{5}},
			{Op: "Mul", In: []int{5, 3}, Out: []int{6}},
		},
		Output: 6,
	}}}
}

// A description of a stage whose checksum is right but which lies.
func TestParseStageLies(t *testing.T) {
	file := assemble(make([]byte, 192), describe(t, honestStage()...))
	if s, err := parse(file); err != nil || len(s) != 1 || len(s[0].Weights) != 132 {
		t.Fatalf("honest: %v, %v", s, err)
	}
	huge := int64(1) << 40
	for _, c := range []struct {
		name string
		lie  func(s *sliceMeta, d *Stage)
		says string
	}{
		{"a layer too", func(s *sliceMeta, _ *Stage) { s.Linear = honest()[0].Linear }, "with a layer's geometry"},
		{"several blocks", func(s *sliceMeta, _ *Stage) { s.Block = 2 }, "a stage in blocks of 2 rows"},
		{"no opset", func(_ *sliceMeta, d *Stage) { d.Opset = 0 }, "opset 0"},
		{"input of no type", func(_ *sliceMeta, d *Stage) { d.Input.Type = 99 }, "an input of 0 bytes"},
		{"input of nothing", func(_ *sliceMeta, d *Stage) { d.Input.Shape[0] = 0 }, "an input of 0 bytes"},
		{"input of negative size", func(_ *sliceMeta, d *Stage) { d.Input.Shape[0] = -1 }, "negative dimension"},
		{"huge input", func(_ *sliceMeta, d *Stage) { d.Input.Shape[0] = 1 << 30 }, "impossible shape"},
		{"huge values", func(_ *sliceMeta, d *Stage) { d.Input.Shape = tensor.Shape{1 << 16, 2, 32, 32} }, "more than 1073741824 bytes"},
		{"many dimensions", func(_ *sliceMeta, d *Stage) { d.Input.Shape = slices.Repeat(tensor.Shape{1}, 65) }, "an input of 0 bytes"},
		{"more constants than there are bytes", func(_ *sliceMeta, d *Stage) { d.Constants[0].Shape[0] = 5 }, "do not fit"},
		{"huge constants", func(_ *sliceMeta, d *Stage) { d.Constants[0].Shape[0] = 1 << 25 }, "do not fit"},
		{"impossible constants", func(_ *sliceMeta, d *Stage) { d.Constants[0].Shape[0] = 1 << 30 }, "constant 1: impossible shape"},
		{"a constant of no type", func(_ *sliceMeta, d *Stage) { d.Constants[2].Type = 0 }, "constant 3: invalid"},
		{"an unknown operator", func(_ *sliceMeta, d *Stage) { d.Nodes[1].Op = "Nothing" }, "operator Nothing"},
		{"a value before it is made", func(_ *sliceMeta, d *Stage) { d.Nodes[0].In[0] = 5 }, "cycle or is not in topological order"},
		{"a value that nobody makes", func(_ *sliceMeta, d *Stage) { d.Nodes[1].In[1] = 77 }, "is not defined"},
		{"a value made twice", func(_ *sliceMeta, d *Stage) { d.Nodes[1].Out[0] = 4 }, "defined twice"},
		{"a constant that is made", func(_ *sliceMeta, d *Stage) { d.Nodes[1].Out[0] = 1 }, "defined twice"},
		{"an output that nobody makes", func(_ *sliceMeta, d *Stage) { d.Output = 9 }, `output "v9" is not defined`},
		{"no output", func(_ *sliceMeta, d *Stage) { d.Output = -1 }, `output "" is not defined`},
		{"an unknown attribute", func(_ *sliceMeta, d *Stage) {
			d.Nodes[1].Attrs = map[string]attrMeta{"axis": {Int: &huge}}
		}, `attribute "axis"`},
		{"an attribute of another kind", func(_ *sliceMeta, d *Stage) {
			d.Nodes[0].Attrs["kernel_shape"] = attrMeta{Int: &huge}
		}, `attribute "kernel_shape" is of kind int`},
		{"an attribute of two values", func(_ *sliceMeta, d *Stage) {
			a := d.Nodes[0].Attrs["kernel_shape"]
			a.Int = &huge
			d.Nodes[0].Attrs["kernel_shape"] = a
		}, "has not one value"},
		{"an attribute beyond 32 bits", func(_ *sliceMeta, d *Stage) {
			d.Nodes[0].Attrs["group"] = attrMeta{Int: &huge}
		}, "does not fit 32 bits"},
		{"shapes that do not agree", func(_ *sliceMeta, d *Stage) { d.Input.Shape[1] = 3 }, "does not fit input"},
		{"no nodes", func(_ *sliceMeta, d *Stage) { d.Nodes = nil }, "a stage of 0 nodes"},
		{"too many nodes", func(_ *sliceMeta, d *Stage) { d.Nodes = make([]nodeMeta, maxStageNodes+1) }, "a stage of 16385 nodes"},
		{"a long description", func(_ *sliceMeta, d *Stage) { d.Nodes[0].Op = strings.Repeat("x", maxStageSize) }, "the limit is 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := honestStage()
			c.lie(&s[0], s[0].Stage)
			checkRefused(t, assemble(make([]byte, 192), describe(t, s...)), c.says)
		})
	}
	text := describe(t, honestStage()...)
	checkRefused(t, assemble(make([]byte, 192), strings.Replace(text, `"opset"`, `"domain"`, 1)), "unknown field")
	checkRefused(t, assemble(make([]byte, 192), strings.Replace(text, `"stage":{`, `"stage":[{`, 1)), "description")
}

// Whichever bit of a file with a stage is flipped, and wherever it is cut, it is
// refused, or the bit was one of the padding.
func TestStageFileFlips(t *testing.T) {
	g := branches(t, false)
	_, infos := staged(t, g, g.Nodes[len(g.Nodes)-1].Name)
	raw, err := os.ReadFile(infos[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	file := tensor.Alloc(len(raw))
	copy(file, raw)
	want, err := parse(file)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		at, bit := r.IntN(len(file)), byte(1)<<r.IntN(8)
		file[at] ^= bit
		if got, err := parse(file); err == nil {
			a, _ := json.Marshal(got[0].Stage)
			b, _ := json.Marshal(want[0].Stage)
			if string(a) != string(b) || &got[0].Weights[0] != &want[0].Weights[0] {
				t.Errorf("byte %d: another stage", at)
			}
		}
		file[at] ^= bit
	}
	for size := range file {
		if _, err := parse(file[:size]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", size, len(file))
		}
	}
}

// What a description can ask for is little beside its length.
func TestParseStageAllocatesLittle(t *testing.T) {
	list := func(one string) string { return strings.Repeat(one+",", maxStageSize/(len(one)+1)-100) + one }
	for _, stage := range []string{
		`{"nodes":[` + list("{}") + `]}`,
		`{"constants":[` + list("{}") + `]}`,
		`{"nodes":[{"in":[` + list("0") + `]}]}`,
		`{"input":{"shape":[` + list("1") + `]}}`,
	} {
		file := assemble(nil, `{"slices":[{"stage":`+stage+`}]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		checkRefused(t, file, "")
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 160<<20 {
			t.Errorf("%.40s…: %d bytes allocated", stage, took)
		}
	}
}
