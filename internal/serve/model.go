package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Said of every model.
const (
	platform     = "onnx_onnxv1" // of the protocol's list, for models in ONNX
	modelVersion = "1"
)

// What a request may take: of each number in text, of all else in any form.
const (
	maxNumber = 32       // -1.2345678901234567e-300 and the white space around it
	maxText   = 64 << 10 // names, shapes, parameters
)

// model is a Model and what its requests need.
type model struct {
	Model
	inputs, outputs map[string]int // by name
	name            []byte         // in JSON
	quoted          [][]byte       // likewise the outputs'
	binary          int            // bytes of all inputs
	text            int            // bytes at most of a request in JSON
	message         int            // likewise as a message of gRPC
	rest            chan *request  // requests at rest
}

// kept is how many requests at rest keep their memory.
const kept = 8

func newModel(m Model) *model {
	l := &model{Model: m, name: quote(m.Name), inputs: map[string]int{}, outputs: map[string]int{}, text: maxText, message: maxText, rest: make(chan *request, kept)}
	for i, in := range m.Inputs {
		l.inputs[in.Name] = i
		l.binary += in.Shape.Elements() * in.Type.Size()
		l.text += in.Shape.Elements() * maxNumber
		l.message += in.Shape.Elements() * maxElement
	}
	for i, out := range m.Outputs {
		l.outputs[out.Name] = i
		l.quoted = append(l.quoted, quote(out.Name))
	}
	return l
}

// quote is s in JSON.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string never fails
	}
	return b
}

// take gives a request to be read into, and give takes it back.
func (m *model) take() *request {
	select {
	case q := <-m.rest:
		q.reset()
		return q
	default:
	}
	q := &request{model: m, inputs: make([]*tensor.Tensor, len(m.Inputs))}
	q.reset()
	return q
}

func (m *model) give(q *request) {
	select {
	case m.rest <- q:
	default: // more than usual at once
	}
}

// infer has the flock compute what was read, within the time that it gives itself.
func (q *request) infer(ctx context.Context) error {
	if q.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.timeout)
		defer cancel()
	}
	err := q.model.Flock.Infer(ctx, q.inputs, &q.answer)
	if q.timeout > 0 && errors.Is(err, context.DeadlineExceeded) {
		return &refusal{http.StatusGatewayTimeout, fmt.Sprintf("not computed within the time that the request gives, %v", q.timeout)}
	}
	return err
}

// maxDecoded is how long the text of decoded may be: a header has its limits too.
const maxDecoded = 2 << 10

// decoded says which slices parity gave, as "fc6:2@w3": layer, data slice and who
// held it.
func (q *request) decoded() string {
	var b strings.Builder
	for i, d := range q.answer.Decoded {
		if b.Len() > maxDecoded {
			fmt.Fprintf(&b, ", and %d more", len(q.answer.Decoded)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.64s:%d@w%d", printable(q.model.Flock.Plan.Layers[d.Layer].Node), d.Slice, d.Worker+1)
	}
	return b.String()
}

// printable is s as a header may have it: names come from a file.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ',' {
			return '?'
		}
		return r
	}, s)
}

// tensorMetadata describes an input or output.
type tensorMetadata struct {
	Name     string       `json:"name"`
	Datatype string       `json:"datatype"`
	Shape    tensor.Shape `json:"shape"`
}

func metadata(values []graph.Value) []tensorMetadata {
	all := make([]tensorMetadata, len(values))
	for i, v := range values {
		all[i] = tensorMetadata{v.Name, datatypes[v.Type], append(tensor.Shape{}, v.Shape...)}
	}
	return all
}

// list is the names for a message.
func list(values []graph.Value) string {
	var names []string
	for _, v := range values {
		names = append(names, fmt.Sprintf("%q", v.Name))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// microseconds is a request's timeout parameter as a duration; 0 is none.
func microseconds(n int64) (time.Duration, error) {
	const most = 24 * time.Hour
	if n < 0 || n > most.Microseconds() {
		return 0, fmt.Errorf("timeout is %d: want microseconds, from 0 (none) to %d", n, most.Microseconds())
	}
	return time.Duration(n) * time.Microsecond, nil
}
