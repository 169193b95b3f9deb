package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	lineBurst = 10               // lines that may come at once,
	lineEvery = 10 * time.Second // and then one each
)

// lines bounds what is logged of one thing: a worker that comes and goes all the
// time, or answers nonsense, must not fill a disk.
type lines struct {
	mu     sync.Mutex // guards the fields below
	paid   time.Time  // until when the lines so far would last, one each lineEvery
	unsaid int        // lines left out since the last one
}

// say logs a line of that thing unless there were too many, and says how many
// were left out before it.
func (c *Coordinator) say(of *lines, level slog.Level, text string, args ...any) {
	of.mu.Lock()
	now := time.Now()
	if of.paid.Before(now) {
		of.paid = now
	}
	if of.paid.Sub(now) > (lineBurst-1)*lineEvery {
		of.unsaid++
		of.mu.Unlock()
		return
	}
	of.paid = of.paid.Add(lineEvery)
	if of.unsaid > 0 {
		args = append(args, "unsaid", of.unsaid)
		of.unsaid = 0
	}
	of.mu.Unlock()
	c.log.Log(context.Background(), level, text, args...)
}
