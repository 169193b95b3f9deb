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
	*j = poolJob{g: g, dst: dst, x: x, average: average}
	j.maps = max(1, poolBlock/max(1, g.OH*g.OW*g.KH*g.KW))
	p.run(j, ceilDiv(g.N*g.C, j.maps))
	*j = poolJob{}
	poolJobs.put(j)
}

func (j *poolJob) runBlock(i int) {
	g := &j.g
	scratch := buffers.get()
	defer buffers.put(scratch)
	row := scratch.sized(maxRowLen(g))
	for m := i * j.maps; m < min((i+1)*j.maps, g.N*g.C); m++ {
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
			count := (toY - fromY) * (toX - fromX)
			if g.CountIncludePad {
				_, high := window(y0, g.KH, g.DilationH, g.H+g.PadBottom)
				_, wide := window(x0, g.KW, g.DilationW, g.W+g.PadRight)
				count = high * wide
			}
			out[ox] = sum / float32(count)
		}
	}
}

// GlobalAveragePool is dst[i] = the mean of x[i,:] (ONNX GlobalAveragePool): x
// [nc,hw], dst [nc], f32, summed in float64. dst must not alias x.
func GlobalAveragePool(dst, x []float32, nc, hw int) {
	need("dst", len(dst), nc)
	need("x", len(x), nc*hw)
	for i := range nc {
		var sum float64
		for _, v := range x[i*hw : (i+1)*hw] {
			sum += float64(v)
		}
		dst[i] = float32(sum / float64(hw))
	}
}
