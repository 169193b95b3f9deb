package kernel

// depthwise is the plan of a convolution in which every channel has a filter of
// its own. A block of output rows is computed from a copy of the input rows it
// needs, with the pads as zeros and the columns dealt into StrideW phases, so
// that every tap reads neighbouring cells.
type depthwise struct {
	blockRows int     // output rows computed from one copy
	maps      int     // maps computed in one block
	line      int     // elements in a row of the copy
	phases    []phase // of the columns
	off       []int   // of each tap in the copy
	flat      bool    // whether rows are computed as one

	fits    bool // whether stencil is a plan, which needs no copy
	stencil stencil
}

// phase says where the cells p, p + StrideW, … of a row are copied to: count of
// them, from element at on.
type phase struct{ at, count int }

// depthwiseScratch is the size of a copy in elements: 64 KiB.
const depthwiseScratch = 1 << 14

// depthwiseBlock is the number of output elements worth a block.
const depthwiseBlock = 1 << 12

// depthwiseCost is about how many multiply-adds of a product take as long as an
// output element.
const depthwiseCost = 24

// copyFits says whether the copy for one output row stays small. It does in
// networks, but not for a stride or a dilation of millions.
func copyFits(g *Conv2D) bool {
	line := (int64(g.OW) + int64(g.KW-1)*int64(g.DilationW)/int64(g.StrideW)) * int64(g.StrideW)
	return line*(int64(g.KH-1)*int64(g.DilationH)+1) <= 64*depthwiseScratch
}

// plan makes d the plan of g and reuses the slices of d.
func (d *depthwise) plan(g *Conv2D) {
	if g.KH == 3 && g.KW == 3 && g.StrideH == g.StrideW && g.DilationH == 1 && g.DilationW == 1 {
		if d.fits = d.stencil.plan(3, g.StrideH, g.H, g.W, g.PadTop, g.PadLeft, g.OH, g.OW); d.fits {
			d.blockRows, d.maps = g.OH, max(1, depthwiseBlock/(g.OH*g.OW))
			return
		}
	}
	reach := (g.KW - 1) * g.DilationW
	width := g.OW + reach/g.StrideW
	d.line = width * g.StrideW
	d.blockRows = min(g.OH, max(1, (depthwiseScratch/d.line-d.inputRows(g, 1))/g.StrideH+1))
	d.maps = max(1, depthwiseBlock/(d.blockRows*g.OW))
	// A narrow map fills registers only across its rows. What is computed
	// between them is dropped.
	d.flat = g.StrideH == 1 && d.line <= 16
	d.off = d.off[:0]
	for y := range g.KH {
		for x := range g.KW {
			at := x * g.DilationW
			d.off = append(d.off, y*g.DilationH*d.line+at%g.StrideW*width+at/g.StrideW)
		}
	}
	d.phases = d.phases[:0]
	for p := range g.StrideW {
		first := g.PadLeft + p
		begin := min(first/g.StrideW, width)
		count := min(width-begin, max(0, ceilDiv(g.W-p, g.StrideW)))
		d.phases = append(d.phases, phase{first%g.StrideW*width + begin, count})
	}
}

// inputRows is the number of input rows, pads included, that rows output rows
// need.
func (d *depthwise) inputRows(g *Conv2D, rows int) int {
	return (rows-1)*g.StrideH + (g.KH-1)*g.DilationH + 1
}

// scratchLen is the length of the scratch that compute wants for rows rows.
func (d *depthwise) scratchLen(g *Conv2D, rows int) int {
	n := d.inputRows(g, rows) * d.line
	if d.flat {
		n += rows * d.line
	}
	return n
}

// compute writes dst [rows,OW], the output rows from oy on of one map: plane
// [H,W], w [KH,KW]. scratch must be zero when a block begins; for the maps of a
// block, which have their pads in the same places, it is left as it is.
func (d *depthwise) compute(g *Conv2D, dst, plane, w, scratch []float32, oy, rows int) {
	high := d.inputRows(g, rows)
	pad, out := scratch[:high*d.line], scratch[high*d.line:]
	first := oy*g.StrideH - g.PadTop
	for y := max(0, first); y < min(g.H, first+high); y++ {
		d.deal(pad[(y-first)*d.line:][:d.line], plane[y*g.W:(y+1)*g.W])
	}
	if !d.flat {
		depthwiseRows(dst, pad, w, d.off, rows, g.OW, g.StrideH*d.line)
		return
	}
	depthwiseRows(out, pad, w, d.off, 1, (rows-1)*d.line+g.OW, 0)
	for r := range rows {
		copy(dst[r*g.OW:(r+1)*g.OW], out[r*d.line:])
	}
}

// deal copies a row of cells into the phases of row.
func (d *depthwise) deal(row, cells []float32) {
	dealt := 0 // cells done already, of each phase
	switch len(d.phases) {
	case 1:
		copy(row[d.phases[0].at:][:d.phases[0].count], cells)
		return
	case 2:
		even, odd := d.phases[0], d.phases[1]
		dealt = min(even.count, odd.count)
		dealTwo(row[even.at:][:dealt], row[odd.at:], cells)
	}
	for p, f := range d.phases {
		for i := dealt; i < f.count; i++ {
			row[f.at+i] = cells[i*len(d.phases)+p]
		}
	}
}

// runDirect computes some rows of some maps of a depthwise convolution.
func (j *convJob) runDirect(i int) {
	if j.stop != nil && j.stop.Load() {
		j.stopped.Store(true)
		return
	}
	c, g, d := j.c, &j.c.g, j.c.direct
	oy, end := j.cut.n.span(i%j.cut.nBlocks, j.cut.nBlocks)
	rows := end - oy
	m0, m1 := j.cut.m.span(i/j.cut.nBlocks, j.cut.mBlocks)
	area := g.KH * g.KW
	if d.fits {
		j.runStencil(m0, m1)
		return
	}
	scratch := buffers.get()
	defer buffers.put(scratch)
	pad := scratch.sized(d.scratchLen(g, rows))
	clear(pad)
	for m := m0; m < m1; m++ {
		w := c.filters[m%g.C*area : (m%g.C+1)*area]
		at := (m*g.OH + oy) * g.OW
		dst := j.dst[at:][:rows*g.OW]
		d.compute(g, dst, j.x[m*g.H*g.W:(m+1)*g.H*g.W], w, pad, oy, rows)
		j.end.from(m%g.C, at).apply(dst, 0, 1, len(dst))
	}
}

// runStencil computes maps [m0,m1) of a depthwise convolution that has a stencil.
// Small maps take little longer than what is done for each of them.
func (j *convJob) runStencil(m0, m1 int) {
	c, g, d := j.c, &j.c.g, j.c.direct
	now := j.end.orNone(c.zeros)
	if j.end.add != nil { // comes before the bounds
		now = ending{}.orNone(c.zeros)
	}
	size, cells, area := g.OH*g.OW, g.H*g.W, g.KH*g.KW
	for m, f := m0, m0%g.C; m < m1; m++ {
		dst := j.dst[m*size:][:size]
		stencilSums(&d.stencil, dst, j.x[m*cells:][:cells], c.filters[f*area:][:area], now.bias[f], now.lo, now.hi)
		if j.end.add != nil {
			j.end.from(f, m*size).apply(dst, 0, 1, size)
		}
		if f++; f == g.C {
			f = 0
		}
	}
}
