package engine

import (
	"slices"
	"time"
)

// NodeTime is what the steps of one node took in the last Run of a session. A
// node that another one's steps compute, as an activation, has none of its own.
type NodeTime struct {
	Node string // "output" for copies to the graph's outputs
	Took time.Duration
}

// Timed makes a session note from now on what each node takes, which costs a
// look at the clock before and after each step.
func (s *Session) Timed() { s.took = make([]time.Duration, len(s.program.steps)) }

// Times lists the nodes in the order in which the last Run began them. The
// session must be Timed.
func (s *Session) Times() []NodeTime {
	var times []NodeTime
	for i, st := range s.program.steps {
		at := slices.IndexFunc(times, func(t NodeTime) bool { return t.Node == st.node })
		if at < 0 {
			at = len(times)
			times = append(times, NodeTime{Node: st.node})
		}
		times[at].Took += s.took[i]
	}
	return times
}

func (s *Session) now() (start time.Time) {
	if s.took != nil {
		start = time.Now()
	}
	return start
}

func (s *Session) spent(step int, start time.Time) {
	if s.took != nil {
		s.took[step] = time.Since(start)
	}
}
