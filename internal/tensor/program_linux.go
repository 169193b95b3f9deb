package tensor

import (
	"bufio"
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pieceBytes is how much of the program the system maps at most around a page that
// is touched; by itself Linux maps 64 KiB.
const pieceBytes = 8 << 10

// DropProgram gives back the memory of the program's own code and constants, most
// of which only starting and loading needed: it is the system's copy of the file,
// and what is used again is found there again. Pages that are no such copies,
// as code that was relocated, stay.
//
// It also cuts their mapping into pieces, by advice on dumps that alternates. What
// the system maps around a page ends with the piece; most of it is never touched.
func DropProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps") // proc_pid_smaps(5)
	if err != nil {
		return
	}
	defer f.Close()
	name := []byte(" " + program)
	var from, to uint64 // of the program's mapping that the lines are about
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Bytes() // there are thousands: they must not become garbage
		word, rest, _ := bytes.Cut(line, []byte(" "))
		first, last, heading := bytes.Cut(word, []byte("-"))
		switch {
		case heading: // 00400000-00963000 r-xp 00000000 fe:00 10489236 /usr/bin/starling
			from, to = 0, 0
			if bytes.HasSuffix(line, name) && len(rest) > 1 && rest[1] == '-' { // not writable
				from, _ = strconv.ParseUint(string(first), 16, 64)
				to, _ = strconv.ParseUint(string(last), 16, 64)
			}
		case from < to && bytes.HasPrefix(line, []byte("Anonymous:")) && bytes.HasSuffix(line, []byte(" 0 kB")):
			advise(from, to, unix.MADV_DONTNEED)
			for at := from; at+pieceBytes < to; at += 2 * pieceBytes {
				advise(at, at+pieceBytes, unix.MADV_DONTDUMP) // dumps leave files out anyway
			}
		}
	}
}

// advise tells the system about memory that is not Go's.
func advise(from, to uint64, advice uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), advice)
}
