package kernel

// gemvBlock is the number of weights one block of a threaded Gemv reads: 256
// KiB, so that taking a block costs little beside reading it.
const gemvBlock = 1 << 16

type gemvJob struct {
	dst, w, x          []float32
	rows, k, blockRows int
}

var gemvJobs freeList[gemvJob]

func (j *gemvJob) runBlock(i int) {
	r := i * j.blockRows
	end := min(r+j.blockRows, j.rows)
	gemvRows(j.dst[r:end], j.w[r*j.k:end*j.k], j.x, end-r, j.k)
}

// Gemv is dst = w·x: dst [rows], w [rows,k], x [k], f32. Each element is summed
// in 16 lanes (see the package comment), so that a slice of the rows has the
// bits of the same rows of the whole. w is read in place, once, and may be a
// read-only mapping of a file. dst must not alias w or x. Safe for concurrent
// use.
func Gemv(p *Pool, dst, w, x []float32, rows, k int) {
	need("dst", len(dst), rows)
	need("w", len(w), rows*k)
	need("x", len(x), k)
	if k == 0 {
		clear(dst[:rows])
		return
	}
	// Multiples of four rows, which the kernel takes at a time.
	blockRows := (max(1, gemvBlock/k) + 3) &^ 3
	if p.Threads() == 1 || rows <= blockRows {
		gemvRows(dst, w, x, rows, k)
		return
	}
	j := gemvJobs.get()
	*j = gemvJob{dst: dst, w: w, x: x, rows: rows, k: k, blockRows: blockRows}
	p.run(j, ceilDiv(rows, blockRows))
	*j = gemvJob{}
	gemvJobs.put(j)
}
