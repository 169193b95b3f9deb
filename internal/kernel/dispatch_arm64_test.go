//go:build !noasm

package kernel

import (
	"slices"
	"testing"
)

// TestTilesOfEveryCore compares the products for either kind of core, whichever
// this one is.
func TestTilesOfEveryCore(t *testing.T) {
	r := newRand(t)
	for name, f := range map[string]func(c *float32, ldc int, a, b *float32, kc, panels, first int){
		"out of order": gemmTilesNEON, "in order": gemmTilesInOrderNEON,
	} {
		for kc := 1; kc < 24; kc++ {
			tiles, panels, first := &tiles6x16, size(r, 3), r.IntN(2)
			m, ldc := panels*tiles.m, tiles.n+r.IntN(3)
			a, b, c := wild(r, m*kc), wild(r, tiles.n*kc), wild(r, m*ldc)
			want := slices.Clone(c)
			gemmTilesPortable(tiles, want, ldc, a, b, m, tiles.n, kc, first == 1)
			a, b, c = guarded(t, a, true), guarded(t, b, true), guarded(t, c, true)
			f(&c[0], ldc, &a[0], &b[0], kc, panels, first)
			compareBits(t, label("%s, %d steps", name, kc), c, want)
		}
	}
}
