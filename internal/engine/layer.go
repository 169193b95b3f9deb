package engine

import (
	"errors"
	"math"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// layer emits a Conv, ConvTranspose, Gemm or MatMul: its linear part, computed here, by the
// remote or from two computed operands; then what follows, the same for all
// of them, with a Relu or Clip that reads nothing else.
func (c *compiler) layer(n *graph.Node) error {
	l, err := linearOf(c.g, n)
	number, split := c.opt.Split[n.Name]
	last, add := n.Outputs[0], -1
	whole := err == nil && !split && l.finished() && c.sumsAndBias(n) // the kernel does all that follows too
	if whole {
		last, add = c.residual(last)
	}
	last, lo, hi := c.activation(last)
	shape := c.shape(n.Outputs[0])
	x, notFloat := c.float(n.Inputs[0])
	if notFloat != nil {
		return notFloat
	}
	after := biasOp{dst: c.define(last), bias: -1, lo: lo, hi: hi}
	dst := after.dst
	after.outer, after.rows, after.inner = 1, shape.Elements(), 1
	if c.rowBias(n) {
		after.outer, after.rows, after.inner = shape[0], shape[1], shape[2:].Elements()
		if after.bias, notFloat = c.float(n.Input(2)); notFloat != nil {
			return notFloat
		}
		if split {
			after.bias = c.ownBias(n, after.bias)
		}
		after.bias = c.timesBeta(n, after.bias)
	}
	switch {
	case split && err == nil:
		if err := c.remotely(number, n, l, operand{x: x, zero: -1}, dst); err != nil {
			return err
		}
	case err == nil:
		c.waste.Before(l.WeightBytes())
		slice, err := NewSlice(l, weightsOf(c.g, n, l))
		if err != nil {
			return err
		}
		c.placed(n.Inputs[1], n)
		if whole {
			c.emit(&finishedOp{slice: slice, x: x, add: add, after: after}, dst, x)
			for _, slot := range []int{after.bias, add} {
				if slot >= 0 {
					c.touch(slot)
				}
			}
			return nil
		}
		c.emit(&linearOp{slice: slice, dst: dst, x: x}, dst, x)
	case errors.Is(err, ErrNotLinear) && !split:
		emit := c.product
		if isConv(n) {
			emit = c.windowed
		}
		if err := emit(n, dst); err != nil {
			return err
		}
	default:
		return err
	}
	if n.Op == "Gemm" {
		if err := c.gemmTail(n, dst); err != nil {
			return err
		}
	}
	switch {
	case after.bias >= 0:
		c.emit(&after, dst, after.bias)
	case after.clamps():
		c.emit(&after, dst)
	}
	return nil
}

func isConv(n *graph.Node) bool { return n.Op == "Conv" || n.Op == "ConvTranspose" }

var negInf, posInf = float32(math.Inf(-1)), float32(math.Inf(1))

// rowBias says whether a layer has a bias of one value for each row of the weights.
func (c *compiler) rowBias(n *graph.Node) bool {
	name := n.Input(2)
	if name == "" || n.Op != "Gemm" {
		return name != "" && isConv(n)
	}
	bias, columns := c.shape(name), c.shape(n.Outputs[0])[1]
	return len(bias) > 0 && bias[len(bias)-1] == columns && bias.Elements() == columns
}

// sumsAndBias says whether a layer is its linear part and at most a bias.
func (c *compiler) sumsAndBias(n *graph.Node) bool {
	return n.Op != "Gemm" || n.Attrs.Float("alpha", 1) == 1 && (n.Input(2) == "" || c.rowBias(n))
}

// gemmTail emits what Gemm (opset 13) does after A·B, but for a bias: y = alpha·A·B +
// beta·C.
func (c *compiler) gemmTail(n *graph.Node, dst int) error {
	if alpha := n.Attrs.Float("alpha", 1); alpha != 1 {
		c.emit(&scaleOp{dst: dst, x: dst, by: alpha}, dst)
	}
	name := n.Input(2)
	if name == "" || c.rowBias(n) {
		return nil
	}
	at, err := c.float(name)
	if err != nil {
		return err
	}
	at = c.timesBeta(n, at)
	shape := c.shape(n.Outputs[0])
	c.emit(newBroadcast(dst, dst, at, shape, shape, c.shape(name), addRow), dst, at)
	return nil
}

// timesBeta returns the slot of a layer's third input, which is at, or if it is a Gemm
// of that times its beta.
func (c *compiler) timesBeta(n *graph.Node, at int) int {
	beta := n.Attrs.Float("beta", 1)
	if beta == 1 || n.Op != "Gemm" {
		return at
	}
	scaled := c.buffer(4 * c.shape(n.Input(2)).Elements())
	c.emit(&scaleOp{dst: scaled, x: at, by: beta}, scaled, at)
	return scaled
}

// ownBias copies a split node's constant bias, so that Program.Bias can give it
// out, and returns its slot.
func (c *compiler) ownBias(n *graph.Node, at int) int {
	constant := c.p.slots[at].constant
	if constant == nil {
		return at
	}
	own := tensor.Alloc(len(constant))
	copy(own, constant)
	if c.p.biases == nil {
		c.p.biases = map[string][]float32{}
	}
	c.p.biases[n.Name] = tensor.View[float32](own)
	return c.addSlot(slot{input: -1, constant: own})
}

// follower is the node that alone reads a value, as its first input or, if
// either, as any; nil if there is none.
func (c *compiler) follower(value string, either bool) *graph.Node {
	next := c.reader[value]
	if next == nil || c.readers[value] != 1 || next.Input(0) != value && !either {
		return nil
	}
	return next
}

// activation returns the bounds of the Relu or Clip that is the only reader of a
// value, and the name of the value to define in its place: the activation's
// output, or else the value, which is never a graph output if it is skipped.
func (c *compiler) activation(value string) (last string, lo, hi float32) {
	next := c.follower(value, false)
	if next == nil {
		return value, negInf, posInf
	}
	lo, hi, ok := c.bounds(next)
	if !ok {
		return value, negInf, posInf
	}
	c.fused[next] = true
	return next.Outputs[0], lo, hi
}

// residual returns the slot of what the only reader of a value adds to it, if
// that has its shape and is known by now, and the name of the sum; else the value
// and -1.
func (c *compiler) residual(value string) (last string, slot int) {
	next := c.follower(value, true)
	if next == nil || next.Op != "Add" || next.Domain != "" {
		return value, -1
	}
	other := next.Input(0)
	if other == value {
		other = next.Input(1)
	}
	slot, known := c.slots[other]
	if !known || other == value || !c.shape(other).Equal(c.shape(value)) {
		return value, -1
	}
	c.fused[next] = true
	return next.Outputs[0], slot
}

// linearOp is a layer's linear part, all rows of it.
type linearOp struct {
	slice  *Slice
	dst, x int
}

func (o *linearOp) run(s *Session) { o.slice.Run(s.program.pool, s.data[o.dst], s.data[o.x], nil) }

// finishedOp is a layer and what follows: a bias, another value of the shape of the
// output if add is not negative, a clamp.
type finishedOp struct {
	slice  *Slice
	x, add int
	after  biasOp
}

func (o *finishedOp) run(s *Session) {
	after := kernel.After{Clamp: o.after.clamps(), Lo: o.after.lo, Hi: o.after.hi}
	if o.after.bias >= 0 {
		after.Bias = s.f32(o.after.bias)
	}
	if o.add >= 0 {
		after.Add = s.f32(o.add)
	}
	o.slice.run(s.program.pool, s.f32(o.after.dst), s.f32(o.x), after, nil)
}

// biasOp adds a bias to each row of dst [outer,rows,inner], if bias is not
// negative, and clamps to [lo,hi].
type biasOp struct {
	dst, bias          int
	outer, rows, inner int
	lo, hi             float32
}

func (o *biasOp) clamps() bool { return o.lo != negInf || o.hi != posInf }

func (o *biasOp) run(s *Session) {
	dst := s.f32(o.dst)
	var bias []float32
	if o.bias >= 0 {
		bias = s.f32(o.bias)
	}
	kernel.BiasAct(s.program.pool, dst, bias, o.outer, o.rows, o.inner, o.lo, o.hi)
}

// scaleOp is dst = by·x; they may be the same slot.
type scaleOp struct {
	dst, x int
	by     float32
}

func (o *scaleOp) run(s *Session) {
	dst := s.f32(o.dst)
	for i, v := range s.f32(o.x) {
		dst[i] = o.by * v
	}
}

// product emits a MatMul (opset 13) or a Gemm's A·B whose linear part cannot be
// split: for every pair of matrices a [m,k] and bᵀ [n,k], a Gemv for each row of
// a. An operand that does not lie so is transposed on the way.
func (c *compiler) product(n *graph.Node, dst int) error {
	in, err := c.floats(n.Inputs[0], n.Inputs[1])
	if err != nil {
		return err
	}
	a, b := c.shape(n.Inputs[0]), c.shape(n.Inputs[1])
	if len(a) == 1 {
		a = tensor.Shape{1, a[0]}
	}
	if len(b) == 1 {
		b = tensor.Shape{b[0], 1}
	}
	last := len(a) - 1
	o := &productOp{dst: dst, a: in[0], b: in[1], aScratch: -1, bScratch: -1, m: a[last-1], k: a[last], n: b[len(b)-1]}
	aT, bT := false, false
	if n.Op == "Gemm" {
		aT, bT = n.Attrs.Int("transA", 0) != 0, n.Attrs.Int("transB", 0) != 0
		if aT {
			o.m, o.k = o.k, o.m
		}
		if bT {
			o.n = b[0]
		}
	}
	o.pairs = batches(a[:last-1], b[:len(b)-2], o.m*o.k, o.k*o.n)
	slots := []int{dst, o.a, o.b}
	if aT && o.m > 1 && o.k > 1 {
		o.aScratch = c.buffer(4 * o.m * o.k)
		slots = append(slots, o.aScratch)
	}
	if !bT && o.n > 1 && o.k > 1 {
		o.bScratch = c.buffer(4 * o.k * o.n)
		slots = append(slots, o.bScratch)
	}
	c.emit(o, slots...)
	return nil
}

// productOp multiplies pairs of matrices.
type productOp struct {
	dst, a, b          int
	aScratch, bScratch int // slots for aᵀ and bᵀ; -1 if it lies right already
	m, k, n            int
	pairs              [][2]int // where in a and b the operands of each product begin
}

func (o *productOp) run(s *Session) {
	dst, a, b := s.f32(o.dst), s.f32(o.a), s.f32(o.b)
	transposed := -1 // where in b the matrix in bScratch comes from
	for _, at := range o.pairs {
		left, right := a[at[0]:at[0]+o.m*o.k], b[at[1]:at[1]+o.k*o.n]
		if o.aScratch >= 0 {
			transpose(s.f32(o.aScratch), left, o.k, o.m)
			left = s.f32(o.aScratch)
		}
		if o.bScratch >= 0 {
			if transposed != at[1] {
				transpose(s.f32(o.bScratch), right, o.k, o.n)
				transposed = at[1]
			}
			right = s.f32(o.bScratch)
		}
		for i := range o.m {
			kernel.Gemv(s.program.pool, dst[:o.n], right, left[i*o.k:(i+1)*o.k], o.n, o.k)
			dst = dst[o.n:]
		}
	}
}

// batches lists where the matrices of every product begin in two stacks of
// matrices, whose leading dimensions are broadcast against each other.
func batches(a, b tensor.Shape, aSize, bSize int) [][2]int {
	out := broadcastShape(a, b)
	as, bs := strides(a, out, aSize), strides(b, out, bSize)
	pairs := [][2]int{{0, 0}}
	for d, size := range out {
		next := make([][2]int, 0, len(pairs)*size)
		for _, p := range pairs {
			for i := range size {
				next = append(next, [2]int{p[0] + i*as[d], p[1] + i*bs[d]})
			}
		}
		pairs = next
	}
	return pairs
}
