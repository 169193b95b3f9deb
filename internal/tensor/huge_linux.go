package tensor

import "golang.org/x/sys/unix"

// hugePage is the size of the larger pages of most CPUs.
const hugePage = 2 << 20

// preferHuge asks the system for huge pages, which take one entry where small
// ones take 512 in the tables that a CPU looks addresses up in.
func preferHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) } // advice
