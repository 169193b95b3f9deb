package engine_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"starling/internal/engine"
	"starling/internal/tensor"
)

// staged computes stages in this process.
type staged []*engine.Stage

func (s staged) Linear(_ context.Context, layer int, dst, x []byte, _ int32) error {
	_, err := s[layer].Run(dst, x, nil, time.Time{})
	return err
}

// Whichever run of a graph is a stage, the answer has the same bits: nothing is fused
// across its borders that would change them.
func TestStagesHaveTheBitsOfTheWhole(t *testing.T) {
	r := random(t)
	tried := 0
	for range 30 {
		g := randomGraph(t, r)
		in := inputs(r, g)
		want := run(t, g, engine.Options{}, nil, in)
		for range 6 {
			a := r.IntN(len(g.Nodes))
			z := a + r.IntN(len(g.Nodes)-a)
			s, err := g.StageOf(g.Nodes[a].Name, g.Nodes[z].Name)
			if err != nil {
				continue
			}
			tried++
			own := g.Cut(s)
			if err := own.Prepare(); err != nil {
				t.Fatal(err)
			}
			stage, err := engine.NewStage(own, nil)
			if err != nil {
				t.Fatal(err)
			}
			split := engine.Options{Split: map[string]int{s.Nodes[0].Name: 0}}
			same(t, g.Nodes[a].Name+" to "+g.Nodes[z].Name, run(t, g.Fold(s), split, staged{stage}, in), want)
		}
	}
	if tried < 30 {
		t.Errorf("only %d stages", tried)
	}
}

// A stage that nobody wants any more ends between two nodes; a warm one allocates
// nothing.
func TestStageStops(t *testing.T) {
	r := random(t)
	b := newBuilder(r)
	x := b.input(2, 3)
	for range 3 {
		x = b.node("Relu", nil, x)
	}
	g := b.graph(t, x)
	s, err := engine.NewStage(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(r, g)[0]
	dst := tensor.Alloc(len(in.Data))
	var stop atomic.Bool
	if done, err := s.Run(dst, in.Data, &stop, time.Now().Add(time.Hour)); !done || err != nil {
		t.Errorf("not done, %v", err)
	}
	if n := testing.AllocsPerRun(5, func() { _, _ = s.Run(dst, in.Data, &stop, time.Time{}) }); n != 0 {
		t.Errorf("%v allocations for each run", n)
	}
	if done, err := s.Run(dst, in.Data, &stop, time.Now().Add(-1)); done || err != nil {
		t.Errorf("over: done %v, %v", done, err)
	}
	stop.Store(true)
	if done, err := s.Run(dst, in.Data, &stop, time.Time{}); done || err != nil {
		t.Errorf("stopped: done %v, %v", done, err)
	}
}
