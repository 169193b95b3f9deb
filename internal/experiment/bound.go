package experiment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"starling/internal/plan"
)

// The lab's model of a WiFi channel, of which the bound is computed.
const (
	airAccess    = 180 * time.Microsecond // mean of what it costs to get the channel: DIFS, backoff, preamble, acknowledgement
	airLongest   = 3 * time.Millisecond   // of an aggregate
	airAggregate = 32                     // frames in one at most
	airRetries   = 7
	frameBytes   = 1448 // of a tensor that one frame carries
	frameHeaders = 102  // bytes beside them: Ethernet, IP, TCP, 802.11
)

// ideal is a model of the lab's channel and devices, without any software: no
// acknowledgements, no queues of its own, all inputs ready at once.
type ideal struct {
	rate, per, delay, jitter float64 // as the air's settings
	wired                    bool
	slice                    time.Duration
	rng                      *rand.Rand
}

// bound is the median in milliseconds of what all of a plan's split layers take
// by the model: until any k of a layer's results are there, of devices that
// compute alike and all live.
func (r *gatherRun) bound(s gatherScenario, p *plan.Plan) float64 {
	m := ideal{slice: r.c.Slice, rng: rand.New(rand.NewPCG(1, 1))}
	for _, kv := range strings.Fields(baseAir + " " + s.all) {
		var v float64
		k, text, _ := strings.Cut(kv, "=")
		_, _ = fmt.Sscan(text, &v)
		switch k {
		case "rate":
			m.rate = v
		case "per":
			m.per = v
		case "delay":
			m.delay = v
		case "jitter":
			m.jitter = v
		case "wired":
			m.wired = v != 0
		}
	}
	const samples = 501
	took := make([]float64, samples)
	for i := range took {
		for l := range p.Layers {
			took[i] += m.layer(&p.Layers[l])
		}
	}
	slices.Sort(took)
	return took[samples/2]
}

// station is a device as the channel sees it.
type station struct {
	down, up         int     // frames that wait for it, and that it wants to send
	downLast, upLast float64 // when the last frame went through, each way
	computed         float64 // its result is ready to be sent; never if it has not got its input
}

// layer is a sample of the time in milliseconds from when a layer's inputs are
// ready until k of its results are there.
func (m *ideal) layer(l *plan.Layer) float64 {
	never := math.Inf(1)
	frames := func(values int) int { return (l.Wire.Size(values) + frameBytes - 1) / frameBytes }
	ms := func(d time.Duration) float64 { return milliseconds(d) }
	stations := make([]station, l.N())
	there := make([]float64, l.Results()) // when each result is
	for u := range there {
		there[u] = never
	}
	arrive := func(s int, at float64) {
		u := s % l.Results()
		there[u] = min(there[u], at)
	}
	if m.wired {
		for s := range stations {
			arrive(s, 2*m.delay+ms(m.slice))
		}
	}
	for s := range stations {
		stations[s] = station{down: frames(l.Work(s).InputLen), computed: never}
	}
	now, turn := 0.0, 0
	for !m.wired {
		// Whoever is next in turn has the channel, if he has something to send.
		next, up, soonest := none, false, never
		for i := range 2 * len(stations) {
			s := (turn + i) % (2 * len(stations))
			st := &stations[s/2]
			if s%2 == 0 && st.down > 0 || s%2 == 1 && st.up > 0 && st.computed <= now {
				next, up, turn = s/2, s%2 == 1, s+1
				break
			}
			if st.up > 0 {
				soonest = min(soonest, st.computed)
			}
		}
		if next == none {
			if soonest == never {
				break // all is sent
			}
			now = soonest
			continue
		}
		st := &stations[next]
		waiting, last := &st.down, &st.downLast
		if up {
			waiting, last = &st.up, &st.upLast
		}
		busy := ms(airAccess) * (0.7 + 0.6*m.rng.Float64())
		for k := 0; *waiting > 0 && k < airAggregate && busy < ms(airLongest); k++ {
			for try := 0; try <= airRetries; try++ {
				busy += (frameBytes + frameHeaders) * 8 / (m.rate * 1e3)
				if m.rng.Float64() >= m.per {
					break
				}
			}
			late := m.delay + m.jitter*min(math.Pow(1-m.rng.Float64(), -1/2.5)-1, 20)
			*last = max(*last, now+busy+late) // a station's frames keep their order
			*waiting--
		}
		now += busy
		switch {
		case up && st.up == 0:
			arrive(next, st.upLast)
		case !up && st.down == 0:
			st.computed, st.up = st.downLast+ms(m.slice), frames(l.Work(next).OutputLen)
		}
	}
	slices.Sort(there)
	return there[l.K()-1]
}

const none = -1
