package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"starling/internal/coordinator"
	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// request is what one request asks and gets. Its memory is used again for the
// model's next ones.
type request struct {
	model  *model
	inputs []*tensor.Tensor // in the model's order, filled by reading; nil before any had it
	answer coordinator.Answer

	id      string
	timeout time.Duration // 0 for none
	given   []bool        // by input
	behind  []int         // inputs whose bytes stand behind the rest, in order
	raw     bool          // they do so in a message of gRPC
	wanted  []wanted      // outputs, in the order to give them
}

// wanted is an output that was asked for.
type wanted struct {
	output int
	binary bool
}

func (q *request) reset() {
	q.id, q.timeout = "", 0
	q.given = slices.Grow(q.given[:0], len(q.inputs))[:len(q.inputs)]
	clear(q.given)
	q.behind, q.wanted, q.raw = q.behind[:0], q.wanted[:0], false
}

// refusal is an error that is the request's own fault.
type refusal struct {
	status int // of HTTP
	text   string
}

func (e *refusal) Error() string { return e.text }

// bad refuses a request that cannot be understood.
func bad(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// read reads a request: JSON of textBytes, and behind it the bytes of the inputs
// that it says are there. textBytes < 0 is all. The error is a *refusal, an
// *engine.InputError, or that of r.
func (q *request) read(r io.Reader, textBytes int) error {
	if textBytes > q.model.text {
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("%d bytes of JSON: a request to model %q has %d at most", textBytes, q.model.Name, q.model.text)}
	}
	if err := q.readText(r, textBytes); err != nil {
		return err
	}
	for _, i := range q.behind {
		in := q.inputs[i]
		if _, err := io.ReadFull(r, in.Data); err != nil {
			return unread(err, fmt.Sprintf("the %d bytes of input %q", len(in.Data), q.model.Inputs[i].Name))
		}
		if err := checkBools(in); err != nil {
			return bad("input %q: %v", q.model.Inputs[i].Name, err)
		}
	}
	var more [1]byte
	if n, err := io.ReadFull(r, more[:]); n > 0 {
		return bad("the request has bytes behind its inputs")
	} else if !errors.Is(err, io.EOF) {
		return unread(err, "its end")
	}
	return nil
}

// readText reads the JSON, whose memory others have again when it is understood.
func (q *request) readText(r io.Reader, textBytes int) (err error) {
	b := takeBuffer()
	defer buffers.Put(b)
	if textBytes >= 0 {
		if *b, err = readAll(*b, r, textBytes); err == nil && len(*b) < textBytes {
			err = io.ErrUnexpectedEOF
		}
	} else if *b, err = readAll(*b, r, q.model.text+1); len(*b) > q.model.text {
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("a request to model %q has %d bytes at most", q.model.Name, q.model.text)}
	}
	if err != nil {
		return unread(err, "its JSON")
	}
	return q.parse(*b)
}

// unread is what to say when a request cannot be read: its client's fault, who may
// also have hung up or have been too slow.
func unread(err error, within string) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return bad("the request ends within %s", within)
	}
	return bad("the request cannot be read, within %s: %v", within, err)
}

// buffers are memory for the texts of requests and answers, and for gRPC's messages.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// takeBuffer gives an empty one, which is put back into buffers.
func takeBuffer() *[]byte {
	b := buffers.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

// readAll appends r to b, up to its end or most bytes. b grows as they come: what a
// client only says it will send takes no memory.
func readAll(b []byte, r io.Reader, most int) ([]byte, error) {
	for most -= len(b); most > 0; {
		if len(b) == cap(b) {
			b = slices.Grow(b, min(most, max(len(b), 4<<10)))
		}
		n, err := r.Read(b[len(b):min(cap(b), len(b)+most)])
		b, most = b[:len(b)+n], most-n
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// parse understands a request's JSON.
func (q *request) parse(text []byte) error {
	s := &scanner{b: text}
	allBinary, inputs := false, false
	err := s.object(func(key string) (err error) {
		switch key {
		case "id":
			q.id, err = s.text()
		case "parameters":
			err = s.object(func(key string) (err error) {
				switch key {
				case "timeout": // as Triton has it
					var n int
					if n, err = s.count(); err == nil {
						q.timeout, err = microseconds(int64(n))
					}
				case "binary_data_output":
					allBinary, err = s.boolean()
				default:
					return s.skip(0)
				}
				if err != nil {
					return fmt.Errorf("parameter %s: %w", key, err)
				}
				return nil
			})
		case "inputs":
			inputs = true
			err = s.array(func(int) error { return q.parseInput(s) })
		case "outputs":
			err = s.array(func(int) error { return q.parseOutput(s) })
		default:
			err = s.skip(0)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	switch {
	case err != nil:
		return refuse(err)
	case !inputs:
		return bad("the request has no inputs")
	}
	if err := q.complete(); err != nil {
		return err
	}
	for i := range q.wanted {
		q.wanted[i].binary = q.wanted[i].binary || allBinary
	}
	return nil
}

// refuse makes an error in what a request says a refusal.
func refuse(err error) error {
	if _, ok := errors.AsType[*engine.InputError](err); ok {
		return err
	}
	return bad("%v", err)
}

// complete checks that all inputs were described; without outputs, all are wanted.
func (q *request) complete() error {
	for i, given := range q.given {
		if in := &q.model.Inputs[i]; !given {
			return &engine.InputError{Name: in.Name, Want: describe(in.Info), Got: "nothing"}
		}
	}
	if len(q.wanted) == 0 {
		for i := range q.model.Outputs {
			q.wanted = append(q.wanted, wanted{output: i})
		}
	}
	return nil
}

// parseInput reads one of "inputs". Its fields may come in any order, so its data
// is read when the others are known.
func (q *request) parseInput(s *scanner) error {
	var (
		name, datatype string
		shape          tensor.Shape
		data, size     = -1, -1 // where it begins; bytes behind the JSON
	)
	err := s.object(func(key string) (err error) {
		switch key {
		case "name":
			name, err = s.text()
		case "datatype":
			datatype, err = s.text()
		case "shape":
			shape, err = parseShape(s, shape[:0])
		case "data":
			if data >= 0 {
				return s.errorf("an input has data twice")
			}
			s.next()
			data = s.i
			err = s.brackets()
		case "parameters":
			err = s.object(func(key string) (err error) {
				if key == "binary_data_size" {
					size, err = s.count()
					return err
				}
				return s.skip(0)
			})
		default:
			err = s.skip(0)
		}
		return err
	})
	if err != nil {
		return err
	}
	i, err := q.claim(name, datatype, shape)
	if err != nil {
		return err
	}
	want := &q.model.Inputs[i]
	switch {
	case data >= 0 && size >= 0:
		return fmt.Errorf("input %q has both data and binary_data_size", name)
	case data >= 0:
		d := &scanner{b: s.b[:s.i], i: data}
		if err := d.fill(q.inputs[i]); err != nil {
			return fmt.Errorf("input %q, %s: %w", name, describe(want.Info), err)
		}
	case size < 0:
		return &engine.InputError{Name: name, Want: describe(want.Info), Got: "no data"}
	case size != len(q.inputs[i].Data):
		return &engine.InputError{Name: name, Want: bytesOf(want.Info), Got: fmt.Sprintf("binary_data_size %d", size)}
	default:
		q.behind = append(q.behind, i)
	}
	return nil
}

// bytesOf says how many a tensor has.
func bytesOf(info graph.Info) string {
	return fmt.Sprintf("%d bytes for %s", info.Shape.Elements()*info.Type.Size(), describe(info))
}

// claim finds the input that a request describes so, which must be one of the
// model's and is given once.
func (q *request) claim(name, datatype string, shape tensor.Shape) (int, error) {
	i, ok := q.model.inputs[name]
	if !ok {
		return 0, fmt.Errorf("there is no input %.100q: model %q takes %s", name, q.model.Name, list(q.model.Inputs))
	}
	if q.given[i] {
		return 0, fmt.Errorf("input %q is given twice", name)
	}
	want := &q.model.Inputs[i]
	if datatype != datatypes[want.Type] || !shape.Equal(want.Shape) {
		return 0, &engine.InputError{Name: name, Want: describe(want.Info), Got: fmt.Sprintf("%.20s %v", datatype, shape)}
	}
	q.given[i] = true
	if q.inputs[i] == nil {
		q.inputs[i] = tensor.New(want.Type, want.Shape...)
	}
	return i, nil
}

// maxDimensions is what any tensor has at most.
const maxDimensions = 64

func parseShape(s *scanner, shape tensor.Shape) (tensor.Shape, error) {
	err := s.array(func(i int) error {
		if i == maxDimensions {
			return s.errorf("a shape of more than %d dimensions", maxDimensions)
		}
		d, err := s.count()
		if err != nil {
			return fmt.Errorf("shape: %w", err)
		}
		shape = append(shape, d)
		return nil
	})
	return shape, err
}

// parseOutput reads one of "outputs".
func (q *request) parseOutput(s *scanner) error {
	var (
		name   string
		binary bool
	)
	err := s.object(func(key string) (err error) {
		switch key {
		case "name":
			name, err = s.text()
		case "parameters":
			err = s.object(func(key string) (err error) {
				if key == "binary_data" {
					binary, err = s.boolean()
					return err
				}
				if err := checkOutputParameter(key); err != nil {
					return err
				}
				return s.skip(0)
			})
		default:
			err = s.skip(0)
		}
		return err
	})
	if err != nil {
		return err
	}
	return q.want(name, binary)
}

// checkOutputParameter refuses what would be another answer.
func checkOutputParameter(key string) error {
	if key == "classification" || key == "shared_memory_region" {
		return fmt.Errorf("parameter %s is not supported", key)
	}
	return nil
}

// want notes that an output was asked for.
func (q *request) want(name string, binary bool) error {
	i, ok := q.model.outputs[name]
	if !ok {
		return fmt.Errorf("there is no output %.100q: model %q gives %s", name, q.model.Name, list(q.model.Outputs))
	}
	for _, w := range q.wanted {
		if w.output == i {
			return fmt.Errorf("output %q is asked for twice", name)
		}
	}
	q.wanted = append(q.wanted, wanted{i, binary})
	return nil
}
