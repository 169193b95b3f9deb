package kernel

import (
	"sync/atomic"

	"starling/internal/tensor"
)

// Packed is a weight matrix in the order in which Gemm reads it. It is never
// written after Pack, so it is safe for concurrent use.
type Packed struct {
	tiles   *tiling
	rows, k int
	panels  []float32 // [K blocks][rows/n][kc][n], n columns in a tile; rows past the last are zero
}

// Pack copies w [rows,k], f32, into panels; w is not kept.
func Pack(w []float32, rows, k int) *Packed {
	need("w", len(w), rows*k)
	t := tilesOfLevel()
	wide := t.wide(rows)
	p := &Packed{tiles: t, rows: rows, k: k, panels: tensor.View[float32](tensor.Alloc(4 * wide * k))}
	t.packColumns(p.panels, w, rows, k)
	return p
}

type gemmJob struct {
	w                      *Packed
	dst, x                 []float32
	batch, batchStep, step int // step: rows of w in a block
	rowBlocks              int
	after                  After
	stop                   *atomic.Bool
	stopped                atomic.Bool
}

var gemmJobs freeList[gemmJob]

// Gemm is dst = x·wᵀ, and what follows: dst [batch,rows], x [batch,k], f32. Each
// sum is one chain of fused multiply-adds in k order, so a slice of the rows or of
// the batch has the bits of the same part of the whole. If stop is not nil and
// becomes true, Gemm returns false at the end of the blocks being computed, and
// dst is undefined. dst must not alias x. Safe for concurrent use.
func (w *Packed) Gemm(p *Pool, dst, x []float32, batch int, after After, stop *atomic.Bool) bool {
	need("dst", len(dst), batch*w.rows)
	need("x", len(x), batch*w.k)
	after.need(w.rows, batch*w.rows)
	if w.k == 0 || w.rows == 0 {
		clear(dst[:batch*w.rows])
		after.along(dst, w.rows, 0, 0, batch, w.rows)
		return true
	}
	j := gemmJobs.get()
	j.w, j.dst, j.x, j.batch, j.after, j.stop = w, dst, x, batch, after, stop
	j.stopped.Store(false)
	t := w.tiles
	j.batchStep = t.blockM
	batchBlocks := ceilDiv(batch, t.blockM)
	j.step = blockPanels(ceilDiv(w.rows, t.n), t.blockN/t.n, batchBlocks, p.Threads()) * t.n
	j.rowBlocks = ceilDiv(w.rows, j.step)
	p.run(j, batchBlocks*j.rowBlocks)
	ok := !j.stopped.Load()
	j.w, j.dst, j.x, j.after, j.stop = nil, nil, nil, After{}, nil
	gemmJobs.put(j)
	return ok
}

// leastPanels is the fewest panels worth a block of their own: fewer and
// reading the other operand again costs more than a thread gains.
const leastPanels = 2

// blockPanels says how many panels make a block: most at most, and fewer if
// threads would have nothing to do otherwise. Blocks are computed for each of
// others parts of the work.
func blockPanels(panels, most, others, threads int) int {
	blocks := ceilDiv(panels, most)
	if threads > 1 {
		blocks = max(blocks, min(ceilDiv(2*threads, max(1, others)), panels/leastPanels))
	}
	return ceilDiv(panels, blocks)
}

func (j *gemmJob) runBlock(i int) {
	w, t := j.w, j.w.tiles
	b0, r0 := i/j.rowBlocks*j.batchStep, i%j.rowBlocks*j.step
	m, n := min(j.batchStep, j.batch-b0), min(j.step, w.rows-r0)
	wide, step := t.wide(w.rows), t.kBlock(w.k)
	scratch := buffers.get()
	defer buffers.put(scratch)
	a := scratch.sized(t.high(m) * step)
	for k0 := 0; k0 < w.k; k0 += step {
		if j.stop != nil && j.stop.Load() {
			j.stopped.Store(true)
			return
		}
		kc := min(step, w.k-k0)
		t.packRows(a, j.x[b0*w.k+k0:], w.k, m, kc)
		b := w.panels[wide*k0+r0*kc:]
		ahead := b[t.n*kc:]
		t.multiply(j.dst[b0*w.rows+r0:], w.rows, a, b, m, n, kc, k0 == 0, ending{}, ahead[:min(len(ahead), t.wide(n)*kc)])
	}
	j.after.along(j.dst, w.rows, b0, r0, m, n) // while the block is in cache
}
