package flock_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"starling/internal/flock"
	"starling/internal/plan"
)

// TestNothingLeft starts, hurts and closes flocks again and again: processes,
// goroutines, file descriptors and files are those of before.
func TestNothingLeft(t *testing.T) {
	state := t.TempDir()
	once := func() {
		g := digitModel(t)
		cfg := flock.Config{Plan: plan.Options{Data: 4, Parity: 1}, Concurrency: 4, Command: command, StateDir: state}
		for _, spec := range []string{"stop:w1@5", "kill:w2@10", "restart:w3@15", "slow:w4@28=1s", "restart:w5@30"} {
			fault, err := flock.ParseFault(spec)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Faults = append(cfg.Faults, fault)
		}
		f, err := flock.Start(t.Context(), g, cfg)
		if err != nil {
			t.Fatal(err)
		}
		// The last fault strikes in the last request, so Close meets a restart.
		if r, err := f.Drive(t.Context(), flock.Load{Requests: 30, Concurrency: 4, Input: digitInput}); err != nil || r.Lost > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	}
	once() // what is made once and kept, as the poller's descriptors
	goroutines, files := goleak.IgnoreCurrent(), descriptors(t)
	for range 10 {
		once()
	}
	goleak.VerifyNone(t, goroutines)
	if now := descriptors(t); len(now) != len(files) {
		t.Errorf("file descriptors: before %v, now %v", files, now)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("the state folder holds %v (%v)", entries, err)
	}
}

// descriptors are this process's open files.
func descriptors(t *testing.T) (open []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(names) == 0 {
		t.Fatalf("read /proc/self/fd: %v", err)
	}
	for _, name := range names {
		// The one that Glob itself read the folder with is gone.
		if target, err := os.Readlink(name); err == nil {
			open = append(open, filepath.Base(name)+" "+target)
		}
	}
	return open
}

// children are the commands of this process's children, dead ones that nobody
// waited for included.
func children(t *testing.T) (commands []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		// proc(5): "pid (comm) state ppid …", and comm may hold anything.
		stat, err := os.ReadFile(name)
		i := bytes.LastIndexByte(stat, ')')
		if err != nil || i < 0 {
			continue
		}
		var state string
		var parent int
		if _, err := fmt.Sscan(string(stat[i+1:]), &state, &parent); err == nil && parent == os.Getpid() {
			commands = append(commands, strings.TrimSpace(string(stat[:i+1])+" "+state))
		}
	}
	return commands
}
