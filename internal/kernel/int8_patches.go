package kernel

import "math/bits"

// patchwork is the plan of a depthwise convolution of bytes, computed straight
// from the map: in patches of at most sixteen outputs, each lane of which takes
// four taps of a row of the filter at a time. What the lanes take lies in 64
// neighbouring cells of the map and is picked from these by index.
type patchwork struct {
	groups  int     // of taps
	patches []int32 // of each: dst, lanes, and for each group src and pick; the assembly knows the layout
	picks   []pick
}

// A pick says which of 64 cells go to four places in each of sixteen lanes, and
// which places lie inside the map; the others are pads. The assembly knows the
// layout.
type pick struct {
	index  [64]byte
	inside uint64
}

// Bounds of a patchwork, so that plans stay small beside what they compute.
const (
	maxPatchTaps  = 64
	maxPatchCells = 1 << 18
	maxPicks      = 1 << 12
)

// patchworkOf is the plan of g, or nil if it would be too large.
func patchworkOf(g *Conv2D) *patchwork {
	if g.KH*g.KW > maxPatchTaps || g.OH*g.OW > maxPatchCells || g.H*g.W > maxPatchCells || 3*g.DilationW >= 64 {
		return nil
	}
	p, known := &patchwork{groups: g.KH * ceilDiv(g.KW, 4)}, map[pick]int32{}
	for cell := 0; cell < g.OH*g.OW; {
		lanes := min(16, g.OH*g.OW-cell)
		first := len(p.patches)
		p.patches = append(p.patches, int32(cell), 0)
		for t := 0; t < p.groups; t++ {
			from, k, fits := g.pick(cell, lanes, t)
			if fits < lanes { // begin again with fewer
				lanes, p.patches, t = fits, p.patches[:first+2], -1
				continue
			}
			at, ok := known[k]
			if !ok {
				if len(p.picks) == maxPicks {
					return nil
				}
				at = int32(len(p.picks))
				known[k], p.picks = at, append(p.picks, k)
			}
			p.patches = append(p.patches, int32(from), at)
		}
		p.patches[first+1] = 1<<lanes - 1
		cell += lanes
	}
	return p
}

// pick says what lanes outputs from cell on take for a group of taps, from where
// on, and how many of them find it in 64 cells; one always does.
func (g *Conv2D) pick(cell, lanes, group int) (from int, k pick, fits int) {
	perRow := ceilDiv(g.KW, 4)
	ky, kx := group/perRow, group%perRow*4
	var at [64]int
	lo, hi := g.H*g.W, -1
	for l := range lanes {
		y := (cell+l)/g.OW*g.StrideH - g.PadTop + ky*g.DilationH
		x := (cell+l)%g.OW*g.StrideW - g.PadLeft + kx*g.DilationW
		below, above := lo, hi
		for i := range min(4, g.KW-kx) {
			if xi := x + i*g.DilationW; y >= 0 && y < g.H && xi >= 0 && xi < g.W {
				at[4*l+i] = y*g.W + xi
				k.inside |= 1 << (4*l + i)
				below, above = min(below, at[4*l+i]), max(above, at[4*l+i])
			}
		}
		if above-below >= 64 {
			return 0, pick{}, l
		}
		lo, hi = below, above
	}
	// No cell past the map's end is read, unless the map is smaller than that.
	from = max(0, min(lo, g.H*g.W-64))
	for rest := k.inside; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		k.index[i] = byte(at[i] - from)
	}
	return from, k, lanes
}

// pack puts the filters w [maps,KH,KW] of signed bytes, or of unsigned ones whose
// bits of flip are turned, into dst [maps,groups], four taps in each.
func (p *patchwork) pack(dst []uint32, w []byte, flip byte, g *Conv2D) {
	clear(dst)
	perRow := ceilDiv(g.KW, 4)
	for i, b := range w {
		row, kx := i/g.KW, i%g.KW // rows of all filters
		dst[row*perRow+kx/4] |= uint32(b^flip) << (kx % 4 * 8)
	}
}

// patchSumsPortable is dst [OH·OW] = Σ w·x: w [groups] are those of a map, signed;
// x are the cells of it, whose bits of flip are turned, unsigned, and pad is what
// stands outside it.
func patchSumsPortable(p *patchwork, dst []int32, x []byte, w []uint32, flip, pad byte) {
	for rest := p.patches; len(rest) > 0; rest = rest[2+2*p.groups:] {
		out := dst[rest[0]:][:bits.OnesCount32(uint32(rest[1]))]
		clear(out)
		for t := range p.groups {
			src, k := x[rest[2+2*t]:], &p.picks[rest[3+2*t]]
			for i := range 4 * len(out) {
				v := pad
				if k.inside>>i&1 != 0 {
					v = src[k.index[i]] ^ flip
				}
				out[i/4] += int32(v) * int32(int8(w[t]>>(i%4*8)))
			}
		}
	}
}
