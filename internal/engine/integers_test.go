package engine_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// bytesOf is a constant of random bytes, int8 or uint8.
func (b *builder) bytesOf(typ tensor.DType, shape ...int) string {
	t := tensor.New(typ, shape...)
	for i := range t.Data {
		t.Data[i] = byte(b.r.IntN(256))
	}
	return b.constant(t)
}

// integers adds an input of bytes.
func (b *builder) integers(typ tensor.DType, shape ...int) string {
	name := b.input(shape...)
	b.g.Inputs[len(b.g.Inputs)-1].Type = typ
	return name
}

func (b *builder) scales(shape ...int) string {
	t := fill(b.r, shape...)
	for i, v := range t.F32() {
		t.F32()[i] = 0.01 * (1.5 + v)
	}
	return b.constant(t)
}

// zeroPoints are none, one or one for each row, of which some are all in the middle.
func (b *builder) zeroPoints(typ tensor.DType, rows int) string {
	middle := tensor.New(typ)
	middle.Data[0] = 128
	switch b.r.IntN(4) {
	case 0:
		return b.constant(middle)
	case 1:
		return b.bytesOf(typ, rows)
	default:
		return b.bytesOf(typ)
	}
}

// quantised adds a layer over bytes x [batch,…], of any operator, which may leave
// sums or bytes.
func (b *builder) quantised(x string, shape ...int) string {
	type8 := func() tensor.DType { return []tensor.DType{tensor.Int8, tensor.Uint8}[b.r.IntN(2)] }
	n := func(most int) int { return 1 + b.r.IntN(most) }
	xType, wType := tensor.Uint8, type8()
	for _, in := range b.g.Inputs {
		if in.Name == x {
			xType = in.Type
		}
	}
	rows, channels := n(30), shape[len(shape)-1]
	weights, attrs := []int{channels, rows}, graph.Attrs(nil)
	ops := [2]string{"MatMulInteger", "QLinearMatMul"}
	if len(shape) == 4 {
		ops, channels = [2]string{"ConvInteger", "QLinearConv"}, shape[1]
		attrs = graph.Attrs{"pads": ints(1, 0, 1, 1), "strides": ints(int64(n(2)), int64(n(2))), "group": int64(1)}
		weights = []int{rows, channels, n(3), n(3)}
		if b.r.IntN(3) == 0 {
			rows = channels * n(2)
			attrs["group"], weights[0], weights[1] = int64(channels), rows, 1
		}
	}
	w, xz := b.bytesOf(wType, weights...), b.bytesOf(xType)
	if b.r.IntN(2) == 0 {
		in := []string{x, w, xz}
		if b.r.IntN(2) == 0 {
			in = append(in, b.zeroPoints(wType, rows))
		}
		return b.node(ops[0], attrs, in...)
	}
	in := []string{x, b.scales(), xz, w, b.scales(rows), b.zeroPoints(wType, rows), b.scales(), b.bytesOf(type8())}
	if len(shape) == 4 && b.r.IntN(2) == 0 {
		bias := tensor.New(tensor.Int32, rows)
		for i := range tensor.Of[int32](bias) {
			tensor.Of[int32](bias)[i] = int32(b.r.IntN(20000) - 10000)
		}
		in = append(in, b.constant(bias))
	}
	// One zero point belongs to one scale.
	if z := b.g.Constants[in[5]]; len(z.Shape) == 0 {
		in[4] = b.scales()
	}
	return b.node(ops[1], attrs, in...)
}

// quantisedLayer is a graph of one layer over integers that can be split.
func quantisedLayer(t *testing.T, r *rand.Rand) *graph.Graph {
	b := newBuilder(r)
	b.g.Opset = 21
	typ := []tensor.DType{tensor.Int8, tensor.Uint8}[r.IntN(2)]
	shape := []int{1 + 3*r.IntN(2), 1 + r.IntN(20), 5 + r.IntN(10), 5 + r.IntN(10)}
	if r.IntN(2) == 0 {
		shape = []int{shape[0], 1 + r.IntN(300)}
	}
	return b.graph(t, b.quantised(b.integers(typ, shape...), shape...))
}

// noise is random input for a graph, of all values of its types.
func noise(r *rand.Rand, g *graph.Graph) []*tensor.Tensor {
	in := inputs(r, g)
	for _, x := range in {
		if x.Type.Size() == 1 {
			for i := range x.Data {
				x.Data[i] = byte(r.IntN(256))
			}
		}
	}
	return in
}

// TestSplitQuantisedLayers runs layers of which a remote computes the sums.
func TestSplitQuantisedLayers(t *testing.T) {
	r := random(t)
	for range 300 {
		g := quantisedLayer(t, r)
		in := noise(r, g)
		remote, split := newSliced(t, r, g)
		if len(split) == 0 {
			continue // grouped
		}
		same(t, g.Nodes[0].Op+" split", run(t, g, engine.Options{Split: split}, remote, in), run(t, g, engine.Options{}, nil, in))
	}
}

// Several products of one input and zero point are one layer.
func TestQuantisedNodesThatReadOneInput(t *testing.T) {
	r := random(t)
	b := newBuilder(r)
	b.g.Opset = 21
	x := b.input(4, 20)
	b.g.Nodes = append(b.g.Nodes, &graph.Node{Name: "dynamic", Op: "DynamicQuantizeLinear", Inputs: []string{x}, Outputs: []string{"q", "scale", "zero"}})
	var outputs []string
	for _, rows := range []int{7, 5} {
		outputs = append(outputs, b.node("MatMulInteger", nil, "q", b.bytesOf(tensor.Int8, 20, rows), "zero"))
	}
	g := b.graph(t, outputs...)
	nodes := g.Nodes[1:]
	l, w, err := engine.LinearOf(g, nodes...)
	if err != nil || l.Rows != 12 || len(w) != 240 {
		t.Fatalf("%+v of %d weights, %v", l, len(w), err)
	}
	slice, err := engine.NewSlice(l, w)
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(r, g)
	remote := &sliced{layers: []engine.Linear{l}, slices: [][]*engine.Slice{{slice}}, first: [][]int{{0, 12}}}
	split := map[string]int{nodes[0].Name: 0, nodes[1].Name: 0}
	same(t, "jointly", run(t, g, engine.Options{Split: split}, remote, in), run(t, g, engine.Options{}, nil, in))
	allocatesNothing(t, compile(t, g, engine.Options{Split: split}), preset{}, in)
}

// plainSums computes the sums of a dense layer as Integers defines them.
func plainSums(l engine.Linear, w, x []byte) []int64 {
	value := func(t tensor.DType, data []byte, i int) int64 {
		switch t {
		case tensor.Int8:
			return int64(int8(data[i]))
		case tensor.Uint8:
			return int64(data[i])
		case tensor.Int16:
			return int64(tensor.View[int16](data)[i])
		}
		return int64(tensor.View[int32](data)[i])
	}
	zero := int64(0)
	if l.InputSize() == 1 {
		zero = value(l.Integers.Input, x, l.InputLen())
	}
	sums := make([]int64, l.OutputLen())
	for o := range l.Outer {
		for row := range l.Rows {
			for c := range l.Cols {
				sums[o*l.Rows+row] += (value(l.Integers.Weights, w, row*l.Cols+c) - int64(l.Integers.Zero)) *
					(value(l.Integers.Input, x, o*l.Cols+c) - zero)
			}
		}
	}
	return sums
}

// TestWideIntegers runs layers of every type that combinations of weights or of
// inputs need, of all values. A convolution of one cell is the same as a dense layer.
func TestWideIntegers(t *testing.T) {
	r := random(t)
	pool := kernel.NewPool(2)
	defer pool.Close()
	bytes8, wide := []tensor.DType{tensor.Int8, tensor.Uint8}, []tensor.DType{tensor.Int16, tensor.Int32}
	all := slices.Concat(bytes8, wide)
	for _, input := range all {
		for _, weights := range all {
			for _, result := range []tensor.DType{tensor.Int32, tensor.Int64} {
				l := engine.Linear{Op: "MatMul", Rows: 1 + r.IntN(40), Cols: 1 + r.IntN(200), Outer: 1 + 3*r.IntN(2), Inner: 1}
				l.Integers = engine.Integers{Input: input, Weights: weights, Result: result}
				switch weights {
				case tensor.Int8:
					l.Integers.Zero = r.IntN(256) - 128
				case tensor.Uint8:
					l.Integers.Zero = r.IntN(256)
				}
				w, x := tensor.Alloc(l.WeightBytes()), tensor.Alloc(l.InputBytes())
				for _, b := range [][]byte{w, x} {
					for i := range b {
						b[i] = byte(r.IntN(256))
					}
				}
				if weights == tensor.Int32 && r.IntN(2) == 0 { // fits in three bytes
					for i, v := range tensor.View[int32](w) {
						tensor.View[int32](w)[i] = v >> 8
					}
				}
				s, err := engine.NewSlice(l, w)
				if input.Size() > 1 && weights.Size() > 1 {
					if err == nil {
						t.Errorf("%+v is not refused", l.Integers)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				got := tensor.Alloc(l.OutputBytes())
				if !s.Run(pool, got, x, new(atomic.Bool)) {
					t.Fatal("stopped")
				}
				for i, want := range plainSums(l, w, x) {
					if result == tensor.Int32 && int64(tensor.View[int32](got)[i]) != int64(int32(want)) ||
						result == tensor.Int64 && tensor.View[int64](got)[i] != want {
						t.Fatalf("%+v: sum %d is not %d", l, i, want)
					}
				}
				conv := l
				conv.Op, conv.Outer, conv.Inner = "Conv", 1, l.Outer
				conv.Conv.Conv2D = kernel.Conv2D{
					N: 1, C: l.Cols, H: 1, W: l.Outer, M: l.Rows, KH: 1, KW: 1,
					StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 1, OH: 1, OW: l.Outer,
				}
				if l.Outer > 1 {
					continue
				}
				if s, err = engine.NewSlice(conv, w); err != nil {
					t.Fatal(err)
				}
				again := tensor.Alloc(conv.OutputBytes())
				s.Run(nil, again, x, nil)
				if !bytes.Equal(again, got) {
					t.Fatalf("%+v: another result as a convolution", l)
				}
				if allocs := testing.AllocsPerRun(10, func() { s.Run(nil, again, x, nil) }); allocs > 0 {
					t.Errorf("%+v: %v allocations", l.Integers, allocs)
				}
			}
		}
	}
}

func TestIntegersAreValidated(t *testing.T) {
	good := engine.Integers{Input: tensor.Uint8, Weights: tensor.Int8, Zero: -3, Result: tensor.Int32}
	for name, change := range map[string]func(l *engine.Linear){
		"":              func(*engine.Linear) {},
		"float input":   func(l *engine.Linear) { l.Integers.Input = tensor.Float32 },
		"no input":      func(l *engine.Linear) { l.Integers.Input = tensor.Invalid },
		"bool input":    func(l *engine.Linear) { l.Integers.Input = tensor.Bool },
		"unknown input": func(l *engine.Linear) { l.Integers.Input = 200 },
		"bool weights":  func(l *engine.Linear) { l.Integers.Weights = tensor.Bool },
		"both wide": func(l *engine.Linear) {
			l.Integers.Input, l.Integers.Weights, l.Integers.Zero = tensor.Int16, tensor.Int16, 0
		},
		"float result":         func(l *engine.Linear) { l.Integers.Result = tensor.Float32 },
		"zero point too large": func(l *engine.Linear) { l.Integers.Zero = 128 },
		"zero point of int16":  func(l *engine.Linear) { l.Integers.Weights = tensor.Int16 },
		"rows too long":        func(l *engine.Linear) { l.Cols, l.Integers.Result = 33026, tensor.Int64 },
	} {
		l := engine.Linear{Op: "Gemm", Rows: 2, Cols: 3, Outer: 4, Inner: 1, Integers: good}
		change(&l)
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var again engine.Linear
		if err := json.Unmarshal(text, &again); err != nil || again != l {
			t.Errorf("%s: JSON gives %+v, %v", name, again, err)
		}
		if err := l.Validate(); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestQuantisedNodesThatCannotBeSplit(t *testing.T) {
	b := newBuilder(random(t))
	b.g.Opset = 21
	x := b.integers(tensor.Uint8, 3, 5)
	rows := b.node("MatMulInteger", nil, x, b.bytesOf(tensor.Uint8, 5, 4), b.bytesOf(tensor.Uint8, 3))
	g := b.graph(t, rows, b.node("MatMulInteger", nil, x, b.integers(tensor.Uint8, 5, 4)))
	for _, n := range g.Nodes {
		if _, _, err := engine.LinearOf(g, n); err == nil {
			t.Errorf("%s can be split", n.Name)
		}
	}
}
