package coordinator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// BusyError refuses a request because as many wait already as Config.Waiting
// allows. Nothing of it was begun, so it may be sent again; a server answers 503
// or RESOURCE_EXHAUSTED with Retry-After.
type BusyError struct {
	Waiting    int           // requests that wait for their turn
	RetryAfter time.Duration // about when a request would not have to wait long; above 0
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("busy: %d requests wait already, try again in %v", e.Waiting, e.RetryAfter.Round(time.Millisecond))
}

// retryUnknown is BusyError.RetryAfter before any request was answered.
const retryUnknown = time.Second

// enter waits for a call that is at rest, first come first served: receivers
// that wait on a channel are served in their order. The caller gives the call
// back to c.idle. The error is a *BusyError, ErrClosed or ctx's.
func (c *Coordinator) enter(ctx context.Context) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case l := <-c.idle:
		return c.use(l), nil
	default:
	}
	waiting := int(c.waiting.Add(1))
	defer c.waiting.Add(-1)
	if waiting > c.cfg.Waiting {
		return nil, &BusyError{Waiting: waiting - 1, RetryAfter: c.turn(waiting)}
	}
	select {
	case l := <-c.idle:
		return c.use(l), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, ErrClosed
	}
}

// use makes a call when it is first needed.
func (c *Coordinator) use(l *call) *call {
	if l == nil {
		l = newCall(c)
	}
	return l
}

// turn is about how long the last of so many that wait will wait.
func (c *Coordinator) turn(waiting int) time.Duration {
	took := time.Duration(c.took.Load())
	if took == 0 {
		return retryUnknown
	}
	return max(took*time.Duration(waiting)/time.Duration(c.cfg.Concurrency), time.Millisecond)
}

// learn smooths the time that a request takes.
func learn(usual *atomic.Int64, took time.Duration) {
	if old := usual.Load(); old > 0 {
		took = (7*time.Duration(old) + took) / 8
	}
	usual.Store(int64(max(took, 1)))
}
