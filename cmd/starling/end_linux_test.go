package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything here may take that takes no time.
const patience = 30 * time.Second

// TestEnds ends a run in every way there is, in the middle of its requests, and
// looks for what it left behind.
func TestEnds(t *testing.T) {
	tests := []struct {
		name   string
		signal syscall.Signal
		to     string   // who gets the signal
		args   []string // more of them
		said   string   // on stderr
	}{
		{"interrupt", syscall.SIGINT, "run", nil, "interrupt"},
		{"terminate", syscall.SIGTERM, "run", nil, "terminated"},
		{"interrupt with a stopped worker", syscall.SIGINT, "run", []string{"--fault", "stop:w2@20"}, "interrupt"},
		{"terminate with a killed worker", syscall.SIGTERM, "run", []string{"--fault", "kill:w2@20"}, "terminated"},
		{"interrupt with a slow worker", syscall.SIGINT, "run", []string{"--fault", "slow:w2@20=10s"}, "interrupt"},
		{"interrupt eight at once", syscall.SIGINT, "run", []string{"--concurrency", "8"}, "interrupt"},
		{"kill", syscall.SIGKILL, "run", nil, ""},
		{"kill with a stopped worker", syscall.SIGKILL, "run", []string{"--fault", "stop:w2@20"}, ""},
		// As a terminal does it: workers must not take it for their own.
		{"interrupt the process group", syscall.SIGINT, "group", nil, "interrupt"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			answers := filepath.Join(t.TempDir(), "answers.npy")
			cmd := exec.Command("starling", append([]string{
				"run", "../../internal/digits/digits.onnx", "../../internal/digits/digits-images-idx3-ubyte.gz",
				"--requests", "2000000000", "--state", state, "--output", answers,
			}, test.args...)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // when the test is killed
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			inMiddle(t, state, filepath.Dir(answers), test.args)
			workers := workersOf(t, state)
			if len(workers) < 4 {
				t.Fatalf("%d workers are running, want 4 or 5", len(workers))
			}
			target := cmd.Process.Pid
			if test.to == "group" {
				target = -target
			}
			if err := syscall.Kill(target, test.signal); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if test.signal == syscall.SIGKILL {
				// Nobody is left to tidy up; the kernel ends the workers.
				workers.ended(t)
				entries, err := os.ReadDir(state)
				if err != nil || len(entries) > 1 {
					t.Errorf("the state folder holds %v (%v), want this run's folder at most", entries, err)
				}
				return
			}
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("ended with %v, want status 1", err)
			}
			if said := stderr.String(); !strings.HasPrefix(said, "starling: "+test.said) || strings.Count(said, "\n") != 1 {
				t.Errorf("stderr is %q, want one line starling: %s…", said, test.said)
			}
			if left := workersOf(t, state); len(left) > 0 {
				t.Errorf("%d workers are left", len(left))
			}
			for _, dir := range []string{state, filepath.Dir(answers)} {
				if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
					t.Errorf("%s holds %v (%v)", dir, entries, err)
				}
			}
		})
	}
}

// TestStrangers knocks on the link's port of a run, as a worker without the
// token and as something else altogether: they are turned away, and the run
// goes on until it is interrupted.
func TestStrangers(t *testing.T) {
	state, out := t.TempDir(), t.TempDir()
	cmd := exec.Command("starling", "run", "../../internal/digits/digits.onnx", "../../internal/digits/digits-images-idx3-ubyte.gz",
		"--requests", "2000000000", "--state", state, "--output", filepath.Join(out, "answers.npy"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the test is killed
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	inMiddle(t, state, out, nil)
	var address string
	for pid := range workersOf(t, state) {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := bytes.Cut(line, []byte("\x00--join\x00"))
		word, _, _ := bytes.Cut(rest, []byte{0})
		address = string(word)
	}
	for _, said := range []string{"", "GET / HTTP/1.0\r\n\r\n", strings.Repeat("\xff", 1<<20), "STRL" + strings.Repeat("\x00", 1<<10)} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, said) // it may be cut off while it talks
		// Heartbeats may come, then the end: the peer must not keep it for ever.
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who says %.10q is kept for %v", said, patience)
		}
		conn.Close()
	}
	for _, token := range []string{"", "wrong"} {
		stranger := exec.Command("starling", "worker", "--join", address, "--name", "w2", "--id", "w2", "--state", t.TempDir())
		stranger.Env = append(os.Environ(), "STARLING_TOKEN="+token)
		said, err := stranger.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.HasSuffix(said, []byte("starling: the coordinator refused this worker: its token is wrong\n")) {
			t.Errorf("a worker with token %q ends with %v and %q", token, err, said)
		}
	}
	if n := len(workersOf(t, state)); n != 5 {
		t.Errorf("%d workers are left of 5", n)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its status is TestEnds's matter
	if said := stderr.String(); !strings.HasPrefix(said, "starling: interrupt") || strings.Count(said, "\n") != 1 {
		t.Errorf("stderr is %q, want one line about the interrupt", said)
	}
}

// inMiddle waits until a run that was just started has answered its first round
// of requests, and its fault, if it has one, has struck.
func inMiddle(t *testing.T, state, answers string, args []string) {
	t.Helper()
	// The first round is written to a file under another name: 200 answers of
	// 10 float32 behind a header of 128 bytes.
	until(t, "the first answers", func() bool {
		files, _ := filepath.Glob(filepath.Join(answers, "*.tmp"))
		if len(files) != 1 {
			return false
		}
		info, err := os.Stat(files[0])
		return err == nil && info.Size() == 128+200*10*4
	})
	if len(args) > 1 && strings.HasPrefix(args[1], "stop:") {
		until(t, "a stopped worker", func() bool {
			for pid := range workersOf(t, state) {
				if stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil && bytes.Contains(stat, []byte(") T ")) {
					return true
				}
			}
			return false
		})
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no %s in %v", what, patience)
		}
	}
}

// processes are known by number, and by a file descriptor that stays theirs
// when the number is given to another one.
type processes map[int]int

// workersOf are the worker processes of the runs whose state folder that is.
func workersOf(t *testing.T, state string) processes {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := processes{}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte("\x00worker\x00")) || !bytes.Contains(line, []byte("\x00"+state+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it ended just now
		}
		t.Cleanup(func() { unix.Close(fd) })
		found[pid] = fd
	}
	return found
}

// ended waits for all of them.
func (p processes) ended(t *testing.T) {
	t.Helper()
	for pid, fd := range p {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(patience.Milliseconds()))
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(poll, int(patience.Milliseconds()))
		}
		if err != nil || n == 0 {
			t.Errorf("worker %d lives (%v)", pid, err)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
