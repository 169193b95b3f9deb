package serve

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"starling/internal/engine"
	"starling/internal/serve/oippb"
	"starling/internal/tensor"
)

// A ModelInferRequest is read from its bytes straight into the model's tensors:
// unlike proto.Unmarshal's, what that takes is not more than the bytes, whoever made
// them. Numbers of fields are those of oippb/oip.proto.

// maxElement is what an element takes in a message at most: a varint of ten bytes and
// a tag, where elements are not packed.
const maxElement = 11

// field is one field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	bits   uint64 // of a varint or a number of fixed size
	bytes  []byte // of all with a length
}

func (f *field) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

// fields calls each with the fields of a message, in their order.
func fields(b []byte, each func(f *field) error) error {
	for len(b) > 0 {
		var f field
		var n int
		if f.number, f.kind, n = protowire.ConsumeTag(b); n < 0 {
			return errMessage
		}
		b = b[n:]
		if n = f.consume(b); n < 0 {
			return errMessage
		}
		b = b[n:]
		if err := each(&f); err != nil {
			return err
		}
	}
	return nil
}

var errMessage = errors.New("the message is not in the form of protocol buffers")

// consume takes the value from b and says how long it was, below 0 if there is none.
func (f *field) consume(b []byte) (n int) {
	switch f.kind {
	case protowire.VarintType:
		f.bits, n = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.bits = uint64(v)
	case protowire.Fixed64Type:
		f.bits, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default: // a group, which nobody sends
		n = protowire.ConsumeFieldValue(f.number, f.kind, b)
	}
	return n
}

// addressee finds the model that a ModelInferRequest is for.
func (s *Server) addressee(b []byte) (*model, error) {
	var name, version []byte
	err := fields(b, func(f *field) error {
		switch {
		case f.is(1, protowire.BytesType):
			name = f.bytes
		case f.is(2, protowire.BytesType):
			version = f.bytes
		}
		return nil
	})
	if err != nil {
		return nil, bad("%v", err)
	}
	return s.model(string(name), string(version))
}

// readMessage reads a ModelInferRequest for the model that it names, which the
// request is to be given back to. The error is a *refusal or an *engine.InputError.
func (s *Server) readMessage(b []byte) (*request, error) {
	m, err := s.addressee(b)
	if err != nil {
		return nil, err
	}
	q := m.take()
	if err := q.readMessage(b); err != nil {
		m.give(q)
		return nil, err
	}
	return q, nil
}

// readMessage reads what a ModelInferRequest asks of q's model.
func (q *request) readMessage(b []byte) error {
	inputs := 0
	err := fields(b, func(f *field) (err error) {
		switch {
		case f.is(3, protowire.BytesType):
			if q.id = string(f.bytes); !utf8.ValidString(q.id) {
				err = errors.New("id is not in UTF-8")
			}
		case f.is(4, protowire.BytesType):
			err = q.readParameter(f.bytes)
		case f.is(5, protowire.BytesType):
			inputs++
			err = q.readInput(f.bytes)
		case f.is(6, protowire.BytesType):
			err = q.readOutput(f.bytes)
		}
		return err
	})
	if err == nil {
		err = q.readRaw(b, inputs)
	}
	if err != nil {
		return refuse(err)
	}
	return q.complete()
}

// readRaw takes raw_input_contents, which must be there for all inputs or for none,
// and has the answer come in the same way.
func (q *request) readRaw(b []byte, inputs int) error {
	n := 0
	err := fields(b, func(f *field) error {
		if !f.is(7, protowire.BytesType) {
			return nil
		}
		if n++; len(q.behind) < inputs {
			return errors.New("the request has both contents and raw_input_contents")
		} else if n > inputs {
			return fmt.Errorf("raw_input_contents has more than the %d of inputs", inputs)
		}
		i := q.behind[n-1]
		in, want := q.inputs[i], &q.model.Inputs[i]
		if len(f.bytes) != len(in.Data) {
			return &engine.InputError{Name: want.Name, Want: bytesOf(want.Info), Got: fmt.Sprintf("%d in raw_input_contents", len(f.bytes))}
		}
		copy(in.Data, f.bytes)
		if err := checkBools(in); err != nil {
			return fmt.Errorf("input %q: %w", want.Name, err)
		}
		return nil
	})
	if err == nil && n < len(q.behind) {
		want := &q.model.Inputs[q.behind[n]]
		err = &engine.InputError{Name: want.Name, Want: describe(want.Info), Got: "no data"}
	}
	q.raw = n > 0
	return err
}

// entry is a parameter's name, and its value as a message.
func entry(b []byte) (key string, value []byte, err error) {
	err = fields(b, func(f *field) error {
		switch {
		case f.is(1, protowire.BytesType):
			key = string(f.bytes)
		case f.is(2, protowire.BytesType):
			value = f.bytes
		}
		return nil
	})
	return key, value, err
}

// readParameter reads one of the request.
func (q *request) readParameter(b []byte) error {
	key, value, err := entry(b)
	if err != nil || key != "timeout" {
		return err
	}
	err = errors.New("want int64_param")
	if broken := fields(value, func(f *field) error {
		if f.is(2, protowire.VarintType) {
			q.timeout, err = microseconds(int64(f.bits))
		}
		return nil
	}); broken != nil {
		return broken
	}
	if err != nil {
		return fmt.Errorf("parameter timeout: %w", err)
	}
	return nil
}

// readInput reads an InferInputTensor.
func (q *request) readInput(b []byte) error {
	var (
		name, datatype string
		shape          tensor.Shape
		contents       []byte
		typed          bool
	)
	err := fields(b, func(f *field) (err error) {
		switch {
		case f.is(1, protowire.BytesType):
			name = string(f.bytes)
		case f.is(2, protowire.BytesType):
			datatype = string(f.bytes)
		case f.number == 3:
			err = f.each(protowire.VarintType, func(d uint64) error {
				if len(shape) == maxDimensions {
					return fmt.Errorf("a shape of more than %d dimensions", maxDimensions)
				}
				if d > math.MaxInt {
					return fmt.Errorf("shape: a dimension of %d", int64(d))
				}
				shape = append(shape, int(d))
				return nil
			})
		case f.is(5, protowire.BytesType):
			if typed {
				return errors.New("an input has two contents")
			}
			contents, typed = f.bytes, true
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
	if !typed {
		q.behind = append(q.behind, i)
		return nil
	}
	if err := readContents(q.inputs[i], contents); err != nil {
		return fmt.Errorf("input %q, %s: %w", name, describe(q.model.Inputs[i].Info), err)
	}
	return nil
}

// readOutput reads an InferRequestedOutputTensor.
func (q *request) readOutput(b []byte) error {
	var name string
	err := fields(b, func(f *field) error {
		switch {
		case f.is(1, protowire.BytesType):
			name = string(f.bytes)
		case f.is(2, protowire.BytesType):
			key, _, err := entry(f.bytes)
			if err != nil {
				return err
			}
			return checkOutputParameter(key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return q.want(name, false)
}

// each calls f with the numbers of a repeated field, packed or not; those of another
// kind are none.
func (f *field) each(kind protowire.Type, number func(bits uint64) error) error {
	if f.kind == kind {
		return number(f.bits)
	}
	if f.kind != protowire.BytesType {
		return nil
	}
	one := field{kind: kind}
	for b := f.bytes; len(b) > 0; {
		n := one.consume(b)
		if n < 0 {
			return errMessage
		}
		b = b[n:]
		if err := number(one.bits); err != nil {
			return err
		}
	}
	return nil
}

// contentsNames are the fields of InferTensorContents.
var contentsNames = map[protowire.Number]string{
	1: "bool_contents", 2: "int_contents", 3: "int64_contents", 4: "uint_contents", 5: "uint64_contents",
	6: "fp32_contents", 7: "fp64_contents", 8: "bytes_contents",
}

// readContents fills a tensor from InferTensorContents.
func readContents(t *tensor.Tensor, b []byte) error {
	switch t.Type {
	case tensor.Bool:
		return elementsOf(t, b, 1, protowire.VarintType, func(v uint64) (uint8, bool) { return uint8(protowire.EncodeBool(v != 0)), true })
	case tensor.Int8:
		return elementsOf(t, b, 2, protowire.VarintType, narrow[int32, int8])
	case tensor.Int16:
		return elementsOf(t, b, 2, protowire.VarintType, narrow[int32, int16])
	case tensor.Int32:
		return elementsOf(t, b, 2, protowire.VarintType, narrow[int32, int32])
	case tensor.Int64:
		return elementsOf(t, b, 3, protowire.VarintType, narrow[int64, int64])
	case tensor.Uint8:
		return elementsOf(t, b, 4, protowire.VarintType, narrow[uint32, uint8])
	case tensor.Uint16:
		return elementsOf(t, b, 4, protowire.VarintType, narrow[uint32, uint16])
	case tensor.Uint32:
		return elementsOf(t, b, 4, protowire.VarintType, narrow[uint32, uint32])
	case tensor.Uint64:
		return elementsOf(t, b, 5, protowire.VarintType, narrow[uint64, uint64])
	case tensor.Float32: // by its bits: a NaN keeps them
		return elementsOf(t, b, 6, protowire.Fixed32Type, func(v uint64) (uint32, bool) { return uint32(v), true })
	case tensor.Float64:
		return elementsOf(t, b, 7, protowire.Fixed64Type, func(v uint64) (uint64, bool) { return v, true })
	}
	return fmt.Errorf("there are no contents of %s: send raw_input_contents", datatypes[t.Type])
}

// integer is a Go type of integers.
type integer interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

// narrow is a varint of type Wire as To, if that has it.
func narrow[Wire, To integer](v uint64) (To, bool) {
	return To(v), Wire(To(v)) == Wire(v)
}

// elementsOf fills a tensor whose elements have the form of T.
func elementsOf[T tensor.Element](t *tensor.Tensor, b []byte, number protowire.Number, kind protowire.Type, as func(bits uint64) (T, bool)) error {
	dst, n := tensor.View[T](t.Data), 0
	err := fields(b, func(f *field) error {
		if f.number != number {
			return fmt.Errorf("want %s, got %s", contentsNames[number], contentsNames[f.number])
		}
		return f.each(kind, func(bits uint64) error {
			if n == len(dst) {
				return fmt.Errorf("more than %d values where there must be so many", len(dst))
			}
			v, ok := as(bits)
			if !ok {
				return fmt.Errorf("element %d is out of range", n)
			}
			dst[n] = v
			n++
			return nil
		})
	})
	if err == nil && n < len(dst) {
		return fmt.Errorf("%d values where there must be %d", n, len(dst))
	}
	return err
}

// message is the answer. Its outputs may lie in the request's memory.
func (q *request) message() *oippb.ModelInferResponse {
	a := &oippb.ModelInferResponse{ModelName: q.model.Name, ModelVersion: modelVersion, Id: q.id}
	raw := q.raw
	for _, w := range q.wanted {
		out := q.answer.Outputs[w.output]
		raw = raw || out.Type == tensor.Float16 || out.Type == tensor.BFloat16
	}
	for _, w := range q.wanted {
		out := q.answer.Outputs[w.output]
		t := &oippb.ModelInferResponse_InferOutputTensor{Name: q.model.Outputs[w.output].Name, Datatype: datatypes[out.Type], Shape: wide[int64](out.Shape)}
		if raw {
			a.RawOutputContents = append(a.RawOutputContents, out.Data)
		} else {
			t.Contents = contentsOf(out)
		}
		a.Outputs = append(a.Outputs, t)
	}
	return a
}

// contentsOf is a tensor's elements in the field for its type.
func contentsOf(t *tensor.Tensor) *oippb.InferTensorContents {
	c := &oippb.InferTensorContents{}
	switch t.Type {
	case tensor.Bool:
		for _, v := range t.Data {
			c.BoolContents = append(c.BoolContents, v != 0)
		}
	case tensor.Int8:
		c.IntContents = wide[int32](tensor.View[int8](t.Data))
	case tensor.Int16:
		c.IntContents = wide[int32](tensor.View[int16](t.Data))
	case tensor.Int32:
		c.IntContents = tensor.View[int32](t.Data)
	case tensor.Int64:
		c.Int64Contents = tensor.View[int64](t.Data)
	case tensor.Uint8:
		c.UintContents = wide[uint32](t.Data)
	case tensor.Uint16:
		c.UintContents = wide[uint32](tensor.View[uint16](t.Data))
	case tensor.Uint32:
		c.UintContents = tensor.View[uint32](t.Data)
	case tensor.Uint64:
		c.Uint64Contents = tensor.View[uint64](t.Data)
	case tensor.Float32:
		c.Fp32Contents = tensor.View[float32](t.Data)
	case tensor.Float64:
		c.Fp64Contents = tensor.View[float64](t.Data)
	}
	return c
}

// wide is integers as a type that has them all.
func wide[To int32 | int64 | uint32, From integer | int](s []From) []To {
	all := make([]To, len(s))
	for i, v := range s {
		all[i] = To(v)
	}
	return all
}
