package coordinator_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/digits"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// quantise makes of a float32 model one whose convolutions and dense layers are
// over integers, as a quantiser does: activations are uint8 over the range that they
// have with that input; weights are int8 with a scale for each row, or in every third
// layer uint8 with one zero point.
func quantise(t *testing.T, g *graph.Graph, in []*tensor.Tensor) *graph.Graph {
	t.Helper()
	ranges := rangesOf(t, g, in)
	q := &quantiser{builder: newBuilder(), ranges: ranges}
	q.g = *g
	q.g.Nodes, q.g.Constants = nil, maps.Clone(g.Constants)
	for _, n := range g.Nodes {
		l, w, err := engine.LinearOf(g, n)
		if err != nil || n.Op == "Gemm" && (n.Attrs.Float("alpha", 1) != 1 || n.Attrs.Float("beta", 1) != 1) {
			q.g.Nodes = append(q.g.Nodes, n)
			continue
		}
		q.layer(n, l, tensor.View[float32](w))
	}
	q.g.Infos = nil
	if err := q.g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return &q.g
}

// rangesOf is the least and the greatest element of every value.
func rangesOf(t *testing.T, g *graph.Graph, in []*tensor.Tensor) map[string][2]float64 {
	t.Helper()
	all := *g
	all.Outputs = nil
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			if name != "" && all.Infos[name].Type == tensor.Float32 {
				all.Outputs = append(all.Outputs, name)
			}
		}
	}
	program, err := engine.Compile(&all, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := program.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		t.Fatal(err)
	}
	ranges := map[string][2]float64{}
	see := func(name string, x *tensor.Tensor) {
		r := [2]float64{}
		for _, v := range x.F32() {
			r[0], r[1] = min(r[0], float64(v)), max(r[1], float64(v))
		}
		ranges[name] = r
	}
	for i, name := range all.Outputs {
		see(name, out[i])
	}
	for i, v := range g.Inputs {
		if v.Type == tensor.Float32 {
			see(v.Name, in[i])
		}
	}
	return ranges
}

type quantiser struct {
	*builder
	ranges map[string][2]float64
	done   int // layers
}

// named adds a constant; the graph has others of its own.
func (q *quantiser) named(x *tensor.Tensor) string {
	name := fmt.Sprintf("quantised%d", len(q.g.Constants))
	q.g.Constants[name] = x
	return name
}

func (q *quantiser) add(op string, attrs graph.Attrs, output string, inputs ...string) string {
	q.g.Nodes = append(q.g.Nodes, &graph.Node{Name: fmt.Sprintf("%s_%d", op, len(q.g.Nodes)), Op: op, Inputs: inputs, Outputs: []string{output}, Attrs: attrs})
	return output
}

// activation is the scale and the zero point of a value.
func (q *quantiser) activation(name string) (scale float32, parameters []string) {
	r := q.ranges[name]
	scale = max(float32((r[1]-r[0])/255), 1e-6)
	zero := uint8(math.Round(min(max(-r[0]/float64(scale), 0), 255)))
	return scale, []string{q.named(tensor.FromSlice([]float32{scale})), q.named(tensor.FromSlice([]uint8{zero}))}
}

func (q *quantiser) layer(n *graph.Node, l engine.Linear, w []float32) {
	x, y := n.Inputs[0], n.Outputs[0]
	xScale, xParameters := q.activation(x)
	_, yParameters := q.activation(y)
	scales, zero := make([]float32, l.Rows), tensor.New(tensor.Int8, l.Rows)
	bytes := tensor.New(tensor.Int8, l.Rows, l.Cols)
	q.done++
	for row := range l.Rows {
		for _, v := range w[row*l.Cols : (row+1)*l.Cols] {
			scales[row] = max(scales[row], v/127, -v/127, 1e-9)
		}
	}
	if q.done%3 == 0 {
		low, high := min(slices.Min(w), 0), max(slices.Max(w), 0)
		scale := max((high-low)/255, 1e-9)
		scales = slices.Repeat([]float32{scale}, l.Rows)
		zero, bytes = tensor.New(tensor.Uint8), tensor.New(tensor.Uint8, l.Rows, l.Cols)
		zero.Data[0] = byte(math.Round(float64(-low / scale)))
	}
	for i, v := range w {
		b := math.Round(float64(v / scales[i/l.Cols]))
		if bytes.Type == tensor.Uint8 {
			b += float64(zero.Data[0])
		}
		bytes.Data[i] = byte(int(b))
	}
	wScale := tensor.FromSlice(scales, l.Rows)
	if bytes.Type == tensor.Uint8 {
		wScale = tensor.FromSlice(scales[:1])
	}
	quantised := q.add("QuantizeLinear", nil, x+"_q"+y, append([]string{x}, xParameters...)...)
	if l.Op == "Conv" {
		bytes.Shape = q.g.Constants[n.Inputs[1]].Shape
		in := append(append([]string{quantised}, xParameters...), q.named(bytes), q.named(wScale), q.named(zero))
		in = append(in, yParameters...)
		if name := n.Input(2); name != "" {
			bias := make([]int32, l.Rows)
			for i, v := range q.g.Constants[name].F32() {
				bias[i] = int32(math.Round(float64(v) / float64(xScale*scales[i])))
			}
			in = append(in, q.named(tensor.FromSlice(bias, l.Rows)))
		}
		q.add("DequantizeLinear", nil, y, append([]string{q.add("QLinearConv", n.Attrs, y+"_q", in...)}, yParameters...)...)
		return
	}
	columns := tensor.New(bytes.Type, l.Cols, l.Rows)
	for i, b := range bytes.Data {
		columns.Data[i%l.Cols*l.Rows+i/l.Cols] = b
	}
	in := append(append([]string{quantised}, xParameters...), q.named(columns), q.named(wScale), q.named(zero))
	product := q.add("QLinearMatMul", nil, y+"_q", append(in, yParameters...)...)
	if n.Input(2) == "" {
		q.add("DequantizeLinear", nil, y, append([]string{product}, yParameters...)...)
		return
	}
	product = q.add("DequantizeLinear", nil, y+"_f", append([]string{product}, yParameters...)...)
	q.add("Add", nil, y, product, n.Inputs[2])
}

// everyLoss runs requests over 4+2 workers with each and each two of them dead: the
// answers have the bits of a local run.
func everyLoss(t *testing.T, g *graph.Graph, requests [][]*tensor.Tensor) {
	t.Helper()
	p := prepareBy(t, g, plan.Options{Data: 4, Parity: 2})
	want := make([][]*tensor.Tensor, len(requests))
	for i, in := range requests {
		want[i] = p.local(t, in)
	}
	decoded := 0
	for _, dead := range sets(p.plan.N(), 2) {
		inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start(dead...)
			for i, in := range requests {
				var a coordinator.Answer
				if err := l.c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want[i]) {
					t.Fatalf("request %d, %v dead: %v, decoded %v; not the answer of a local run", i+1, dead, err, a.Decoded)
				}
				decoded += len(a.Decoded)
			}
		})
	}
	if decoded == 0 {
		t.Error("nothing was decoded")
	}
	t.Logf("%d layers, %d slices decoded", len(p.plan.Layers), decoded)
}

func simplify(t *testing.T, g *graph.Graph) *graph.Graph {
	t.Helper()
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	if err := rewrite.Simplify(g); err != nil {
		t.Fatal(err)
	}
	return g
}

// The embedded digits, quantised: as many are right as of the float32 model, nearly,
// and no loss changes any bit.
func TestQuantisedDigits(t *testing.T) {
	g, err := onnx.DecodeBytes(digits.Model)
	if err != nil {
		t.Fatal(err)
	}
	simplify(t, g)
	images, labels := digits.Images(), digits.Labels()
	const size = 28 * 28
	all := make([][]*tensor.Tensor, len(labels))
	for i := range all {
		x := tensor.New(tensor.Float32, g.Inputs[0].Shape...)
		for j, v := range images[i*size : (i+1)*size] {
			x.F32()[j] = float32(v) / 255
		}
		all[i] = []*tensor.Tensor{x}
	}
	q := &prepared{g: quantise(t, g, all[0])}
	right := 0
	for i, in := range all {
		y := q.local(t, in)[0].F32()
		if slices.Index(y, slices.Max(y)) == int(labels[i]) {
			right++
		}
	}
	if right < len(labels)*9/10 {
		t.Errorf("%d of %d right", right, len(labels))
	}
	t.Logf("%d of %d right", right, len(labels))
	everyLoss(t, q.g, all[:3])
}
