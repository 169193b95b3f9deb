// Package starling runs an ONNX model split over several workers, with parity
// workers that make good for any one that is lost. It is the Go API of what
// the starling command does; see the README.
//
//	m, err := starling.Open("model.onnx", starling.Options{
//		Workers: 4, Parity: 1, WorkerCommand: []string{"/path/to/starling", "worker"},
//	})
//	if err != nil { … }
//	defer m.Close()
//	outputs, err := m.Infer(ctx, starling.NewTensor(pixels, 1, 1, 28, 28))
//
// Only the names in this package are public; internal packages may change.
package starling

import (
	"context"
	"errors"
	"log/slog"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// Tensor is a dense row-major tensor.
type Tensor = tensor.Tensor

// Value describes one of a model's inputs.
type Value = graph.Value

// LostError says which slices of a layer nobody could give.
type LostError = coordinator.LostError

// InputError says which input does not fit the model.
type InputError = engine.InputError

// BusyError refuses a request because too many wait already, and says when to
// come again. Nothing of the request was begun.
type BusyError = coordinator.BusyError

// ErrClosed is returned for requests after Close.
var ErrClosed = coordinator.ErrClosed

// NewTensor returns a float32 tensor that views data. It panics if the shape
// does not have len(data) elements.
func NewTensor(data []float32, shape ...int) *Tensor { return tensor.FromSlice(data, shape...) }

// Options say how to run a model. The zero value runs it in this process.
type Options struct {
	Dims        map[string]int // sizes of free dimensions of the inputs, by name; default 1
	Workers     int            // data slices of each layer, k; 0 runs without workers
	Parity      int            // parity slices of each layer, r: 0 to 4
	Split       string         // auto (default), output, input, channel, filter, spatial or stage; see docs/cli.md
	Redundancy  string         // parity (default), replicate or none
	Wire        string         // of inputs and results between processes: f32 (default), or f16 or int8, which round; see docs/link.md
	Threads     int            // for computing, of each worker and of this process; default 1
	Concurrency int            // requests in flight at once; more wait. Default 8
	Waiting     int            // requests that may wait; more get a *BusyError. Default 16 for each of Concurrency, negative for none
	// WorkerCommand starts a worker process on this machine: the path of the
	// starling program and "worker". It is needed if Workers is not 0.
	WorkerCommand []string
	Log           *slog.Logger // nil logs nothing
}

// Model is an open model with its workers. Its methods may be called from any
// goroutine.
type Model struct {
	flock  *flock.Flock
	inputs []Value
}

// Open reads an ONNX file and starts its workers. The caller must Close it.
func Open(path string, opt Options) (*Model, error) {
	if opt.Workers > 0 && len(opt.WorkerCommand) == 0 {
		return nil, errors.New("open a model with workers: Options.WorkerCommand is missing: give the starling program's path and \"worker\"")
	}
	encoding, err := wire.Parse(opt.Wire)
	if err != nil {
		return nil, err
	}
	g, err := onnx.Decode(path, opt.Dims)
	if err != nil {
		return nil, err
	}
	f, err := flock.Start(context.Background(), g, flock.Config{
		Plan:        plan.Options{Data: opt.Workers, Parity: opt.Parity, Split: opt.Split, Redundancy: opt.Redundancy, Wire: encoding},
		Threads:     opt.Threads,
		Concurrency: opt.Concurrency, Waiting: opt.Waiting, Command: opt.WorkerCommand, Log: opt.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Model{flock: f, inputs: g.Inputs}, nil
}

// Inputs are what a request must bring, in order.
func (m *Model) Inputs() []Value { return m.inputs }

// Infer runs one request and returns its outputs, which the caller owns. The
// inputs are not kept. When ctx ends it returns at once and the workers stop
// computing for it.
func (m *Model) Infer(ctx context.Context, inputs ...*Tensor) ([]*Tensor, error) {
	var answer coordinator.Answer
	if err := m.flock.Infer(ctx, inputs, &answer); err != nil {
		return nil, err
	}
	return answer.Outputs, nil
}

// UpdateRows gives a dense layer's node or a convolution, which must be split,
// new weights for its outputs from begin on: as many rows as there are weights
// of whole rows. A row is the weights of one output: of a convolution's output
// channel in the order of its filter. bias is their new bias, one value for each,
// or nil if it stays. Workers are sent these rows and the parity
// rows that change with them. A request sees all old or all new weights. On an
// error nothing has changed.
func (m *Model) UpdateRows(ctx context.Context, node string, begin int, rows, bias []float32) error {
	return m.flock.UpdateRows(ctx, node, begin, rows, bias)
}

// UpdateQuantisedRows is UpdateRows for a quantised layer (QLinearConv,
// QLinearMatMul, ConvInteger or MatMulInteger): rows are bytes of the type of its
// weights, with the zero points that it has.
func (m *Model) UpdateQuantisedRows(ctx context.Context, node string, begin int, rows []byte) error {
	return m.flock.UpdateQuantisedRows(ctx, node, begin, rows)
}

// Close ends the workers and waits for them.
func (m *Model) Close() error { return m.flock.Close() }
