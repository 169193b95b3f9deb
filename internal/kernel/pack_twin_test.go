package kernel

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// What packs channel by channel does what its portable twin does.
func TestPackTwins(t *testing.T) {
	if !packsByChannel(maxTileN) {
		t.Log("this level does not pack channel by channel")
		return
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		channels, plane, runs := 1+r.IntN(5), 200+r.IntN(200), 1+r.IntN(maxRuns)
		taps := make([]tap, 1+r.IntN(maxChannelTaps))
		for i := range taps {
			taps[i].off = int32(r.IntN(60))
		}
		src := make([]float32, channels*plane)
		for i := range src {
			src[i] = r.Float32()
		}
		var s stripes
		for j := range runs {
			s.at[j] = r.IntN(100)
		}
		for i := range taps { // a lane is of one run, or outside the map
			for l := range maxTileN {
				if run := r.IntN(runs + 1); run < runs {
					s.masks[2*(i*runs+run)+l/16] |= 1 << (l % 16)
				}
			}
		}
		got := make([]float32, maxTileN*channels*len(taps))
		want := slices.Clone(got)
		packStripes(got, src, taps, channels, plane, runs, &s, 0)
		packStripesPortable(want, src, taps, channels, plane, runs, &s, 0)
		if !slices.Equal(got, want) {
			t.Fatalf("%d runs, %d taps, %d channels: not packed as by the portable twin", runs, len(taps), channels)
		}
		packWhole(got, src, taps, channels, plane)
		packWholePortable(want, src, taps, channels, plane)
		if !slices.Equal(got, want) {
			t.Fatalf("%d taps, %d channels: not packed as by the portable twin", len(taps), channels)
		}
	}
}

// The tile that packs its panel does what its portable twin does.
func TestPackLaterTwin(t *testing.T) {
	tl := tilesOfLevel()
	if !packsLater(tl) {
		t.Log("this level packs before it multiplies")
		return
	}
	r := newRand(t)
	for range 100 {
		kc, ldc := 1+r.IntN(tl.blockK), tl.n+r.IntN(9)
		starts, from := make([]int32, kc), panel{at: r.IntN(20), whole: r.IntN(2) == 0}
		for k := range starts {
			starts[k], from.masks[k] = int32(7*k+r.IntN(7)), r.Uint32()
		}
		a, x, first := wild(r, tl.m*kc), wild(r, 7*kc+20+tl.n), r.IntN(2) == 0
		end := ending{bias: wild(r, tl.m), add: wild(r, tl.m*ldc), lo: -1, hi: 2}
		if r.IntN(2) == 0 {
			end = ending{}
		}
		got, packed := wild(r, tl.m*ldc), make([]float32, tl.n*kc)
		want, copied := slices.Clone(got), slices.Clone(packed)
		gemmPack(tl, got, ldc, a, packed, x, starts, &from, first, end)
		gemmPackPortable(tl, want, ldc, a, copied, x, starts, &from, first)
		end.apply(want, ldc, tl.m, tl.n)
		if !slices.EqualFunc(got, want, sameBits) || !slices.EqualFunc(packed, copied, sameBits) {
			t.Fatalf("K %d, whole %t, first %t: not computed as by the portable twin", kc, from.whole, first)
		}
	}
}
