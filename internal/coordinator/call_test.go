package coordinator

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
)

// A result's reader may have looked up a call before the call went on to
// another request or layer, or to none: then it must not touch anything.
// Nothing but a reader that is held up at that very point shows it, so the
// point is played here.
func TestLateDelivery(t *testing.T) {
	p := twoDense(t)
	w := &member{}
	for _, c := range []struct {
		name  string
		layer int // under way, of request 5
		h     frame.Header
		m     *member
		taken bool
	}{
		{"the one meant", 0, frame.Header{Request: 5}, w, true},
		{"earlier request", 0, frame.Header{Request: 4}, w, false},
		{"later request", 0, frame.Header{Request: 6}, w, false},
		{"earlier layer", 1, frame.Header{Request: 5}, w, false},
		{"between layers", none, frame.Header{Request: 5}, w, false},
		{"between layers, a layer like none", none, frame.Header{Request: 5, Layer: 1<<32 - 1}, w, false},
		{"a block too many", 0, frame.Header{Request: 5, Nth: 1}, w, false},
		{"a block like none", 0, frame.Header{Request: 5, Nth: 1<<32 - 1}, w, false},
		{"another worker", 0, frame.Header{Request: 5}, &member{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for s := range p.N() {
				l := &call{
					c: &Coordinator{plan: p, paces: make([]pace, 2)}, holders: []*member{w, w}, changed: make(chan struct{}, 1),
				}
				l.prepare(&p.Layers[0])
				l.request, l.layer, l.out = 5, c.layer, tensor.Alloc(4)
				*l.cell(s, 0), l.asks[s].open = pending, true
				c.h.Type, c.h.Slice = frame.Result, uint32(s)
				l.deliver(c.m, c.h, tensor.Bytes([]float32{7}))
				if taken := *l.cell(s, 0) == arrived; taken != c.taken || (tensor.View[float32](l.out)[0]+tensor.View[float32](l.aside[1])[0] == 7) != c.taken {
					t.Errorf("slice %d: state %d, output %v, parity %v", s, *l.cell(s, 0), l.out, l.aside)
				}
			}
		})
	}
}

// Scatter sends to those who lag after all where nobody else can answer. Meanwhile
// a worker that was sent its slice may have answered, and begun to lag: played here
// as in TestLateDelivery. It is not asked again, else its result would count as two.
func TestAskedOnce(t *testing.T) {
	p := twoDense(t)
	here, there := link.Pipe(link.Config{})
	defer here.Close()
	defer there.Close()
	w := &member{conn: here, ready: true, behind: new(atomic.Int32)}
	l := &call{
		c: &Coordinator{plan: p, paces: make([]pace, 2)}, holders: []*member{w, w}, changed: make(chan struct{}, 1),
		request: 5, out: tensor.Alloc(4), answer: &Answer{}, inputs: []input{{sent: link.NewPayload(4)}},
	}
	defer l.inputs[0].sent.Release()
	l.prepare(&p.Layers[0])
	if !l.sendTo(0, false) {
		t.Fatal("not sent")
	}
	l.deliver(w, frame.Header{Type: frame.Result, Request: 5}, tensor.Bytes([]float32{7}))
	if l.sendTo(0, false) || *l.cell(0, 0) != arrived || l.asks[0].open || l.missing != 0 || l.have[0] != 1 {
		t.Errorf("sent again: state %d, %d missing, %d there", *l.cell(0, 0), l.missing, l.have[0])
	}
}

// A worker that is told to hold another shard at that moment is asked before it, or
// not at all: behind it on the link, a Compute would be answered with what is of the
// other shard.
func TestAskedBeforeToldOtherwise(t *testing.T) {
	p := twoDense(t)
	here, there := link.Pipe(link.Config{})
	defer here.Close()
	defer there.Close()
	c := &Coordinator{plan: p, paces: make([]pace, 2), shards: []shard.Info{{}, {SHA256: strings.Repeat("a", 64), Size: 1}}}
	for range 2000 {
		w := &member{conn: here, ready: true, behind: new(atomic.Int32)}
		l := &call{
			c: c, holders: []*member{w, w}, changed: make(chan struct{}, 1),
			out: tensor.Alloc(4), answer: &Answer{}, inputs: []input{{sent: link.NewPayload(4)}},
		}
		l.prepare(&p.Layers[0])
		var told sync.WaitGroup
		told.Go(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.assign(w, 1) {
				t.Error("not assigned")
			}
		})
		sent := l.sendTo(0, false)
		told.Wait()
		here.TrySend(frame.Header{Type: frame.Bye}, nil)
		if sent == (*l.cell(0, 0) == lost) {
			t.Errorf("sent: %v, but the slice is %v", sent, *l.cell(0, 0))
		}
		var heard []frame.Type
		for len(heard) == 0 || heard[len(heard)-1] != frame.Bye {
			h, _, err := there.Receive()
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, h.Type)
		}
		want := []frame.Type{frame.Compute, frame.Assign, frame.Bye}
		if !sent {
			want = want[1:]
		}
		if !slices.Equal(heard, want) {
			t.Fatalf("heard %v, want %v", heard, want)
		}
		l.inputs[0].sent.Release()
	}
}

func twoDense(t *testing.T) *plan.Plan {
	t.Helper()
	g := &graph.Graph{
		Opset:     13,
		Inputs:    []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 1}}}},
		Constants: map[string]*tensor.Tensor{"w": tensor.New(tensor.Float32, 1, 1)},
		Nodes: []*graph.Node{
			{Name: "a", Op: "MatMul", Inputs: []string{"x", "w"}, Outputs: []string{"y"}},
			{Name: "b", Op: "MatMul", Inputs: []string{"y", "w"}, Outputs: []string{"z"}},
		},
		Outputs: []string{"z"},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(g, plan.Options{Data: 1, Parity: 1})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
