package coordinator

import (
	"math"
	"time"

	"starling/internal/plan"
)

// Policies say when parity slices, or copies, are asked for.
const (
	// Always asks for them with the data slices: nobody is waited for.
	Always = "always"
	// Hedged asks for them where a worker is known to be late or gone, and when
	// a slice is later than it is in 95 % of the requests: little is computed in
	// vain, and a slow worker costs that wait once.
	Hedged = "hedged"
	// OnFailure asks for them where a data slice will not come, or patience with
	// it is over: nothing is computed in vain, and a slow worker is waited for.
	OnFailure = "on-failure"
)

// Policies are all that Config.Policy can be.
var Policies = []string{Always, Hedged, OnFailure}

// limits are the times at which a layer's gather asks others; zero for never.
type limits struct {
	begin    time.Time     // of the wait: what was waited in vain before does not count
	hedge    time.Time     // for slices that were kept back
	standIn  time.Time     // of the coordinator, in the place of who is gone or left out
	patience time.Time     // with what does not come
	brief    time.Time     // the same, with workers that were late before
	long     time.Duration // of patience
	helping  help
}

func (l *call) limits(layer int, begin time.Time) limits {
	c := l.c
	pl := &c.plan.Layers[layer]
	g := limits{begin: begin, long: patienceFirst}
	apart := l.apart()
	if !c.heals(pl) || c.cfg.Patience < 0 {
		return g
	}
	brief := g.long
	if usual, known := c.paces[layer].quantile(0.5); known {
		long := time.Duration(float64(usual) * c.cfg.Patience)
		g.long, brief = max(patienceFloor, long), max(graceFloor, long)
	}
	g.patience, g.brief = begin.Add(g.long+apart), begin.Add(brief+apart)
	if first, known := c.paces[layer].quantile(0.25); known && c.cfg.Policy == Always {
		g.standIn = begin.Add(max(graceFloor, first) + 1 + apart)
	}
	if c.cfg.Policy == Hedged {
		// Of all of the k slices.
		if usual, known := c.paces[layer].quantile(math.Pow(0.95, 1/float64(pl.K()))); known {
			g.hedge = begin.Add(max(graceFloor, usual) + 1 + apart)
		}
	}
	return g
}

// apart is added to the times until which a request waits, so that those that wait
// alike do not wake at one instant: a simulation could not repeat their order.
func (l *call) apart() time.Duration { return time.Duration(l.request % 64) }

// next is when something is due, zero for never.
func (g *limits) next(n standing) time.Time {
	at := g.patience
	if n.slow {
		at = g.brief
	}
	at = sooner(at, g.hedge)
	if n.tight {
		at = sooner(at, g.standIn)
	}
	return at
}

// sooner is the earlier of two times, either of which may be never: zero.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// over says whether it is that time; never is never over.
func over(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

func (g *limits) due(n standing, now time.Time) bool { return over(g.next(n), now) }

// heals says whether what a layer's workers do not give is got otherwise: by its
// cover, or as Config.Patience was set.
func (c *Coordinator) heals(layer *plan.Layer) bool { return layer.Cover != plan.None || c.reasks }

// escalate asks the next who may give what does not come, or not in time: who
// holds a parity or copy that was kept back; a spare that holds the shard of the
// worker that owes it; at last the coordinator itself, beside those who were
// asked before. It is false if nobody is left.
func (l *call) escalate(layer *plan.Layer, g *limits, n standing, now time.Time) bool {
	hedge, standIn := over(g.hedge, now), n.tight && over(g.standIn, now)
	g.hedge = time.Time{}
	if standIn {
		g.standIn = time.Time{}
	}
	late := g.due(n, now)
	if hedge && !late && !n.hopeless {
		if l.askMore(layer, true) {
			markHedge.Pass()
			g.begin = now
		}
		return true
	}
	if standIn && !late && !n.hopeless {
		if l.c.alone() && !l.askSpares(layer, false) {
			markStandIn.Pass()
			g.helping = standInHelp
			l.help(g.helping)
		}
		return true
	}
	heals := l.c.heals(layer)
	if l.askMore(layer, late) || heals && l.askSpares(layer, late) {
		if late {
			g.begin, g.patience = now, now.Add(g.long) // now is apart
			g.brief = g.patience
		}
		return true
	}
	switch {
	case !heals:
		return false
	case late:
		markLate.Pass()
		*g = limits{begin: now, helping: lateHelp}
	case g.helping < goneHelp:
		markGone.Pass()
		g.helping = goneHelp
	default:
		return false
	}
	l.help(g.helping)
	return true
}

// doubtful says whether data result j may not come: somebody has yet to be asked
// for it. With late that is so of all that is not there.
func (l *call) doubtful(layer *plan.Layer, j int, late bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for b := range layer.Blocks(j) {
		switch l.state(layer, j, b) {
		case lost:
			return true
		case pending:
			if late || l.c.cfg.Policy == Hedged && !l.promised(layer, j, b) {
				return true
			}
		}
	}
	return false
}

// askMore asks for slices that were kept back, in the place of the data results
// that are doubtful; false if it asked for none.
func (l *call) askMore(layer *plan.Layer, late bool) bool {
	asked := false
	need := 0
	for j := range layer.K() {
		if !l.doubtful(layer, j, late) {
			continue
		}
		need++
		for s := j + layer.Results(); s < layer.N(); s += layer.Results() {
			if !l.tried(s) && l.send(s, true) {
				markExtraCopy.Pass()
				asked = true
				break
			}
		}
	}
	for s := layer.K(); s < layer.Results() && need > 0; s++ {
		switch {
		case !l.tried(s):
			if l.send(s, true) {
				markExtraParity.Pass()
				asked = true
				need--
			}
		case l.hopedFor(s):
			need--
		}
	}
	return asked
}

func (l *call) tried(a int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asks[a].tried
}

// hopedFor says whether ask a was sent, and none of it is lost.
func (l *call) hopedFor(a int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.asks[a]
	return p.conn != nil && (p.open || p.left == 0)
}

// askSpares asks the spares that can for the data results that are doubtful;
// false if it asked none.
func (l *call) askSpares(layer *plan.Layer, late bool) bool {
	asked := false
	for j := range layer.K() {
		if !l.doubtful(layer, j, late) {
			continue
		}
		for _, m := range l.c.members {
			l.c.mu.Lock()
			can := m.usable() && m.ready && m.shard == layer.Workers[j]
			l.c.mu.Unlock()
			if !can {
				continue
			}
			l.mu.Lock()
			a := none
			if l.askOf(m, uint32(j)) == none {
				a = l.addAsk(j, m)
			}
			l.mu.Unlock()
			if a != none && l.send(a, true) {
				markSpareAsked.Pass()
				asked = true
				break
			}
		}
	}
	return asked
}
