package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"starling/internal/flock"
)

// errNotHere says that a fault can't be made on this machine.
var errNotHere = errors.New("not possible on this machine")

// starver puts the victim into a control group of too little memory, so that
// the kernel kills it when it starts.
type starver struct {
	folder  string
	starves atomic.Bool // whoever is started
}

// tooLittle is less memory in bytes than a worker needs to start.
const tooLittle = 2 << 20

// newStarver makes the group, for which it must be root; of cgroup v1 or v2.
func newStarver() (*starver, error) {
	for _, g := range []struct{ root, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		folder := filepath.Join(g.root, fmt.Sprintf("starling-%d", os.Getpid()))
		if os.Mkdir(folder, 0o700) != nil {
			continue
		}
		s := &starver{folder: folder}
		if err := os.WriteFile(filepath.Join(folder, g.limit), fmt.Appendf(nil, "%d", tooLittle), 0o600); err == nil {
			return s, nil
		}
		s.close()
	}
	return nil, fmt.Errorf("limit a worker's memory: %w: it takes root and a memory cgroup", errNotHere)
}

// close removes the group; nobody is in it any more.
func (s *starver) close() { _ = os.Remove(s.folder) }

// command starts worker i by command.
func (s *starver) command(command []string) func(i int) []string {
	return func(i int) []string {
		if i != victim || !s.starves.Load() {
			return command
		}
		return append([]string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, s.folder}, command...)
	}
}

// strike has the victim start with too little memory until the fault is over.
func (s *starver) strike(ctx context.Context, f *flock.Flock, lasts time.Duration) error {
	s.starves.Store(true)
	err := errors.Join(f.Restart(victim), pause(ctx, lasts))
	s.starves.Store(false)
	if killed, e := s.killed(); err == nil && (e != nil || killed == 0) {
		err = errors.Join(e, errors.New("the kernel killed nobody for want of memory"))
	}
	return errors.Join(err, f.Restart(victim))
}

// killed is how many the kernel killed in the group.
func (s *starver) killed() (n int, err error) {
	for _, name := range []string{"memory.oom_control", "memory.events"} {
		text, e := os.ReadFile(filepath.Join(s.folder, name))
		if e != nil {
			err = e
			continue
		}
		for line := range strings.Lines(string(text)) {
			_, _ = fmt.Sscanf(line, "oom_kill %d", &n)
		}
		return n, nil
	}
	return 0, err
}
