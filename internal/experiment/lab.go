package experiment

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lab is a number of network namespaces on this machine, joined by a model of
// WiFi air, which a script keeps: lab.sh up N, run I COMMAND, cpu I CORES MEM
// and down, and a socket that takes lines of settings. Its devices, dev1 and so
// on, have the addresses 10.99.0.1 and so on and reach no other machine. It
// needs root.
type lab struct {
	folder string
	prefix string // of the namespaces, so that several labs coexist
	n      int    // devices

	mu  sync.Mutex // guards the field below
	air net.Conn
}

// airTime is how long the air may take to obey a line.
const airTime = 5 * time.Second

// openLab sets up some devices.
func openLab(ctx context.Context, folder, prefix string, devices int) (l *lab, err error) {
	if folder, err = filepath.Abs(folder); err != nil {
		return nil, err
	}
	l = &lab{folder: folder, prefix: prefix, n: devices}
	if err = l.script(ctx, "up", strconv.Itoa(devices)); err != nil {
		return nil, err // it may be another's: not to be ended here
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	// The air must move frames when they are due, whatever else is computed here.
	run := filepath.Join(folder, "run"+prefix)
	pid, err := os.ReadFile(filepath.Join(run, "emu.pid"))
	if err != nil {
		return l, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err == nil {
		err = hurry(n)
	}
	if err != nil {
		return l, fmt.Errorf("give the air priority: %w", err)
	}
	l.air, err = net.Dial("unix", filepath.Join(run, "air.sock"))
	return l, err
}

func (l *lab) script(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(l.folder, "lab.sh"), args...)
	cmd.Env = append(os.Environ(), "WL_P="+l.prefix)
	// To a file: what a pipe goes to would be waited for, and the air stays.
	out, err := os.CreateTemp("", "starling-lab-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("lab.sh %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

// command is what a command line is put behind to run in device i, from 1. The
// script's own "run" would also limit the device's share of this machine: what
// a slice takes is emulated instead.
func (l *lab) command(i int) []string { return []string{"nsenter", "--net=" + l.namespace(i), "--"} }

// listen listens on a free port of device i, or with i of 0 of the controller.
func (l *lab) listen(i int) (net.Listener, error) {
	host := i
	if i == 0 {
		host = 254
	}
	return listenIn(l.namespace(i), fmt.Sprintf("10.99.0.%d:0", host))
}

func (l *lab) namespace(i int) string {
	if i == 0 {
		return "/run/netns/" + l.prefix + "ctl"
	}
	return fmt.Sprintf("/run/netns/%sdev%d", l.prefix, i)
}

// tell has the air obey a line and returns what it says, without "ok".
func (l *lab) tell(line string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.air.SetDeadline(time.Now().Add(airTime)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(l.air, line); err != nil {
		return "", err
	}
	var said strings.Builder
	in := bufio.NewScanner(l.air)
	for in.Scan() {
		if in.Text() == "ok" {
			return said.String(), nil
		}
		fmt.Fprintln(&said, in.Text())
		if !strings.HasPrefix(line, "stat") {
			break // a complaint
		}
	}
	return "", fmt.Errorf("the air does not take %q: %s", line, strings.TrimSpace(said.String()))
}

// set gives device i settings, or with i of 0 all devices.
func (l *lab) set(i int, settings string) error {
	from, to := i, i
	if i == 0 {
		from, to = 1, l.n
	}
	for d := from; d <= to; d++ {
		if _, err := l.tell(fmt.Sprintf("set %sdev%d %s", l.prefix, d, settings)); err != nil {
			return err
		}
	}
	return nil
}

// airStat counts what was on the air so far.
type airStat struct {
	busy, total      time.Duration
	sent, lost, full int // frames: delivered, lost, dropped by a full queue
}

func (l *lab) stat() (s airStat, err error) {
	said, err := l.tell("stat")
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(said) {
		var busy, total float64
		if n, _ := fmt.Sscanf(line, "air_busy=%fs of %fs", &busy, &total); n == 2 {
			s.busy, s.total = time.Duration(busy*1e9), time.Duration(total*1e9)
			continue
		}
		var name string
		var sent, full, lost int
		if n, _ := fmt.Sscanf(line, "%s tx=%d qdrop=%d lost=%d", &name, &sent, &full, &lost); n == 4 {
			s.sent, s.lost, s.full = s.sent+sent, s.lost+lost, s.full+full
		}
	}
	return s, nil
}

func (s airStat) since(before airStat) airStat {
	return airStat{s.busy - before.busy, s.total - before.total, s.sent - before.sent, s.lost - before.lost, s.full - before.full}
}

func (s airStat) plus(t airStat) airStat {
	return airStat{s.busy + t.busy, s.total + t.total, s.sent + t.sent, s.lost + t.lost, s.full + t.full}
}

func (l *lab) close() error {
	if l.air != nil {
		l.air.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return l.script(ctx, "down")
}
