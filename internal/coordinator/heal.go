package coordinator

import (
	"log/slog"
	"slices"
	"time"
)

const (
	// hungAfter is how long a worker is late without a break when a spare takes
	// its place.
	hungAfter = 2 * time.Second
	// loadMoments is how many moments a worker has to load its shard, or to join
	// for the first time, before a spare takes its place.
	loadMoments = 10
	// idleTime is how long nothing may be due; it has no meaning beyond that.
	idleTime = time.Hour
)

// heal has spares take the places that want another worker, until Close.
func (c *Coordinator) heal() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.mu.Lock()
		next := c.mend(time.Now())
		changed := c.changed
		c.mu.Unlock()
		timer.Reset(time.Until(next))
		select {
		case <-changed:
		case <-c.tardy:
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// wake has heal look again, as announce does.
func (c *Coordinator) wake() {
	select {
	case c.tardy <- struct{}{}:
	default:
	}
}

// mend does what is due now, and says when to look again; c.mu is held. A place
// that wants another worker is taken by a spare that holds its shard. Where there
// is none, some spare is sent the shard, and takes the place when it holds it
// unless the worker was back before. Other spares hold the shards of the workers
// that are latest, so that they need not be sent one when it counts; they come
// after those that have places.
func (c *Coordinator) mend(now time.Time) (next time.Time) {
	next = now.Add(idleTime)
	due := func(at time.Time) bool {
		if at.After(now) && at.Before(next) {
			next = at
		}
		return !at.After(now)
	}
	coming := make([]bool, len(c.members)) // spares on their way to a place
	var open []*member                     // nobody is on the way to their places
	for p, m := range c.places {
		take, fetch := c.wants(m)
		if !due(take) {
			continue
		}
		s := c.spare(m, func(s *member) bool { return s.shard == p })
		switch {
		case s != nil && s.ready:
			c.swap(m, s)
			if m.leaving {
				c.release(m)
			}
		case s != nil:
			coming[s.number] = true
		case due(fetch):
			open = append(open, m)
		}
	}
	assign := func(s *member, place int) {
		if !c.assign(s, place) {
			due(now.Add(c.cfg.Moment)) // its queue is full, or it is leaving
		}
	}
	for _, m := range open {
		switch s := c.spare(m, func(s *member) bool { return !coming[s.number] }); {
		case s != nil:
			coming[s.number] = true
			markFetch.Pass()
			assign(s, m.place)
		case m.leaving && m.ready:
			c.release(m)
		}
	}
	loading := slices.ContainsFunc(c.places, func(m *member) bool { return m.conn != nil && !m.ready && !m.leaving })
	for _, s := range c.members {
		if s.usable() && s.shard == none && !loading {
			assign(s, c.likely())
		}
	}
	return next
}

// wants says from when on the place that m has wants another worker: one that
// holds its shard, and one that must be sent it.
func (c *Coordinator) wants(m *member) (take, fetch time.Time) {
	switch {
	case m.quarantined.Load(), m.leaving:
		return m.since, m.since
	case m.conn == nil && m.id != "":
		return m.since, m.since.Add(c.cfg.Moment)
	case !m.ready:
		at := m.since.Add(loadMoments * c.cfg.Moment)
		return at, at
	case m.late.Load():
		return m.hungFrom(), m.hungFrom()
	default:
		never := time.Now().Add(idleTime)
		return never, never
	}
}

// spare is a spare that may take the place of m and of which fits is true: best
// one that holds its shard, and that was on time. One that was late does not
// take the place of one that is merely late.
func (c *Coordinator) spare(m *member, fits func(*member) bool) (best *member) {
	rank := func(s *member) int {
		n := 0
		if s.ready {
			n++
		}
		if !s.late.Load() {
			n += 2
		}
		return n
	}
	for _, s := range c.members {
		merelyLate := m.ready && !m.leaving && !m.quarantined.Load()
		if !s.usable() || !fits(s) || merelyLate && s.late.Load() {
			continue
		}
		if best == nil || rank(s) > rank(best) {
			best = s
		}
	}
	return best
}

// usable says whether m is a spare that can be given something to hold.
func (m *member) usable() bool {
	return m.place == none && m.conn != nil && !m.leaving && !m.quarantined.Load()
}

// swap gives the place of m to the spare s, which holds its shard.
func (c *Coordinator) swap(m, s *member) {
	markSwapped.Pass()
	c.say(&m.lines, slog.LevelInfo, "spare takes a place", "worker", s.name, "of", m.name, "which is", m.state(time.Now()))
	c.places[m.place] = s
	s.place, m.place = m.place, none
	c.announce()
}

// likely is the place that a spare with nothing to hold is to be ready for: the
// one that the fewest spares are ready for, of these the one of the worker whose
// results come latest.
func (c *Coordinator) likely() int {
	ready := make([]int, len(c.places))
	for _, s := range c.members {
		if s.usable() && s.shard != none {
			ready[s.shard]++
		}
	}
	best, worst := 0, time.Duration(-1)
	for p, m := range c.places {
		late := m.lateness.quantile(0.99)
		if ready[p] < ready[best] || ready[p] == ready[best] && late > worst {
			best, worst = p, late
		}
	}
	return best
}

// Health says how many workers the flock can lose.
type Health struct {
	// Redundancy is how many workers more, whichever they are, every layer can
	// lose before something must be computed at the coordinator (without cover,
	// before requests are lost); -1 if that is so already. Who is hung or
	// quarantined counts as lost.
	Redundancy int
	Planned    int // with all workers there
	Least      int // since it was Planned first
	Healed     int // how often it was below Planned and became that again
	// Longest is how long it was below Planned at most, one that lasts included.
	Longest time.Duration
}

// health is what is noted of it as members change.
type health struct {
	planned int
	least   int
	healed  int
	longest time.Duration
	since   time.Time // when redundancy fell below planned; zero if it has not
	full    bool      // it was planned at least once
	lost    []bool    // scratch
}

// Health is as of now.
func (c *Coordinator) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	margin := c.examine(now)
	h := &c.health
	longest := h.longest
	if !h.since.IsZero() {
		longest = max(longest, now.Sub(h.since))
	}
	return Health{Redundancy: margin, Planned: h.planned, Least: min(h.least, margin), Healed: h.healed, Longest: longest}
}

// Ready reports whether requests are answered as the workers are now. Without
// some they are too, unless a layer neither has a cover nor is computed here.
func (c *Coordinator) Ready() bool {
	for i := range c.plan.Layers {
		if !c.heals(&c.plan.Layers[i]) {
			return c.Health().Redundancy >= 0
		}
	}
	return true
}

// examine notes how redundancy stands, and returns it; c.mu is held.
func (c *Coordinator) examine(now time.Time) int {
	h := &c.health
	for p, m := range c.places {
		h.lost[p] = !m.ready || m.quarantined.Load() || m.hung(now)
	}
	margin := c.plan.Margin(h.lost)
	h.full = h.full || margin == h.planned
	if !h.full {
		return margin
	}
	h.least = min(h.least, margin)
	switch {
	case margin < h.planned && h.since.IsZero():
		h.since = now
	case margin == h.planned && !h.since.IsZero():
		h.longest = max(h.longest, now.Sub(h.since))
		h.since = time.Time{}
		h.healed++
	}
	return margin
}
