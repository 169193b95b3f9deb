//go:build !noasm

package kernel

import "time"

// peakFlops measures the float operations per second of one thread that does
// nothing but fused multiply-adds in registers; 0 without AVX2.
func peakFlops() float64 {
	if !hasAVX2() {
		return 0
	}
	const rounds = 1 << 21
	best := 0.0
	for range 20 {
		start := time.Now()
		peakAVX2(rounds)
		best = max(best, rounds*96*2/time.Since(start).Seconds())
	}
	return best
}
