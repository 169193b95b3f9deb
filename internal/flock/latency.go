package flock

import (
	"math"
	"slices"
	"time"
)

// Latency are percentiles in milliseconds, by nearest rank.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// LatencyOf leaves out zeros: requests without an answer have no latency.
func LatencyOf(took []time.Duration) Latency {
	sorted := slices.DeleteFunc(slices.Clone(took), func(d time.Duration) bool { return d == 0 })
	if len(sorted) == 0 {
		return Latency{}
	}
	slices.Sort(sorted)
	at := func(q float64) float64 {
		rank := int(math.Ceil(q * float64(len(sorted))))
		return milliseconds(sorted[max(rank, 1)-1])
	}
	return Latency{P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
