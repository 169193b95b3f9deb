package coordinator

import (
	"context"
	"fmt"

	"starling/internal/wire"
)

// helper computes here what a call's workers owe it: beside them, so that a
// result that comes meanwhile counts at once. It is a goroutine that lives as
// long as the coordinator.
type helper struct {
	wake   chan struct{}
	result []byte
}

// help is what is computed here of a layer under way.
type help uint8

const (
	never       help = iota
	standInHelp      // so much of what will not come that one result more can be there than is needed
	goneHelp         // so much of what will not come that k results can be there
	lateHelp         // also what only might come, until k results are there
)

// help has the helper compute, until it is not needed or the layer is settled.
func (l *call) help(what help) {
	l.mu.Lock()
	l.helping = what
	l.mu.Unlock()
	if l.helper == nil {
		h := &helper{wake: make(chan struct{}, 1)}
		if !l.c.goWith(func(ctx context.Context) { h.run(ctx, l) }) {
			return // closed: the request ends too
		}
		l.helper = h
	}
	select {
	case l.helper.wake <- struct{}{}:
	default:
	}
}

func (h *helper) run(ctx context.Context, l *call) {
	for {
		select {
		case <-h.wake:
			for h.compute(l) {
			}
		case <-ctx.Done():
			return
		}
	}
}

// compute computes one block of a data slice; false if there is none to compute.
func (h *helper) compute(l *call) bool {
	c := l.c
	l.mu.Lock()
	number, turn := l.layer, l.turn
	j, b := l.owed()
	if j == none {
		l.mu.Unlock()
		return false
	}
	layer := &c.plan.Layers[number]
	input := l.inputs[j%len(l.inputs)].values
	input.Retain()
	l.stop.Store(false)
	l.mu.Unlock()
	done, err := c.local.compute(c.pool, number, j, b, input.Bytes(), &h.result, &l.stop)
	input.Release()

	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.turn != turn || l.layer == none: // settled without
	case err != nil:
		l.failure = fmt.Errorf("compute slice %d of layer %s here: %w", j, layer.Node, err)
		l.notify()
		return false
	case done && l.state(layer, j, b) < filling:
		a := l.askOf(nil, uint32(j))
		if a == none {
			a = l.addAsk(j, nil)
			l.asks[a].extra = true
		}
		l.answer.FLOPs += layer.BlockWork(j, b).FLOPs
		l.take(layer, a, b, result{wire.F32, h.result})
	}
	return true
}

// owed is a block of the layer under way that is to be computed here: of those that
// will not come, else, if it is late, of workers that were late before, else of
// any. mu is held.
func (l *call) owed() (slice, block int) {
	slice = none
	if l.layer == none || l.helping == never {
		return slice, 0
	}
	layer := &l.c.plan.Layers[l.layer]
	k, need := layer.K(), layer.K()
	if l.helping == standInHelp {
		need++
	}
	best := 0
	for b := range l.blocks {
		if l.have[b] >= k {
			continue
		}
		likely := 0
		for u := range layer.Results() {
			if state := l.state(layer, u, b); state != lost && (state != pending || l.helping < lateHelp) {
				likely++
			}
		}
		if likely >= need {
			continue
		}
		for j := range k {
			rank := 0
			switch state := l.state(layer, j, b); {
			case state == lost:
				rank = 3
			case state == pending && l.helping == lateHelp:
				rank = 2
				if l.promised(layer, j, b) {
					rank = 1
				}
			}
			if rank > best {
				slice, block, best = j, b, rank
			}
		}
	}
	return slice, block
}

// recomputed says whether some of data slice u was computed here.
func (l *call) recomputed(u int) bool { return l.askOf(nil, uint32(u)) != none }
