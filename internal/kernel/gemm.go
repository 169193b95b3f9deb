package kernel

import "sync/atomic"

// A tile of the product is tileM rows by tileN columns; blockK, blockM and
// blockN bound the operands that are in cache at one time: a B panel of blockK
// × tileN (16 KiB) in L1, an A block of blockM × blockK (192 KiB) or a B block
// of blockK × blockN (256 KiB) in L2. They say nothing about bits.
const (
	tileM  = 6
	tileN  = 16
	blockK = 256
	blockM = 32 * tileM
	blockN = 16 * tileN
)

// kBlock returns the length of the K blocks: blockK at most, and even.
func kBlock(k int) int { return ceilDiv(k, ceilDiv(k, blockK)) }

// multiply is c[m,n] = or += a·b for packed operands: a [m/tileM][kc][tileM], b
// [n/tileN][kc][tileN], rounded up, rows of c ldc apart. Panels at the edge are
// computed whole, beside c, so that they have the bits of inner ones.
func multiply(c []float32, ldc int, a, b []float32, m, n, kc int, first bool) {
	full := m / tileM
	for j := 0; j < n; j += tileN {
		bp := b[j*kc : (j+tileN)*kc]
		whole := 0
		if n-j >= tileN {
			whole = full
			gemmTiles(c[j:], ldc, a, bp, kc, whole, first)
		}
		for i := whole * tileM; i < m; i += tileM {
			edgeTile(c[i*ldc+j:], ldc, a[i*kc:(i+tileM)*kc], bp, min(tileM, m-i), min(tileN, n-j), kc, first)
		}
	}
}

// edgeTile is gemmTiles for one tile of which only m × n elements exist in c.
func edgeTile(c []float32, ldc int, a, b []float32, m, n, kc int, first bool) {
	var tile [tileM * tileN]float32
	if !first {
		for i := range m {
			copy(tile[i*tileN:i*tileN+n], c[i*ldc:])
		}
	}
	gemmTiles(tile[:], tileN, a, b, kc, 1, first)
	for i := range m {
		copy(c[i*ldc:i*ldc+n], tile[i*tileN:])
	}
}

// packRows6 packs k columns of m rows of x, ldx apart, into A panels
// [m/tileM][k][tileM]; rows past m are zero.
func packRows6(dst, x []float32, ldx, m, k int) {
	for i := 0; i < m; i += tileM {
		d := dst[i*k : (i+tileM)*k]
		if m-i < tileM {
			clear(d)
			for r := range m - i {
				row := x[(i+r)*ldx : (i+r)*ldx+k]
				for c, v := range row {
					d[c*tileM+r] = v
				}
			}
			continue
		}
		packSix(d, x[i*ldx:], ldx, k)
	}
}

// packFilters packs a whole matrix [rows,k] into A panels by K blocks:
// packed [K blocks][rows/tileM][kc][tileM].
func packFilters(packed, w []float32, rows, k int) {
	step, high := kBlock(k), ceilDiv(rows, tileM)*tileM
	for k0 := 0; k0 < k; k0 += step {
		packRows6(packed[high*k0:], w[k0:], k, rows, min(step, k-k0))
	}
}

// Packed is a weight matrix in the order in which Gemm reads it. It is never
// written after Pack, so it is safe for concurrent use.
type Packed struct {
	rows, k int
	panels  []float32 // [K blocks][rows/tileN][kc][tileN], rows past the last are zero
}

// Pack copies w [rows,k], f32, into panels; w is not kept.
func Pack(w []float32, rows, k int) *Packed {
	need("w", len(w), rows*k)
	wide := ceilDiv(rows, tileN) * tileN
	p := &Packed{rows: rows, k: k, panels: make([]float32, wide*k)}
	if k == 0 {
		return p
	}
	step := kBlock(k)
	for k0 := 0; k0 < k; k0 += step {
		kc := min(step, k-k0)
		block := p.panels[wide*k0 : wide*(k0+kc)]
		for r := range rows {
			panel := block[r/tileN*tileN*kc+r%tileN:]
			for c, v := range w[r*k+k0 : r*k+k0+kc] {
				panel[c*tileN] = v
			}
		}
	}
	return p
}

type gemmJob struct {
	w                      *Packed
	dst, x                 []float32
	batch, batchStep, step int // step: rows of w in a block
	rowBlocks              int
	stop                   *atomic.Bool
	stopped                atomic.Bool
}

var gemmJobs freeList[gemmJob]

// Gemm is dst = x·wᵀ: dst [batch,rows], x [batch,k], f32. Each element is one
// chain of fused multiply-adds in k order, so a slice of the rows or of the
// batch has the bits of the same part of the whole. If stop is not nil and
// becomes true, Gemm returns false at the end of the blocks being computed, and
// dst is undefined. dst must not alias x. Safe for concurrent use.
func (w *Packed) Gemm(p *Pool, dst, x []float32, batch int, stop *atomic.Bool) bool {
	need("dst", len(dst), batch*w.rows)
	need("x", len(x), batch*w.k)
	if w.k == 0 || w.rows == 0 {
		clear(dst[:batch*w.rows])
		return true
	}
	j := gemmJobs.get()
	j.w, j.dst, j.x, j.batch, j.stop = w, dst, x, batch, stop
	j.stopped.Store(false)
	j.batchStep = blockM
	batchBlocks := ceilDiv(batch, blockM)
	j.step = blockPanels(ceilDiv(w.rows, tileN), blockN/tileN, batchBlocks, p.Threads()) * tileN
	j.rowBlocks = ceilDiv(w.rows, j.step)
	p.run(j, batchBlocks*j.rowBlocks)
	ok := !j.stopped.Load()
	j.w, j.dst, j.x, j.stop = nil, nil, nil, nil
	gemmJobs.put(j)
	return ok
}

// leastPanels is the fewest panels worth a block of their own: fewer and
// reading the other operand again costs more than a thread gains.
const leastPanels = 4

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
	w := j.w
	b0, r0 := i/j.rowBlocks*j.batchStep, i%j.rowBlocks*j.step
	m, n := min(j.batchStep, j.batch-b0), min(j.step, w.rows-r0)
	wide := ceilDiv(w.rows, tileN) * tileN
	step := kBlock(w.k)
	scratch := buffers.get()
	defer buffers.put(scratch)
	a := scratch.sized(ceilDiv(m, tileM) * tileM * step)
	for k0 := 0; k0 < w.k; k0 += step {
		if j.stop != nil && j.stop.Load() {
			j.stopped.Store(true)
			return
		}
		kc := min(step, w.k-k0)
		packRows6(a, j.x[b0*w.k+k0:], w.k, m, kc)
		multiply(j.dst[b0*w.rows+r0:], w.rows, a, w.panels[wide*k0+r0*kc:], m, n, kc, k0 == 0)
	}
}
