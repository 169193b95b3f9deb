package link

import (
	"bytes"
	"slices"
	"time"

	"starling/internal/frame"
)

// Fate is what becomes of a frame on an in-memory link; the zero Fate delivers
// it in the next nanosecond.
type Fate struct {
	Delay time.Duration // from its sending on; it never overtakes another
	Lost  bool
	Twice bool // it arrives once more, behind itself
	Flip  int  // the byte, counted from 1, whose lowest bit is flipped
	Keep  int  // so many of its first bytes arrive, and what follows is out of step; 0 is all
	// Grid, if positive, has it arrive a multiple of Grid after At, so that links
	// of different At deliver at no instant together: under testing/synctest the
	// scheduler then has no say in what is first.
	Grid, At time.Duration
}

// script is how one direction of an in-memory link treats frames. Those sent
// at one instant, by however many goroutines, are put in the order of their
// requests before they meet their fates.
type script struct {
	partial []byte    // the frame that is being written
	sent    []sent    // whole, at this instant
	last    time.Time // when the last one arrives that is on its way
}

type sent struct {
	head  frame.Header
	bytes []byte
}

// takeFrames takes some bytes off b's front and returns how many. mu is held.
func (h *half) takeFrames(b []byte) int {
	s := &h.script
	_, want := s.head()
	n := min(len(b), want-len(s.partial))
	s.partial = append(s.partial, b[:n]...)
	head, want := s.head()
	if len(s.partial) < want {
		return n
	}
	if len(s.sent) == 0 {
		time.AfterFunc(1, h.launch)
	}
	s.sent = append(s.sent, sent{head, s.partial})
	s.partial = nil
	h.waiting += want
	return n
}

// head is the header of the frame being written, as far as it is there, and the
// size of what to wait for: the header or all.
func (s *script) head() (h frame.Header, size int) {
	if len(s.partial) < frame.HeaderSize {
		return h, frame.HeaderSize
	}
	h, err := frame.Parse((*[frame.HeaderSize]byte)(s.partial), maxPayload)
	if err != nil {
		panic(err) // a Conn wrote it
	}
	return h, frame.HeaderSize + int(h.Length)
}

// launch sends what was taken at one instant on its way.
func (h *half) launch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.script
	all := s.sent
	s.sent = nil
	for len(all) > 0 {
		run := 0 // frames of requests; what others mean depends on their order
		for run < len(all) && ofRequest(all[run].head.Type) {
			run++
		}
		slices.SortStableFunc(all[:run], func(a, b sent) int {
			return int(int64(a.head.Request) - int64(b.head.Request))
		})
		run = max(run, 1)
		for _, it := range all[:run] {
			h.meet(it)
		}
		all = all[run:]
	}
}

func ofRequest(t frame.Type) bool {
	return t == frame.Compute || t == frame.Cancel || t == frame.Result || t == frame.Failed
}

// meet has a frame meet its fate. mu is held.
func (h *half) meet(it sent) {
	fate := h.faults.Frame(it.head)
	size := len(it.bytes)
	if fate.Flip > 0 && fate.Flip <= size {
		it.bytes[fate.Flip-1] ^= 1
	}
	if fate.Keep > 0 {
		it.bytes = it.bytes[:min(fate.Keep, size)]
	}
	switch {
	case fate.Lost || h.faults.cut.Load():
		it.bytes = nil
	case fate.Twice:
		it.bytes = append(it.bytes, bytes.Clone(it.bytes)...)
	}
	h.waiting += len(it.bytes) - size
	if len(it.bytes) == 0 {
		h.changed.Broadcast()
		return
	}
	now := time.Now()
	at := now.Add(fate.Delay)
	if !at.After(h.script.last) {
		at = h.script.last.Add(1)
	}
	if fate.Grid > 0 {
		at = at.Add(fate.Grid - 1).Truncate(fate.Grid).Add(fate.At)
	}
	h.script.last = at
	h.delayed = append(h.delayed, it.bytes)
	if at.Equal(now) {
		h.deliverOldest()
		return
	}
	time.AfterFunc(at.Sub(now), h.deliver)
}
