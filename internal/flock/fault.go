package flock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"starling/internal/coordinator"
	"starling/internal/frame"
)

// Fault is something bad that happens to a worker in the middle of a request:
// when the input of the model's middle split layer has just been sent.
type Fault struct {
	Kind    string        // one of faultKinds
	Worker  int           // from 0
	Request uint64        // from 1
	Delay   time.Duration // slow: added to each answer
	Factor  float64       // slow: computing takes so many times as long
	Percent float64       // drop, corrupt, wrong: of the answers
}

const (
	faultKinds = "kill, stop, restart, cut, slow, drop, corrupt and wrong"
	faultForm  = "KIND:WORKER[@REQUEST][=VALUE], as kill:w2@10 or slow:w1=200ms"
)

// ParseFault reads a fault as written on the command line: kill, stop
// (SIGSTOP), restart, cut (the link goes silent), slow with a value as 200ms
// (added to each answer) or 5x (computing takes five times as long), drop with
// one as 5% (of the answers, which must be sent again), corrupt (answers arrive
// damaged: all, or so many) or wrong (likewise, with a wrong value). Without @REQUEST it strikes in the first
// request.
func ParseFault(spec string) (Fault, error) {
	wrong := func(why string) (Fault, error) {
		return Fault{}, fmt.Errorf("fault %q: %s: write %s", spec, why, faultForm)
	}
	kind, rest, ok := strings.Cut(spec, ":")
	if !ok {
		return wrong("no worker")
	}
	rest, value, hasValue := strings.Cut(rest, "=")
	who, at, hasRequest := strings.Cut(rest, "@")
	f := Fault{Kind: kind, Request: 1, Factor: 1}
	n, err := strconv.ParseUint(strings.TrimPrefix(who, "w"), 10, 16)
	if err != nil || n == 0 || !strings.HasPrefix(who, "w") {
		return wrong(fmt.Sprintf("%q is no worker, the first is w1", who))
	}
	f.Worker = int(n) - 1
	if hasRequest {
		if f.Request, err = strconv.ParseUint(at, 10, 63); err != nil || f.Request == 0 {
			return wrong(fmt.Sprintf("%q is no request, the first is 1", at))
		}
	}
	switch kind {
	case "kill", "stop", "restart", "cut":
		if hasValue {
			return wrong(kind + " takes no value")
		}
		return f, nil
	case "slow":
		if times, ok := strings.CutSuffix(value, "x"); ok {
			f.Factor, err = strconv.ParseFloat(times, 64)
			if err != nil || !(f.Factor >= 1 && f.Factor <= 1e6) {
				return wrong(fmt.Sprintf("%q is not a factor from 1x to 1000000x", value))
			}
			return f, nil
		}
		f.Delay, err = time.ParseDuration(value)
		if err != nil || f.Delay <= 0 || f.Delay > time.Hour {
			return wrong(fmt.Sprintf("%q is neither a delay as 200ms nor a factor as 5x", value))
		}
		return f, nil
	case "drop", "corrupt", "wrong":
		if kind != "drop" && !hasValue {
			value = "100%"
		}
		share, percent := strings.CutSuffix(value, "%")
		f.Percent, err = strconv.ParseFloat(share, 64)
		if !percent || err != nil || !(f.Percent > 0 && f.Percent <= 100) {
			return wrong(fmt.Sprintf("%q is not a share above 0%% and up to 100%%", value))
		}
		return f, nil
	default:
		return wrong(fmt.Sprintf("unknown kind %q, there are %s", kind, faultKinds))
	}
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s:w%d@%d", f.Kind, f.Worker+1, f.Request)
	switch {
	case f.Delay > 0:
		s += "=" + f.Delay.String()
	case f.Kind == "slow":
		s += "=" + strconv.FormatFloat(f.Factor, 'g', -1, 64) + "x"
	case f.Percent > 0:
		s += "=" + strconv.FormatFloat(f.Percent, 'g', -1, 64) + "%"
	}
	return s
}

// injector makes faults strike.
type injector struct {
	layer int // in which a fault strikes

	mu     sync.Mutex // guards the fields below
	faults []Fault    // still to strike
	w      *workers
	c      *coordinator.Coordinator
	failed []error             // why a fault could not be made
	told   []frame.EmulateInfo // by worker: what it was told to emulate

	ctx     context.Context
	cancel  context.CancelFunc
	busy    sync.WaitGroup // faults that take a while
	telling sync.Mutex     // so that what was told last arrives last
}

func newInjector(faults []Fault, layer int) *injector {
	in := &injector{layer: layer, faults: append([]Fault(nil), faults...)}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	return in
}

// arm gives the injector what it strikes; until then nothing happens.
func (in *injector) arm(w *workers, c *coordinator.Coordinator) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.w, in.c = w, c
	in.told = make([]frame.EmulateInfo, len(w.procs))
	for i := range in.told {
		in.told[i].Speed = 1
	}
}

// scattered is coordinator.Config.OnScatter. What is done to a process is done
// at once, what is said to a worker beside the request.
func (in *injector) scattered(request uint64, layer int) {
	if layer != in.layer {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.w == nil {
		return
	}
	rest := in.faults[:0]
	for _, f := range in.faults {
		if f.Request != request {
			rest = append(rest, f)
			continue
		}
		in.strike(f)
	}
	in.faults = rest
}

func (in *injector) strike(f Fault) {
	switch f.Kind {
	case "kill":
		in.w.kill(f.Worker)
	case "stop":
		in.w.freeze(f.Worker)
	case "restart":
		in.w.kill(f.Worker)
		in.told[f.Worker] = frame.EmulateInfo{Speed: 1}
		if err := in.w.start(f.Worker); err != nil {
			in.failed = append(in.failed, fmt.Errorf("fault %v: %w", f, err))
		}
	default:
		told := &in.told[f.Worker]
		switch f.Kind {
		case "cut":
			told.Cut = true
		case "drop":
			told.Drop = f.Percent / 100
		case "corrupt":
			told.Corrupt = f.Percent / 100
		case "wrong":
			told.Wrong = f.Percent / 100
		case "slow":
			told.Speed, told.DelayMs = 1/f.Factor, milliseconds(f.Delay)
		}
		in.busy.Go(func() { in.tell(f.Worker) })
	}
}

// tell has a worker emulate what it was told last. One that is gone cannot be
// made worse.
func (in *injector) tell(worker int) {
	in.telling.Lock()
	defer in.telling.Unlock()
	in.mu.Lock()
	info := in.told[worker]
	in.mu.Unlock()
	_ = in.c.Emulate(in.ctx, worker, &info)
}

// Kill ends worker i, from 0, without warning, and returns when it is dead.
func (f *Flock) Kill(i int) { f.workers.kill(i) }

// Freeze stops worker i as by SIGSTOP: its sockets stay open, it does nothing.
func (f *Flock) Freeze(i int) { f.workers.freeze(i) }

// Thaw has a frozen worker go on.
func (f *Flock) Thaw(i int) { f.workers.thaw(i) }

// Restart kills worker i, if it lives, and starts it anew, with further flags.
func (f *Flock) Restart(i int, flags ...string) error {
	f.workers.kill(i)
	return f.workers.start(i, flags...)
}

// PIDs are the workers' processes, dead ones too.
func (f *Flock) PIDs() (pids []int) {
	f.workers.mu.Lock()
	defer f.workers.mu.Unlock()
	for _, p := range f.workers.procs {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return pids
}

// Unstruck are the faults whose request did not come.
func (f *Flock) Unstruck() []Fault {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	return append([]Fault(nil), f.faults.faults...)
}

// stop waits for faults that are under way; none strikes afterwards. It returns
// why some could not be made.
func (in *injector) stop() error {
	in.mu.Lock()
	in.w = nil
	in.mu.Unlock()
	in.cancel()
	in.busy.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	return errors.Join(in.failed...)
}
