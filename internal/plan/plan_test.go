package plan

import (
	"testing"

	"starling/internal/engine"
)

// Whatever the numbers of rows and slices: the data slices cover every row
// once, in order, none is empty, and no slice is higher than a parity slice.
func TestRowsCoverTheLayer(t *testing.T) {
	for rows := 1; rows <= 40; rows++ {
		for k := 1; k <= rows; k++ {
			l := Layer{Linear: engine.Linear{Rows: rows}, data: k}
			next := 0
			for j := range k {
				begin, end := l.Rows(j)
				if begin != next || end <= begin || end-begin > l.Height(k) || l.Height(j) != end-begin {
					t.Fatalf("rows=%d k=%d: slice %d is [%d,%d), height %d, parity height %d",
						rows, k, j, begin, end, l.Height(j), l.Height(k))
				}
				if l.Height(k)-l.Height(j) > 1 {
					t.Fatalf("rows=%d k=%d: slice %d is uneven", rows, k, j)
				}
				next = end
			}
			if next != rows {
				t.Fatalf("rows=%d k=%d: covered %d", rows, k, next)
			}
		}
	}
}

func TestParityRotates(t *testing.T) {
	p := &Plan{Data: 4, Parity: 1}
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
