package kernel

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// currentCPU is the CPU that this thread runs on, -1 if Linux does not say.
func currentCPU() int32 {
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return -1
	}
	return int32(cpu)
}

// keepApart moves this thread, of that number in the pool, to another CPU if one
// of those before it is on the same. Where other programs keep every CPU busy,
// even at low priority, Linux wakes up a helper on the CPU of its caller, and
// there they take turns.
func keepApart(cpus []atomic.Int32, thread int) {
	own := currentCPU()
	for i := range thread {
		if own >= 0 && cpus[i].Load() == own {
			moveAway(cpus[:thread])
			own = currentCPU()
			break
		}
	}
	cpus[thread].Store(own)
}

// moveAway moves this thread to a CPU that none of the others is on. It may go
// wherever it might before, once it is there.
func moveAway(others []atomic.Int32) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		return
	}
	free := allowed
	for i := range others {
		free.Clear(int(others[i].Load()))
	}
	if unix.SchedSetaffinity(0, &free) == nil { // fails if there is none
		_ = unix.SchedSetaffinity(0, &allowed)
	}
}
