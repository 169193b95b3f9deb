//go:build !linux

package kernel

import "sync/atomic"

func currentCPU() int32 { return -1 }

func keepApart([]atomic.Int32, int) {}
