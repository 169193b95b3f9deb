package flock

import "syscall"

// endWithParent has the kernel kill the process when this one ends: a stopped
// worker cannot see that its pipe was closed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
