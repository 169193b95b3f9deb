package kernel

import "math"

// sparseM is the rows in a panel of sparse filters: a step of K is left out where
// all of them have a zero.
const sparseM = 4

// maxSparseFilters is the greatest share of steps that are not zero with which
// leaving out the others pays (docs/benchmarks.md).
const maxSparseFilters = 0.75

// sparseFilters are the filters of a convolution in panels of sparseM rows,
// without the steps that are zero in a panel.
type sparseFilters struct {
	tiles  *tiling
	per, k int       // of a group
	starts []int32   // [groups][K blocks][panels] and one more: the first step of each
	at     []int32   // of each step, where its row of a B panel begins, in bytes
	a      []float32 // [steps][sparseM], zero past the last row
	skip   skippable
	w      []float32 // [groups·per,k], as given, for inputs with which zeros count
}

// newSparseFilters copies what is not zero of w [groups·per,k], which it keeps, or
// returns nil if more than most of the steps are not.
func newSparseFilters(t *tiling, w []float32, groups, per, k int, most float64) *sparseFilters {
	s := &sparseFilters{tiles: t, per: per, k: k, w: w}
	panels, step, kept := s.panels(), t.kBlock(k), 0
	if !leavesZeros() || groups*panels*k > math.MaxInt32 {
		return nil
	}
	each := func(f func(rows []float32, n, c int)) (all int) {
		for g := range groups {
			for k0 := 0; k0 < k; k0 += step {
				for p := range panels {
					r := g*per + p*sparseM
					n := min(sparseM, (g+1)*per-r)
					for c := k0; c < min(k0+step, k); c++ {
						for i := range n {
							if w[(r+i)*k+c] != 0 {
								f(w[r*k+c:], n, c-k0)
								break
							}
						}
						all++
					}
					s.starts = append(s.starts, int32(len(s.at)))
				}
			}
		}
		return all
	}
	all := each(func([]float32, int, int) { kept++ })
	if float64(kept) > most*float64(all) {
		return nil
	}
	s.skip = skippableFor(w)
	s.starts = append(make([]int32, 0, len(s.starts)+1), 0)
	s.at, s.a = make([]int32, 0, kept), make([]float32, kept*sparseM)
	each(func(rows []float32, n, c int) {
		for i := range n {
			s.a[len(s.at)*sparseM+i] = rows[i*k]
		}
		s.at = append(s.at, int32(c*t.n*4))
	})
	return s
}

// panels is the number of panels in a group.
func (s *sparseFilters) panels() int { return ceilDiv(s.per, sparseM) }

// panel is the first panel of K block kb of a group.
func (s *sparseFilters) panel(group, kb int) int {
	return (group*ceilDiv(s.k, s.tiles.kBlock(s.k)) + kb) * s.panels()
}

// multiply is tiling.multiply for m rows of K block kb of a group from row row on,
// a multiple of sparseM. Zeros are left out if skip.
func (s *sparseFilters) multiply(c []float32, ldc, group, kb, row int, b []float32, m, n, kc int, skip bool, end ending) {
	t, p, first := s.tiles, s.panel(group, kb)+row/sparseM, kb == 0
	if !skip {
		scratch := buffers.get()
		defer buffers.put(scratch)
		a := scratch.sized(t.high(m) * kc)
		t.packRows(a, s.w[(group*s.per+row)*s.k+kb*t.kBlock(s.k):], s.k, m, kc)
		t.multiply(c, ldc, a, b, m, n, kc, first, end, nil)
		return
	}
	starts := s.starts[p:]
	at, a := s.at[starts[0]:], s.a[int(starts[0])*sparseM:]
	for j := 0; j < n; j += t.n {
		bp, cols := b[j*kc:(j+t.n)*kc], min(t.n, n-j)
		done := sparseTiles(t, c[j:], ldc, a, bp, at, starts, m/sparseM, cols, first)
		for i := done * sparseM; i < m; i += sparseM {
			s.edge(c[i*ldc+j:], ldc, bp, p+i/sparseM, min(sparseM, m-i), cols, first)
		}
		end.from(0, j).apply(c[j:], ldc, m, cols)
	}
}

// edge computes a tile of which only m × n elements exist in c, whole, beside c.
func (s *sparseFilters) edge(c []float32, ldc int, b []float32, p, m, n int, first bool) {
	var whole [sparseM * maxTileN]float32
	tile := whole[:sparseM*s.tiles.n]
	if !first {
		for i := range m {
			copy(tile[i*s.tiles.n:i*s.tiles.n+n], c[i*ldc:])
		}
	}
	from := s.starts[p]
	sparseTiles(s.tiles, tile, s.tiles.n, s.a[int(from)*sparseM:], b, s.at[from:], s.starts[p:], 1, s.tiles.n, first)
	for i := range m {
		copy(c[i*ldc:i*ldc+n], tile[i*s.tiles.n:])
	}
}

// sparseTilesPortable is gemmTilesPortable for panels panels of sparseM rows
// without steps that are zero, and n columns. Panel p has steps starts[p]-starts[0]
// to starts[p+1]-starts[0]; step s of a is multiplied with the row of b that begins
// at[s] bytes after b.
//
//	a [steps][sparseM], b [kc][t.n], at [steps], starts [at least panels+1]
func sparseTilesPortable(t *tiling, c []float32, ldc int, a, b []float32, at, starts []int32, panels, n int, first bool) {
	for p := range panels {
		var acc [sparseM][maxTileN]float32
		for i := range acc {
			if !first {
				copy(acc[i][:n], c[(p*sparseM+i)*ldc:])
			}
		}
		for range starts[p+1] - starts[p] {
			bv := b[at[0]/4:][:n]
			for i := range acc {
				for j, v := range bv {
					acc[i][j] = fma32(a[i], v, acc[i][j])
				}
			}
			a, at = a[sparseM:], at[1:]
		}
		for i := range acc {
			copy(c[(p*sparseM+i)*ldc:][:n], acc[i][:])
		}
	}
}
