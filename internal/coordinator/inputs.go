package coordinator

import (
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/wire"
)

// input is what a result is computed from; that of a parity is empty until it is
// asked for.
type input struct {
	values  *link.Payload // as whoever computes sees them
	sent    *link.Payload // the same as they travel
	sentAs  wire.Encoding
	release bool // sent is another payload than values
}

// newInput takes over values, which have been written. What travels is encoded
// once, and values become what arrives, so that whoever computes, a worker or
// this process, computes from the same.
func newInput(as wire.Encoding, values *link.Payload) input {
	in := encodedInput(as, values)
	if in.release {
		as.Decode(values.Float32s(), in.sent.Bytes())
	}
	return in
}

// encodedInput takes over values and encodes them, if that can be done.
func encodedInput(as wire.Encoding, values *link.Payload) input {
	if as != wire.F32 {
		x := values.Float32s()
		sent := link.NewPayload(as.Size(len(x)))
		if as.Encode(sent.Bytes(), x) {
			return input{values, sent, as, true}
		}
		sent.Release()
	}
	return input{values: values, sent: values}
}

// drop gives an input up. Who has not been sent it need not be any more.
func (in *input) drop() {
	if in.values != nil {
		in.sent.Withdraw()
		in.values.Release()
	}
	if in.release {
		in.sent.Release()
	}
}

// fillInputs makes what the data results are computed from: one input for all,
// which parities take too, or each slice's part of x. mu is held.
func (l *call) fillInputs(layer *plan.Layer, x []byte, zero int32) {
	if layer.SharesInput() {
		p := link.NewPayload(layer.Work(0).InputBytes)
		layer.Input(0, p.Bytes(), x, zero)
		l.inputs = append(l.inputs, newInput(layer.Wire, p))
		return
	}
	for u := range layer.Results() {
		var in input
		if u < layer.K() {
			p := link.NewPayload(layer.Work(u).InputBytes)
			layer.Input(u, p.Bytes(), x, zero)
			in = newInput(layer.Wire, p)
		}
		l.inputs = append(l.inputs, in)
	}
}

// input is what result u is computed from; a parity's is combined of the others'
// when it is first asked for.
func (l *call) input(layer *plan.Layer, u int) *input {
	in := &l.inputs[u%len(l.inputs)]
	if in.sent == nil {
		p := link.NewPayload(layer.Work(u).InputBytes)
		l.c.codes[l.layer].encode(&l.decoder, layer, p.Bytes(), u-layer.K(), l.inputs[:layer.K()])
		*in = encodedInput(layer.Wire, p)
	}
	return in
}

func (l *call) releaseInputs() {
	for i := range l.inputs {
		l.inputs[i].drop()
	}
	l.mu.Lock()
	l.inputs = l.inputs[:0]
	l.mu.Unlock()
}
