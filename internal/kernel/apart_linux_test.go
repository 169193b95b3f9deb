package kernel

import (
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeepApart puts a thread where another one is said to be: it moves away if it
// may use another CPU, and may go wherever it might before.
func TestKeepApart(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := allowedCPUs(t)
	cpus := make([]atomic.Int32, 2)
	for { // Linux may move the thread back
		cpus[0].Store(currentCPU())
		keepApart(cpus, 1)
		if after := allowedCPUs(t); after != before {
			t.Fatalf("allowed CPUs are %v, were %v", after, before)
		}
		if cpus[1].Load() != cpus[0].Load() || before.Count() == 1 {
			return
		}
	}
}

func allowedCPUs(t *testing.T) (set unix.CPUSet) {
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	return set
}
