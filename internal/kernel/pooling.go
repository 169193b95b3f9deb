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

type poolJob struct {
	g       Pool2D
	dst, x  []float32
	maps    int // maps in a block
	average bool

	// For averages, unless a copy of the rows would be large: the sums are a
	// depthwise convolution with ones, since 1·x + acc rounds as x + acc does.
	direct bool
	sums   Conv2D
	plan   depthwise
	ones   []float32
}

var poolJobs freeList[poolJob]

// poolBlock is the number of window cells in a block of threaded pooling.
const poolBlock = 1 << 16

// MaxPool is dst[n,c,oy,ox] = the greatest cell of the window, f32: x [N,C,H,W],
// dst [N,C,OH,OW]. Pads never win; a window without a cell gives -Inf, one with
// a NaN gives NaN. dst must not alias x. Safe for concurrent use. The geometry is
// not checked beyond the lengths of the slices.
func MaxPool(p *Pool, g Pool2D, dst, x []float32) { pool(p, g, dst, x, false) }

// AveragePool is dst[n,c,oy,ox] = the mean of the window, f32: x [N,C,H,W], dst
// [N,C,OH,OW]. The cells are added in row-major order, in float32. The mean over
// no cells is NaN. dst must not alias x. Safe for concurrent use. The geometry is
// not checked beyond the lengths of the slices.
func AveragePool(p *Pool, g Pool2D, dst, x []float32) { pool(p, g, dst, x, true) }

func pool(p *Pool, g Pool2D, dst, x []float32, average bool) {
	need("dst", len(dst), g.N*g.C*g.OH*g.OW)
	need("x", len(x), g.N*g.C*g.H*g.W)
	j := poolJobs.get()
	j.g, j.dst, j.x, j.average, j.direct = g, dst, x, average, false
	if average {
		j.planSums()
	}
	j.maps = max(1, poolBlock/max(1, g.OH*g.OW*g.KH*g.KW))
	p.run(j, ceilDiv(g.N*g.C, j.maps))
	j.dst, j.x = nil, nil
	poolJobs.put(j)
}

func (j *poolJob) planSums() {
	g := &j.g
	j.sums = Conv2D{
		H: g.H, W: g.W, KH: g.KH, KW: g.KW, StrideH: g.StrideH, StrideW: g.StrideW, PadTop: g.PadTop, PadLeft: g.PadLeft,
		DilationH: g.DilationH, DilationW: g.DilationW, OH: g.OH, OW: g.OW,
	}
	if j.direct = g.OH > 0 && g.OW > 0 && copyFits(&j.sums); !j.direct {
		return
	}
	j.plan.plan(&j.sums)
	j.ones = j.ones[:0]
	for range j.plan.off {
		j.ones = append(j.ones, 1)
	}
}

func (j *poolJob) runBlock(i int) {
	g := &j.g
	scratch := buffers.get()
	defer buffers.put(scratch)
	m0, m1 := i*j.maps, min((i+1)*j.maps, g.N*g.C)
	if j.direct {
		j.averageMaps(m0, m1, scratch)
		return
	}
	row := scratch.sized(maxRowLen(g))
	for m := m0; m < m1; m++ {
		dst, x := j.dst[m*g.OH*g.OW:(m+1)*g.OH*g.OW], j.x[m*g.H*g.W:(m+1)*g.H*g.W]
		switch {
		case j.average:
			averageMap(g, dst, x)
		case g.DilationW == 1 && g.StrideW <= 2:
			maxRows(g, dst, x, row)
		default:
			maxMap(g, dst, x)
		}
	}
}

// averageMaps is averageMap for maps [m0,m1), by rows.
func (j *poolJob) averageMaps(m0, m1 int, scratch *buffer) {
	g, d := &j.g, &j.plan
	n := d.scratchLen(&j.sums, d.blockRows)
	pad := scratch.sized(n + g.OW)
	pad, wide := pad[:n], pad[n:] // cells that count, by column
	for ox := range wide {
		wide[ox] = float32(counted(ox*g.StrideW-g.PadLeft, g.KW, g.DilationW, g.W, g.PadRight, g.CountIncludePad))
	}
	for oy := 0; oy < g.OH; oy += d.blockRows {
		rows := min(d.blockRows, g.OH-oy)
		clear(pad)
		for m := m0; m < m1; m++ {
			dst := j.dst[(m*g.OH+oy)*g.OW:][:rows*g.OW]
			d.compute(&j.sums, dst, j.x[m*g.H*g.W:(m+1)*g.H*g.W], j.ones, pad, oy, rows)
			for r := range rows {
				high := float32(counted((oy+r)*g.StrideH-g.PadTop, g.KH, g.DilationH, g.H, g.PadBottom, g.CountIncludePad))
				row := dst[r*g.OW:][:len(wide)]
				for ox, w := range wide {
					row[ox] /= high * w
				}
			}
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

// GlobalAveragePool is dst[i] = the mean of x[i,:] (ONNX GlobalAveragePool): x
// [nc,hw], dst [nc], f32, summed in order in float64. dst must not alias x.
func GlobalAveragePool(dst, x []float32, nc, hw int) {
	need("dst", len(dst), nc)
	need("x", len(x), nc*hw)
	i := 0
	for ; i+4 <= nc; i += 4 { // four chains, since each waits for itself
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
	for ; i < nc; i++ {
		var sum float64
		for _, v := range x[i*hw : (i+1)*hw] {
			sum += float64(v)
		}
		dst[i] = float32(sum / float64(hw))
	}
}
