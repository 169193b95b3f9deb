package coordinator

import "fmt"

// AtRest is an error if the coordinator keeps anything of a request that has
// ended, or of a connection that was never admitted. No request may be under way.
func (c *Coordinator) AtRest() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 0 || len(c.idle) != cap(c.idle) || c.strange != 0 {
		return fmt.Errorf("%d requests are still known, %d of %d sessions at rest, %d strangers",
			len(c.calls), len(c.idle), cap(c.idle), c.strange)
	}
	return nil
}

// Leave has a worker get no requests, as if it were quarantined, until it is
// told otherwise.
func (c *Coordinator) Leave(worker int, out bool) { c.members[worker].quarantined.Store(out) }
