package experiment

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// listenIn listens on addr in the network namespace of a file: a socket belongs
// to the namespace in which it was made, whoever uses it.
func listenIn(namespace, addr string) (net.Listener, error) {
	f, err := os.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type made struct {
		l   net.Listener
		err error
	}
	result := make(chan made)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and nobody else
		// meets its namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- made{err: fmt.Errorf("enter %s: %w", namespace, err)}
			return
		}
		l, err := net.Listen("tcp4", addr)
		result <- made{l, err}
	}()
	m := <-result
	return m.l, m.err
}

// hurry has all threads of a process run before everything else on this machine
// that is not in as much of a hurry.
func hurry(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		id, _ := strconv.Atoi(filepath.Base(task))
		err = errors.Join(err, unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 10}, 0))
	}
	return err
}
