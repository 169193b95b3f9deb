package engine_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"starling/internal/digits"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/rewrite"
	"starling/internal/tensor"
	"starling/internal/zoo"
)

// pruning says what of a layer is kept: the blocks of high rows by wide columns
// with the greatest sums of magnitudes, a share of all.
type pruning struct {
	high, wide int
	keep       float64
}

// apply prunes w [rows,k]. Pruned weights are zeros of their own sign, as a mask
// that multiplies makes them.
func (p pruning) apply(w []float32, rows, k int) {
	type block struct {
		r, c int
		sum  float64
	}
	var blocks []block
	each := func(b block, f func(v *float32)) {
		for r := b.r; r < min(b.r+p.high, rows); r++ {
			for c := b.c; c < min(b.c+p.wide, k); c++ {
				f(&w[r*k+c])
			}
		}
	}
	for r := 0; r < rows; r += p.high {
		for c := 0; c < k; c += p.wide {
			b := block{r: r, c: c}
			each(b, func(v *float32) { b.sum += max(float64(*v), -float64(*v)) })
			blocks = append(blocks, b)
		}
	}
	slices.SortFunc(blocks, func(a, b block) int { return cmp.Compare(b.sum, a.sum) })
	for _, b := range blocks[int(p.keep*float64(len(blocks))):] {
		each(b, func(v *float32) { *v *= 0 })
	}
}

// prune prunes convolutions by the first and dense layers by the second.
func prune(t testing.TB, g *graph.Graph, conv, dense pruning) {
	t.Helper()
	for _, n := range g.Nodes {
		l, w, err := engine.LinearOf(g, n)
		if err != nil {
			continue
		}
		how := dense
		if l.Op == "Conv" {
			how = conv
		}
		how.apply(tensor.View[float32](w), l.Rows, l.Cols)
		if _, again, _ := engine.LinearOf(g, n); &again[0] != &w[0] {
			t.Fatalf("%s: the weights do not lie by rows", n.Name)
		}
	}
}

// The blocks that the kernels leave out, and single weights.
var (
	blocks = [2]pruning{{high: 4, wide: 1}, {high: 1, wide: 16}}
	single = [2]pruning{{high: 1, wide: 1}, {high: 1, wide: 1}}
)

// prepared is a model pruned, simplified and compiled.
func prepared(t testing.TB, g *graph.Graph, how [2]pruning, keep float64) *engine.Session {
	t.Helper()
	if err := rewrite.Simplify(g); err != nil {
		t.Fatal(err)
	}
	if keep < 1 {
		how[0].keep, how[1].keep = keep, keep
		prune(t, g, how[0], how[1])
	}
	program, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return program.NewSession()
}

// TestPrunedAccuracy counts the digits that the trained network of this repository
// still reads right when parts of it are pruned, without training it again.
func TestPrunedAccuracy(t *testing.T) {
	images, labels := digits.Images(), digits.Labels()
	const size = digits.Rows * digits.Cols
	for _, c := range []struct {
		how   [2]pruning
		keep  float64
		right int // of 200, found once: no kernel or level may change it
	}{{single, 1, 200}, {blocks, 0.8, 197}, {blocks, 0.5, 96}, {blocks, 0.2, 32}, {single, 0.5, 196}, {single, 0.1, 16}} {
		g, err := onnx.DecodeBytes(digits.Model)
		if err != nil {
			t.Fatal(err)
		}
		s := prepared(t, g, c.how, c.keep)
		right := 0
		for i := range digits.Count {
			x := tensor.New(tensor.Float32, 1, 1, digits.Rows, digits.Cols)
			for p, v := range images[i*size : (i+1)*size] {
				x.F32()[p] = float32(v) / 255
			}
			out, err := s.Run(t.Context(), nil, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			scores := out[0].F32()
			if slices.Index(scores, slices.Max(scores)) == int(labels[i]) {
				right++
			}
		}
		if right != c.right {
			t.Errorf("%.0f %% of %d×%d and %d×%d blocks kept: %d right, want %d", 100*c.keep, c.how[0].high, c.how[0].wide, c.how[1].high, c.how[1].wide, right, c.right)
		}
	}
}

// BenchmarkPruned runs AlexNet whole and pruned, in turn, on one thread.
func BenchmarkPruned(b *testing.B) {
	for _, c := range []struct {
		name string
		how  [2]pruning
	}{{"blocks", blocks}, {"single", single}} {
		for _, keep := range []float64{0.5, 0.3, 0.2, 0.1} {
			b.Run(fmt.Sprintf("alexnet/%s/keep%.0f", c.name, 100*keep), func(b *testing.B) {
				var sessions [2]*engine.Session
				var inputs []*tensor.Tensor
				for i, share := range []float64{1, keep} {
					g, err := zoo.Build("alexnet", 1)
					if err != nil {
						b.Fatal(err)
					}
					inputs = []*tensor.Tensor{fill(random(b), g.Inputs[0].Shape...)}
					sessions[i] = prepared(b, g, c.how, share)
				}
				best := [2]time.Duration{time.Hour, time.Hour}
				for b.Loop() {
					for i, s := range sessions {
						start := time.Now()
						if _, err := s.Run(b.Context(), nil, inputs); err != nil {
							b.Fatal(err)
						}
						best[i] = min(best[i], time.Since(start))
					}
				}
				b.ReportMetric(float64(best[1])/float64(best[0]), "pruned/whole")
				b.ReportMetric(best[0].Seconds()*1e3, "whole-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
