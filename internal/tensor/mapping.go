package tensor

import (
	"errors"
	"math"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Mapping is a file's bytes in memory, read-only. Its pages are the system's
// copy of the file: they are read when first touched and can be dropped and
// read again. It stays until nothing refers to it, so whoever keeps a part of
// its bytes must keep the Mapping. A file that others shorten meanwhile takes
// the pages away: replace files by renaming, never write into them.
type Mapping struct{ data []byte }

// Map maps a regular file of that size. The file may be closed afterwards.
func Map(f *os.File, size int64) (*Mapping, error) {
	if size == 0 {
		return &Mapping{}, nil
	}
	if size < 0 || size > math.MaxInt {
		return nil, errors.New("too large for this machine's addresses")
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	m := &Mapping{data: data}
	runtime.AddCleanup(m, func(data []byte) { _ = unix.Munmap(data) }, data)
	return m, nil
}

// Bytes are the file's, which must not be written.
func (m *Mapping) Bytes() []byte { return m.data }

// Drop gives back the memory of all of it: what is used again is read again.
func (m *Mapping) Drop() {
	if len(m.data) > 0 {
		_ = unix.Madvise(m.data, unix.MADV_DONTNEED) // advice
	}
}

// Drop gives back the memory of a tensor that lies in a Mapping: it is read
// from the file again if it is needed again. It does nothing to other tensors.
func (t *Tensor) Drop() {
	if t.Mapping == nil || len(t.Data) == 0 {
		return
	}
	// Whole pages only: the rest may be another tensor's.
	page := uintptr(os.Getpagesize())
	start := uintptr(unsafe.Pointer(&t.Data[0]))
	from := (page - start%page) % page
	to := uintptr(len(t.Data)) - min(uintptr(len(t.Data)), (start+uintptr(len(t.Data)))%page)
	if from < to {
		_ = unix.Madvise(t.Data[from:to], unix.MADV_DONTNEED) // advice
	}
}
