package kernel

import "testing"

// TestCut demands that each element of an output is in one block, and of some
// layers that two threads have as much to do.
func TestCut(t *testing.T) {
	r := newRand(t)
	for range 2000 {
		m := side{size: size(r, 300), unit: size(r, 12), extra: r.IntN(9), once: r.IntN(9)}
		n := side{size: size(r, 3000), unit: size(r, 32), extra: r.IntN(9), once: r.IntN(9)}
		least := size(r, n.units())
		mParts, nParts := cutOutput(m, n, least, size(r, 3), size(r, 900), size(r, 9), r.IntN(1<<16))
		if mParts < 1 || mParts > m.units() || nParts < least || nParts > n.units() {
			t.Fatalf("%+v and %+v, at least %d, are cut into %d and %d parts", m, n, least, mParts, nParts)
		}
		for _, s := range []struct {
			side
			parts int
		}{{m, mParts}, {n, nParts}} {
			at := 0
			for i := range s.parts {
				from, to := s.span(i, s.parts)
				if from != at || to <= from {
					t.Fatalf("part %d of %d of %+v is [%d,%d), want it to begin at %d", i, s.parts, s.side, from, to, at)
				}
				at = to
			}
			if at != s.size {
				t.Fatalf("the %d parts of %+v end at %d", s.parts, s.side, at)
			}
		}
	}

	// One column of three units of rows, and five of columns, for eight threads.
	for _, c := range [][2]side{{{size: 36, unit: 12}, {size: 16, unit: 16}}, {{size: 49, unit: 49}, {size: 160, unit: 32}}} {
		if m, n := cutOutput(c[0], c[1], 1, 1, 1000, 8, 0); m != c[0].units() || n != c[1].units() {
			t.Errorf("%+v is cut into %d and %d parts for eight threads", c, m, n)
		}
	}

	for _, g := range []Conv2D{
		conv2D(128, 28, 28, 128, 3, 1, 1),
		conv2D(256, 14, 14, 256, 3, 1, 1),
		conv2D(96, 35, 35, 96, 3, 1, 1),
		conv2D(192, 17, 17, 192, 1, 1, 0),
		conv2D(16, 112, 112, 96, 1, 1, 0),
		conv2D(2048, 8, 8, 320, 1, 1, 0),
	} {
		s := NewConv(g, make([]float32, g.M*g.K()), g.M).cutFor(2)
		var cells [2]int // of each thread's share
		for i := range s.blocks {
			m0, m1, n0, n1, _, _ := s.part(&g, i)
			cells[i*2/s.blocks] += (n1 - n0) * (m1 - m0)
		}
		if most := max(cells[0], cells[1]); 100*most > 57*(cells[0]+cells[1]) {
			t.Errorf("%+v: %d blocks, the threads have %v", g, s.blocks, cells)
		}
	}
}
