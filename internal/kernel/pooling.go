package kernel

import "math"

// Pool2D is the geometry of two-dimensional pooling (ONNX MaxPool and
// AveragePool, opset 1 and later; auto_pad resolved): x [N,C,H,W], result
// [N,C,OH,OW]. OH and OW are given, so windows may run past the padded edge, as
// ceil_mode lets them. CountIncludePad makes AveragePool divide by the cells of
// the window inside the padded input, else by those inside the input.
type Pool2D struct {
	N, C, H, W                           int
	KH, KW                               int
	StrideH, StrideW                     int
	PadTop, PadLeft, PadBottom, PadRight int
	DilationH, DilationW                 int
	OH, OW                               int
	CountIncludePad                      bool
}

// Pooling is a MaxPool or AveragePool with what it needs to know of its windows.
// It is never written after it is made, so it is safe for concurrent use.
type Pooling struct {
	g       Pool2D
	average bool
	maps    int // maps in a block

	fits    bool // whether stencil is a plan
	stencil stencil
	ones    []float32 // weights of sums: 1·x + acc rounds as x + acc does
	counts  []float32 // [OH,OW], the cells that a sum is divided by

	// Sums without a stencil are a depthwise convolution, unless a copy of the
	// rows would be large.
	direct bool
	sums   Conv2D
	plan   depthwise
}

// poolBlock is the number of window cells in a block of threaded pooling.
const poolBlock = 1 << 16

// NewMaxPool prepares dst[n,c,oy,ox] = the greatest cell of the window. Pads
// never win; a window without a cell gives -Inf, one with a NaN gives NaN. The
// geometry is not checked.
func NewMaxPool(g Pool2D) *Pooling { return newPooling(g, false) }

// NewAveragePool prepares dst[n,c,oy,ox] = the mean of the window, whose cells
// are added in row-major order, in float32. The mean over no cells is NaN. The
// geometry is not checked.
func NewAveragePool(g Pool2D) *Pooling { return newPooling(g, true) }

func newPooling(g Pool2D, average bool) *Pooling {
	q := &Pooling{g: g, average: average, maps: max(1, poolBlock/max(1, g.OH*g.OW*g.KH*g.KW))}
	if g.KH == g.KW && g.StrideH == g.StrideW && g.DilationH == 1 && g.DilationW == 1 && (g.KH == 3 || !average) {
		q.fits = q.stencil.plan(g.KH, g.StrideH, g.H, g.W, g.PadTop, g.PadLeft, g.OH, g.OW)
	}
	if !average || g.OH*g.OW == 0 {
		return q
	}
	q.sums = Conv2D{
		H: g.H, W: g.W, KH: g.KH, KW: g.KW, StrideH: g.StrideH, StrideW: g.StrideW, PadTop: g.PadTop, PadLeft: g.PadLeft,
		DilationH: g.DilationH, DilationW: g.DilationW, OH: g.OH, OW: g.OW,
	}
	if q.direct = copyFits(&q.sums); !q.direct {
		return q
	}
	if !q.fits {
		q.plan.plan(&q.sums)
	}
	for range g.KH * g.KW {
		q.ones = append(q.ones, 1)
	}
	for oy := range g.OH {
		high := counted(oy*g.StrideH-g.PadTop, g.KH, g.DilationH, g.H, g.PadBottom, g.CountIncludePad)
		for ox := range g.OW {
			wide := counted(ox*g.StrideW-g.PadLeft, g.KW, g.DilationW, g.W, g.PadRight, g.CountIncludePad)
			q.counts = append(q.counts, float32(high)*float32(wide))
		}
	}
	return q
}

type poolJob struct {
	q      *Pooling
	dst, x []float32
	blocks int
}

var poolJobs freeList[poolJob]

// Run pools x [N,C,H,W] into dst [N,C,OH,OW], f32, which must not alias. Safe for
// concurrent use.
func (q *Pooling) Run(p *Pool, dst, x []float32) {
	g := &q.g
	need("dst", len(dst), g.N*g.C*g.OH*g.OW)
	need("x", len(x), g.N*g.C*g.H*g.W)
	if g.OH*g.OW == 0 {
		return
	}
	j := poolJobs.get()
	*j = poolJob{q: q, dst: dst, x: x}
	j.blocks = ceilDiv(g.N*g.C, q.maps)
	p.run(j, j.blocks)
	*j = poolJob{}
	poolJobs.put(j)
}

func (j *poolJob) runBlock(i int) {
	q, g := j.q, &j.q.g
	scratch := buffers.get()
	defer buffers.put(scratch)
	m0, m1 := side{size: g.N * g.C, unit: 1}.span(i, j.blocks)
	if q.direct && !q.fits {
		j.averageRows(m0, m1, scratch)
		return
	}
	row := scratch.sized(maxRowLen(g))
	for m := m0; m < m1; m++ {
		dst, x := j.dst[m*g.OH*g.OW:(m+1)*g.OH*g.OW], j.x[m*g.H*g.W:(m+1)*g.H*g.W]
		switch {
		case q.direct:
			stencilMeans(&q.stencil, dst, x, q.counts)
		case q.average:
			averageMap(g, dst, x)
		case q.fits:
			stencilMax(&q.stencil, dst, x)
		case g.DilationW == 1 && g.StrideW <= 2:
			maxRows(g, dst, x, row)
		default:
			maxMap(g, dst, x)
		}
	}
}

// averageRows is averageMap for maps [m0,m1), by rows.
func (j *poolJob) averageRows(m0, m1 int, scratch *buffer) {
	q, g, d := j.q, &j.q.g, &j.q.plan
	pad := scratch.sized(d.scratchLen(&q.sums, d.blockRows))
	for oy := 0; oy < g.OH; oy += d.blockRows {
		rows := min(d.blockRows, g.OH-oy)
		clear(pad)
		for m := m0; m < m1; m++ {
			dst := j.dst[(m*g.OH+oy)*g.OW:][:rows*g.OW]
			d.compute(&q.sums, dst, j.x[m*g.H*g.W:(m+1)*g.H*g.W], q.ones, pad, oy, rows)
			vecDiv(dst, dst, q.counts[oy*g.OW:])
		}
	}
}

// counted is the number of cells along one side of a window by which a sum is
// divided.
func counted(start, kernel, dilation, size, after int, pads bool) int {
	from, to := window(start, kernel, dilation, size)
	if !pads {
		return to - from
	}
	_, to = window(start, kernel, dilation, size+after)
	return to
}

// maxRowLen is the length of maxRows' scratch: a padded row as long as the
// windows reach, made even, and its even and odd elements.
func maxRowLen(g *Pool2D) int {
	reach := (g.OW-1)*g.StrideW + g.KW
	return 2 * (reach + reach%2)
}

// maxRows is maxMap for windows without gaps and of stride 1 or 2 along a row:
// first the greatest cell of each column, then of the neighbouring columns,
// whole rows at a time. row has maxRowLen elements.
func maxRows(g *Pool2D, dst, x, row []float32) {
	row, deal := row[:len(row)/2], row[len(row)/2:]
	even, odd := deal[:len(deal)/2], deal[len(deal)/2:]
	from, to := min(g.PadLeft, len(row)), min(g.PadLeft+g.W, len(row))
	cells := row[from:to]
	for i := range row {
		row[i] = float32(math.Inf(-1))
	}
	for oy := range g.OH {
		y0 := oy*g.StrideH - g.PadTop
		fromY, toY := window(y0, g.KH, g.DilationH, g.H)
		for i := range cells {
			cells[i] = float32(math.Inf(-1))
		}
		for ky := fromY; ky < toY; ky++ {
			vecMax(cells, cells, x[(y0+ky*g.DilationH)*g.W:])
		}
		out := dst[oy*g.OW : (oy+1)*g.OW]
		if g.StrideW == 1 {
			copy(out, row)
			for kx := 1; kx < g.KW; kx++ {
				vecMax(out, out, row[kx:])
			}
			continue
		}
		dealTwo(even, odd, row)
		copy(out, even)
		for kx := 1; kx < g.KW; kx++ {
			half := even
			if kx%2 == 1 {
				half = odd
			}
			vecMax(out, out, half[kx/2:])
		}
	}
}

// window returns the taps [from,to) of a window that begins at cell start and
// steps by dilation that lie in [0,size).
func window(start, kernel, dilation, size int) (from, to int) {
	if start < 0 {
		from = ceilDiv(-start, dilation)
	}
	if start < size {
		to = min(kernel, ceilDiv(size-start, dilation))
	}
	return min(from, to), to
}

func maxMap(g *Pool2D, dst, x []float32) {
	for oy := range g.OH {
		y0 := oy*g.StrideH - g.PadTop
		fromY, toY := window(y0, g.KH, g.DilationH, g.H)
		out := dst[oy*g.OW : (oy+1)*g.OW]
		for ox := range out {
			x0 := ox*g.StrideW - g.PadLeft
			fromX, toX := window(x0, g.KW, g.DilationW, g.W)
			best := float32(math.Inf(-1))
			for ky := fromY; ky < toY; ky++ {
				at := (y0+ky*g.DilationH)*g.W + x0 + fromX*g.DilationW
				for kx := fromX; kx < toX; kx++ {
					best = max(best, x[at])
					at += g.DilationW
				}
			}
			out[ox] = best
		}
	}
}

func averageMap(g *Pool2D, dst, x []float32) {
	for oy := range g.OH {
		y0 := oy*g.StrideH - g.PadTop
		fromY, toY := window(y0, g.KH, g.DilationH, g.H)
		out := dst[oy*g.OW : (oy+1)*g.OW]
		for ox := range out {
			x0 := ox*g.StrideW - g.PadLeft
			fromX, toX := window(x0, g.KW, g.DilationW, g.W)
			var sum float32
			for ky := fromY; ky < toY; ky++ {
				at := (y0+ky*g.DilationH)*g.W + x0 + fromX*g.DilationW
				for kx := fromX; kx < toX; kx++ {
					sum += x[at]
					at += g.DilationW
				}
			}
			count := counted(y0, g.KH, g.DilationH, g.H, g.PadBottom, g.CountIncludePad) *
				counted(x0, g.KW, g.DilationW, g.W, g.PadRight, g.CountIncludePad)
			out[ox] = sum / float32(count)
		}
	}
}

type meanJob struct {
	dst, x        []float32
	nc, hw, block int
}

var meanJobs freeList[meanJob]

// meanBlock is the number of cells in a block of a threaded GlobalAveragePool.
const meanBlock = 1 << 14

// GlobalAveragePool is dst[i] = the mean of x[i,:] (ONNX GlobalAveragePool): x
// [nc,hw], dst [nc], f32, summed in order in float64. dst must not alias x. Safe for
// concurrent use.
func GlobalAveragePool(p *Pool, dst, x []float32, nc, hw int) {
	need("dst", len(dst), nc)
	need("x", len(x), nc*hw)
	j := meanJobs.get()
	*j = meanJob{dst: dst, x: x, nc: nc, hw: hw, block: max(1, meanBlock/4/max(1, hw)) * 4}
	p.run(j, ceilDiv(nc, j.block))
	*j = meanJob{}
	meanJobs.put(j)
}

func (j *meanJob) runBlock(b int) {
	dst, x, hw := j.dst, j.x, j.hw
	i, end := b*j.block, min((b+1)*j.block, j.nc)
	for ; i+4 <= end; i += 4 { // four chains, since each waits for itself
		a, b, c, d := x[i*hw:][:hw], x[(i+1)*hw:][:hw], x[(i+2)*hw:][:hw], x[(i+3)*hw:][:hw]
		var sa, sb, sc, sd float64
		for k := range a {
			sa += float64(a[k])
			sb += float64(b[k])
			sc += float64(c[k])
			sd += float64(d[k])
		}
		n := float64(hw)
		dst[i], dst[i+1], dst[i+2], dst[i+3] = float32(sa/n), float32(sb/n), float32(sc/n), float32(sd/n)
	}
	for ; i < end; i++ {
		var sum float64
		for _, v := range x[i*hw : (i+1)*hw] {
			sum += float64(v)
		}
		dst[i] = float32(sum / float64(hw))
	}
}
