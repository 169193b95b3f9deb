package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// broadcastOp is dst = a ∘ b, operands broadcast; dst may be the same slot as an
// operand of its shape and type. Bools are taken as bytes.
type broadcastOp[A, R tensor.Element] struct {
	dst, a, b    int
	dims         []int // of dst, those merged that all three step through as one
	aStep, bStep []int // elements from one index of a dimension to the next; 0 where broadcast
	row          rowFunc[A, R]
}

// A rowFunc fills dst from operands whose elements are as and bs apart.
type rowFunc[A, R tensor.Element] func(dst []R, a, b []A, as, bs int)

// newBroadcast is the step over slots of these shapes.
func newBroadcast[A, R tensor.Element](dst, a, b int, out, aShape, bShape tensor.Shape, row rowFunc[A, R]) *broadcastOp[A, R] {
	dims, steps := merge(out, strides(aShape, out, 1), strides(bShape, out, 1))
	return &broadcastOp[A, R]{dst: dst, a: a, b: b, dims: dims, aStep: steps[0], bStep: steps[1], row: row}
}

func (o *broadcastOp[A, R]) run(s *Session) {
	o.dim(0, view[R](s, o.dst), view[A](s, o.a), view[A](s, o.b))
}

// dim computes dimension d and those inside, and returns the rest of dst.
func (o *broadcastOp[A, R]) dim(d int, dst []R, a, b []A) []R {
	size, as, bs := o.dims[d], o.aStep[d], o.bStep[d]
	if d < len(o.dims)-1 {
		for i := range size {
			dst = o.dim(d+1, dst, a[i*as:], b[i*bs:])
		}
		return dst
	}
	o.row(dst[:size], a, b, as, bs)
	return dst[size:]
}

// merge joins dimensions that every list of steps goes through as if they were
// one, and leaves out those of 1; one is left at least.
func merge(shape []int, steps ...[]int) (dims []int, merged [][]int) {
	merged = make([][]int, len(steps))
	for d, size := range shape {
		if size == 1 {
			continue
		}
		last := len(dims) - 1
		joins := last >= 0
		for k := range steps {
			joins = joins && merged[k][last] == steps[k][d]*size
		}
		if joins {
			dims[last] *= size
		} else {
			dims = append(dims, size)
			last++
		}
		for k := range steps {
			merged[k] = append(merged[k][:last], steps[k][d])
		}
	}
	if len(dims) == 0 {
		dims = []int{1}
		for k := range merged {
			merged[k] = []int{1}
		}
	}
	return dims, merged
}

// addRow and mulRow are Add and Mul of float32, in the kernels where they can.
func addRow(dst, a, b []float32, as, bs int) {
	if as == 0 {
		a, b, as, bs = b, a, bs, as
	}
	switch {
	case as == 1 && bs == 1:
		kernel.Add(dst, a[:len(dst)], b[:len(dst)])
	case as == 1 && bs == 0:
		for i, v := range a[:len(dst)] {
			dst[i] = v + b[0]
		}
	default:
		for i := range dst {
			dst[i] = a[i*as] + b[i*bs]
		}
	}
}

func mulRow(dst, a, b []float32, as, bs int) {
	if as == 0 {
		a, b, as, bs = b, a, bs, as
	}
	switch {
	case as == 1 && bs == 1:
		kernel.Mul(dst, a[:len(dst)], b[:len(dst)])
	case as == 1 && bs == 0:
		for i, v := range a[:len(dst)] {
			dst[i] = v * b[0]
		}
	default:
		for i := range dst {
			dst[i] = a[i*as] * b[i*bs]
		}
	}
}

// arithmetic is a row of an operator on two numbers of one type; nil if op is
// none for floats and integers alike.
func arithmetic[T number](op string) rowFunc[T, T] {
	switch op {
	case "Add", "Sum", "Mean":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] + b[i*bs]
			}
		}
	case "Sub":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] - b[i*bs]
			}
		}
	case "Mul":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] * b[i*bs]
			}
		}
	case "Max":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = max(a[i*as], b[i*bs])
			}
		}
	case "Min":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = min(a[i*as], b[i*bs])
			}
		}
	case "PRelu":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				if dst[i] = a[i*as]; dst[i] < 0 {
					dst[i] *= b[i*bs]
				}
			}
		}
	}
	return nil
}

// floatRow is arithmetic for floats.
func floatRow[T float](op string, attrs graph.Attrs) rowFunc[T, T] {
	switch op {
	case "Div":
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] / b[i*bs]
			}
		}
	case "Mod":
		remainder := floorMod
		if attrs.Int("fmod", 0) != 0 {
			remainder = math.Mod
		}
		return func(dst, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = T(remainder(float64(a[i*as]), float64(b[i*bs])))
			}
		}
	}
	return arithmetic[T](op)
}

// floorMod is the remainder with b's sign.
func floorMod(a, b float64) float64 {
	r := math.Mod(a, b)
	switch {
	case r == 0:
		return math.Copysign(0, b)
	case (r < 0) != (b < 0):
		return r + b
	}
	return r
}

// integerRow is arithmetic for integers. Division by zero, which ONNX leaves
// undefined, is 0.
func integerRow[T integer](op string, attrs graph.Attrs) rowFunc[T, T] {
	fmod, left := attrs.Int("fmod", 0) != 0, attrs.String("direction", "") == "LEFT"
	pair := map[string]func(a, b T) T{
		"BitShift": func(a, b T) T {
			by := uint64(64) // by a negative number: as far as can be
			if b >= 0 {
				by = uint64(b)
			}
			if left {
				return a << by
			}
			return a >> by
		},
		"BitwiseAnd": func(a, b T) T { return a & b },
		"BitwiseOr":  func(a, b T) T { return a | b },
		"BitwiseXor": func(a, b T) T { return a ^ b },
		"Div": func(a, b T) T {
			if b == 0 {
				return 0
			}
			return a / b
		},
		"Mod": func(a, b T) T {
			if b == 0 {
				return 0
			}
			r := a % b
			if !fmod && r != 0 && (r < 0) != (b < 0) {
				r += b
			}
			return r
		},
	}[op]
	if pair == nil {
		return arithmetic[T](op)
	}
	return func(dst, a, b []T, as, bs int) {
		for i := range dst {
			dst[i] = pair(a[i*as], b[i*bs])
		}
	}
}

// comparison is a row of an operator from two numbers to a bool.
func comparison[T number](op string) rowFunc[T, uint8] {
	switch op {
	case "Equal":
		return func(dst []uint8, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = truth(a[i*as] == b[i*bs])
			}
		}
	case "Less":
		return func(dst []uint8, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = truth(a[i*as] < b[i*bs])
			}
		}
	case "LessOrEqual":
		return func(dst []uint8, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = truth(a[i*as] <= b[i*bs])
			}
		}
	case "Greater":
		return func(dst []uint8, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = truth(a[i*as] > b[i*bs])
			}
		}
	case "GreaterOrEqual":
		return func(dst []uint8, a, b []T, as, bs int) {
			for i := range dst {
				dst[i] = truth(a[i*as] >= b[i*bs])
			}
		}
	}
	return nil
}

func logic(op string) rowFunc[uint8, uint8] {
	switch op {
	case "And":
		return func(dst, a, b []uint8, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] & b[i*bs]
			}
		}
	case "Or":
		return func(dst, a, b []uint8, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] | b[i*bs]
			}
		}
	case "Xor":
		return func(dst, a, b []uint8, as, bs int) {
			for i := range dst {
				dst[i] = a[i*as] ^ b[i*bs]
			}
		}
	}
	return comparison[uint8](op) // Equal of bools
}

// binary emits an operator on two operands or, as Max, Min, Sum and Mean are, on
// any number: one after the other (opset 7 and later, numpy broadcasting).
func (c *compiler) binary(n *graph.Node) error {
	var in []int
	for _, name := range n.Inputs {
		at, err := c.value(name)
		if err != nil {
			return err
		}
		in = append(in, at)
	}
	if len(in) == 1 {
		return c.view(n)
	}
	dst := c.define(n.Outputs[0])
	out, left := c.shape(n.Outputs[0]), c.shape(n.Inputs[0])
	for i, at := range in[1:] {
		op := c.combine(n, n.Op, c.info(n.Inputs[0]).Type, dst, in[0], at, out, left, c.g.OperandShape(n, 1+i))
		if op == nil {
			return fmt.Errorf("operator is not supported for %v", c.info(n.Inputs[0]).Type)
		}
		c.emit(op, dst, in[0], at)
		in[0], left = dst, out
	}
	if n.Op == "Mean" {
		count := float64(len(in))
		if c.info(n.Outputs[0]).Type == tensor.Float64 {
			c.emit(&mapOp[float64, float64]{dst: dst, x: dst, f: func(v float64) float64 { return v / count }}, dst)
		} else {
			c.emit(&mapOp[float32, float32]{dst: dst, x: dst, f: func(v float32) float32 { return v / float32(count) }}, dst)
		}
	}
	return nil
}

// combine is the step of op on two slots whose elements have that type; nil if
// there is none.
func (c *compiler) combine(n *graph.Node, op string, typ tensor.DType, dst, a, b int, out, left, right tensor.Shape) operator {
	switch typ {
	case tensor.Float32:
		switch op {
		case "Add", "Sum", "Mean":
			return newBroadcast(dst, a, b, out, left, right, addRow)
		case "Mul":
			return newBroadcast(dst, a, b, out, left, right, mulRow)
		}
		return rowsOf(dst, a, b, out, left, right, floatRow[float32](op, n.Attrs), comparison[float32](op))
	case tensor.Float64:
		return rowsOf(dst, a, b, out, left, right, floatRow[float64](op, n.Attrs), comparison[float64](op))
	case tensor.Int64:
		return rowsOf(dst, a, b, out, left, right, integerRow[int64](op, n.Attrs), comparison[int64](op))
	case tensor.Int32:
		return rowsOf(dst, a, b, out, left, right, integerRow[int32](op, n.Attrs), comparison[int32](op))
	case tensor.Int16:
		return rowsOf(dst, a, b, out, left, right, integerRow[int16](op, n.Attrs), comparison[int16](op))
	case tensor.Int8:
		return rowsOf(dst, a, b, out, left, right, integerRow[int8](op, n.Attrs), comparison[int8](op))
	case tensor.Uint64:
		return rowsOf(dst, a, b, out, left, right, integerRow[uint64](op, n.Attrs), comparison[uint64](op))
	case tensor.Uint32:
		return rowsOf(dst, a, b, out, left, right, integerRow[uint32](op, n.Attrs), comparison[uint32](op))
	case tensor.Uint16:
		return rowsOf(dst, a, b, out, left, right, integerRow[uint16](op, n.Attrs), comparison[uint16](op))
	case tensor.Uint8:
		return rowsOf(dst, a, b, out, left, right, integerRow[uint8](op, n.Attrs), comparison[uint8](op))
	case tensor.Bool:
		return rowsOf(dst, a, b, out, left, right, logic(op), nil)
	}
	return nil
}

// rowsOf is the step of whichever row there is.
func rowsOf[T tensor.Element](dst, a, b int, out, left, right tensor.Shape, to rowFunc[T, T], compared rowFunc[T, uint8]) operator {
	switch {
	case to != nil:
		return newBroadcast(dst, a, b, out, left, right, to)
	case compared != nil:
		return newBroadcast(dst, a, b, out, left, right, compared)
	}
	return nil
}

// power emits a Pow (opset 12): the exponent is converted to float64 on the way,
// the result is of the base's type.
func (c *compiler) power(n *graph.Node) error {
	out, base, exponent := c.shape(n.Outputs[0]), c.shape(n.Inputs[0]), c.g.OperandShape(n, 1)
	a, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	b, err := c.value(n.Inputs[1])
	if err != nil {
		return err
	}
	wide := func(at int, shape tensor.Shape, from tensor.DType) int {
		if from == tensor.Float64 {
			return at
		}
		to := c.buffer(8 * shape.Elements())
		c.emit(&castOp{dst: to, x: at, from: from, to: tensor.Float64}, to, at)
		return to
	}
	typ := c.info(n.Inputs[0]).Type
	a, b = wide(a, base, typ), wide(b, exponent, c.info(n.Inputs[1]).Type)
	dst := c.define(n.Outputs[0])
	y := dst
	if typ != tensor.Float64 {
		y = c.buffer(8 * out.Elements())
	}
	row := func(dst, a, b []float64, as, bs int) {
		for i := range dst {
			dst[i] = pow(a[i*as], b[i*bs])
		}
	}
	c.emit(newBroadcast(y, a, b, out, base, exponent, row), y, a, b)
	if y != dst {
		c.emit(&castOp{dst: dst, x: y, from: tensor.Float64, to: typ}, dst, y)
	}
	return nil
}

// where emits a Where (opset 16).
func (c *compiler) where(n *graph.Node) error {
	var in []int
	out := c.info(n.Outputs[0])
	var steps [][]int
	for _, name := range n.Inputs {
		at, err := c.value(name)
		if err != nil {
			return err
		}
		in, steps = append(in, at), append(steps, strides(c.shape(name), out.Shape, 1))
	}
	dst := c.define(n.Outputs[0])
	dims, merged := merge(out.Shape, steps...)
	op := &whereOp{dst: dst, in: [3]int(in), dims: dims, steps: merged, elementBytes: out.Type.Size()}
	c.emit(op, append(in, dst)...)
	return nil
}

type whereOp struct {
	dst          int
	in           [3]int // condition, x, y
	dims         []int
	steps        [][]int // of each input
	elementBytes int
}

func (o *whereOp) run(s *Session) {
	dst, condition, x, y := s.data[o.dst], s.data[o.in[0]], s.data[o.in[1]], s.data[o.in[2]]
	switch o.elementBytes {
	case 1:
		choose(o, 0, dst, condition, x, y)
	case 2:
		choose(o, 0, tensor.View[uint16](dst), condition, tensor.View[uint16](x), tensor.View[uint16](y))
	case 4:
		choose(o, 0, tensor.View[uint32](dst), condition, tensor.View[uint32](x), tensor.View[uint32](y))
	case 8:
		choose(o, 0, tensor.View[uint64](dst), condition, tensor.View[uint64](x), tensor.View[uint64](y))
	}
}

// choose fills dimension d and those inside, and returns the rest of dst.
func choose[T any](o *whereOp, d int, dst []T, condition []byte, x, y []T) []T {
	size, cs, xs, ys := o.dims[d], o.steps[0][d], o.steps[1][d], o.steps[2][d]
	if d < len(o.dims)-1 {
		for i := range size {
			dst = choose(o, d+1, dst, condition[i*cs:], x[i*xs:], y[i*ys:])
		}
		return dst
	}
	for i := range size {
		if condition[i*cs] != 0 {
			dst[i] = x[i*xs]
		} else {
			dst[i] = y[i*ys]
		}
	}
	return dst[size:]
}
