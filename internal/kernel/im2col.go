package kernel

import "math"

// A tap is one cell of a filter within one K block: rows row, row+KH·KW, … of
// the block hold its values for count channels from channel on. The assembly
// knows the layout.
type tap struct {
	dy, dx  int32 // cells from the window's corner
	off     int32 // dy·W + dx
	count   int32
	row     int32
	channel int32
}

// tapsOf lists the taps of rows [k0,k1) of the im2col matrix of g.
func tapsOf(g Conv2D, k0, k1 int) []tap {
	area := g.KH * g.KW
	var taps []tap
	for t := range area {
		first := ceilDiv(max(0, k0-t), area)
		if count := ceilDiv(k1-t, area) - first; k1 > t && count > 0 {
			dy, dx := t/g.KW*g.DilationH, t%g.KW*g.DilationW
			taps = append(taps, tap{
				dy: int32(dy), dx: int32(dx), off: int32(dy*g.W + dx),
				count: int32(count), row: int32(first*area + t - k0), channel: int32(first),
			})
		}
	}
	return taps
}

// columns says where the windows of the columns of a panel begin: coordinates,
// pads making them negative, and y·W + x. A lane without a column has y =
// math.MinInt32. The assembly knows the layout.
type columns struct{ y, x, at [maxTileN]int32 }

// maxRuns is the most runs of neighbouring cells for which a panel is packed
// run by run; one gather costs about as much as four runs. Runs of every second
// cell cost more and pay where there are two at most.
const maxRuns = 3

// packPanel fills the panel dst [kc][width] with columns [n0, n0+n) of the
// im2col matrix of x [C/Groups,H,W]; lanes past n are zero.
func packPanel(dst, x []float32, g *Conv2D, taps []tap, width, n0, n int) {
	step := g.KH * g.KW
	oy, ox := n0/g.OW, n0%g.OW
	if runsWrap && g.StrideH == 1 && g.StrideW == 1 && g.W == g.OW {
		// Rows of the map and of the output are as long, so what is side by side
		// in one is so in the other.
		cols := g.columns(oy, ox, n)
		packRun(dst, x, &cols, taps, width, g.H, g.W, step, false)
		return
	}
	runs := (ox+n-1)/g.OW + 1
	even := evenRuns() && g.StrideW == 2 && g.OW >= 2*width && g.readable(oy, ox, runs, taps)
	if even || g.StrideW == 1 && runs <= maxRuns {
		for lane := 0; lane < n; {
			length := min(n-lane, g.OW-ox)
			y, x0 := oy*g.StrideH-g.PadTop, ox*g.StrideW-g.PadLeft
			var cols columns
			for l := range cols.y {
				cols.y[l], cols.x[l] = math.MinInt32, 0
				if l >= lane && l < lane+length {
					cols.y[l], cols.x[l] = int32(y), int32(x0+(l-lane)*g.StrideW)
				}
			}
			cols.at[0] = int32(y*g.W + x0 - lane*g.StrideW)
			if even {
				packEven(dst, x, &cols, taps, width, g.H, g.W, step, lane > 0)
			} else {
				packRun(dst, x, &cols, taps, width, g.H, g.W, step, lane > 0)
			}
			lane, oy, ox = lane+length, oy+1, 0
		}
		return
	}
	cols := g.columns(oy, ox, n)
	packGather(dst, x, &cols, taps, width, g.H, g.W, step)
}

// columns are the windows of n outputs from (oy,ox) on.
func (g *Conv2D) columns(oy, ox, n int) (cols columns) {
	for l := range cols.y {
		if l >= n {
			cols.y[l] = math.MinInt32
			continue
		}
		y, x := oy*g.StrideH-g.PadTop, ox*g.StrideW-g.PadLeft
		cols.y[l], cols.x[l], cols.at[l] = int32(y), int32(x), int32(y*g.W+x)
		if ox++; ox == g.OW {
			oy, ox = oy+1, 0
		}
	}
	return cols
}

// readable says whether the cells that packEven reads for runs from (oy,ox) on,
// whole registers of them, all lie in the map.
func (g *Conv2D) readable(oy, ox, runs int, taps []tap) bool {
	first := (oy*g.StrideH-g.PadTop)*g.W + ox*g.StrideW - g.PadLeft
	last := first
	if runs > 1 {
		last = ((oy+runs-1)*g.StrideH-g.PadTop)*g.W - g.PadLeft
		first = min(first, (oy+1)*g.StrideH*g.W-g.PadTop*g.W-g.PadLeft-maxTileN*g.StrideW)
	}
	for i := range taps {
		off := int(taps[i].off)
		if first+off < 0 || last+off+2*maxTileN > g.H*g.W {
			return false
		}
	}
	return true
}
