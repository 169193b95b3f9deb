//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

// vfpv4 and neon select the assembly twins; neon needs vfpv4 too, for the blocks
// that it leaves. ARMv7 from Cortex-A7 on has both, ARMv6 neither.
var (
	vfpv4 = cpu.ARM.HasVFPv4
	neon  = hasNEON
)

var hasNEON = cpu.ARM.HasNEON && cpu.ARM.HasVFPv4 && reportsFlush()

// reportsFlush sees that this CPU says what its NEON makes zero, as the
// architecture has it (see _gen/neon32.go): our bits depend on it.
func reportsFlush() bool {
	for _, v := range [][3]float32{{0x1p-130, 1, 1}, {1, 0x1p-130, 1}, {0, 0, 0x1p-130}, {0x1p-70, 0x1p-70, 0}} {
		var a, b, c [maxTile]float32
		a[0], b[0], c[0] = v[0], v[1], v[2]
		if gemmHalvesNEON(&c[0], tiles6x16.n, &a[0], &b[0], 1, 1, 0) != 0 {
			return false
		}
	}
	return true
}

func level() string {
	switch {
	case neon:
		return levelNEON
	case vfpv4:
		return levelVFPv4
	}
	return levelPortable
}

func setLevel(name string) bool {
	switch {
	case name == levelPortable, name == levelVFPv4 && cpu.ARM.HasVFPv4, name == levelNEON && hasNEON:
		vfpv4, neon = name != levelPortable, name == levelNEON
		return true
	}
	return false
}

func tilesOfLevel() *tiling { return &tiles6x16 }

// gemmTiles is gemmTilesPortable, and end, for the first rows of m, and says how
// many.
func gemmTiles(t *tiling, c []float32, ldc int, a, b []float32, m, n, kc int, first bool, end ending, ahead []float32) (rows int) {
	if !vfpv4 {
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
	if !neon {
		for j := 0; j < t.n; j += 4 {
			gemmQuadsVFP(&c[j], ldc, &a[0], &b[j], kc, panels, start)
		}
		end.apply(c, ldc, panels*t.m, n)
		return panels * t.m
	}
	for j := 0; j < t.n; j += 8 {
		for p := 0; p < panels; p++ {
			p += gemmHalvesNEON(&c[p*t.m*ldc+j], ldc, &a[p*kc*t.m], &b[j], kc, panels-p, start)
			if p < panels {
				for q := j; q < j+8; q += 4 {
					gemmQuadsVFP(&c[p*t.m*ldc+q], ldc, &a[p*kc*t.m], &b[q], kc, 1, start)
				}
			}
		}
	}
	end.apply(c, ldc, panels*t.m, n)
	return panels * t.m
}

func gemvRows(dst, w, x []float32, rows, k int) {
	groups := k / 16
	if !vfpv4 || groups == 0 {
		gemvRowsPortable(dst, w, x, rows, k)
		return
	}
	if rows == 0 {
		return
	}
	_, _ = w[rows*k-1], x[k-1]
	for r := 0; r < rows; {
		n, stride := min(2, rows-r), k
		if n == 1 {
			stride = 0
		}
		var lanes [2][16]float32
		if !neon || gemvTwoNEON(&lanes[0][0], &w[r*k], &x[0], groups, stride) == 0 {
			for i := range n {
				gemvOneVFP(&lanes[i][0], &w[(r+i)*k], &x[0], groups)
			}
		}
		for i := range n {
			if k > 16*groups {
				addProductsVFP(&lanes[i][0], &w[(r+i)*k+16*groups], &x[16*groups], k-16*groups)
			}
			dst[r+i] = sumLanes(&lanes[i], nil, nil)
		}
		r += n
	}
}

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	if !vfpv4 {
		depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
		return
	}
	for r := range rows {
		row, from := dst[r*cols:(r+1)*cols], src[r*srcStep:]
		for _, o := range off {
			_ = from[o+cols-1]
		}
		if neon && cols >= 4 && depthwiseRowNEON(&row[0], &from[0], &w[0], &off[0], len(off), cols) != 0 {
			continue
		}
		clear(row)
		for t, o := range off {
			addScaledVFP(&row[0], &from[o], cols, w[t])
		}
	}
}

// neonBlock is how many elements the elementwise loops in NEON take at a time.
const neonBlock = 32

// byBlocks runs a loop over n elements: in NEON from an element on, which says how
// many it did, and portable, from one element to another, where that stopped.
func byBlocks(n int, inNEON func(from int) int, portable func(from, to int)) {
	for at := 0; at < n; {
		if neon {
			at += inNEON(at)
		}
		end := min(at+neonBlock, n)
		portable(at, end)
		at = end
	}
}

func vecSub(dst, x []float32) {
	byBlocks(len(dst),
		func(i int) int { return vecSubNEON(&dst[i], &x[i], len(dst)-i) },
		func(i, j int) { vecSubPortable(dst[i:j], x[i:j]) })
}

// vecAddScaled keeps subnormal numbers, so NEON cannot do it.
func vecAddScaled(dst, x []float32, c float32) {
	if !vfpv4 {
		vecAddScaledPortable(dst, x, c)
	} else if len(dst) > 0 {
		addScaledVFP(&dst[0], &x[0], len(dst), c)
	}
}

func vecAdd(dst, a, b []float32) {
	byBlocks(len(dst),
		func(i int) int { return vecAddNEON(&dst[i], &a[i], &b[i], len(dst)-i) },
		func(i, j int) { vecAddPortable(dst[i:j], a[i:j], b[i:j]) })
}

func vecMul(dst, a, b []float32) {
	byBlocks(len(dst),
		func(i int) int { return vecMulNEON(&dst[i], &a[i], &b[i], len(dst)-i) },
		func(i, j int) { vecMulPortable(dst[i:j], a[i:j], b[i:j]) })
}

func vecMax(dst, a, b []float32) {
	byBlocks(len(dst),
		func(i int) int { return vecMaxNEON(&dst[i], &a[i], &b[i], len(dst)-i) },
		func(i, j int) { vecMaxPortable(dst[i:j], a[i:j], b[i:j]) })
}

func vecClamp(dst, x []float32, lo, hi float32) {
	byBlocks(len(dst),
		func(i int) int { return vecClampNEON(&dst[i], &x[i], len(dst)-i, lo, hi) },
		func(i, j int) { vecClampPortable(dst[i:j], x[i:j], lo, hi) })
}

func vecBiasClamp(dst []float32, bias, lo, hi float32) {
	byBlocks(len(dst),
		func(i int) int { return vecBiasClampNEON(&dst[i], len(dst)-i, bias, lo, hi) },
		func(i, j int) { vecBiasClampPortable(dst[i:j], bias, lo, hi) })
}
