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

// A kBlock is rows [from,to) of the im2col matrix of a group.
type kBlock struct {
	from, to int
	taps     []tap
	starts   []int32 // of the rows, from a window's corner in the first channel on; nil if gemmPack is not used
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

// startsOf lists where rows [k0,k1) of the im2col matrix of g begin.
func startsOf(g Conv2D, k0, k1 int) []int32 {
	area := g.KH * g.KW
	starts := make([]int32, 0, k1-k0)
	for k := k0; k < k1; k++ {
		y, x := k%area/g.KW*g.DilationH, k%g.KW*g.DilationW
		starts = append(starts, int32((k/area*g.H+y)*g.W+x))
	}
	return starts
}

// A panel says where the cells of maxTileN columns are that lie side by side in the
// map, but for pads: those of row k of a block from at + starts[k] on. Unless they
// are whole, only lanes with a bit in masks[k] are cells of the map.
type panel struct {
	at    int
	whole bool
	masks [256]uint32
}

// plan makes p the panel of the columns from n0 on and says whether there is one.
func (p *panel) plan(g *Conv2D, block *kBlock, n0 int) bool {
	oy, ox := n0/g.OW, n0%g.OW
	flat := g.StrideH == 1 && g.W == g.OW // columns go on in the next row of the map
	if !flat && ox+maxTileN > g.OW {
		return false
	}
	y, x := oy*g.StrideH-g.PadTop, ox-g.PadLeft
	p.at = y*g.W + x
	p.whole = ox+maxTileN <= g.OW && y >= 0 && y+(g.KH-1)*g.DilationH < g.H && x >= 0 && x+maxTileN+(g.KW-1)*g.DilationW <= g.W
	area, kc := g.KH*g.KW, block.to-block.from
	if p.whole || len(block.taps) != area || area > maxChannelTaps || kc > len(p.masks) {
		return p.whole
	}
	var s stripes
	for lane := 0; lane < maxTileN; {
		length := min(maxTileN-lane, g.OW-ox)
		s.mark(g, block.taps, 2, 0, oy*g.StrideH-g.PadTop, ox-g.PadLeft, lane, length)
		lane, oy, ox = lane+length, oy+1, 0
	}
	for k := range min(area, kc) {
		tap := (block.from + k) % area
		p.masks[k] = uint32(s.masks[2*tap]) | uint32(s.masks[2*tap+1])<<16
	}
	for done := area; done < kc; done *= 2 {
		copy(p.masks[done:kc], p.masks[:done])
	}
	return true
}

// columns says where the windows of the columns of a panel begin: coordinates,
// pads making them negative, and y·W + x. A lane without a column has y =
// math.MinInt32. The assembly knows the layout.
type columns struct{ y, x, at [maxTileN]int32 }

// maxRuns is the most runs of neighbouring cells for which a panel is packed
// run by run; one gather costs about as much as four runs. Runs of every second
// cell cost more and pay where there are two at most.
const maxRuns = 3

// packPanel fills the panel dst [kc][width] with columns [n0, n0+n) of the rows of
// a block of the im2col matrix of x [C/Groups,H,W]; lanes past n are zero.
func packPanel(dst, x []float32, g *Conv2D, block *kBlock, width, n0, n int) {
	if packsByChannel(width) && packChannels(dst, x, g, block, n0, n) {
		return
	}
	taps, step := block.taps, g.KH*g.KW
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

// maxChannelTaps is the most cells of a filter with which packChannels is used.
const maxChannelTaps = 64

// stripes says where the cells of the lanes of a panel lie in a map: those of
// run r lie side by side from at[r], lane 0, on. Masks has a bit for each lane
// of a run whose cell lies inside the map, two masks for each run and these for
// each tap. The assembly knows the layout.
type stripes struct {
	at    [maxRuns]int
	masks [2 * maxRuns * maxChannelTaps]uint16
}

// packChannels is packPanel for panels of maxTileN lanes, with the channels in the
// outer loop, so that what several taps read is in the nearest cache, and dst is
// written in order. It says whether it did it.
func packChannels(dst, x []float32, g *Conv2D, block *kBlock, n0, n int) bool {
	area := g.KH * g.KW
	if g.StrideW != 1 || len(block.taps) != area || area > maxChannelTaps {
		return false
	}
	oy, ox := n0/g.OW, n0%g.OW
	flat := g.StrideH == 1 && g.W == g.OW // runs go on in the next row of the map
	runs := 1
	if !flat {
		if runs = (ox+n-1)/g.OW + 1; runs > maxRuns {
			return false
		}
	}
	var s stripes
	whole := n == maxTileN
	for lane, row := 0, 0; lane < n; row++ {
		run, length := row, min(n-lane, g.OW-ox)
		y, left := oy*g.StrideH-g.PadTop, ox*g.StrideW-g.PadLeft
		if flat {
			run = 0
		}
		if run == row {
			s.at[run] = y*g.W + left - lane
		}
		inside := length == maxTileN && y >= 0 && y+int(block.taps[area-1].dy) < g.H &&
			left >= 0 && left+length+int(block.taps[area-1].dx) <= g.W
		if !inside {
			whole = false
			s.mark(g, block.taps, 2*runs, 2*run, y, left, lane, length)
		}
		lane, oy, ox = lane+length, oy+1, 0
	}
	for row := block.from; row < block.to; {
		tap, channels, taps := row%area, 1, min(area-row%area, block.to-row)
		if taps == area {
			channels = (block.to - row) / area
		}
		d, src := dst[(row-block.from)*maxTileN:], x[row/area*g.H*g.W:]
		if whole {
			packWhole(d, src[s.at[0]:], block.taps[tap:tap+taps], channels, g.H*g.W)
		} else {
			packStripes(d, src, block.taps[tap:tap+taps], channels, g.H*g.W, runs, &s, 2*runs*tap)
		}
		row += channels * taps
	}
	return true
}

// mark sets the bits of lanes [lane,lane+length), whose windows begin at (y,x) and
// side by side, in the masks from at on of each tap, which are step apart.
func (s *stripes) mark(g *Conv2D, taps []tap, step, at, y, x, lane, length int) {
	for t := range taps {
		if row := y + int(taps[t].dy); row < 0 || row >= g.H {
			continue
		}
		first := x + int(taps[t].dx)
		from, to := max(0, -first), min(length, g.W-first)
		if from < to {
			bits := (uint64(1)<<to - uint64(1)<<from) << lane
			s.masks[t*step+at] |= uint16(bits)
			s.masks[t*step+at+1] |= uint16(bits >> 16)
		}
	}
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
