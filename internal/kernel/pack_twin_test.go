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
