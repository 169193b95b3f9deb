package kernel

import (
	"slices"
	"testing"
)

// TestPatches compares the sums of patches with their definition, at every level.
func TestPatches(t *testing.T) {
	r := newRand(t)
	planned := 0
	for range 400 {
		g := randomConv(r)
		if r.IntN(3) == 0 {
			g.DilationH, g.DilationW = 1, size(r, 21)
			g.W = max(g.W, (g.KW-1)*g.DilationW+1)
		}
		g.N, g.C, g.M, g.Groups = 1, 2, 2, 2
		g = geometry(g)
		p := patchworkOf(&g)
		if p == nil {
			continue
		}
		planned++
		cells, area := g.H*g.W, g.KH*g.KW
		x, w := randomBytes(r, 2*cells), randomBytes(r, 2*area)
		pad, flip := byte(r.Uint32()), byte(r.IntN(2)*0x80)
		filters := make([]uint32, 2*p.groups)
		p.pack(filters, w, 0, &g)
		for ch := range 2 {
			want := make([]int32, g.OH*g.OW)
			for i := range want {
				for tap := range area {
					y, xx := i/g.OW*g.StrideH-g.PadTop+tap/g.KW*g.DilationH, i%g.OW*g.StrideW-g.PadLeft+tap%g.KW*g.DilationW
					v := pad
					if y >= 0 && y < g.H && xx >= 0 && xx < g.W {
						v = x[ch*cells+y*g.W+xx] ^ flip
					}
					want[i] += int32(v) * int32(int8(w[ch*area+tap]))
				}
			}
			for _, level := range levels() {
				atLevel(t, level, func() {
					got := make([]int32, len(want))
					patchSums(p, got, x[ch*cells:(ch+1)*cells], filters[ch*p.groups:(ch+1)*p.groups], flip, pad)
					if !slices.Equal(got, want) {
						t.Fatalf("%s, map %d of %+v:\ngot  %d\nwant %d", level, ch, g, got, want)
					}
				})
			}
		}
	}
	if planned == 0 {
		t.Error("no convolution was planned")
	}
}
