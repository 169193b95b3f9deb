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

func gemmTiles(c []float32, ldc int, a, b []float32, kc, panels int, first bool) {
	if !vfpv4 {
		gemmTilesPortable(c, ldc, a, b, kc, panels, first)
		return
	}
	if panels == 0 {
		return
	}
	_ = c[(panels*tileM-1)*ldc+tileN-1]
	_ = a[panels*kc*tileM-1]
	_ = b[kc*tileN-1]
	start := 0
	if first {
		start = 1
	}
	for j := 0; j < tileN; j += 4 {
		gemmQuadsVFP(&c[j], ldc, &a[0], &b[j], kc, panels, start)
	}
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
