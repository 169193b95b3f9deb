package kernel

import (
	"sync/atomic"
	"unsafe"
)

// QuantDense is a dense layer of integers. Only Reset writes it after
// NewQuantDense.
type QuantDense struct {
	rows, k int
	terms   rowTerms

	w Weights // read in place, for a batch of one

	s      *scheme
	panels []uint32 // packed, for larger ones
	ones   []uint32 // a panel of one column of ones, if terms needs them
}

// NewQuantDense prepares weights [rows,k] for that batch. For a batch of one w is
// kept and read in place (it may be a read-only mapping of a file); else it is
// copied.
func NewQuantDense(w Weights, rows, k, batch int) *QuantDense {
	d := &QuantDense{rows: rows, k: k, terms: newRowTerms(rows)}
	if batch != 1 {
		d.s = schemeFor(w.Wide != nil)
		d.panels = make([]uint32, d.s.wide(rows)*d.s.lanes(k))
	}
	d.Reset(w)
	return d
}

// Reset gives d other weights, as many as it has, of int16 if these are, and keeps
// or copies them as NewQuantDense does. No Run may be under way.
func (d *QuantDense) Reset(w Weights) {
	d.terms.zeroed = true
	if d.s == nil {
		d.w = w
		d.terms.set(0, &w, d.rows, d.k, 0)
		return
	}
	d.s.packWeights(d.panels, &d.terms, 0, &w, d.rows, d.k, true)
	if !d.terms.zeroed && d.ones == nil {
		lanes := d.s.lanes(d.k)
		d.ones = make([]uint32, lanes*d.s.n)
		for l := range lanes {
			d.ones[l*d.s.n] = d.s.ones(l, d.k)
		}
	}
}

type quantDenseJob struct {
	d         *QuantDense
	out       Output
	x         Bytes
	scratch   *scratch8
	vector    vector8
	batch     int
	flip      byte
	batchStep int
	step      int // rows of the weights in a block
	rowBlocks int
	stop      *atomic.Bool
	stopped   atomic.Bool
}

var quantDenseJobs freeList[quantDenseJob]

// quantGemvBlock is the number of weights that a block of a Run for one row reads.
const quantGemvBlock = 1 << 18

// Run is out = x·wᵀ: x [batch,k], results [batch,rows]. A slice of the rows gives
// the same elements of the whole. batch is 1 if and only if it was for
// NewQuantDense. If stop is not nil and becomes true, Run returns false at the end
// of the blocks being computed, and the results are undefined. The results must
// not alias x. Safe for concurrent use.
func (d *QuantDense) Run(p *Pool, out Output, x Bytes, batch int, stop *atomic.Bool) bool {
	need("x", len(x.Data), batch*d.k)
	out.need(batch*d.rows, d.rows)
	if batch*d.rows == 0 {
		return true
	}
	j := quantDenseJobs.get()
	j.d, j.out, j.x, j.batch, j.stop = d, out, x, batch, stop
	j.stopped.Store(false)
	j.scratch = scratches8.get()
	zero := x.Zero
	blocks := 0
	if d.s == nil {
		var shift int32
		j.vector, shift = vectorOf(j.scratch, &d.w, x, d.k)
		zero += shift
		j.step = (max(1, quantGemvBlock/max(1, d.k)) + 3) &^ 3
		j.rowBlocks = ceilDiv(d.rows, j.step)
		blocks = j.rowBlocks
	} else {
		var shift int32
		j.flip, shift = d.s.flip(x.Signed)
		zero += shift
		panel := max(1, d.s.lanes(d.k)*d.s.n)
		tile := max(d.s.m, d.s.unit)
		j.batchStep = max(1, min(quantBlockA/max(1, d.s.lanes(d.k)*tile), 192/tile)) * tile
		batchBlocks := ceilDiv(batch, j.batchStep)
		j.step = blockPanels(ceilDiv(d.rows, d.s.n), max(1, quantBlockB/panel), batchBlocks, p.Threads()) * d.s.n
		if p.Threads() == 1 { // x is packed once
			j.step = d.s.wide(d.rows)
		}
		j.rowBlocks = ceilDiv(d.rows, j.step)
		blocks = batchBlocks * j.rowBlocks
	}
	add := grown(&j.scratch.add, d.rows)
	d.terms.add(add, out.Bias, zero)
	j.out.Bias = add
	p.run(j, blocks)
	ok := !j.stopped.Load()
	scratches8.put(j.scratch)
	j.d, j.out, j.x, j.scratch, j.vector, j.stop = nil, Output{}, Bytes{}, nil, vector8{}, nil
	quantDenseJobs.put(j)
	return ok
}

func (j *quantDenseJob) runBlock(i int) {
	if j.stop != nil && j.stop.Load() {
		j.stopped.Store(true)
		return
	}
	if j.d.s == nil {
		j.gemvBlock(i)
		return
	}
	d, s := j.d, j.d.s
	b0, r0 := i/j.rowBlocks*j.batchStep, i%j.rowBlocks*j.step
	m, n := min(j.batchStep, j.batch-b0), min(j.step, d.rows-r0)
	lanes := s.lanes(d.k)
	scratch := scratches8.get()
	defer scratches8.put(scratch)
	high := s.high(m)
	a := grown(&scratch.a, high*lanes)
	s.packX(a, scratch, j.x.Data[b0*d.k:], m, d.k, j.flip)
	sums := grown(&scratch.c, high*s.n)
	rowSums := grown(&scratch.add, high)
	if !d.terms.zeroed {
		s.multiply(sums, a, d.ones, high, lanes, 1, false)
		for r := range rowSums {
			rowSums[r] = -sums[r*s.n]
		}
	}
	for at := 0; at < n; at += s.n {
		cols, row := min(s.n, n-at), r0+at
		s.multiply(sums, a, d.panels[row*lanes:][:lanes*s.n], high, lanes, cols, false)
		if !d.terms.zeroed {
			addOuter(sums, s.n, rowSums[:m], d.terms.zeros[row:row+cols])
		}
		out := j.out.cutRows(row, cols, b0*d.rows+row)
		out.finishCols(d.rows, sums, s.n, m, cols)
	}
}

// packX packs rows of activations x [m,k] as A.
func (s *scheme) packX(a []uint32, scratch *scratch8, x []byte, m, k int, flip byte) {
	lanes, high := s.lanes(k), s.high(m)
	if k == 0 {
		return
	}
	if s.rowMajor {
		for r := range m {
			s.packRow(a[r*lanes:(r+1)*lanes], x[r*k:(r+1)*k], flip)
		}
		clear(a[m*lanes : high*lanes])
		return
	}
	rows := grown(&scratch.b, s.m*lanes)
	for i := 0; i < m; i += s.m {
		tall := min(s.m, high-i)
		for r := range tall {
			row := rows[r*lanes : (r+1)*lanes]
			if i+r < m {
				s.packRow(row, x[(i+r)*k:(i+r+1)*k], flip)
			} else {
				clear(row)
			}
		}
		interleave(asFloats(a[i*lanes:(i+tall)*lanes]), asFloats(rows), lanes, tall, lanes)
	}
}

// packRow makes lanes of k bytes.
func (s *scheme) packRow(row []uint32, x []byte, flip byte) {
	if s.per == 2 {
		row[len(row)-1] = 0
		widen(asInt16s(row), x, flip)
		return
	}
	dst := asBytes(row)
	n := copy(dst, x)
	clear(dst[n:])
	if flip != 0 {
		flipBytes(dst[:n], flip)
	}
}

// flipBytes turns bits of bytes, four at a time where they can be.
func flipBytes(b []byte, flip byte) {
	words := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
	for i := range words {
		words[i] ^= uint32(flip) * 0x01010101
	}
	for i := len(b) &^ 3; i < len(b); i++ {
		b[i] ^= flip
	}
}

// asFloats views lanes as float32, to move them.
func asFloats(v []uint32) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(v))), len(v))
}

// asInt16s views lanes as pairs of int16.
func asInt16s(v []uint32) []int16 {
	return unsafe.Slice((*int16)(unsafe.Pointer(unsafe.SliceData(v))), 2*len(v))
}

// vector8 is the right operand of a product with weights that are read in place:
// bytes, where the CPU multiplies bytes, or else int16; zero up to a multiple of
// 64 elements.
type vector8 struct {
	bytes []byte
	wide  []int16
	sum   int32
}

// vectorOf returns x as a vector, in scratch, and what that adds to its zero point.
func vectorOf(scratch *scratch8, w *Weights, x Bytes, k int) (vector8, int32) {
	signed, ok := gemvWants(w)
	flip, shift := byte(0), int32(0)
	size := (k + 63) &^ 63
	if ok && signed != x.Signed {
		flip, shift = 0x80, 128
		if signed {
			shift = -128
		}
	}
	sum := int32(0)
	for _, b := range x.Data[:k] {
		sum += intOf(b, x.Signed)
	}
	v := vector8{sum: sum + int32(k)*shift}
	lanes := grown(&scratch.a, size/2)
	if ok {
		v.bytes = asBytes(lanes)[:size]
		n := copy(v.bytes, x.Data[:k])
		clear(v.bytes[n:])
		if flip != 0 {
			flipBytes(v.bytes[:n], flip)
		}
		return v, shift
	}
	v.wide = asInt16s(lanes)
	clear(v.wide[k:])
	for i, b := range x.Data[:k] {
		v.wide[i] = int16(intOf(b, x.Signed))
	}
	return v, shift
}

// gemvBlock computes some elements of the product with one row.
func (j *quantDenseJob) gemvBlock(i int) {
	d, k := j.d, j.d.k
	r0 := i * j.step
	rows := min(j.step, d.rows-r0)
	scratch := scratches8.get()
	defer scratches8.put(scratch)
	sums := grown(&scratch.c, rows)
	switch {
	case k == 0:
		clear(sums)
	case d.w.Wide != nil:
		gemvWide(sums, d.w.Wide[r0*k:(r0+rows)*k], j.vector.wide, rows, k)
	default:
		gemvBytes(sums, d.w.Data[r0*k:(r0+rows)*k], d.w.Signed, &j.vector, rows, k)
	}
	if !d.terms.zeroed {
		addOuter(sums, rows, []int32{-j.vector.sum}, d.terms.zeros[r0:r0+rows])
	}
	out := j.out.cutRows(r0, rows, r0)
	out.finishCols(0, sums, 0, 1, rows)
}
