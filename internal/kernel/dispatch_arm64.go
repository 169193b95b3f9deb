//go:build !noasm

package kernel

import (
	"math"
	"os"
)

// neon selects the assembly twins. Every arm64 has it. inOrder selects those
// scheduled for cores that issue in order.
var (
	neon    = true
	inOrder = allInOrder(cpuInfo())
)

// cpuInfo returns what Linux says of the cores, or nothing.
func cpuInfo() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return string(text)
}

func level() string {
	if neon {
		return levelNEON
	}
	return levelPortable
}

func setLevel(name string) bool {
	if name != levelNEON && name != levelPortable {
		return false
	}
	neon = name == levelNEON
	return true
}

func tilesOfLevel() *tiling { return &tiles6x16 }

// gemmTiles is gemmTilesPortable, and end, for the first rows of m, and says how
// many.
func gemmTiles(t *tiling, c []float32, ldc int, a, b []float32, m, n, kc int, first bool, end ending, ahead []float32) (rows int) {
	if !neon {
		gemmTilesPortable(t, c, ldc, a, b, m, n, kc, first)
		end.apply(c, ldc, m, n)
		return m
	}
	panels := m / t.m
	if panels == 0 || n < t.n {
		return 0
	}
	_ = c[(panels*t.m-1)*ldc+t.n-1]
	_ = a[panels*kc*t.m-1]
	_ = b[kc*t.n-1]
	start := 0
	if first {
		start = 1
	}
	if inOrder {
		gemmTilesInOrderNEON(&c[0], ldc, &a[0], &b[0], kc, panels, start)
	} else {
		gemmTilesNEON(&c[0], ldc, &a[0], &b[0], kc, panels, start)
	}
	end.apply(c, ldc, panels*t.m, n)
	return panels * t.m
}

func gemvRows(dst, w, x []float32, rows, k int) {
	groups := k / 16
	if !neon || groups == 0 {
		gemvRowsPortable(dst, w, x, rows, k)
		return
	}
	if rows == 0 {
		return
	}
	_, _ = w[rows*k-1], x[k-1]
	var lanes [4][16]float32
	for r := 0; r < rows; {
		n := 1
		if rows-r >= 4 {
			n = 4
			gemvFourNEON(&lanes[0][0], &w[r*k], &x[0], groups, k)
		} else {
			gemvOneNEON(&lanes[0][0], &w[r*k], &x[0], groups)
		}
		for i := range n {
			dst[r+i] = sumLanes(&lanes[i], w[(r+i)*k+16*groups:(r+i+1)*k], x[16*groups:])
		}
		r += n
	}
}

func interleave(dst, x []float32, ldx, m, k int) {
	done := 0
	if neon && k >= 4 && m == 6 {
		done = k &^ 3
		_, _ = dst[k*m-1], x[(m-1)*ldx+k-1]
		packSixNEON(&dst[0], &x[0], ldx, done/4)
	}
	interleavePortable(dst[done*m:], x[done:], ldx, m, m, k-done)
}

// span[16-l:] is a mask of the lanes from l on, span[32-l:] one of those before
// l; each is 16 long.
var span = [48]int32{
	16: -1, 17: -1, 18: -1, 19: -1, 20: -1, 21: -1, 22: -1, 23: -1,
	24: -1, 25: -1, 26: -1, 27: -1, 28: -1, 29: -1, 30: -1, 31: -1,
}

// evenRuns says that packEven may be called.
func evenRuns() bool { return false }

// runsWrap says that packRun takes runs that go on in the next row of the map.
const runsWrap = false

// packRun has routines for panels of 16 lanes; those of a narrow layer are as wide
// as a tile is high.
func packRun(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	if !neon || width != 16 {
		packPortable(dst, src, cols, taps, width, h, w, step, merge, 1)
		return
	}
	begin, end, keep := 0, width, 0
	for cols.y[begin] == math.MinInt32 {
		begin++
	}
	for cols.y[end-1] == math.MinInt32 {
		end--
	}
	if merge {
		keep = -1
	}
	for i := range taps {
		t := &taps[i]
		// Lanes [from,to) lie inside the map.
		y, left := int(cols.y[begin]+t.dy), begin-int(cols.x[begin]+t.dx)
		from, to := max(begin, left), min(end, left+w)
		at := int(t.channel)*h*w + int(cols.at[0]+t.off)
		if y < 0 || y >= h || from >= to {
			from, to, at = 0, 0, 0
		}
		past, d := at+(int(t.count)-1)*h*w+width, int(t.row)*width
		_ = dst[d+((int(t.count)-1)*step+1)*width-1]
		switch {
		case at < 0 || past > len(src): // lanes outside the map would be read outside src
			packPortable(dst, src, cols, taps[i:i+1], width, h, w, step, merge, 1)
		case from == 0 && to == width:
			packCopyNEON(&dst[d], &src[at], int(t.count), h*w, step)
		default:
			packMaskedNEON(&dst[d], &src[at], int(t.count), h*w, step, &span[16-from], &span[32-to], keep)
		}
	}
}

func packGather(dst, src []float32, cols *columns, taps []tap, width, h, w, step int) {
	if !neon || width != 16 {
		packPortable(dst, src, cols, taps, width, h, w, step, false, 0)
		return
	}
	top, bottom, left, right := cols.y[0], cols.y[0], cols.x[0], cols.x[0]
	for l := range width {
		top, bottom = min(top, cols.y[l]), max(bottom, cols.y[l])
		left, right = min(left, cols.x[l]), max(right, cols.x[l])
	}
	for i := range taps {
		t := &taps[i]
		if top+t.dy < 0 || int(bottom+t.dy) >= h || left+t.dx < 0 || int(right+t.dx) >= w {
			packPortable(dst, src, cols, taps[i:i+1], width, h, w, step, false, 0)
			continue
		}
		d, at := int(t.row)*width, int(t.channel)*h*w+int(cols.at[0]+t.off)
		_ = dst[d+((int(t.count)-1)*step+1)*width-1]
		packGatherNEON(&dst[d], &src[at], int(t.count), h*w, step, &cols.at[0])
	}
}

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	_ = dst[rows*cols-1]
	switch {
	case neon && cols >= 16:
		depthwiseWideNEON(&dst[0], &src[0], &w[0], &off[0], len(off), rows, cols, srcStep)
	case neon && cols >= 4 && rows >= 4:
		depthwiseTallNEON(&dst[0], &src[0], &w[0], &off[0], len(off), rows, cols, srcStep)
	default:
		depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
	}
}

func dealTwo(even, odd, x []float32) {
	done := 0
	if neon && len(even) >= 8 {
		done = len(even) &^ 7
		_, _ = odd[done-1], x[2*done-1]
		dealTwoNEON(&even[0], &odd[0], &x[0], done/8)
	}
	dealTwoPortable(even[done:], odd[done:], x[2*done:])
}

func vecSub(dst, x []float32) {
	if !neon {
		vecSubPortable(dst, x)
	} else if len(dst) > 0 {
		vecSubNEON(&dst[0], &x[0], len(dst))
	}
}

func vecAddScaled(dst, x []float32, c float32) {
	if !neon {
		vecAddScaledPortable(dst, x, c)
	} else if len(dst) > 0 {
		vecAddScaledNEON(&dst[0], &x[0], len(dst), c)
	}
}

func vecAdd(dst, a, b []float32) {
	if !neon {
		vecAddPortable(dst, a, b)
	} else if len(dst) > 0 {
		vecAddNEON(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecMul(dst, a, b []float32) {
	if !neon {
		vecMulPortable(dst, a, b)
	} else if len(dst) > 0 {
		vecMulNEON(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecMax(dst, a, b []float32) {
	if !neon {
		vecMaxPortable(dst, a, b)
	} else if len(dst) > 0 {
		vecMaxNEON(&dst[0], &a[0], &b[0], len(dst))
	}
}

func vecClamp(dst, x []float32, lo, hi float32) {
	if !neon {
		vecClampPortable(dst, x, lo, hi)
	} else if len(dst) > 0 {
		vecClampNEON(&dst[0], &x[0], len(dst), lo, hi)
	}
}

func vecBiasClamp(dst []float32, bias, lo, hi float32) {
	if !neon {
		vecBiasClampPortable(dst, bias, lo, hi)
	} else if len(dst) > 0 {
		vecBiasClampNEON(&dst[0], len(dst), bias, lo, hi)
	}
}

func vecDiv(dst, a, b []float32) { vecDivPortable(dst, a, b) }

func packEven(dst, src []float32, cols *columns, taps []tap, width, h, w, step int, merge bool) {
	packPortable(dst, src, cols, taps, width, h, w, step, merge, 2)
}

func vecExp(dst, x []float32, most float32) {
	done := 0
	if neon && len(dst) >= 4 {
		done = len(dst) &^ 3
		_ = x[done-1]
		vecExpNEON(&dst[0], &x[0], done, most)
	}
	vecExpPortable(dst[done:], x[done:], most)
}
