//go:build !linux

package flock

import "syscall"

// endWithParent does nothing where the kernel cannot; the closed pipe ends all
// workers that are not stopped.
func endWithParent(*syscall.SysProcAttr) {}
