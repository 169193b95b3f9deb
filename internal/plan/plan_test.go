package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// Whatever the numbers of rows and workers: the data slices cover every row
// once, in order, none is empty, they differ by at most one row, and a parity
// slice is as high as the highest.
func TestRowsCoverTheLayer(t *testing.T) {
	for rows := 1; rows <= 40; rows++ {
		for k := 1; k <= 10; k++ {
			l := Layer{Linear: engine.Linear{Op: "Gemm", Rows: rows, Cols: 2, Outer: 1, Inner: 1}, Kind: Output, Cover: Parity}
			if err := l.fill(holders{make([]int, k), make([]int, 1), slices.Repeat([]float64{1}, k)}, 0); err != nil {
				t.Fatal(err)
			}
			next := 0
			for j := range l.K() {
				begin, end := l.Rows(j)
				if begin != next || end <= begin || end-begin > l.Height(l.K()) || l.Height(j) != end-begin || l.Height(l.K())-l.Height(j) > 1 {
					t.Fatalf("rows=%d k=%d: slice %d is [%d,%d), height %d, parity height %d",
						rows, k, j, begin, end, l.Height(j), l.Height(l.K()))
				}
				next = end
			}
			if next != rows || l.K() != min(k, rows) {
				t.Fatalf("rows=%d k=%d: covered %d in %d slices", rows, k, next, l.K())
			}
		}
	}
}

// A layer whose input or results no frame can carry is refused here, before
// anything is written or sent.
func TestLayersBeyondAFrame(t *testing.T) {
	for _, c := range []struct {
		name           string
		side, channels int
		want           bool
	}{
		{"input of 256 MiB", 8192, 1, true},
		{"input beyond it", 8193, 1, false},
		{"slices of 256 MiB", 4096, 16, true},
		{"slices beyond it", 4097, 16, false},
	} {
		g := &graph.Graph{
			Opset:     13,
			Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 1, c.side, c.side}}}},
			Outputs:   []string{"y"},
			Nodes:     []*graph.Node{{Name: "c", Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"y"}}},
			Constants: map[string]*tensor.Tensor{"w": tensor.New(tensor.Float32, c.channels, 1, 1, 1)},
		}
		if err := g.Prepare(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, err := New(g, Options{Data: min(c.channels, 4), Parity: 1})
		if (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), "layer c") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestParityRotates(t *testing.T) {
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 5}}}},
		Outputs:   []string{"x10"},
		Constants: map[string]*tensor.Tensor{"w": tensor.New(tensor.Float32, 5, 5)},
	}
	last := "x"
	for i := range 10 {
		next := fmt.Sprintf("x%d", i+1)
		g.Nodes = append(g.Nodes, &graph.Node{Name: next, Op: "MatMul", Inputs: []string{last, "w"}, Outputs: []string{next}})
		last = next
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	p, err := New(g, Options{Data: 4, Parity: 1})
	if err != nil {
		t.Fatal(err)
	}
	held := map[int]int{}
	for layer := range 10 {
		seen := map[int]bool{}
		for w := range p.N() {
			s := p.SliceOf(layer, w)
			if p.WorkerOf(layer, s) != w {
				t.Fatalf("layer %d: slice %d of worker %d is said to be with %d", layer, s, w, p.WorkerOf(layer, s))
			}
			seen[s] = true
			if s >= p.Data {
				held[w]++
			}
		}
		if len(seen) != p.N() {
			t.Fatalf("layer %d: slices %v", layer, seen)
		}
	}
	for w := range p.N() {
		if held[w] != 2 {
			t.Errorf("worker %d holds %d parity slices of 10 layers, want 2", w, held[w])
		}
	}
}
