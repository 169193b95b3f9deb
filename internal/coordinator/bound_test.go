package coordinator_test

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/parity"
	"starling/internal/tensor"
)

// With weights that are no whole numbers a decoded result differs from the
// computed one, by Solution.Bound at most; all others are equal. Every set of
// dead workers that the code covers.
func TestDecodedWithinBound(t *testing.T) {
	fill := func(b *builder, shape ...int) string {
		w := whole(b.r, shape...)
		for i := range w.F32() {
			w.F32()[i] = float32(b.r.NormFloat64())
		}
		name := fmt.Sprintf("c%d", len(b.g.Constants))
		b.g.Constants[name] = w
		return name
	}
	dense := func(batch int) *graph.Graph {
		b := newBuilder(batch, 301)
		b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, fill(b, 31, 301))
		return b.graph()
	}
	conv := newBuilder(2, 5, 9, 8)
	conv.node("Conv", graph.Attrs{"pads": []int64{1, 1, 1, 1}, "strides": []int64{2, 1}}, conv.last, fill(conv, 10, 5, 3, 3))
	convolution := conv.graph()
	for _, c := range []struct {
		name string
		g    *graph.Graph
		k, r int
	}{
		{"dense", dense(1), 3, 1},
		{"dense, batch of 3", dense(3), 3, 1},
		{"convolution", convolution, 3, 1},
		{"dense, two parities", dense(1), 4, 2},
		{"convolution, two parities", convolution, 3, 2},
		{"dense, batch of 2, three parities", dense(2), 3, 3},
		{"dense, four parities", dense(1), 2, 4},
	} {
		p := prepare(t, c.g, c.k, c.r)
		for set := range uint(1) << (c.k + c.r) {
			if bits.OnesCount(set) > c.r || set == 0 {
				continue
			}
			var dead []int
			for w := range c.k + c.r {
				if set>>w&1 == 1 {
					dead = append(dead, w)
				}
			}
			t.Run(fmt.Sprintf("%s, %v dead", c.name, dead), func(t *testing.T) {
				inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
					l.start(dead...)
					for range 3 {
						checkBound(t, l, dead)
					}
				})
			})
		}
	}
}

// Where the sum of the results overflows, though none of them does, nothing can
// be decoded: the coordinator computes the slice, and the answer is a local
// run's.
func TestOverflowIsNotDecoded(t *testing.T) {
	const k = 4
	b := newBuilder(1, 2)
	w := tensor.New(tensor.Float32, 2*k, 2)
	for i := range w.F32() {
		w.F32()[i] = 1e30
	}
	b.g.Constants["w"] = w
	b.node("Gemm", graph.Attrs{"transB": int64(1)}, b.last, "w")
	p := prepare(t, b.graph(), k, 1)
	in := []*tensor.Tensor{tensor.FromSlice([]float32{5e7, 5e7}, 1, 2)} // each row gives 1e38, four of them too much
	want := p.local(t, in)
	for dead := range k {
		inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
			l.start(dead)
			var a coordinator.Answer
			if err := l.c.Infer(t.Context(), in, &a); err != nil || !same(a.Outputs, want) {
				t.Errorf("w%d dead: %v, %v", dead+1, a.Outputs[0].F32(), err)
			}
			if len(a.Decoded) != 0 || len(a.Recomputed) != 1 {
				t.Errorf("w%d dead: %+v", dead+1, a)
			}
		})
	}
}

// checkBound runs a request without some workers. Its one layer is y = W·x; the
// same layer with |W| and |x| gives each row's |W|·|x|. That is computed in
// float32 too, of K products all positive, so it may be short by γ_K, less than
// 1 in 10,000 for K ≤ 1,000.
func checkBound(t *testing.T, l *lab, dead []int) {
	t.Helper()
	in := []*tensor.Tensor{normal(l.r, l.g.Inputs[0].Shape...)}
	want := l.local(t, in)[0].F32()
	var a coordinator.Answer
	if err := l.c.Infer(context.Background(), in, &a); err != nil {
		t.Fatal(err)
	}
	layer := l.plan.Layers[0]
	k, n := layer.K(), layer.N()
	var missing []int
	have := make([]bool, n)
	for s := range n {
		have[s] = !slices.Contains(dead, l.plan.WorkerOf(0, s))
		if !have[s] && s < k {
			missing = append(missing, s)
		}
	}
	if len(a.Decoded) != len(missing) || len(a.Recomputed) != 0 {
		t.Fatalf("decoded %v, recomputed %v; missing %v", a.Decoded, a.Recomputed, missing)
	}
	solutions := solve(t, k, n-k, have)
	sums := absolute(t, l, in)
	rows, inner := layer.Linear.Rows, layer.Linear.Inner
	differ, decoded := false, 0
	sumAbs := make([]float64, k)
	for i, got := range a.Outputs[0].F32() {
		row := i / inner % rows
		at := slices.IndexFunc(missing, func(j int) bool { return row >= begin(layer.Rows(j)) && row < end(layer.Rows(j)) })
		if at < 0 {
			if got != want[i] {
				t.Fatalf("row %d, not decoded: %v, want %v", row, got, want[i])
			}
			continue
		}
		for j := range k {
			from, to := layer.Rows(j)
			sumAbs[j] = 0
			if r := from + row - begin(layer.Rows(missing[at])); r < to {
				sumAbs[j] = 1.0001 * float64(sums[i+(r-row)*inner])
			}
		}
		bound := 0.0
		for _, s := range solutions {
			bound = max(bound, s.Bound(at, layer.Linear.Cols, sumAbs))
		}
		off := math.Abs(float64(got) - float64(want[i]))
		if off > bound {
			t.Errorf("row %d: %v, want %v: %g off, bound %g", row, got, want[i], off, bound)
		}
		differ = differ || off > 0
		decoded++
	}
	// A few sums of a few products may happen to round to the same.
	if many := decoded >= 10 && layer.Linear.Cols > 40 && k > 1; many && !differ {
		t.Errorf("decoded %v, results differ: %v", a.Decoded, differ)
	}
}

// solve gives the solutions by every choice of just enough parities: which of
// them came first is a matter of chance.
func solve(t *testing.T, k, r int, have []bool) []*parity.Solution {
	t.Helper()
	code, err := parity.New(k, r)
	if err != nil {
		t.Fatal(err)
	}
	var all []*parity.Solution
	for set := range uint(1) << r {
		some := slices.Clone(have)
		count := 0
		for i := range some {
			some[i] = some[i] && (i < k || set>>(i-k)&1 == 1)
			if some[i] {
				count++
			}
		}
		if count != k {
			continue
		}
		s := new(parity.Solution)
		if err := code.Solve(s, some); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func begin(from, _ int) int { return from }
func end(_, to int) int     { return to }

// absolute runs the model's layer with the absolute values of its weights and
// inputs.
func absolute(t *testing.T, l *lab, in []*tensor.Tensor) []float32 {
	t.Helper()
	abs := func(x *tensor.Tensor) *tensor.Tensor {
		y := x.Clone()
		for i, v := range y.F32() {
			y.F32()[i] = float32(math.Abs(float64(v)))
		}
		return y
	}
	g := *l.g
	g.Constants = map[string]*tensor.Tensor{}
	for name, w := range l.g.Constants {
		g.Constants[name] = abs(w)
	}
	positive := &prepared{g: &g}
	return positive.local(t, []*tensor.Tensor{abs(in[0])})[0].F32()
}

func normal(r *rand.Rand, shape ...int) *tensor.Tensor {
	x := tensor.New(tensor.Float32, shape...)
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	return x
}
