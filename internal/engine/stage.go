package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// stage emits the node that stands for a stage, which the remote computes as layer
// number.
func (c *compiler) stage(number int, n *graph.Node) error {
	c.split[n.Name], c.p.split = true, true
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	c.remote(number, operand{x: x, zero: -1}, c.define(n.Outputs[0]))
	return nil
}

// Stage computes a whole graph of one input and one output, as a [Slice] does a
// layer. Its results have the bits that the same nodes have in a larger graph. It is
// safe for concurrent use.
type Stage struct {
	program *Program

	mu   sync.Mutex // guards free
	free []*stageRun
}

// stageRun is the memory of one run of a stage, and the context of its steps: it
// ends when nobody wants the result any more.
type stageRun struct {
	context.Context

	session *Session
	input   []*tensor.Tensor
	stop    *atomic.Bool
	ends    time.Time
}

func (r *stageRun) Err() error {
	if r.stop != nil && r.stop.Load() || !r.ends.IsZero() && !time.Now().Before(r.ends) {
		return context.Canceled
	}
	return nil
}

// NewStage compiles a prepared graph as Compile does, with its kernels on pool.
func NewStage(g *graph.Graph, pool *kernel.Pool) (*Stage, error) {
	p, err := Compile(g, Options{Pool: pool})
	if err != nil {
		return nil, err
	}
	return &Stage{program: p}, nil
}

// Run computes dst, the bytes of the output, from x, those of the input, aligned for
// its type; others are a bug of the caller and panic. It is false if, between two
// nodes, stop became true, unless it is nil, or ends was over, unless it is zero: dst
// is undefined then. The error says which index of the input is out of range.
// Nothing is allocated once as many sessions as run at once have been made.
func (s *Stage) Run(dst, x []byte, stop *atomic.Bool, ends time.Time) (bool, error) {
	r := s.take()
	defer s.give(r)
	r.input[0].Data, r.stop, r.ends = x, stop, ends
	outputs, err := r.session.Run(r, nil, r.input)
	switch {
	case err == nil:
		if len(dst) != len(outputs[0].Data) {
			panic("engine: stage run with room for another output")
		}
		copy(dst, outputs[0].Data)
		return true, nil
	case r.Err() != nil:
		return false, nil
	}
	return false, err
}

// take is memory that nobody else uses, until give.
func (s *Stage) take() *stageRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.free) - 1; last >= 0 {
		r := s.free[last]
		s.free = s.free[:last]
		return r
	}
	in := &s.program.inputs[0]
	return &stageRun{
		Context: context.Background(), session: s.program.NewSession(),
		input: []*tensor.Tensor{{Type: in.Type, Shape: in.Shape}},
	}
}

func (s *Stage) give(r *stageRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.input[0].Data, r.stop = nil, nil
	s.free = append(s.free, r)
}
