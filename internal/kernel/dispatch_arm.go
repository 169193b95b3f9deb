//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

// vfpv4 selects the assembly twins. ARMv7 from Cortex-A7 on has it, ARMv6 not.
var vfpv4 = cpu.ARM.HasVFPv4

func level() string {
	if vfpv4 {
		return levelVFPv4
	}
	return levelPortable
}

func setLevel(name string) bool {
	if name != levelPortable && (name != levelVFPv4 || !cpu.ARM.HasVFPv4) {
		return false
	}
	vfpv4 = name == levelVFPv4
	return true
}

func tilesOfLevel() *tiling { return &tiles6x16 }

// gemmTiles is gemmTilesPortable for the first rows of m, and says how many.
func gemmTiles(t *tiling, c []float32, ldc int, a, b []float32, m, n, kc int, first bool) (rows int) {
	if !vfpv4 {
		gemmTilesPortable(t, c, ldc, a, b, m, n, kc, first)
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
	for j := 0; j < t.n; j += 4 {
		gemmQuadsVFP(&c[j], ldc, &a[0], &b[j], kc, panels, start)
	}
	return panels * t.m
}

func gemvRows(dst, w, x []float32, rows, k int) {
	groups := k / 16
	if !vfpv4 || groups == 0 {
		gemvRowsPortable(dst, w, x, rows, k)
		return
	}
	for r := range dst[:rows] {
		var lanes [16]float32
		row := w[r*k : (r+1)*k]
		gemvOneVFP(&lanes[0], &row[0], &x[0], groups)
		dst[r] = sumLanes(&lanes, row[16*groups:], x[16*groups:k])
	}
}

func depthwiseRows(dst, src, w []float32, off []int, rows, cols, srcStep int) {
	if !vfpv4 {
		depthwiseRowsPortable(dst, src, w, off, rows, cols, srcStep)
		return
	}
	for r := range rows {
		row := dst[r*cols : (r+1)*cols]
		clear(row)
		for t, o := range off {
			s := src[r*srcStep+o:][:cols]
			addScaledVFP(&row[0], &s[0], cols, w[t])
		}
	}
}
