//go:build !noasm

package kernel

import (
	"testing"
	"time"
)

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

// BenchmarkRead reads as many weights as BenchmarkGemv, in one stream, and does no
// more.
func BenchmarkRead(b *testing.B) {
	if !hasAVX2() {
		b.Skip("needs a CPU with AVX2")
	}
	for _, n := range []int{4096 * 9216, 4096 * 4096, 1024 * 9216} {
		x := uniform(newRand(b), n)
		b.Run(label("%d", n), func(b *testing.B) {
			seconds := loop(b, func() { readAVX2(&x[0], n/64) })
			b.ReportMetric(float64(4*n)/seconds/1e9, "GB/s")
		})
	}
}
