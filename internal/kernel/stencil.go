package kernel

import "math"

// A stencil is the plan of a small window over one map, computed straight from
// the map in patches of sixteen outputs. Where rows of the map and of the output
// are as long, a patch goes on in the next row.
type stencil struct {
	size, stride int // of the window, both ways
	line         int // cells in a row of the map
	patches      []patch
	masks        []uint16
}

// A patch is sixteen neighbouring outputs. Lanes says which of them exist; src
// is where the window of the first one begins. Masks is where its masks begin,
// two for each tap in row-major order: of the cells of the map among the 16, or
// with stride 2 the 32, that begin where the tap does. It is -1 if the whole
// patch lies inside. The assembly knows the layout.
type patch struct{ src, dst, masks, lanes int32 }

// plan makes s the plan of a window of size × size cells over a map [h,w], and
// reuses the slices of s. It says whether there is a routine for that.
func (s *stencil) plan(size, stride, h, w, top, left, oh, ow int) bool {
	if !stencils(size, stride) || top >= size || left >= size || h*w > 1<<24 || oh*ow > 1<<20 {
		return false
	}
	*s = stencil{size: size, stride: stride, line: w, patches: s.patches[:0], masks: s.masks[:0]}
	flat := stride == 1 && w == ow
	for oy := 0; oy < oh; oy++ {
		for ox := 0; ox < ow; ox += 16 {
			lanes := min(16, ow-ox)
			if flat {
				lanes = min(16, (oh-oy)*ow-ox)
			}
			s.add(h, w, top, left, oy, ox, ow, lanes)
			for flat && ox+16 >= ow && oy < oh-1 { // go on where the next patch begins
				oy, ox = oy+1, ox-ow
			}
		}
	}
	return true
}

// add adds the patch of lanes outputs that begins at (oy,ox).
func (s *stencil) add(h, w, top, left, oy, ox, ow, lanes int) {
	p := patch{src: int32((oy*s.stride-top)*w + ox*s.stride - left), dst: int32(oy*ow + ox), masks: int32(len(s.masks)), lanes: 1<<lanes - 1}
	reach := int(p.src) + (s.size-1)*(w+1) + 16*s.stride
	inside := lanes == 16 && p.src >= 0 && reach <= h*w
	for ky := range s.size {
		for kx := range s.size {
			var mask uint32
			y, x := oy, ox
			for l := range lanes {
				iy, ix := y*s.stride-top+ky, x*s.stride-left+kx
				if iy >= 0 && iy < h && ix >= 0 && ix < w {
					mask |= 1 << (l * s.stride)
				} else {
					inside = false
				}
				if x++; x == ow {
					y, x = y+1, 0
				}
			}
			s.masks = append(s.masks, uint16(mask), uint16(mask>>16))
		}
	}
	if inside {
		s.masks = s.masks[:p.masks]
		p.masks = -1
	}
	s.patches = append(s.patches, p)
}

// has says whether the map has cell lane of tap t of a patch.
func (s *stencil) has(p *patch, t, lane int) bool {
	if p.masks < 0 {
		return true
	}
	m := s.masks[int(p.masks)+2*t:]
	return (uint32(m[0])|uint32(m[1])<<16)>>(lane*s.stride)&1 != 0
}

// stencilSumsPortable is dst = clamp(chain + bias, lo, hi): each chain takes the
// cells of a window in row-major order by w, cells outside the map being zeros.
func stencilSumsPortable(s *stencil, dst, src, w []float32, bias, lo, hi float32) {
	for i := range s.patches {
		p := &s.patches[i]
		for l := 0; l < 16 && p.lanes>>l&1 != 0; l++ {
			var acc float32
			for t := range s.size * s.size {
				var v float32
				if s.has(p, t, l) {
					v = src[int(p.src)+l*s.stride+t/s.size*s.line+t%s.size]
				}
				acc = fma32(v, w[t], acc)
			}
			dst[int(p.dst)+l] = clamp(acc+bias, lo, hi)
		}
	}
}

// stencilMeansPortable is dst = the sum of each window, in row-major order, by the
// count of its cells.
func stencilMeansPortable(s *stencil, dst, src, counts []float32) {
	for i := range s.patches {
		p := &s.patches[i]
		for l := 0; l < 16 && p.lanes>>l&1 != 0; l++ {
			var sum float32
			for t := range s.size * s.size {
				if s.has(p, t, l) {
					sum += src[int(p.src)+l*s.stride+t/s.size*s.line+t%s.size]
				}
			}
			dst[int(p.dst)+l] = sum / counts[int(p.dst)+l]
		}
	}
}

// stencilMaxPortable is dst = the greatest cell of each window.
func stencilMaxPortable(s *stencil, dst, src []float32) {
	for i := range s.patches {
		p := &s.patches[i]
		for l := 0; l < 16 && p.lanes>>l&1 != 0; l++ {
			best := float32(math.Inf(-1))
			for t := range s.size * s.size {
				if s.has(p, t, l) {
					best = max(best, src[int(p.src)+l*s.stride+t/s.size*s.line+t%s.size])
				}
			}
			dst[int(p.dst)+l] = best
		}
	}
}
