// Package engine runs a prepared graph, or one slice of a layer, on this CPU.
// Compile turns nodes into steps whose operands are numbered slots; a Session
// owns the memory of the slots and runs the steps in order. It reads no files
// and knows no network: layers that other machines compute are handed to a
// Remote.
//
// Invariants:
//
//   - A layer's result has the same bits whether it is computed here, by one
//     Slice, or by several whose rows are put together. What follows the linear
//     part (scale, bias, activation) is the same step in each case.
//   - A step never writes a slot that it or a later step still has to read,
//     except for elementwise steps that work in place by intent.
//   - A warm Session allocates nothing.
package engine

import (
	"context"
	"fmt"
	"time"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// Remote computes the linear part of split layers, and whole stages.
type Remote interface {
	// Linear fills dst [Outer,Rows,Inner] with W·x for the layer of that number, of
	// the types of its numbers; zero is the zero point of x, if these are integers.
	// If the layer is a stage, it fills dst with the stage's output for its input x.
	// x and dst are the session's and must not be kept.
	Linear(ctx context.Context, layer int, dst, x []byte, zero int32) error
}

// Options say how Compile builds a program.
type Options struct {
	// Split names the nodes whose linear part a Remote computes, and the layer
	// number it is called with: once for all nodes of one number, which are one
	// layer; see LinearOf. Their weights are not packed here. A node that stands for
	// a stage (see graph.Graph.Fold) is one that the Remote computes whole.
	Split map[string]int
	// Pool runs the kernels; nil runs them on the calling goroutine. It must
	// stay open as long as sessions run.
	Pool *kernel.Pool
	// Consume removes weights from the graph once they are copied in the kernels'
	// own order, so that they are in memory once. Nothing else can be done with
	// the graph's constants then.
	Consume bool
}

// Program is a compiled graph. It is never written after Compile, but for what
// Bias gives: sessions of one program may run in parallel.
type Program struct {
	inputs     []graph.Value
	outputs    []output
	slots      []slot
	steps      []step
	arenaBytes int // one session's activations
	packed     int // how many layers of computed weights a session packs
	split      bool
	pool       *kernel.Pool
	mappings   []*tensor.Mapping    // of constants
	biases     map[string][]float32 // by split node; see Bias
}

// Bias is the constant that is added to the results of a split layer's node, one
// for each of its rows, in memory that only this node reads; nil if it has none
// that is so. It may be written while no session runs.
func (p *Program) Bias(node string) []float32 { return p.biases[node] }

type output struct {
	slot int
	info graph.Info
}

// A step computes one operator, or asks for the linear part of a split layer.
type step struct {
	op   operator // nil for a split layer
	node string
	kind string // the node's operator

	// Of a split layer: its number, the slot of its output, and its input.
	layer, dst int
	operand    operand
}

// An operator computes from slots into slots. It holds everything that does not
// change between runs.
type operator interface{ run(s *Session) }

// A slot is memory that values live in; views of a value share its slot. It is a
// constant, an input, or else a buffer in the session's arena.
type slot struct {
	constant []byte
	input    int // index of the graph's input, -1 for none

	sizeBytes   int
	first, last int // the buffer holds a value from step first to step last, both included
	offset      int // in the arena

	part  bool // a buffer that is some of the buffer whole, from byte at on
	whole int
	at    int
}

func (s *slot) isBuffer() bool { return s.input < 0 && s.constant == nil }

// NewSession returns a session with memory of its own.
func (p *Program) NewSession() *Session {
	s := &Session{
		program: p,
		data:    make([][]byte, len(p.slots)),
		outputs: make([]*tensor.Tensor, len(p.outputs)),
		packed:  make([]packed, p.packed),
	}
	arena := tensor.Alloc(p.arenaBytes)
	for i := range p.slots {
		switch sl := &p.slots[i]; {
		case sl.constant != nil:
			s.data[i] = sl.constant
		case sl.isBuffer():
			s.data[i] = arena[sl.offset : sl.offset+sl.sizeBytes : sl.offset+sl.sizeBytes]
		}
	}
	for i, o := range p.outputs {
		s.outputs[i] = &tensor.Tensor{Type: o.info.Type, Shape: o.info.Shape, Data: s.data[o.slot]}
	}
	return s
}

// Session runs a program for one request at a time.
type Session struct {
	program *Program
	data    [][]byte // of each slot
	outputs []*tensor.Tensor
	packed  []packed
	err     error           // why the step that runs cannot be computed from this request
	took    []time.Duration // of each step, if the session is a timed one
}

// f32 views a slot's memory.
func (s *Session) f32(slot int) []float32 { return tensor.View[float32](s.data[slot]) }

// InputError says that a request's tensor is not what the graph takes.
type InputError struct {
	Name      string // of the graph's input; empty where their number is wrong
	Want, Got string
}

func (e *InputError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("wrong number of inputs: want %s, got %s", e.Want, e.Got)
	}
	return fmt.Sprintf("input %q: want %s, got %s", e.Name, e.Want, e.Got)
}

// ValueError says that a request's values cannot be computed with, as an index
// that is out of range.
type ValueError struct{ Err error }

func (e *ValueError) Error() string { return e.Err.Error() }
func (e *ValueError) Unwrap() error { return e.Err }

// Run computes the outputs, in the graph's order, from inputs in the graph's
// order; inputs are only read and not kept. The outputs are the session's and
// hold until the next Run. remote is called for split layers only and may be
// nil where there are none. The error is an *InputError, ctx's error, which is
// looked at between steps, the remote's, or a *ValueError; the last three are
// wrapped with the node and operator they came up at.
func (s *Session) Run(ctx context.Context, remote Remote, inputs []*tensor.Tensor) ([]*tensor.Tensor, error) {
	p := s.program
	if p.split && remote == nil {
		panic("engine: a program with split layers is run without a remote")
	}
	if err := p.checkInputs(inputs); err != nil {
		return nil, err
	}
	for i := range p.slots {
		if in := p.slots[i].input; in >= 0 {
			s.data[i] = inputs[in].Data
		}
	}
	err := s.steps(ctx, remote)
	for i := range p.slots {
		if p.slots[i].input >= 0 {
			s.data[i] = nil
		}
	}
	if err != nil {
		return nil, err
	}
	return s.outputs, nil
}

func (s *Session) steps(ctx context.Context, remote Remote) error {
	for i := range s.program.steps {
		st := &s.program.steps[i]
		if err := ctx.Err(); err != nil {
			return st.failed(err)
		}
		if st.op != nil {
			start := s.now()
			st.op.run(s)
			s.spent(i, start)
			if s.err != nil {
				err := &ValueError{s.err}
				s.err = nil
				return st.failed(err)
			}
			continue
		}
		zero := s.zero(st.operand.zero, 0, st.operand.xType)
		if err := remote.Linear(ctx, st.layer, s.data[st.dst], s.data[st.operand.x], zero); err != nil {
			return st.failed(err)
		}
	}
	return nil
}

func (st *step) failed(err error) error {
	return fmt.Errorf("run %s: %w", describe(st.kind, st.node), err)
}

func (p *Program) checkInputs(inputs []*tensor.Tensor) error {
	if len(inputs) != len(p.inputs) {
		return &InputError{Want: fmt.Sprint(len(p.inputs)), Got: fmt.Sprint(len(inputs))}
	}
	for i, in := range inputs {
		want := &p.inputs[i]
		got := ""
		switch {
		case in == nil:
			got = "nothing"
		case in.Type != want.Type || !in.Shape.Equal(want.Shape):
			got = in.Type.String() + " " + in.Shape.String()
		case len(in.Data) != in.Shape.Elements()*in.Type.Size():
			got = fmt.Sprintf("%d bytes", len(in.Data))
		default:
			continue
		}
		return &InputError{Name: want.Name, Want: want.Type.String() + " " + want.Shape.String(), Got: got}
	}
	return nil
}
