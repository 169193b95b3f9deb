//go:build !noasm

package kernel

// neon selects the assembly twins. Every arm64 has it.
var neon = true

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

func gemmTiles(c []float32, ldc int, a, b []float32, kc, panels int, first bool) {
	if !neon {
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
	gemmTilesNEON(&c[0], ldc, &a[0], &b[0], kc, panels, start)
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
