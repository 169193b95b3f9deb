package flock

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// endTime is how long a worker may take to end by itself when there is no
	// coordinator any more.
	endTime = time.Second
	// leaveTime is how long one may take that hands over first.
	leaveTime = 2 * time.Second
)

// workers are the worker processes of a flock.
type workers struct {
	command func(i int) []string
	env     []string
	args    func(i int) []string

	mu    sync.Mutex // guards the field below
	procs []*process // by worker; the latest of each
}

// process is one started worker.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer // its end tells the worker to end
	stderr tail
	frozen bool          // by SIGSTOP; guarded by workers.mu
	done   chan struct{} // closed when it has ended
}

func startWorkers(n int, cfg Config, addr, stateDir, token string) (*workers, error) {
	w := &workers{
		command: cfg.WorkerCommand,
		env:     append(os.Environ(), "STARLING_TOKEN="+token),
		procs:   make([]*process, n),
	}
	command := cfg.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program's file to start workers: %w", err)
		}
		command = []string{self, "worker"}
	}
	if w.command == nil {
		w.command = func(int) []string { return command }
	}
	w.args = func(i int) []string {
		name := fmt.Sprintf("w%d", i+1)
		args := []string{
			"--join", addr, "--name", name, "--id", name, "--state", stateDir,
			"--threads", strconv.Itoa(cfg.Threads), "--end-with-stdin",
		}
		if cfg.Speed != 0 && cfg.Speed != 1 {
			args = append(args, "--emulate-speed", strconv.FormatFloat(cfg.Speed, 'g', -1, 64))
		}
		return args
	}
	return w, w.startAll()
}

// startAll starts every worker, or on an error none.
func (w *workers) startAll() error {
	for i := range w.procs {
		if err := w.start(i); err != nil {
			w.end()
			return err
		}
	}
	return nil
}

// start starts worker i anew; flags are further ones.
func (w *workers) start(i int, flags ...string) error {
	command := slices.Concat(w.command(i), w.args(i), flags)
	p := &process{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	p.cmd.Env = w.env
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = endTime                               // a child that keeps stderr open is not waited for
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for us alone
	endWithParent(p.cmd.SysProcAttr)
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		// The kernel ends the process with the thread that made it
		// (prctl(2), PR_SET_PDEATHSIG), so this thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in ProcessState
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start worker w%d: %w", i+1, err)
	}
	w.mu.Lock()
	w.procs[i] = p
	w.mu.Unlock()
	return nil
}

// signal sends a signal to the worker and what it may have started: they are a
// process group.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its number may be another's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may be ending
	}
}

// kill ends worker i without warning and returns when it is dead.
func (w *workers) kill(i int) {
	w.mu.Lock()
	p := w.procs[i]
	w.mu.Unlock()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// restart has worker i take its leave, and starts it anew.
func (w *workers) restart(i int) error {
	w.mu.Lock()
	p := w.procs[i]
	w.mu.Unlock()
	limit := time.NewTimer(leaveTime)
	defer limit.Stop()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-limit.C:
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	return w.start(i)
}

// freeze stops worker i as by SIGSTOP: its sockets stay open, it does nothing.
func (w *workers) freeze(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.procs[i].frozen = true
	w.procs[i].signal(syscall.SIGSTOP)
}

// thaw has a frozen worker go on.
func (w *workers) thaw(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.procs[i].frozen = false
	w.procs[i].signal(syscall.SIGCONT)
}

// firstEnd waits until some worker's process ends, which is an error that says
// why, or until ctx ends, which is nil.
func (w *workers) firstEnd(ctx context.Context) error {
	w.mu.Lock()
	procs := append([]*process(nil), w.procs...)
	w.mu.Unlock()
	ended := make(chan int, len(procs))
	var waits sync.WaitGroup
	for i, p := range procs {
		waits.Go(func() {
			select {
			case <-p.done:
				ended <- i
			case <-ctx.Done():
			}
		})
	}
	defer waits.Wait()
	select {
	case i := <-ended:
		return fmt.Errorf("worker w%d ended (%v): %s", i+1, procs[i].cmd.ProcessState, procs[i].stderr.String())
	case <-ctx.Done():
		return nil
	}
}

// end tells all workers to end, kills those that do not, and waits for them.
func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := time.NewTimer(endTime)
	defer limit.Stop()
	late := false
	for _, p := range w.procs {
		if p == nil {
			continue
		}
		p.stdin.Close()
		if p.frozen {
			p.signal(syscall.SIGKILL)
		}
	}
	for _, p := range w.procs {
		if p == nil {
			continue
		}
		if !late {
			select {
			case <-p.done:
				continue
			case <-limit.C:
				late = true
			}
		}
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if len(t.buf) > most {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-most:]...)
	}
	return len(b), nil
}

// String is the last line that is not empty.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.buf), []byte("\n"))
	return strings.TrimPrefix(string(lines[len(lines)-1]), "starling: ")
}
