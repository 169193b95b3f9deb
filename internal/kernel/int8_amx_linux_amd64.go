//go:build !noasm

package kernel

import "syscall"

// allowAMX asks Linux for leave to use the tile registers, whose state it keeps
// for a process only on demand (Documentation/arch/x86/xstate.rst).
func allowAMX() bool {
	const (
		sysArchPrctl    = 158
		archReqXcompPer = 0x1023
		xfeatureTile    = 18
	)
	_, _, errno := syscall.RawSyscall(sysArchPrctl, archReqXcompPer, xfeatureTile, 0)
	return errno == 0
}
