//go:build !amd64 || noasm

package kernel

func peakFlops() float64 { return 0 }
