package kernel

import (
	"math"
	"sync/atomic"
)

// QuantConv is a convolution of integers with its filters in the order in which
// Run reads them. Only Reset writes it after NewQuantConv.
type QuantConv struct {
	g       Conv2D
	s       *scheme
	rows    int
	filters []uint32 // [Groups] × packed rows; if depthwise those of patches, if any
	terms   rowTerms // of all rows
	ones    []uint32 // a row of ones, if terms needs them
	window  byteWindow
	offs    []int32    // of every k in the window's copy, whole lanes
	reach   int        // the last of them
	direct  bool       // the copy would be the input itself
	taps    []int32    // of a depthwise convolution: the filters, pairs of taps in a lane
	patches *patchwork // of a depthwise convolution, nil if there is none; used if terms are zeroed
}

// byteWindow says how a map is laid out so that every tap reads neighbouring cells
// for neighbouring columns: a copy with the pads in it and its columns dealt into
// StrideW phases, as in depthwise.
type byteWindow struct {
	width, line, rows int
	plane             int
}

// maxCopy bounds the copy, in multiples of what a convolution reads and writes.
const maxCopy = 16

func byteWindowOf(g *Conv2D) (w byteWindow, ok bool) {
	reach := int64(g.KW-1) * int64(g.DilationW)
	width := int64(g.OW) + reach/int64(g.StrideW)
	line := width * int64(g.StrideW)
	rows := int64(g.OH-1)*int64(g.StrideH) + int64(g.KH-1)*int64(g.DilationH) + 1
	limit := min(maxCopy*int64(g.H*g.W+g.OH*g.OW+g.KH*g.KW)+1<<12, math.MaxInt32/int64(g.C))
	if line > limit || rows > limit || line*rows > limit {
		return byteWindow{}, false
	}
	return byteWindow{int(width), int(line), int(rows), int(line * rows)}, true
}

// off is where the cell that tap (ky,kx) reads for column 0 lies in a plane.
func (w *byteWindow) off(g *Conv2D, ky, kx int) int {
	x := kx * g.DilationW
	return ky*g.DilationH*w.line + x%g.StrideW*w.width + x/g.StrideW
}

// NewQuantConv prepares a convolution with filters w [rows, C/Groups, KH, KW]:
// those of the whole layer (rows == g.M) or, with one group, of a slice of it. g
// must be valid. w is copied.
func NewQuantConv(g Conv2D, w Weights, rows int) *QuantConv {
	if err := g.Validate(); err != nil {
		panic(err)
	}
	if rows != g.M && (g.Groups != 1 || rows < 1 || rows > g.M) {
		panic(errRows)
	}
	k := g.K()
	c := &QuantConv{g: g, rows: rows, s: schemeFor(w.Wide != nil), terms: newRowTerms(rows)}
	var ok bool
	if c.window, ok = byteWindowOf(&g); ok && g.Groups == g.C && g.Groups == g.M && g.Groups > 1 && w.Wide == nil {
		c.depthwise()
		c.Reset(w)
		return c
	}
	lanes := c.s.lanes(k)
	c.filters = make([]uint32, g.Groups*c.s.high(rows/g.Groups)*lanes)
	c.Reset(w)
	if !ok {
		return c
	}
	c.direct = g.StrideW == 1 && g.PadTop|g.PadLeft|g.PadBottom|g.PadRight == 0
	if c.direct { // planes and lines are the input's own
		c.window.line, c.window.plane = g.W, g.H*g.W
	}
	c.offs = make([]int32, lanes*c.s.per)
	for i := range k {
		tap := i % (g.KH * g.KW)
		c.offs[i] = int32(i/(g.KH*g.KW)*c.window.plane + c.window.off(&g, tap/g.KW, tap%g.KW))
		c.reach = max(c.reach, int(c.offs[i]))
	}
	return c
}

// Reset gives c other filters, as many as it has, and of int16 if these are. w is
// copied. No Run may be under way.
func (c *QuantConv) Reset(w Weights) {
	g, k := &c.g, c.g.K()
	c.terms.zeroed = true
	if c.taps != nil {
		c.setTaps(&w)
		return
	}
	per, lanes := c.rows/g.Groups, c.s.lanes(k)
	size := c.s.high(per) * lanes
	for i := range g.Groups {
		part := w
		if w.Wide != nil {
			part.Wide = w.Wide[i*per*k : (i+1)*per*k]
		} else {
			part.Data = w.Data[i*per*k : (i+1)*per*k]
		}
		if len(w.Zeros) > 1 {
			part.Zeros = w.Zeros[i*per : (i+1)*per]
		}
		c.s.packWeights(c.filters[i*size:(i+1)*size], &c.terms, i*per, &part, per, k, false)
	}
	if !c.terms.zeroed && c.ones == nil {
		c.ones = make([]uint32, c.s.high(1)*lanes)
		at, step := c.s.place(0, 1, lanes)
		for l := range lanes {
			c.ones[at+l*step] = c.s.ones(l, k)
		}
	}
}

type quantConvJob struct {
	c                *QuantConv
	out              Output
	x                Bytes  // as given
	src              []byte // the copy, or x
	scratch          *scratch8
	flip             byte
	mBlocks, nBlocks int
	mStep, nStep     int
	copying, patched bool
	stop             *atomic.Bool
	stopped          atomic.Bool
}

var quantConvJobs freeList[quantConvJob]

// Bounds of the operands that are in cache at one time, in lanes: 256 KiB each.
const (
	quantBlockA = 1 << 16
	quantBlockB = 1 << 16
)

// Run is out = conv(x): x [N,C,H,W], results [N,rows,OH,OW]. A slice of the
// filters gives the same channels of the whole. If stop is not nil and becomes
// true, Run returns false at the end of the blocks being computed, and the
// results are undefined. The results must not alias x. Safe for concurrent use.
func (c *QuantConv) Run(p *Pool, out Output, x Bytes, stop *atomic.Bool) bool {
	g := &c.g
	need("x", len(x.Data), g.N*g.C*g.H*g.W)
	cells := g.OH * g.OW
	out.need(g.N*c.rows*cells, c.rows)
	j := quantConvJobs.get()
	j.c, j.out, j.x, j.stop = c, out, x, stop
	j.stopped.Store(false)
	j.scratch = scratches8.get()
	shift := int32(0)
	j.flip, shift = c.s.flip(x.Signed)
	j.patched = c.patches != nil && c.terms.zeroed
	switch {
	case j.patched: // takes unsigned ones
		j.flip, shift = pairs6x16.flip(x.Signed)
	case c.taps != nil: // reads bytes as they are
		j.flip, shift = 0, 0
	}
	add := grown(&j.scratch.add, c.rows)
	c.terms.add(add, out.Bias, x.Zero+shift)
	j.out.Bias = add

	j.src = x.Data
	if c.window.plane > 0 && !c.direct && !j.patched {
		j.src = grown(&j.scratch.x, g.N*g.C*c.window.plane+maxSchemeN)
		j.copying = true
		p.run(j, ceilDiv(g.N*g.C, copyMaps))
		j.copying = false
	}
	blocks := 0
	if c.taps != nil {
		j.nBlocks = max(1, cells/depthwiseBlock)
		if j.patched {
			j.nBlocks = 1
		}
		j.nStep = ceilDiv(g.OH, j.nBlocks)
		j.nBlocks = ceilDiv(g.OH, j.nStep)
		j.mStep = max(1, depthwiseBlock/cells)
		j.mBlocks = ceilDiv(g.N*g.C, j.mStep)
		blocks = j.mBlocks * j.nBlocks
	} else {
		per, lanes := c.rows/g.Groups, c.s.lanes(g.K())
		maps := g.N * g.Groups
		nPanels, mTiles := ceilDiv(cells, c.s.n), ceilDiv(per, c.s.m)
		j.nStep = blockPanels(nPanels, max(1, quantBlockB/(lanes*c.s.n)), maps, p.Threads()) * c.s.n
		j.nBlocks = ceilDiv(cells, j.nStep)
		j.mStep = blockPanels(mTiles, mTiles, maps*j.nBlocks, p.Threads()) * c.s.m
		j.mBlocks = ceilDiv(per, j.mStep)
		blocks = maps * j.nBlocks * j.mBlocks
	}
	p.run(j, blocks)
	ok := !j.stopped.Load()
	scratches8.put(j.scratch)
	j.c, j.out, j.x, j.src, j.scratch, j.stop = nil, Output{}, Bytes{}, nil, nil, nil
	quantConvJobs.put(j)
	return ok
}

// copyMaps is the number of maps that a block copies.
const copyMaps = 16

func (j *quantConvJob) runBlock(i int) {
	switch {
	case j.stop != nil && j.stop.Load():
		j.stopped.Store(true)
	case j.copying:
		g := &j.c.g
		from, to, plane := i*copyMaps, min((i+1)*copyMaps, g.N*g.C), j.c.window.plane
		j.c.window.fill(j.src[from*plane:to*plane], j.x.Data[from*g.H*g.W:to*g.H*g.W], g, byte(j.x.Zero))
	case j.c.taps != nil:
		j.depthwiseBlock(i)
	default:
		j.convBlock(i)
	}
}

// fill copies maps [H,W] into planes of the window, with pads of zero.
func (w *byteWindow) fill(dst, cells []byte, g *Conv2D, zero byte) {
	fillBytes(dst, zero)
	first := max(0, g.PadTop) // row of a plane that holds the map's first
	rows := min(w.rows-first, g.H)
	for m := 0; m*w.plane < len(dst); m++ {
		for y := range rows {
			row := dst[m*w.plane+(first+y)*w.line:][:w.line]
			w.deal(row, cells[(m*g.H+y)*g.W:(m*g.H+y+1)*g.W], g)
		}
	}
}

// deal copies a row of cells into the phases of row: cell i of phase p is cell
// i·StrideW + p − PadLeft.
func (w *byteWindow) deal(row, cells []byte, g *Conv2D) {
	if g.StrideW == 1 {
		copy(row[min(g.PadLeft, w.line):], cells)
		return
	}
	part := func(p int) (phase, from []byte) {
		first := min(w.width, max(0, ceilDiv(g.PadLeft-p, g.StrideW)))
		at := first*g.StrideW + p - g.PadLeft
		count := min(w.width-first, max(0, ceilDiv(g.W-at, g.StrideW)))
		if count == 0 {
			return nil, nil
		}
		return row[p*w.width+first:][:count], cells[at:]
	}
	if g.StrideW == 2 {
		even, x := part(g.PadLeft % 2) // of the map's cells
		odd, _ := part(1 - g.PadLeft%2)
		n := min(len(even), len(odd))
		if n > 0 && len(x) == g.W {
			if n = min(n, g.W/2); n > 0 {
				dealBytes(even[:n], odd[:n], x)
			}
			for i := n; i < len(even); i++ {
				even[i] = cells[2*i]
			}
			for i := n; i < len(odd); i++ {
				odd[i] = cells[2*i+1]
			}
			return
		}
	}
	for p := range g.StrideW {
		phase, from := part(p)
		for i := range phase {
			phase[i] = from[i*g.StrideW]
		}
	}
}

func fillBytes(dst []byte, v byte) {
	if len(dst) == 0 {
		return
	}
	dst[0] = v
	for n := 1; n < len(dst); n *= 2 {
		copy(dst[n:], dst[:n])
	}
}

// convBlock computes some columns of some rows of one group of one image.
func (j *quantConvJob) convBlock(i int) {
	c, g, s := j.c, &j.c.g, j.c.s
	m0, i := i%j.mBlocks*j.mStep, i/j.mBlocks
	n0, i := i%j.nBlocks*j.nStep, i/j.nBlocks
	group, image := i%g.Groups, i/g.Groups

	per, cells, depth, k := c.rows/g.Groups, g.OH*g.OW, g.C/g.Groups, g.K()
	m, n := min(j.mStep, per-m0), min(j.nStep, cells-n0)
	lanes := s.lanes(k)
	filters := c.filters[group*s.high(per)*lanes:][:s.high(per)*lanes]

	scratch := scratches8.get()
	defer scratches8.put(scratch)
	b := grown(&scratch.b, s.wide(n)*lanes+maxSchemeN)
	for at := 0; at < n; at += s.n {
		panel := b[at*lanes:]
		if c.offs == nil {
			x := j.x.Data[(image*g.C+group*depth)*g.H*g.W:][:depth*g.H*g.W]
			c.gather(panel, x, n0+at, min(s.n, n-at), byte(j.x.Zero), j.flip)
			continue
		}
		c.packPanel(panel, j.src[(image*g.C+group*depth)*c.window.plane:], n0+at, min(s.n, n-at), j.flip)
	}
	// Rows by as many as stay in cache while all panels meet them.
	step := max(1, quantBlockA/(lanes*max(s.m, s.unit))) * max(s.m, s.unit)
	var columns [maxSchemeN]int32
	for row := 0; row < m; row += step {
		if j.stop != nil && j.stop.Load() {
			j.stopped.Store(true)
			return
		}
		rows := min(step, m-row)
		first := group*per + m0 + row // of all rows
		sums := grown(&scratch.c, max(s.high(rows), s.high(1))*s.n)
		for at := 0; at < n; at += s.n {
			cols := min(s.n, n-at)
			panel := b[at*lanes:][:lanes*s.n]
			if !c.terms.zeroed {
				s.multiply(sums, c.ones, panel, s.high(1), lanes, cols, true)
				for l := range columns[:cols] {
					columns[l] = -sums[l]
				}
			}
			s.multiply(sums, filters[(m0+row)*lanes:], panel, s.high(rows), lanes, cols, true)
			if !c.terms.zeroed {
				addOuter(sums, s.n, c.terms.zeros[first:first+rows], columns[:cols])
			}
			out := j.out.cutRows(first, rows, (image*c.rows+first)*cells+n0+at)
			out.finishRows(cells, sums, s.n, rows, cols)
		}
	}
}

// A run8 is neighbouring cells that lanes from lane on of a panel read, off cells
// from where lane 0 of column 0 does. The assembly knows the layout.
type run8 struct{ off, lane int }

// packPanel packs columns [n0, n0+n) of the im2col matrix; lanes past n and past
// those of k may hold anything. src begins at the first channel's plane. What is
// written past a panel's end is packed again by the next panel.
func (c *QuantConv) packPanel(dst []uint32, src []byte, n0, n int, flip byte) {
	var list [maxSchemeN]run8
	runs := list[:0]
	g, w := &c.g, &c.window
	oy, ox := n0/g.OW, n0%g.OW
	for lane := 0; lane < n; {
		length := min(n-lane, g.OW-ox)
		off := oy*g.StrideH*w.line + ox
		if last := len(runs) - 1; last < 0 || off-runs[last].off != lane-runs[last].lane {
			runs = append(runs, run8{off, lane})
		}
		lane, oy, ox = lane+length, oy+1, 0
	}
	if c.reach+runs[len(runs)-1].off+c.s.n > len(src) { // the last panels of an input that is not copied
		packRunsPortable(c.s, dst, src, c.offs, runs, flip)
		return
	}
	packRuns(c.s, dst, src, c.offs, runs, flip)
}

// gather is packPanel for windows too sparse to copy: x [C/Groups,H,W].
func (c *QuantConv) gather(dst []uint32, x []byte, n0, n int, zero, flip byte) {
	g, s := &c.g, c.s
	clear(dst[:s.lanes(g.K())*s.n])
	for lane := range n {
		oy, ox := (n0+lane)/g.OW, (n0+lane)%g.OW
		for i := range g.K() {
			tap := i % (g.KH * g.KW)
			y := oy*g.StrideH - g.PadTop + tap/g.KW*g.DilationH
			xx := ox*g.StrideW - g.PadLeft + tap%g.KW*g.DilationW
			v := zero
			if y >= 0 && y < g.H && xx >= 0 && xx < g.W {
				v = x[(i/(g.KH*g.KW)*g.H+y)*g.W+xx]
			}
			dst[i/s.per*s.n+lane] |= uint32(v^flip) << (i % s.per * 32 / s.per)
		}
	}
}
