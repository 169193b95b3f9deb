package kernel

import "math"

// Weights that are zero need not be multiplied: where many are, products leave
// them out, and have the same bits.
//
// Why: a chain starts at +0, and fma(w, x, acc) with w = ±0 and a finite x adds
// ±0 to acc, exactly. That changes acc only if acc is -0 (-0 + +0 = +0), and acc
// never is if no sum rounds to zero: an exact sum that is zero is +0 unless both
// terms are -0 (IEEE 754-2019, 6.3), which takes an acc of -0 already. Let 2ᵉ be
// the last place of the smallest weight that is not zero, and 2ᶠ that of the
// smallest such x. If e + f ≥ -149, all products are multiples of 2⁻¹⁴⁹, the
// smallest float32, and so are all sums; none rounds to zero. So inputs are
// looked at before: all must be finite, and zero or at least so large. With
// others zeros are multiplied like all weights.

// skippable is from which bits of |x| on, and below infinity, zero weights may be
// left out.
type skippable uint32

const (
	signBit = 1 << 31
	infBits = 0xff << 23
)

// skippableFor returns what holds for weights w.
func skippableFor(w []float32) skippable {
	least := uint32(math.MaxUint32)
	for _, v := range w {
		least = min(least, math.Float32bits(v)&^signBit-1)
	}
	if least == math.MaxUint32 { // all are zero
		return 1
	}
	// Exponents as stored are 150 more than that of the last place, and that of 0
	// is that of 1. So the sum of two must be at least 300 - 149.
	e := 151 - int(max(1, (least+1)>>23))
	return skippable(max(1, e<<23))
}

// holds says whether all of x are finite, and zero or large enough.
func (s skippable) holds(x []float32) bool {
	least, most := magnitudes(x)
	return most < infBits && least >= uint32(s)-1
}

// magnitudesPortable returns the least of the bits of |x| - 1, of which that of
// zero is the greatest, and the most of those of |x|.
func magnitudesPortable(x []float32) (least, most uint32) {
	least = math.MaxUint32
	for _, v := range x {
		b := math.Float32bits(v) &^ signBit
		least, most = min(least, b-1), max(most, b)
	}
	return least, most
}

// sparseBlock is how many weights of a row are kept or left out together: one for
// each lane of Gemv.
const sparseBlock = 16

// maxSparseRows is the greatest share of blocks that are not zero with which
// NewSparse finds that leaving out the others pays (docs/benchmarks.md).
const maxSparseRows = 0.6

// Sparse is a weight matrix for Gemv without its blocks of zeros. It is never
// written after NewSparse, so it is safe for concurrent use.
type Sparse struct {
	rows, k int
	starts  []int32   // [rows+1], the first block of each row
	at      []int32   // of each block, its first column, in bytes
	w       []float32 // [blocks][sparseBlock], zero past column k
	skip    skippable
	dense   []float32 // [rows,k], as given, for inputs with which zeros count
}

// sampledRows is about how many rows NewSparse looks at before it reads all of a
// matrix, which may be a mapping of a file not read yet.
const sampledRows = 64

// NewSparse copies what is not zero of w [rows,k], f32, or returns nil if too
// little of it is zero in blocks for that to pay. It keeps w, which may be a
// read-only mapping of a file, for inputs with which zeros count.
func NewSparse(w []float32, rows, k int) *Sparse { return newSparse(w, rows, k, maxSparseRows) }

// newSparse is NewSparse for a greatest share of blocks.
func newSparse(w []float32, rows, k int, most float64) *Sparse {
	need("w", len(w), rows*k)
	wide := ceilDiv(k, sparseBlock)
	if !leavesZeros() || rows*wide == 0 || k > math.MaxInt32/8 || rows*wide > math.MaxInt32 {
		return nil
	}
	each := func(step int, f func(r, c int, block []float32)) {
		for r := 0; r < rows; r += step {
			row := w[r*k : (r+1)*k]
			for c := 0; c < k; c += sparseBlock {
				if block := row[c:min(c+sparseBlock, k)]; !allZero(block) {
					f(r, c, block)
				}
			}
		}
	}
	kept := 0
	for _, step := range []int{max(1, rows/sampledRows), 1} {
		kept = 0
		each(step, func(int, int, []float32) { kept++ })
		if float64(kept) > most*float64(ceilDiv(rows, step)*wide) {
			return nil
		}
	}
	s := &Sparse{
		rows: rows, k: k, skip: skippableFor(w[:rows*k]), dense: w,
		starts: make([]int32, rows+1), at: make([]int32, 0, kept), w: make([]float32, kept*sparseBlock),
	}
	each(1, func(r, c int, block []float32) {
		copy(s.w[len(s.at)*sparseBlock:], block)
		s.at = append(s.at, int32(4*c))
		s.starts[r+1]++
	})
	for r := range rows {
		s.starts[r+1] += s.starts[r]
	}
	return s
}

func allZero(v []float32) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

type sparseJob struct {
	s               *Sparse
	dst, x          []float32
	from, blockRows int
}

var sparseJobs freeList[sparseJob]

// Gemv is dst = w·x for rows [from,to) of w: dst [to-from], x [k], f32, with the
// bits of [Gemv]. dst must not alias x. Safe for concurrent use.
func (s *Sparse) Gemv(p *Pool, dst, x []float32, from, to int) {
	need("dst", len(dst), to-from)
	need("x", len(x), s.k)
	if !s.skip.holds(x[:s.k]) {
		Gemv(p, dst, s.dense[from*s.k:to*s.k], x, to-from, s.k)
		return
	}
	scratch := buffers.get()
	defer buffers.put(scratch)
	padded := scratch.sized(ceilDiv(s.k, sparseBlock) * sparseBlock)
	clear(padded[copy(padded, x[:s.k]):])
	j := sparseJobs.get()
	// Blocks read as many weights as those of a threaded Gemv.
	weights := int(s.starts[to]-s.starts[from]) * sparseBlock
	*j = sparseJob{s: s, dst: dst[:to-from], x: padded, from: from, blockRows: (to-from)/(weights/gemvBlock+1) + 1}
	p.run(j, ceilDiv(to-from, j.blockRows))
	*j = sparseJob{}
	sparseJobs.put(j)
}

func (j *sparseJob) runBlock(i int) {
	r := i * j.blockRows
	dst := j.dst[r:min(r+j.blockRows, len(j.dst))]
	starts := j.s.starts[j.from+r:]
	sparseRows(dst, j.s.w[int(starts[0])*sparseBlock:], j.x, j.s.at[starts[0]:], starts)
}

// sparseRowsPortable is dst = w·x in 16 lanes, without blocks of w that are zero.
// Row r has blocks starts[r]-starts[0] to starts[r+1]-starts[0]; block b of w is
// multiplied with the one that begins at[b] bytes after x.
//
//	dst [rows], w [blocks][16], at [blocks], starts [at least rows+1]
func sparseRowsPortable(dst, w, x []float32, at, starts []int32) {
	for r := range dst {
		var lane [sparseBlock]float32
		for range starts[r+1] - starts[r] {
			ws, xs := w[:sparseBlock], x[at[0]/4:][:sparseBlock]
			for l := range lane {
				lane[l] = fma32(ws[l], xs[l], lane[l])
			}
			w, at = w[sparseBlock:], at[1:]
		}
		dst[r] = sumLanes(&lane, nil, nil)
	}
}
