package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// randomLayer is a graph of one layer that can be split.
func randomLayer(t *testing.T, r *rand.Rand) *graph.Graph {
	b := newBuilder(r)
	n := func(most int) int { return 1 + r.IntN(most) }
	batch := 1 + 3*r.IntN(2)
	if r.IntN(2) == 0 {
		return quantisedLayer(t, r)
	}
	switch r.IntN(5) {
	case 0:
		return b.graph(t, b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.input(batch, 70), b.weights(n(50), 70), b.weights()))
	case 1:
		rows := n(50)
		return b.graph(t, b.node("Gemm", nil, b.input(batch, 33), b.weights(33, rows), b.weights(rows)))
	case 2:
		return b.graph(t, b.node("MatMul", nil, b.input(batch, 1, 300), b.weights(300, n(50))))
	case 3:
		channels, size := n(5), n(3)
		attrs := graph.Attrs{"pads": ints(1, 1, 1, 0, 1, 1), "strides": ints(int64(n(2)), int64(n(2)), 1), "dilations": ints(1, 1, int64(n(2)))}
		return b.graph(t, b.node("Conv", attrs, b.input(batch, channels, 4+n(4), 4+n(4), 4+n(4)), b.weights(n(40), channels, size, n(3), 2)))
	default:
		channels, size := n(20), n(3)
		attrs := graph.Attrs{"pads": ints(1, 1, 1, 1), "strides": ints(int64(n(2)), int64(n(2)))}
		return b.graph(t, b.node("Conv", attrs, b.input(batch, channels, 5+n(10), 5+n(10)), b.weights(n(40), channels, size, size)))
	}
}

// operand is random input for a layer.
func operand(r *rand.Rand, l engine.Linear) []byte {
	if l.InputSize() == 4 {
		return fill(r, l.InputLen()).Data
	}
	x := tensor.Alloc(l.InputBytes())
	for i := range x {
		x[i] = byte(r.IntN(256))
	}
	return x
}

// cut returns 0 < … < rows, random.
func cut(r *rand.Rand, rows int) []int {
	at := []int{0}
	for at[len(at)-1] < rows {
		at = append(at, at[len(at)-1]+1+r.IntN(rows-at[len(at)-1]))
	}
	return at
}

// place copies a slice's output [outer,rows,inner] to rows from first on of the
// whole.
func place(l engine.Linear, whole, part []byte, first, rows int) {
	for o := range l.Outer {
		size := l.Inner * l.OutputSize()
		copy(whole[(o*l.Rows+first)*size:], part[o*rows*size:(o+1)*rows*size])
	}
}

func TestSlicesHaveTheBitsOfTheWhole(t *testing.T) {
	r := random(t)
	pool := kernel.NewPool(2)
	defer pool.Close()
	for range 200 {
		g := randomLayer(t, r)
		l, w, err := engine.LinearOf(g, g.Nodes[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(w) != l.WeightBytes() {
			t.Fatalf("%d bytes of weights for %+v", len(w), l)
		}
		x := operand(r, l)
		whole := tensor.Alloc(l.OutputBytes())
		all, err := engine.NewSlice(l, w)
		if err != nil {
			t.Fatal(err)
		}
		all.Run(nil, whole, x, nil)
		got := tensor.Alloc(len(whole))
		if l.Conv.Groups > 1 {
			continue // rows cannot be cut anywhere
		}
		cuts := cut(r, l.Rows)
		for i, first := range cuts[:len(cuts)-1] {
			rows := cuts[i+1] - first
			s, err := engine.NewSlice(l.OfRows(rows), w[first*l.RowBytes():(first+rows)*l.RowBytes()])
			if err != nil {
				t.Fatal(err)
			}
			part := tensor.Alloc(l.OfRows(rows).OutputBytes())
			if !s.Run(pool, part, x, new(atomic.Bool)) {
				t.Fatal("stopped without being told to")
			}
			place(l, got, part, first, rows)
		}
		if !bytes.Equal(got, whole) {
			t.Fatalf("%+v cut at %v: %v, whole %v", l, cuts, got, whole)
		}
	}
}

// A matrix–vector product of many weights is computed in blocks of rows.
func TestLargeSliceHasTheBitsOfItsRows(t *testing.T) {
	const rows, cols = 7, 1<<20 + 3
	l := engine.Linear{Op: "Gemm", Rows: rows, Cols: cols, Outer: 1, Inner: 1}
	r := random(t)
	w, x := fill(r, rows, cols).F32(), fill(r, cols).F32()
	var whole, row [rows]float32
	all, err := engine.NewSlice(l, tensor.Bytes(w))
	if err != nil {
		t.Fatal(err)
	}
	all.Run(nil, tensor.Bytes(whole[:]), tensor.Bytes(x), nil)
	for i := range rows {
		s, err := engine.NewSlice(l.OfRows(1), tensor.Bytes(w[i*cols:(i+1)*cols]))
		if err != nil {
			t.Fatal(err)
		}
		s.Run(nil, tensor.Bytes(row[i:i+1]), tensor.Bytes(x), nil)
	}
	if row != whole {
		t.Errorf("rows apart %v, together %v", row, whole)
	}
}

func TestSliceStops(t *testing.T) {
	r := random(t)
	var stop atomic.Bool
	stop.Store(true)
	for range 20 {
		g := randomLayer(t, r)
		l, w, err := engine.LinearOf(g, g.Nodes[0])
		if err != nil {
			t.Fatal(err)
		}
		s, err := engine.NewSlice(l, w)
		if err != nil {
			t.Fatal(err)
		}
		if s.Run(nil, tensor.Alloc(l.OutputBytes()), tensor.Alloc(l.InputBytes()), &stop) {
			t.Errorf("%+v ran on", l)
		}
	}
}

func TestSliceRunsFromSeveralGoroutines(t *testing.T) {
	r := random(t)
	pool := kernel.NewPool(2)
	defer pool.Close()
	for range 10 {
		g := randomLayer(t, r)
		l, w, err := engine.LinearOf(g, g.Nodes[0])
		if err != nil {
			t.Fatal(err)
		}
		s, err := engine.NewSlice(l, w)
		if err != nil {
			t.Fatal(err)
		}
		x := operand(r, l)
		var results [4][]byte
		var wg sync.WaitGroup
		for i := range results {
			results[i] = tensor.Alloc(l.OutputBytes())
			wg.Go(func() { s.Run(pool, results[i], x, nil) })
		}
		wg.Wait()
		for i := range results {
			if !bytes.Equal(results[i], results[0]) {
				t.Fatalf("%+v: goroutine %d has %v, goroutine 0 %v", l, i, results[i], results[0])
			}
		}
	}
}

func TestLinearOfRefuses(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		build        func(b *builder) string
	}{
		{"weights from the request", "not constant", gemm([]int{4, 5}, []int{5, 6}, nil, true, true, false, nil)},
		{"transA", "input is transposed", gemm([]int{5, 4}, []int{5, 6}, nil, true, false, false, graph.Attrs{"transA": int64(1)})},
		{"weights on the left", "not constant", func(b *builder) string { return b.node("MatMul", nil, b.weights(4, 8), b.input(8, 5)) }},
		{"stack of weights", "3-dimensional", func(b *builder) string { return b.node("MatMul", nil, b.input(2, 3, 8), b.weights(2, 8, 5)) }},
		{"other operators", "operator Relu", plain("Relu", nil, []int{3})},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(random(t))
			g := b.graph(t, c.build(b))
			n := g.Nodes[0]
			_, w, err := engine.LinearOf(g, n)
			if !errors.Is(err, engine.ErrNotLinear) || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), n.Name) || w != nil {
				t.Errorf("error %v, want one that names %s and says %q", err, n.Name, c.reason)
			}
			if _, err := engine.Compile(g, engine.Options{Split: map[string]int{n.Name: 0}}); !errors.Is(err, engine.ErrNotLinear) {
				t.Errorf("compiled with the node split: %v", err)
			}
		})
	}
}

// Only dense nodes that read the same input are one layer.
func TestNodesThatAreNotOneLayer(t *testing.T) {
	for _, split := range []map[string]int{{"a": 0, "b": 0}, {"a": 0, "c": 0}} {
		b := newBuilder(random(t))
		x, y := b.input(2, 3, 5, 5), b.input(2, 5)
		b.node("MatMul", nil, y, b.weights(5, 4))
		b.node("MatMul", nil, b.input(2, 5), b.weights(5, 4))
		last := b.node("Conv", nil, x, b.weights(3, 3, 3, 3))
		g := b.graph(t, last)
		for i, name := range []string{"a", "b", "c"} {
			g.Nodes[i].Name = name
		}
		if _, err := engine.Compile(g, engine.Options{Split: split}); !errors.Is(err, engine.ErrNotLinear) || !strings.Contains(err.Error(), "does not take the same input") {
			t.Errorf("%v: %v", split, err)
		}
	}
}

func TestLinearOfViewsWeightsThatLieByRows(t *testing.T) {
	b := newBuilder(random(t))
	g := b.graph(t, b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.input(1, 70), b.weights(5, 70)),
		b.node("Conv", nil, b.input(1, 2, 5, 5), b.weights(3, 2, 3, 3)))
	for _, n := range g.Nodes {
		_, w, err := engine.LinearOf(g, n)
		if err != nil {
			t.Fatal(err)
		}
		if &w[0] != &g.Constants[n.Inputs[1]].Data[0] {
			t.Errorf("%s: weights were copied", n.Op)
		}
	}
}

// A Linear comes from files: whatever it says, NewSlice answers with an error
// and not with a panic.
func TestLinearIsValidated(t *testing.T) {
	good := kernel.Conv3D{Conv2D: kernel.Conv2D{
		N: 1, C: 2, H: 6, W: 6, M: 4, KH: 3, KW: 3, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 1, OH: 4, OW: 4,
	}}
	conv := func(change func(l *engine.Linear)) engine.Linear {
		l := engine.Linear{Op: "Conv", Rows: 4, Cols: 18, Outer: 1, Inner: 16, Conv: good}
		change(&l)
		return l
	}
	for _, c := range []struct {
		name   string
		linear engine.Linear
		ok     bool
	}{
		{"dense", engine.Linear{Op: "Gemm", Rows: 2, Cols: 3, Outer: 4, Inner: 1}, true},
		{"conv", conv(func(*engine.Linear) {}), true},
		{"nothing", engine.Linear{}, false},
		{"unknown operator", engine.Linear{Op: "Relu", Rows: 2, Cols: 3, Outer: 4, Inner: 1}, false},
		{"no rows", engine.Linear{Op: "Gemm", Rows: 0, Cols: 3, Outer: 4, Inner: 1}, false},
		{"negative batch", engine.Linear{Op: "Gemm", Rows: 2, Cols: 3, Outer: -4, Inner: 1}, false},
		{"dense with an inner size", engine.Linear{Op: "MatMul", Rows: 2, Cols: 3, Outer: 4, Inner: 2}, false},
		{"dense with a geometry", engine.Linear{Op: "MatMul", Rows: 2, Cols: 3, Outer: 4, Inner: 1, Conv: good}, false},
		{"product overflows", engine.Linear{Op: "Gemm", Rows: math.MaxInt / 4, Cols: 8, Outer: 1, Inner: 1}, false},
		{"output overflows", engine.Linear{Op: "Gemm", Rows: math.MaxInt / 64, Cols: 1, Outer: 64, Inner: 1}, false},
		{"conv of another height", conv(func(l *engine.Linear) { l.Rows = 5 }), false},
		{"conv of another width", conv(func(l *engine.Linear) { l.Cols = 9 }), false},
		{"conv of another map", conv(func(l *engine.Linear) { l.Inner = 25 }), false},
		{"conv of another batch", conv(func(l *engine.Linear) { l.Outer = 2 }), false},
		{"conv without groups", conv(func(l *engine.Linear) { l.Conv.Groups = 0 }), false},
		{"conv without stride", conv(func(l *engine.Linear) { l.Conv.StrideH = 0 }), false},
		{"conv with a huge pad", conv(func(l *engine.Linear) { l.Conv.PadTop = math.MaxInt }), false},
		{"conv of one deep map", conv(deepen), true},
		{"conv of a depth without a filter's", conv(func(l *engine.Linear) { l.Conv.D = 1 }), false},
		{"conv of a filter's depth only", conv(func(l *engine.Linear) { l.Conv.KD = 1 }), false},
		{"conv of another depth", conv(func(l *engine.Linear) { deepen(l); l.Conv.OD, l.Inner = 2, 32 }), false},
		{"conv of a huge depth", conv(func(l *engine.Linear) {
			deepen(l)
			l.Conv.D, l.Conv.OD, l.Inner = 1<<30, 1<<30, 1<<(bits.UintSize-32)
		}), false},
		{"conv of a huge filter", conv(func(l *engine.Linear) {
			deepen(l)
			l.Conv.D, l.Conv.KD, l.Conv.C, l.Cols = 1<<30, 1<<30, 1<<30, 1<<30
		}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := json.Marshal(c.linear)
			if err != nil {
				t.Fatal(err)
			}
			var l engine.Linear
			if err := json.Unmarshal(text, &l); err != nil || l != c.linear {
				t.Fatalf("JSON gives %+v, %v", l, err)
			}
			if err := l.Validate(); (err == nil) != c.ok {
				t.Errorf("Validate: %v, want ok %v", err, c.ok)
			}
			if _, err := engine.NewSlice(l, make([]byte, 288)); (err == nil) != (c.ok && l.WeightBytes() == 288) {
				t.Errorf("NewSlice: %v", err)
			}
		})
	}
}

// deepen gives a convolution's maps a depth of 1.
func deepen(l *engine.Linear) {
	g := &l.Conv
	g.D, g.KD, g.StrideD, g.DilationD, g.OD = 1, 1, 1, 1, 1
}

// sliced is a Remote whose layers are cut into slices, each run on its own.
type sliced struct {
	layers []engine.Linear
	slices [][]*engine.Slice
	first  [][]int // rows, one more than slices
}

// newSliced cuts every layer of g whose rows can be cut anywhere, and returns the numbers
// under which the remote knows them.
func newSliced(t testing.TB, r *rand.Rand, g *graph.Graph) (*sliced, map[string]int) {
	t.Helper()
	remote, split := &sliced{}, map[string]int{}
	for _, n := range g.Nodes {
		l, w, err := engine.LinearOf(g, n)
		if errors.Is(err, engine.ErrNotLinear) || l.Conv.Groups > 1 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		split[n.Name] = len(remote.layers)
		at := cut(r, l.Rows)
		var slices []*engine.Slice
		for i, first := range at[:len(at)-1] {
			s, err := engine.NewSlice(l.OfRows(at[i+1]-first), w[first*l.RowBytes():at[i+1]*l.RowBytes()])
			if err != nil {
				t.Fatal(err)
			}
			slices = append(slices, s)
		}
		remote.layers, remote.slices, remote.first = append(remote.layers, l), append(remote.slices, slices), append(remote.first, at)
	}
	return remote, split
}

func (s *sliced) Linear(_ context.Context, layer int, dst, x []byte, zero int32) error {
	l := s.layers[layer]
	if len(x) < l.InputBytes() {
		x = append(slices.Clone(x), byte(zero))
	}
	for i, slice := range s.slices[layer] {
		first, rows := s.first[layer][i], s.first[layer][i+1]-s.first[layer][i]
		part := tensor.Alloc(l.OfRows(rows).OutputBytes())
		slice.Run(nil, part, x, nil)
		place(l, dst, part, first, rows)
	}
	return nil
}
