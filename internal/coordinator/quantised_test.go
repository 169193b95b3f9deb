package coordinator_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"starling/internal/coordinator"
	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// bytesOf is a tensor of random bytes.
func bytesOf(r *rand.Rand, typ tensor.DType, shape ...int) *tensor.Tensor {
	t := tensor.New(typ, shape...)
	for i := range t.Data {
		t.Data[i] = byte(r.IntN(256))
	}
	return t
}

func (b *builder) constant(t *tensor.Tensor) string {
	name := fmt.Sprintf("c%d", len(b.g.Constants))
	b.g.Constants[name] = t
	return name
}

func (b *builder) scale(shape ...int) string {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.F32() {
		t.F32()[i] = 0.002 * (1 + b.r.Float32())
	}
	return b.constant(t)
}

func typeOf8(r *rand.Rand) tensor.DType { return []tensor.DType{tensor.Int8, tensor.Uint8}[r.IntN(2)] }

// quantised makes the inputs of a QLinearConv or QLinearMatMul of b.last, bytes of
// that type: weights of that shape and of rows, with none, one or a zero point for
// each row.
func (b *builder) quantised(typ tensor.DType, rows int, shape ...int) (in []string, out tensor.DType) {
	w, out := typeOf8(b.r), typeOf8(b.r)
	scale, zero := b.scale(), tensor.New(w)
	switch b.r.IntN(4) {
	case 0:
		zero.Data[0] = 128
	case 1:
		scale, zero = b.scale(rows), bytesOf(b.r, w, rows)
	case 2:
		zero = bytesOf(b.r, w)
	}
	return []string{
		b.last, b.scale(), b.constant(bytesOf(b.r, typ)), b.constant(bytesOf(b.r, w, shape...)), scale, b.constant(zero),
		b.scale(), b.constant(bytesOf(b.r, out)),
	}, out
}

// quantisedGraph is a convolution, a dense layer, and two that read the same
// dynamically quantised activations. All sizes, types and zero points are random.
func quantisedGraph(r *rand.Rand) *graph.Graph {
	n := func(most int) int { return 1 + r.IntN(most) }
	groups := []int{1, 1, 2, 5}[r.IntN(4)]
	per := n(3)
	channels, maps := groups*per, groups*n(4)
	if r.IntN(3) == 0 { // depthwise
		groups, per, maps = channels, 1, channels
	}
	shape, filter := []int{n(2), channels}, []int{maps, per}
	attrs := graph.Attrs{"group": int64(groups)}
	dims := n(2)
	var pads, ends, strides, dilations []int64
	for range dims {
		kernel, dilation := n(3), n(2)
		reach := (kernel-1)*dilation + 1
		shape, filter = append(shape, reach+r.IntN(12/dims)), append(filter, kernel)
		pads, ends = append(pads, int64(r.IntN(reach))), append(ends, int64(r.IntN(reach)))
		strides, dilations = append(strides, int64(n(3))), append(dilations, int64(dilation))
	}
	attrs["pads"], attrs["strides"], attrs["dilations"] = append(pads, ends...), strides, dilations

	b := newBuilder(shape...)
	b.r = r
	b.g.Opset = 21
	typ := typeOf8(r)
	b.g.Inputs[0].Type = typ
	in, typ := b.quantised(typ, maps, filter...)
	b.node("QLinearConv", attrs, in...)
	b.node("Flatten", nil, b.last)
	b.g.Outputs = []string{b.last}
	if err := b.g.Prepare(); err != nil {
		panic(err)
	}
	cols, rows := b.g.Infos[b.last].Shape[1], n([]int{20, 20, 600}[r.IntN(3)])
	in, typ = b.quantised(typ, rows, cols, rows)
	b.node("QLinearMatMul", nil, in...)
	b.node("DequantizeLinear", nil, b.last, b.scale(), b.constant(bytesOf(r, typ)))
	b.g.Nodes = append(b.g.Nodes, &graph.Node{Name: "dynamic", Op: "DynamicQuantizeLinear", Inputs: []string{b.last}, Outputs: []string{"q", "scale", "zero"}})
	w := typeOf8(r)
	var out []string
	for range 2 {
		b.node("MatMulInteger", nil, "q", b.constant(bytesOf(r, w, rows, n(9))), "zero", b.constant(bytesOf(r, w)))
		out = append(out, b.last)
	}
	b.node("Concat", graph.Attrs{"axis": int64(1)}, out...)
	return b.graph()
}

// quantisedModel is a convolution of asymmetric bytes, one of int8, and a dense layer
// whose rows have zero points of their own.
func quantisedModel(batch int) *graph.Graph {
	b := newBuilder(batch, 2, 6, 6)
	b.g.Opset, b.g.Inputs[0].Type = 21, tensor.Uint8
	bytes := func(typ tensor.DType, shape ...int) string { return b.constant(bytesOf(b.r, typ, shape...)) }
	pads := graph.Attrs{"pads": []int64{1, 1, 1, 1}}
	b.node("QLinearConv", pads, b.last, b.scale(), bytes(tensor.Uint8), bytes(tensor.Uint8, 5, 2, 3, 3), b.scale(), bytes(tensor.Uint8), b.scale(), bytes(tensor.Int8))
	b.node("QLinearConv", pads, b.last, b.scale(), bytes(tensor.Int8), bytes(tensor.Int8, 7, 5, 3, 3), b.scale(7), b.constant(tensor.New(tensor.Int8, 7)), b.scale(), bytes(tensor.Uint8))
	b.node("Flatten", nil, b.last)
	b.node("MatMulInteger", nil, b.last, bytes(tensor.Uint8, 252, 9), bytes(tensor.Uint8), bytes(tensor.Uint8, 9))
	return b.graph()
}

// exact runs a request without some workers, and nothing computed here: the answer
// has the bits of a local run. It returns how many slices were decoded.
func (l *lab) exact(dead ...int) int {
	l.t.Helper()
	return l.exactly([]*tensor.Tensor{bytesOf(l.r, l.g.Inputs[0].Type, l.g.Inputs[0].Shape...)}, dead...)
}

func (l *lab) exactly(in []*tensor.Tensor, dead ...int) int {
	l.t.Helper()
	var a coordinator.Answer
	if err := l.c.Infer(context.Background(), in, &a); err != nil || len(a.Recomputed) != 0 {
		l.t.Fatalf("%v dead: recomputed %v, error %v", dead, a.Recomputed, err)
	}
	if !same(a.Outputs, l.local(l.t, in)) {
		l.t.Errorf("%v dead: another answer than a local run's: decoded %v", dead, a.Decoded)
	}
	return len(a.Decoded)
}

// However a quantised model is split and whichever workers are dead, as many as are
// covered, the answer is that of a local run.
func TestQuantisedSplits(t *testing.T) {
	cases, most := 100, 12
	if testing.Short() {
		cases, most = 25, 4
	}
	r := random(t)
	decoded := 0 // slices
	for i := 0; i < cases; {
		g, opt := quantisedGraph(r), randomOptions(r)
		if i%2 == 0 {
			opt.Redundancy, opt.Split = plan.Parity, []string{plan.Auto, plan.Spatial}[r.IntN(2)]
		}
		if opt.Redundancy == plan.Parity {
			opt.Parity = r.IntN(5)
		}
		if _, err := plan.New(g, opt); err != nil {
			continue // that it can't be split so is tested in package plan
		}
		i++
		p := prepareBy(t, g, opt)
		patterns := sets(p.plan.N(), opt.Parity)
		if opt.Redundancy == plan.None {
			patterns = [][]int{nil}
		}
		r.Shuffle(len(patterns), func(i, j int) { patterns[i], patterns[j] = patterns[j], patterns[i] })
		t.Run(fmt.Sprintf("%d %s %s k=%d r=%d", i, opt.Split, opt.Redundancy, opt.Data, opt.Parity), func(t *testing.T) {
			for _, dead := range patterns[:min(most, len(patterns))] {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead...)
					decoded += l.exact(dead...)
				})
			}
		})
	}
	if decoded == 0 {
		t.Error("no slice was decoded")
	}
}

// Sums beyond the guard of 32 bits, as large as they can be, are recovered in 64.
// Parities of tiles need these too.
func TestLargestQuantisedSums(t *testing.T) {
	r := random(t)
	const channels, k = 700, 8
	extreme := func(shape ...int) *tensor.Tensor {
		w := tensor.New(tensor.Int8, shape...)
		for i := range w.Data {
			w.Data[i] = 127 + byte(r.IntN(2)) // −128
		}
		return w
	}
	dense, conv := newBuilder(3, channels), newBuilder(1, channels, k, 2)
	dense.node("MatMulInteger", nil, "x", dense.constant(extreme(channels, 2*k+1)))
	conv.node("ConvInteger", nil, "x", conv.constant(extreme(3, channels, 1, 1)))
	for b, split := range map[*builder]string{dense: plan.Output, conv: plan.Spatial} {
		b.g.Inputs[0].Type = tensor.Uint8
		g := b.graph()
		for parities := 3; parities <= 4; parities++ {
			p := prepareBy(t, g, plan.Options{Data: k, Parity: parities, Split: split})
			layer := &p.plan.Layers[0]
			if coded := layer.Slice(k).Integers; coded.Result != tensor.Int64 {
				t.Fatalf("%s: parities are %+v", split, coded)
			}
			for _, dead := range [][]int{r.Perm(k)[:parities], r.Perm(k + parities)[:parities]} {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead...)
					x := tensor.New(tensor.Uint8, g.Inputs[0].Shape...)
					for i := range x.Data {
						x.Data[i] = 255
					}
					l.exactly([]*tensor.Tensor{x}, dead...)
				})
			}
		}
	}
}

// Whichever worker answers wrongly, an audit finds it, the answer is a local run's,
// and with two parities it is found without computing anything here.
func TestQuantisedAudit(t *testing.T) {
	for _, r := range []int{1, 2, 4} {
		p := model(t, "quantised", 2, 3, r)
		for liar := range p.plan.N() {
			inLab(t, p, coordinator.Config{Audit: 1}, func(t *testing.T, l *lab) {
				l.start()
				if err := l.c.Emulate(context.Background(), liar, &frame.EmulateInfo{Speed: 1, Wrong: 1}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				in, want := l.request(t, l.r)
				var a coordinator.Answer
				if err := l.c.Infer(context.Background(), in, &a); err != nil || !same(a.Outputs, want) {
					t.Errorf("r=%d, w%d lies: %v, another answer than a local run's", r, liar+1, err)
				}
				if len(a.Wrong) != 1 || a.Wrong[0].Worker != liar || len(a.Recomputed) != 0 {
					t.Errorf("r=%d, w%d lies: found %v, recomputed %v", r, liar+1, a.Wrong, a.Recomputed)
				}
			})
		}
	}
}

// After an update the workers' shards are those of a new deployment, and answers
// those of the changed model, with a worker lost too.
func TestUpdateQuantisedRows(t *testing.T) {
	for _, split := range []string{plan.Auto, plan.Input, plan.Spatial} {
		for _, node := range []string{"QLinearConv0", "QLinearConv1", "MatMulInteger3"} {
			p := prepareBy(t, quantisedModel(1), plan.Options{Data: 3, Parity: 2, Split: split})
			layer := slices.IndexFunc(p.plan.Layers, func(l plan.Layer) bool { return l.Node == node })
			if layer < 0 {
				continue
			}
			inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
				for _, m := range l.machines {
					m.dir = t.TempDir()
				}
				l.start()
				n := l.g.Nodes[slices.IndexFunc(l.g.Nodes, func(n *graph.Node) bool { return n.Name == node })]
				g := *l.g
				g.Constants = maps.Clone(g.Constants)
				at := 3
				if n.Op == "MatMulInteger" {
					at = 1
				}
				cols := l.plan.Layers[layer].Linear.Cols
				rows, w := bytesOf(l.r, tensor.Uint8, 2*cols).Data, g.Constants[n.Inputs[at]].Clone()
				for i, b := range rows { // of rows 2 and 3
					if n.Op == "MatMulInteger" {
						w.Data[i%cols*9+2+i/cols] = b
					} else {
						w.Data[2*cols+i] = b
					}
				}
				g.Constants[n.Inputs[at]] = w
				if err := l.c.UpdateQuantisedRows(context.Background(), node, 2, rows); err != nil {
					t.Fatal(err)
				}
				after := *l.prepared
				after.g = &g
				l.prepared = &after
				l.checkDeployed()
				l.exact()
				l.machines[1].halt()
				l.exact(1)
				for says, err := range map[string]error{
					"UpdateQuantisedRows": l.c.UpdateRows(context.Background(), node, 0, make([]float32, cols), nil),
					"do not fit":          l.c.UpdateQuantisedRows(context.Background(), node, 0, rows[1:]),
				} {
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("%s: %v", says, err)
					}
				}
			})
		}
	}
}
