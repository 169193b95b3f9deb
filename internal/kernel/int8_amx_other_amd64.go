//go:build !noasm && !linux

package kernel

func allowAMX() bool { return false }
