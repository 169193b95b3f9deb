package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/kernel"
)

// recurrent emits an RNN, GRU or LSTM (opset 14).
func (c *compiler) recurrent(n *graph.Node) error {
	x, w := c.shape(n.Inputs[0]), c.shape(n.Inputs[1])
	gates := map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}[n.Op]
	o := &recurrentOp{
		op: n.Op, gates: gates, hidden: w[1] / gates, inputs: x[2], directions: w[0], steps: x[0], batch: x[1],
		batchFirst: n.Attrs.Int("layout", 0) != 0, reverse: n.Attrs.String("direction", "forward") == "reverse",
		linearFirst: n.Attrs.Int("linear_before_reset", 0) != 0, coupled: n.Attrs.Int("input_forget", 0) != 0,
		clip: math.Inf(1),
	}
	if clip, ok := n.Attrs["clip"].(float32); ok {
		o.clip = float64(clip)
	}
	if o.batchFirst {
		o.steps, o.batch = o.batch, o.steps
	}
	var err error
	if o.functions, err = activations(n, o.directions); err != nil {
		return err
	}
	var slots []int
	for i := range o.in {
		if o.in[i] = -1; n.Input(i) != "" {
			if o.in[i], err = c.value(n.Inputs[i]); err != nil {
				return err
			}
			slots = append(slots, o.in[i])
		}
	}
	for i := range o.out {
		if o.out[i] = -1; i < len(n.Outputs) && n.Outputs[i] != "" {
			o.out[i] = c.define(n.Outputs[i])
			slots = append(slots, o.out[i])
		}
	}
	for i, size := range []int{gates * o.hidden, gates * o.hidden, o.hidden, o.hidden, o.hidden} {
		o.scratch[i] = c.buffer(4 * size)
		slots = append(slots, o.scratch[i])
	}
	c.emit(o, slots...)
	return nil
}

// activations are the functions of each direction: f, g and h of ONNX's
// equations. Those with parameters take the next alpha and beta of the node's
// lists.
func activations(n *graph.Node, directions int) ([][3]func(float64) float64, error) {
	names := map[string][]string{"RNN": {"Tanh"}, "GRU": {"Sigmoid", "Tanh"}, "LSTM": {"Sigmoid", "Tanh", "Tanh"}}[n.Op]
	each := len(names)
	if directions == 2 {
		names = append(names[:each:each], names...)
	}
	if given, ok := n.Attrs["activations"].([]string); ok {
		if len(given) != len(names) {
			return nil, fmt.Errorf("%d activations, want %d", len(given), len(names))
		}
		names = given
	}
	alphas, _ := n.Attrs["activation_alpha"].([]float32)
	betas, _ := n.Attrs["activation_beta"].([]float32)
	next := func(list *[]float32, def float32) float32 {
		if len(*list) > 0 {
			def, *list = (*list)[0], (*list)[1:]
		}
		return def
	}
	all := make([][3]func(float64) float64, directions)
	for i, name := range names {
		attrs := graph.Attrs{}
		var f func(float64) float64
		switch name {
		case "Affine", "ScaledTanh":
			alpha, beta := float64(next(&alphas, 1)), float64(next(&betas, 0))
			if name == "Affine" {
				f = func(x float64) float64 { return float64(alpha*x) + beta }
			} else {
				f = func(x float64) float64 { return alpha * tanh(float64(beta*x)) }
			}
		case "LeakyRelu", "ThresholdedRelu", "Elu":
			attrs["alpha"] = next(&alphas, map[string]float32{"LeakyRelu": 0.01, "ThresholdedRelu": 1, "Elu": 1}[name])
		case "HardSigmoid":
			attrs["alpha"], attrs["beta"] = next(&alphas, 0.2), next(&betas, 0.5)
		case "Relu", "Tanh", "Sigmoid", "Softsign", "Softplus":
		default:
			return nil, fmt.Errorf("activation %q is not supported", name)
		}
		if f == nil {
			f = functions[name](attrs)
		}
		all[i/each][i%each] = f
	}
	return all, nil
}

// Inputs, outputs and scratch of a recurrentOp.
const (
	recurrentX = iota
	recurrentW
	recurrentR
	recurrentBias
	recurrentLengths
	recurrentH
	recurrentC
	recurrentPeepholes
)

type recurrentOp struct {
	op                       string
	in                       [8]int // slots, -1 where left out
	out                      [3]int // Y, last H, last C
	scratch                  [5]int // W·x, R·h, h, c, r⊙h
	gates, hidden, inputs    int
	directions, steps, batch int
	batchFirst, reverse      bool
	linearFirst, coupled     bool
	clip                     float64
	functions                [][3]func(float64) float64
}

// optional views a slot, nil if there is none.
func (s *Session) optional(slot int) []float32 {
	if slot < 0 {
		return nil
	}
	return s.f32(slot)
}

func (o *recurrentOp) run(s *Session) {
	y := s.optional(o.out[0])
	clear(y) // what lies past a sequence's end
	for d := range o.directions {
		for b := range o.batch {
			o.sequence(s, d, b, y)
		}
	}
}

// state is where the state of a direction and a sequence lies.
func (o *recurrentOp) state(d, b int) (from, to int) {
	at := d*o.batch + b
	if o.batchFirst {
		at = b*o.directions + d
	}
	return at * o.hidden, (at + 1) * o.hidden
}

// sequence runs one direction over one sequence of the batch.
func (o *recurrentOp) sequence(s *Session, d, b int, y []float32) {
	h, c := s.f32(o.scratch[2]), s.f32(o.scratch[3])
	from, to := o.state(d, b)
	clear(h)
	clear(c)
	if first := s.optional(o.in[recurrentH]); first != nil {
		copy(h, first[from:to])
	}
	if first := s.optional(o.in[recurrentC]); first != nil && o.op == "LSTM" {
		copy(c, first[from:to])
	}
	length := o.steps
	if o.in[recurrentLengths] >= 0 {
		length = min(max(int(view[int32](s, o.in[recurrentLengths])[b]), 0), o.steps)
	}
	x := s.f32(o.in[recurrentX])
	for i := range length {
		t := i
		if o.reverse || d == 1 {
			t = length - 1 - i
		}
		at := t*o.batch + b
		if o.batchFirst {
			at = b*o.steps + t
		}
		o.step(s, d, x[at*o.inputs:(at+1)*o.inputs], h, c)
		if y != nil {
			place := (t*o.directions+d)*o.batch + b
			if o.batchFirst {
				place = (b*o.steps+t)*o.directions + d
			}
			copy(y[place*o.hidden:], h)
		}
	}
	if last := s.optional(o.out[1]); last != nil {
		copy(last[from:to], h)
	}
	if last := s.optional(o.out[2]); last != nil {
		copy(last[from:to], c)
	}
}

// step takes the state one element on.
func (o *recurrentOp) step(s *Session, d int, x, h, c []float32) {
	n, rows := o.hidden, o.gates*o.hidden
	w := s.f32(o.in[recurrentW])[d*rows*o.inputs : (d+1)*rows*o.inputs]
	r := s.f32(o.in[recurrentR])[d*rows*n : (d+1)*rows*n]
	wx, rh := s.f32(o.scratch[0]), s.f32(o.scratch[1])
	pool := s.program.pool
	kernel.Gemv(pool, wx, w, x, rows, o.inputs)
	kernel.Gemv(pool, rh, r, h, rows, n)
	if bias := s.optional(o.in[recurrentBias]); bias != nil {
		bias = bias[d*2*rows : (d+1)*2*rows]
		kernel.Add(wx, wx, bias[:rows])
		kernel.Add(rh, rh, bias[rows:])
	}
	f := &o.functions[d]
	switch o.op {
	case "RNN":
		for i := range n {
			h[i] = float32(o.gate(f[0], wx[i], rh[i], 0))
		}
	case "GRU":
		if !o.linearFirst {
			// Rh sees the state after the reset gate: once more, for it alone.
			reset := s.f32(o.scratch[4])
			for i := range n {
				reset[i] = float32(o.gate(f[0], wx[n+i], rh[n+i], 0) * float64(h[i]))
			}
			kernel.Gemv(pool, rh[2*n:], r[2*n*n:], reset, n, n)
			if bias := s.optional(o.in[recurrentBias]); bias != nil {
				kernel.Add(rh[2*n:], rh[2*n:], bias[d*2*rows+rows+2*n:(d+1)*2*rows])
			}
		}
		for i := range n {
			z := o.gate(f[0], wx[i], rh[i], 0)
			recurrence := rh[2*n+i]
			if o.linearFirst {
				recurrence = float32(o.gate(f[0], wx[n+i], rh[n+i], 0) * float64(recurrence))
			}
			candidate := o.gate(f[1], wx[2*n+i], recurrence, 0)
			h[i] = float32(float64((1-z)*candidate) + float64(z*float64(h[i])))
		}
	case "LSTM":
		peep := s.optional(o.in[recurrentPeepholes])
		if peep != nil {
			peep = peep[d*3*n : (d+1)*3*n]
		}
		for i := range n {
			var pi, pf, po float64
			if peep != nil {
				pi, pf = float64(peep[i])*float64(c[i]), float64(peep[2*n+i])*float64(c[i])
			}
			in := o.gate(f[0], wx[i], rh[i], pi)
			forget := 1 - in
			if !o.coupled {
				forget = o.gate(f[0], wx[2*n+i], rh[2*n+i], pf)
			}
			cell := o.gate(f[1], wx[3*n+i], rh[3*n+i], 0)
			c[i] = float32(float64(forget*float64(c[i])) + float64(in*cell))
			if peep != nil {
				po = float64(peep[n+i]) * float64(c[i])
			}
			h[i] = float32(o.gate(f[0], wx[n+i], rh[n+i], po) * f[2](float64(c[i])))
		}
	}
}

// gate is f of the sum, clipped.
func (o *recurrentOp) gate(f func(float64) float64, wx, rh float32, peep float64) float64 {
	return f(min(max(float64(wx)+float64(rh)+peep, -o.clip), o.clip))
}
