package kernel

// depthwise is the plan of a convolution in which every channel has a filter of
// its own. A block of output rows is computed from a copy of the input rows it
// needs, with the pads as zeros and the columns dealt into StrideW phases, so
// that every tap reads neighbouring cells.
type depthwise struct {
	blockRows int   // output rows computed from one copy
	maps      int   // maps computed in one block
	width     int   // cells of a phase in a row of the copy
	off       []int // of each tap in the copy
}

// depthwiseScratch is the size of a copy in elements: 64 KiB.
const depthwiseScratch = 1 << 14

// depthwiseBlock is the number of output elements worth a block.
const depthwiseBlock = 1 << 12

// copyFits says whether the copy for one output row stays small. It does in
// networks, but not for a stride or a dilation of millions.
func copyFits(g Conv2D) bool {
	line := (int64(g.OW) + int64(g.KW-1)*int64(g.DilationW)/int64(g.StrideW)) * int64(g.StrideW)
	return line*(int64(g.KH-1)*int64(g.DilationH)+1) <= 64*depthwiseScratch
}

func newDepthwise(g Conv2D) *depthwise {
	reach := (g.KW - 1) * g.DilationW
	d := &depthwise{width: g.OW + reach/g.StrideW}
	line := d.width * g.StrideW
	reachH := (g.KH-1)*g.DilationH + 1
	d.blockRows = min(g.OH, max(1, (depthwiseScratch/line-reachH)/g.StrideH+1))
	d.maps = max(1, depthwiseBlock/(d.blockRows*g.OW))
	for y := range g.KH {
		for x := range g.KW {
			at := x * g.DilationW
			d.off = append(d.off, y*g.DilationH*line+at%g.StrideW*d.width+at/g.StrideW)
		}
	}
	return d
}

// runDirect computes some rows of one map of a depthwise convolution.
func (j *convJob) runDirect(i int) {
	if j.stop != nil && j.stop.Load() {
		j.stopped.Store(true)
		return
	}
	c, g, d := j.c, &j.c.g, j.c.direct
	oy, m0 := i%j.nBlocks*d.blockRows, i/j.nBlocks*d.maps
	rows := min(d.blockRows, g.OH-oy)
	line := d.width * g.StrideW
	high := (rows-1)*g.StrideH + (g.KH-1)*g.DilationH + 1
	scratch := buffers.get()
	defer buffers.put(scratch)
	pad := scratch.sized(high * line)
	area := g.KH * g.KW
	for m := m0; m < min(m0+d.maps, g.N*g.C); m++ {
		plane := j.x[m*g.H*g.W : (m+1)*g.H*g.W]
		for r := range high {
			row := pad[r*line : (r+1)*line]
			y := oy*g.StrideH - g.PadTop + r
			if y < 0 || y >= g.H {
				clear(row)
				continue
			}
			dealRow(row, plane[y*g.W:(y+1)*g.W], g.StrideW, d.width, g.PadLeft)
		}
		w := c.filters[m%g.C*area : (m%g.C+1)*area]
		depthwiseRows(j.dst[(m*g.OH+oy)*g.OW:][:rows*g.OW], pad, w, d.off, rows, g.OW, g.StrideH*line)
	}
}

// dealRow copies a row of cells, left zeros before it, into phases of width
// cells: cell x of the padded row goes to row[x%phases][x/phases].
func dealRow(row, cells []float32, phases, width, left int) {
	dealt := 0 // cells done already, of each residue
	if phases == 2 {
		even, odd := row[left%2*width:][:width], row[(left+1)%2*width:][:width]
		begin, next := min(left/2, width), min((left+1)/2, width)
		dealt = min(width-begin, width-next, len(cells)/2)
		dealTwo(even[begin:begin+dealt], odd[next:], cells)
	}
	for p := range phases {
		first := left + p
		phase := row[first%phases*width:][:width]
		begin := min(first/phases, width)
		n := min(width-begin, max(0, ceilDiv(len(cells)-p, phases)))
		clear(phase[:begin])
		clear(phase[begin+n:])
		part := phase[begin : begin+n]
		if phases == 1 {
			copy(part, cells)
			continue
		}
		for i := dealt; i < n; i++ {
			part[i] = cells[i*phases+p]
		}
	}
}
