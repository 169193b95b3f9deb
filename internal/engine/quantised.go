package engine

import (
	"fmt"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// quantOp is the part that products of bytes share: x and w with their zero points
// and, unless sums are wanted, scales. Parameters are read when the step runs.
type quantOp struct {
	dst, x, w, bias int // slots; bias is -1 for none
	xZero, wZero    int // -1 where left out
	xScale, wScale  int // -1 for sums
	yScale, yZero   int
	xType, wType    tensor.DType
	yType           tensor.DType
	scale           int // scratch for a factor for each row of w
	rows, cols      int // w is [rows,cols]

	// Of computed weights: scratch for their zero points, and which of a session's
	// packed layers they fill.
	zeros, packed int
}

// isSigned says how bytes of a type are read.
func isSigned(t tensor.DType) bool { return t == tensor.Int8 }

// byteValue is a byte of that type as a number.
func byteValue(b byte, t tensor.DType) int32 {
	if isSigned(t) {
		return int32(int8(b))
	}
	return int32(b)
}

// fillZeros fills zeros with the zero points in data.
func fillZeros(zeros []int32, data []byte, t tensor.DType) {
	for i, b := range data {
		zeros[i] = byteValue(b, t)
	}
}

// zero is the i'th zero point in a slot, or its only one.
func (s *Session) zero(slot, i int, t tensor.DType) int32 {
	if slot < 0 {
		return 0
	}
	data := s.data[slot]
	return byteValue(data[min(i, len(data)-1)], t)
}

// quantSlots resolves what ConvInteger, MatMulInteger, QLinearConv and QLinearMatMul
// have in common.
func (c *compiler) quantSlots(n *graph.Node, rows, cols int) (*quantOp, []int, error) {
	o := &quantOp{bias: -1, xZero: -1, wZero: -1, xScale: -1, wScale: -1, yScale: -1, yZero: -1, scale: -1, rows: rows, cols: cols}
	order := []*int{&o.x, &o.w, &o.xZero, &o.wZero}
	if len(n.Inputs) >= 8 {
		order = []*int{&o.x, &o.xScale, &o.xZero, &o.w, &o.wScale, &o.wZero, &o.yScale, &o.yZero, &o.bias}
	}
	var slots []int
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		var err error
		if *order[i], err = c.value(name); err != nil {
			return nil, nil, err
		}
		slots = append(slots, *order[i])
	}
	weights := 1
	if o.xScale >= 0 {
		weights = 3
		o.scale = c.buffer(4 * rows)
		slots = append(slots, o.scale)
	}
	o.xType, o.wType = c.info(n.Inputs[0]).Type, c.info(n.Inputs[weights]).Type
	o.yType = c.info(n.Outputs[0]).Type
	o.dst = c.define(n.Outputs[0])
	return o, append(slots, o.dst), nil
}

// quantWeights are those in the slot, if they and their zero points are constant.
func (c *compiler) quantWeights(o *quantOp) (kernel.Weights, bool) {
	w := c.p.slots[o.w].constant
	ok := w != nil
	weights := kernel.Weights{Data: w, Signed: isSigned(o.wType)}
	if o.wZero >= 0 {
		zero := c.p.slots[o.wZero].constant
		ok = ok && zero != nil
		weights.Zeros = make([]int32, len(zero))
		fillZeros(weights.Zeros, zero, o.wType)
	}
	return weights, ok
}

// computedWeights prepares o for weights that are not constant, with scratch for
// the zero points in the input of that name.
func (c *compiler) computedWeights(o *quantOp, zeros string) (slots []int) {
	o.packed = c.p.packed
	c.p.packed++
	if o.wZero >= 0 {
		o.zeros = c.buffer(4 * c.shape(zeros).Elements())
		slots = append(slots, o.zeros)
	}
	return slots
}

// weights are those of this request, of bytes data.
func (o *quantOp) weights(s *Session, data []byte) kernel.Weights {
	w := kernel.Weights{Data: data, Signed: isSigned(o.wType)}
	if o.wZero >= 0 {
		w.Zeros = tensor.View[int32](s.data[o.zeros])
		fillZeros(w.Zeros, s.data[o.wZero], o.wType)
	}
	return w
}

// output says what becomes of the sums: row i of x has scale and zero point i.
// The factor is rounded as ONNX Runtime does: (scale of x · of w) / of y.
func (o *quantOp) output(s *Session, i int) kernel.Output {
	if o.xScale < 0 {
		return kernel.Output{Sums: tensor.View[int32](s.data[o.dst])}
	}
	out := kernel.Output{Bytes: s.data[o.dst], Signed: isSigned(o.yType), Zero: s.zero(o.yZero, 0, o.yType), Scale: s.f32(o.scale)}
	if o.bias >= 0 {
		out.Bias = tensor.View[int32](s.data[o.bias])
	}
	xs, ws, ys := s.f32(o.xScale), s.f32(o.wScale), s.f32(o.yScale)[0]
	x := xs[min(i, len(xs)-1)]
	for r := range out.Scale {
		out.Scale[r] = float32(x*ws[min(r, len(ws)-1)]) / ys
	}
	return out
}

// operand is the bytes of x with zero point i.
func (o *quantOp) operand(s *Session, i int) kernel.Bytes {
	return kernel.Bytes{Data: s.data[o.x], Signed: isSigned(o.xType), Zero: s.zero(o.xZero, i, o.xType)}
}

// quantConv emits a ConvInteger (opset 10) or QLinearConv (opset 10).
func (c *compiler) quantConv(n *graph.Node) error {
	at := 1
	if n.Op == "QLinearConv" {
		at = 3
	}
	if dims := len(c.shape(n.Inputs[0])) - 2; dims > 2 {
		return fmt.Errorf("%d spatial dimensions are not supported", dims)
	}
	geometry, err := convGeometry(n, c.shape(n.Inputs[0]), c.shape(n.Inputs[at]))
	if err != nil {
		return err
	}
	g := geometry.Conv2D
	if err := g.Validate(); err != nil {
		return err
	}
	o, slots, err := c.quantSlots(n, g.M, g.K())
	if err != nil {
		return err
	}
	if number, ok := c.opt.Split[n.Name]; ok {
		return c.quantRemote(number, n, o, slots)
	}
	op := &quantConvOp{quantOp: *o, g: g}
	if w, ok := c.quantWeights(o); ok {
		op.conv = kernel.NewQuantConv(g, w, g.M)
	} else {
		slots = append(slots, c.computedWeights(&op.quantOp, n.Input(at+2))...)
	}
	c.emit(op, slots...)
	return nil
}

type quantConvOp struct {
	quantOp
	g    kernel.Conv2D
	conv *kernel.QuantConv // nil for computed weights
}

func (o *quantConvOp) run(s *Session) {
	conv := o.conv
	if conv == nil {
		conv = o.computed(s)
	}
	conv.Run(s.program.pool, o.output(s, 0), o.operand(s, 0), nil)
}

// computed packs the weights of this request.
func (o *quantConvOp) computed(s *Session) *kernel.QuantConv {
	w := o.weights(s, s.data[o.w])
	own := &s.packed[o.packed]
	if own.conv == nil {
		own.conv = kernel.NewQuantConv(o.g, w, o.g.M)
	} else {
		own.conv.Reset(w)
	}
	return own.conv
}

// quantMatMul emits a MatMulInteger (opset 10) or QLinearMatMul (opset 21).
func (c *compiler) quantMatMul(n *graph.Node) error {
	at := 1
	if n.Op == "QLinearMatMul" {
		at = 3
	}
	a, b := c.shape(n.Inputs[0]), c.shape(n.Inputs[at])
	if len(a) == 1 {
		a = tensor.Shape{1, a[0]}
	}
	if len(b) == 1 {
		b = tensor.Shape{b[0], 1}
	}
	last := len(a) - 1
	m, k, rows := a[last-1], a[last], b[len(b)-1]
	o, slots, err := c.quantSlots(n, rows, k)
	if err != nil {
		return err
	}
	if number, ok := c.opt.Split[n.Name]; ok {
		return c.quantRemote(number, n, o, slots)
	}
	op := &quantMatMulOp{quantOp: *o, m: m}
	if single := b[:len(b)-2].Elements() == 1; single {
		op.m = a[:last].Elements()
		op.pairs = [][2]int{{0, 0}}
	} else {
		op.pairs = batches(a[:last-1], b[:len(b)-2], m*k, k*rows)
	}
	op.batch = op.m
	for _, p := range []int{2, 1} { // parameters for each row of x
		if name := n.Input(p); name != "" && (p == 2 || o.xScale >= 0) && c.shape(name).Elements() > 1 {
			op.batch = 1
		}
	}
	op.transposed = -1
	if w, ok := c.quantWeights(o); ok && len(op.pairs) == 1 {
		if rows > 1 && k > 1 {
			w.Data = tensor.Alloc(len(w.Data))
			transpose8(w.Data, c.p.slots[o.w].constant, k, rows)
		}
		op.dense = kernel.NewQuantDense(w, rows, k, op.batch)
	} else {
		op.transposed = c.buffer(k * rows)
		slots = append(slots, append(c.computedWeights(&op.quantOp, n.Input(at+2)), op.transposed)...)
	}
	c.emit(op, slots...)
	return nil
}

type quantMatMulOp struct {
	quantOp
	m, batch   int // rows of x in a product, and in a run
	pairs      [][2]int
	dense      *kernel.QuantDense // nil for computed weights
	transposed int                // scratch for them
}

func (o *quantMatMulOp) run(s *Session) {
	x := s.data[o.x]
	done := 0 // rows of the result
	for _, at := range o.pairs {
		dense := o.dense
		if dense == nil {
			dense = o.computed(s, at[1])
		}
		for i := 0; i < o.m; i += o.batch {
			out, in := o.output(s, i), o.operand(s, i)
			in.Data = x[at[0]+i*o.cols : at[0]+(i+o.batch)*o.cols]
			if out.Sums != nil {
				out.Sums = out.Sums[done*o.rows:]
			} else {
				out.Bytes = out.Bytes[done*o.rows:]
			}
			dense.Run(s.program.pool, out, in, o.batch, nil)
			done += o.batch
		}
	}
}

// computed packs the weights of this request that begin at from.
func (o *quantMatMulOp) computed(s *Session, from int) *kernel.QuantDense {
	w := o.weights(s, s.data[o.transposed])
	transpose8(w.Data, s.data[o.w][from:from+o.cols*o.rows], o.cols, o.rows)
	own := &s.packed[o.packed]
	if own.dense == nil {
		own.dense = kernel.NewQuantDense(w, o.rows, o.cols, o.batch)
	} else {
		own.dense.Reset(w)
	}
	return own.dense
}

// quantRemote emits a product that a remote computes: its sums, and what becomes of
// them.
func (c *compiler) quantRemote(number int, n *graph.Node, o *quantOp, slots []int) error {
	l, err := linearOf(c.g, n)
	if err != nil {
		return err
	}
	sums := o.dst
	if o.xScale >= 0 {
		sums = c.buffer(l.OutputBytes())
	}
	if err := c.remotely(number, n, l, operand{o.x, o.xZero, o.xType}, sums); err != nil {
		return err
	}
	if o.xScale >= 0 {
		batch := l.Outer // rows of x of one scale
		if name := n.Inputs[1]; c.shape(name).Elements() > 1 {
			batch = 1
		}
		c.emit(&requantOp{quantOp: *o, sums: sums, linear: l, batch: batch}, append(slots, sums)...)
	}
	return nil
}

// requantOp makes the results of a layer from its sums.
type requantOp struct {
	quantOp
	sums, batch int
	linear      Linear
}

func (o *requantOp) run(s *Session) {
	sums := tensor.View[int32](s.data[o.sums])
	size := o.batch * o.linear.Rows * o.linear.Inner
	for i := 0; i < o.linear.Outer; i += o.batch {
		out := o.output(s, i)
		at := i / o.batch * size
		out.Bytes = out.Bytes[at : at+size]
		out.Finish(sums[at:at+size], o.batch, o.linear.Rows, o.linear.Inner)
	}
}

// packed is a session's own layer of computed weights.
type packed struct {
	conv  *kernel.QuantConv
	dense *kernel.QuantDense
}

// transpose8 is dst = srcᵀ for src [rows,cols] of bytes.
func transpose8(dst, src []byte, rows, cols int) {
	const block = 64 // of a cache line
	for r0 := 0; r0 < rows; r0 += block {
		for c0 := 0; c0 < cols; c0 += block {
			for r := r0; r < min(r0+block, rows); r++ {
				for c := c0; c < min(c0+block, cols); c++ {
					dst[c*rows+r] = src[r*cols+c]
				}
			}
		}
	}
}
