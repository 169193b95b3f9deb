package engine

import (
	"math"

	"starling/internal/graph"
	"starling/internal/kernel"
)

// softmax emits a Softmax: over one axis from opset 13 on; before, over all
// dimensions from axis (1 if absent) to the last, as if they were one.
func (c *compiler) softmax(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	o := &softmaxOp{x: x}
	o.outer, o.axis, o.inner = c.line(n)
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

// line says over which elements a Softmax normalises: x is [outer,axis,inner].
func (c *compiler) line(n *graph.Node) (outer, axis, inner int) {
	shape := c.shape(n.Inputs[0])
	at := 1
	if c.g.Opset >= 13 {
		at = -1
	}
	at = n.Attrs.Int("axis", at)
	if at < 0 {
		at += len(shape)
	}
	if c.g.Opset >= 13 {
		return lanes(shape, at)
	}
	return shape[:at].Elements(), shape[at:].Elements(), 1
}

// logSoftmax emits a LogSoftmax or Hardmax, over the same elements.
func (c *compiler) logSoftmax(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	o := &lineOp{x: x, hard: n.Op == "Hardmax"}
	o.outer, o.axis, o.inner = c.line(n)
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type lineOp struct {
	dst, x, outer, axis, inner int
	hard                       bool
}

func (o *lineOp) run(s *Session) {
	dst, x := s.f32(o.dst), s.f32(o.x)
	for lane := range o.outer * o.inner {
		from := lane/o.inner*o.axis*o.inner + lane%o.inner
		best := 0
		for i := range o.axis {
			if x[from+i*o.inner] > x[from+best*o.inner] {
				best = i
			}
		}
		most := float64(x[from+best*o.inner])
		sum := 0.0
		for i := range o.axis {
			if at := from + i*o.inner; o.hard {
				dst[at] = float32(truth(i == best))
			} else {
				sum += exp(float64(x[at]) - most)
			}
		}
		if o.hard {
			continue
		}
		sum = log(sum)
		for i := range o.axis {
			at := from + i*o.inner
			dst[at] = float32(float64(x[at]) - most - sum)
		}
	}
}

type softmaxOp struct{ dst, x, outer, axis, inner int }

func (o *softmaxOp) run(s *Session) {
	kernel.Softmax(s.program.pool, s.f32(o.dst), s.f32(o.x), o.outer, o.axis, o.inner)
}

// batchNorm emits a BatchNormalization (opset 9 and later) that infers.
func (c *compiler) batchNorm(n *graph.Node) error {
	in, err := c.floats(n.Inputs[:5]...)
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	o := &batchNormOp{in: [5]int(in), n: shape[0], c: shape[1], hw: shape[2:].Elements(), epsilon: n.Attrs.Float("epsilon", 1e-5)}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(in, o.dst)...)
	return nil
}

type batchNormOp struct {
	dst      int
	in       [5]int // x, scale, bias, mean, variance
	n, c, hw int
	epsilon  float32
}

func (o *batchNormOp) run(s *Session) {
	kernel.BatchNorm(s.f32(o.dst), s.f32(o.in[0]), s.f32(o.in[1]), s.f32(o.in[2]), s.f32(o.in[3]), s.f32(o.in[4]), o.n, o.c, o.hw, o.epsilon)
}

// lrn emits an LRN (opset 1): local response normalisation across channels.
func (c *compiler) lrn(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	o := &lrnOp{
		x: x, n: shape[0], c: shape[1], hw: shape[2:].Elements(), size: n.Attrs.Int("size", 1),
		alpha: n.Attrs.Float("alpha", 1e-4), beta: n.Attrs.Float("beta", 0.75), bias: n.Attrs.Float("bias", 1),
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type lrnOp struct {
	dst, x            int
	n, c, hw, size    int
	alpha, beta, bias float32
}

func (o *lrnOp) run(s *Session) {
	kernel.LRN(s.f32(o.dst), s.f32(o.x), o.n, o.c, o.hw, o.size, o.alpha, o.beta, o.bias)
}

// standardise emits an InstanceNormalization (opset 6), GroupNormalization
// (opsets 18 and 21), LayerNormalization (opset 17) or RMSNormalization (opset 23):
// groups of elements are brought to mean 0, but for the last, and to mean square
// 1, then scaled and shifted.
func (c *compiler) standardise(n *graph.Node) error {
	var slots []int
	for _, name := range n.Inputs {
		at, err := c.float(name)
		if err != nil {
			return err
		}
		slots = append(slots, at)
	}
	shape := c.shape(n.Inputs[0])
	o := &standardOp{in: slots, epsilon: float64(n.Attrs.Float("epsilon", 1e-5)), mean: -1, deviation: -1, centred: n.Op != "RMSNormalization"}
	which := func(channels, group int, of func(channel int) int) {
		inner := shape[2:].Elements()
		o.period, o.size, o.each = channels/group, group*inner, inner
		for ch := range channels {
			o.which = append(o.which, of(ch))
		}
		o.groups = shape.Elements() / o.size
	}
	switch n.Op {
	case "InstanceNormalization":
		which(shape[1], 1, func(ch int) int { return ch })
	case "GroupNormalization":
		group := shape[1] / n.Attrs.Int("num_groups", 1)
		if c.g.Opset >= 21 {
			which(shape[1], group, func(ch int) int { return ch })
		} else {
			which(shape[1], group, func(ch int) int { return ch / group })
		}
	default:
		axis, err := graph.Axis(n, -1, len(shape))
		if err != nil {
			return err
		}
		o.groups, o.size, o.period, o.each = shape[:axis].Elements(), shape[axis:].Elements(), 1, 1
		for i, name := range n.Inputs[1:] {
			list := corners(shape[axis:], strides(c.shape(name), shape[axis:], 1))
			if i == 0 {
				o.which = list
			} else {
				o.bias = list
			}
		}
	}
	if o.bias == nil {
		o.bias = o.which
	}
	if n.Outputs[0] == "" {
		o.dst = c.buffer(4 * shape.Elements())
	} else {
		o.dst = c.define(n.Outputs[0])
	}
	slots = append(slots, o.dst)
	for i, at := range []*int{&o.mean, &o.deviation} {
		if len(n.Outputs) > 1+i && n.Outputs[1+i] != "" {
			*at = c.define(n.Outputs[1+i])
			slots = append(slots, *at)
		}
	}
	c.emit(o, slots...)
	return nil
}

// standardOp works on x [groups,size]. Runs of elements share a scale and a bias:
// run r of group g has those of which[(g mod period)·size/each + r].
type standardOp struct {
	dst, mean, deviation int   // the last two are -1 where left out
	in                   []int // x, scale, and bias if there is one
	groups, size         int
	period, each         int
	which, bias          []int
	epsilon              float64
	centred              bool
}

func (o *standardOp) run(s *Session) {
	dst, x, scale := s.f32(o.dst), s.f32(o.in[0]), s.f32(o.in[1])
	var bias []float32
	if len(o.in) > 2 {
		bias = s.f32(o.in[2])
	}
	for g := range o.groups {
		from, to := x[g*o.size:(g+1)*o.size], dst[g*o.size:(g+1)*o.size]
		sum := 0.0
		for _, v := range from {
			sum += float64(v)
		}
		mean := 0.0
		if o.centred {
			mean = sum / float64(o.size)
		}
		sum = 0
		for _, v := range from {
			sum += square(float64(v) - mean)
		}
		inverse := 1 / math.Sqrt(sum/float64(o.size)+o.epsilon)
		if o.mean >= 0 {
			s.f32(o.mean)[g] = float32(mean)
		}
		if o.deviation >= 0 {
			s.f32(o.deviation)[g] = float32(inverse)
		}
		first := g % o.period * (o.size / o.each)
		for r := range o.size / o.each {
			factor, shift := inverse*float64(scale[o.which[first+r]]), 0.0
			if bias != nil {
				shift = float64(bias[o.bias[first+r]])
			}
			for i := r * o.each; i < (r+1)*o.each; i++ {
				to[i] = float32(float64((float64(from[i])-mean)*factor) + shift)
			}
		}
	}
}

// lpNorm emits an LpNormalization (opset 1); a lane of zeros stays as it is.
func (c *compiler) lpNorm(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	axis, err := graph.Axis(n, -1, len(shape))
	if err != nil {
		return err
	}
	o := &lpNormOp{x: x, absolute: n.Attrs.Int("p", 2) == 1}
	o.outer, o.size, o.inner = lanes(shape, axis)
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, x)
	return nil
}

type lpNormOp struct {
	dst, x             int
	outer, size, inner int
	absolute           bool
}

func (o *lpNormOp) run(s *Session) {
	dst, x := s.f32(o.dst), s.f32(o.x)
	for lane := range o.outer * o.inner {
		from := lane/o.inner*o.size*o.inner + lane%o.inner
		sum := 0.0
		for i := range o.size {
			if v := float64(x[from+i*o.inner]); o.absolute {
				sum += math.Abs(v)
			} else {
				sum += square(v)
			}
		}
		if !o.absolute {
			sum = math.Sqrt(sum)
		}
		if sum == 0 {
			sum = 1
		}
		for i := range o.size {
			dst[from+i*o.inner] = float32(float64(x[from+i*o.inner]) / sum)
		}
	}
}
