package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// reduce emits a Reduce operator (opset 18). Floats are summed in float64, in
// order, and rounded once.
func (c *compiler) reduce(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	reduced, err := c.g.ReducedAxes(n, len(info.Shape))
	if err != nil {
		return err
	}
	o := reduceOp{x: x, kind: n.Op, count: 1}
	var keptSizes, keptSteps, sizes, steps []int
	for d, step := range rowMajor(info.Shape) {
		if reduced[d] {
			sizes, steps = append(sizes, info.Shape[d]), append(steps, step)
			o.count *= info.Shape[d]
		} else {
			keptSizes, keptSteps = append(keptSizes, info.Shape[d]), append(keptSteps, step)
		}
	}
	dims, merged := merge(keptSizes, keptSteps)
	o.kept, o.keptSteps = dims, merged[0]
	dims, merged = merge(sizes, steps)
	o.dims, o.steps = dims, merged[0]
	o.dst = c.define(n.Outputs[0])
	if info.Type == tensor.Bool && o.count == 0 && n.Op == "ReduceMin" {
		return fmt.Errorf("operator is not supported for no %v", info.Type)
	}
	var op operator
	switch info.Type {
	case tensor.Float32:
		op = reducer[float32](o)
	case tensor.Float64:
		op = reducer[float64](o)
	case tensor.Int64:
		op = reducer[int64](o)
	case tensor.Int32:
		op = reducer[int32](o)
	case tensor.Int16:
		op = reducer[int16](o)
	case tensor.Int8:
		op = reducer[int8](o)
	case tensor.Uint64:
		op = reducer[uint64](o)
	case tensor.Uint32:
		op = reducer[uint32](o)
	case tensor.Uint16:
		op = reducer[uint16](o)
	case tensor.Uint8, tensor.Bool:
		op = reducer[uint8](o)
	default:
		return fmt.Errorf("operator is not supported for %v", info.Type)
	}
	c.emit(op, o.dst, x)
	return nil
}

// reduceOp reduces dims of x for each index of the kept ones.
type reduceOp struct {
	dst, x          int
	kind            string
	kept, keptSteps []int
	dims, steps     []int
	count           int // elements that are reduced to one
}

type reducerOp[T number] struct {
	reduceOp
	sum func(o *reduceOp, x []T) T // of one output
}

func reducer[T number](o reduceOp) operator {
	r := &reducerOp[T]{reduceOp: o}
	if o.count == 0 && (o.kind == "ReduceMax" || o.kind == "ReduceMin" || o.kind == "ReduceLogSumExp") {
		v := least[T]()
		if o.kind == "ReduceMin" {
			v = most[T]()
		}
		r.sum = func(*reduceOp, []T) T { return v }
		return r
	}
	switch o.kind {
	case "ReduceMax":
		r.sum = func(o *reduceOp, x []T) T {
			return fold(x, o.dims, o.steps, x[0], func(acc, v T) T { return max(acc, v) })
		}
	case "ReduceMin":
		r.sum = func(o *reduceOp, x []T) T {
			return fold(x, o.dims, o.steps, x[0], func(acc, v T) T { return min(acc, v) })
		}
	case "ReduceProd":
		r.sum = func(o *reduceOp, x []T) T {
			if isFloat[T]() {
				return T(fold(x, o.dims, o.steps, 1, func(acc float64, v T) float64 { return acc * float64(v) }))
			}
			return fold(x, o.dims, o.steps, 1, func(acc, v T) T { return acc * v })
		}
	default:
		r.sum = sums[T](o.kind)
	}
	return r
}

func isFloat[T number]() bool { return T(1)/2 != 0 }

// least and most are the ends of a type's range, infinite for floats.
func least[T number]() T {
	switch zero := T(0); {
	case isFloat[T]():
		return T(math.Inf(-1))
	case zero-1 > 0:
		return 0
	}
	v := T(1)
	for v*2 > 0 {
		v *= 2
	}
	return v * 2
}

func most[T number]() T {
	if isFloat[T]() {
		return T(math.Inf(1))
	}
	return least[T]() - 1
}

// sums are the reductions by a sum, in float64 (in int64 for integers, which
// wraps around).
func sums[T number](kind string) func(o *reduceOp, x []T) T {
	term := map[string]func(v float64) float64{
		"ReduceL1": math.Abs, "ReduceL2": square, "ReduceSumSquare": square,
	}[kind]
	after := map[string]func(sum float64, count int) float64{
		"ReduceMean":   func(sum float64, count int) float64 { return sum / float64(count) },
		"ReduceL2":     func(sum float64, _ int) float64 { return math.Sqrt(sum) },
		"ReduceLogSum": func(sum float64, _ int) float64 { return log(sum) },
	}[kind]
	switch {
	case kind == "ReduceLogSumExp":
		return func(o *reduceOp, x []T) T {
			most := float64(fold(x, o.dims, o.steps, x[0], func(acc, v T) T { return max(acc, v) }))
			if math.IsInf(most, 0) {
				return T(most)
			}
			sum := fold(x, o.dims, o.steps, 0, func(acc float64, v T) float64 { return acc + exp(float64(v)-most) })
			return T(most + log(sum))
		}
	case kind == "ReduceSum" && !isFloat[T]():
		return func(o *reduceOp, x []T) T {
			return fold(x, o.dims, o.steps, 0, func(acc, v T) T { return acc + v })
		}
	}
	return func(o *reduceOp, x []T) T {
		var sum float64
		if term == nil {
			sum = fold(x, o.dims, o.steps, 0, func(acc float64, v T) float64 { return acc + float64(v) })
		} else {
			sum = fold(x, o.dims, o.steps, 0, func(acc float64, v T) float64 { return acc + term(float64(v)) })
		}
		if after != nil {
			sum = after(sum, o.count)
		}
		return T(sum)
	}
}

func square(v float64) float64 { return float64(v * v) }

// fold takes every element of x, dimension by dimension.
func fold[A any, T number](x []T, dims, steps []int, acc A, f func(A, T) A) A {
	size, step := dims[0], steps[0]
	if len(dims) > 1 {
		for i := range size {
			acc = fold(x[i*step:], dims[1:], steps[1:], acc, f)
		}
		return acc
	}
	for i := range size {
		acc = f(acc, x[i*step])
	}
	return acc
}

func (o *reducerOp[T]) run(s *Session) {
	o.dim(0, view[T](s, o.dst), view[T](s, o.x))
}

func (o *reducerOp[T]) dim(d int, dst, x []T) []T {
	for i := range o.kept[d] {
		part := x
		if o.count > 0 {
			part = x[i*o.keptSteps[d]:]
		}
		if d < len(o.kept)-1 {
			dst = o.dim(d+1, dst, part)
		} else {
			dst[0] = o.sum(&o.reduceOp, part)
			dst = dst[1:]
		}
	}
	return dst
}

// lanes says how a node's axis lies in x: [outer,axis,inner].
func lanes(shape tensor.Shape, axis int) (outer, size, inner int) {
	return shape[:axis].Elements(), shape[axis], shape[axis+1:].Elements()
}

// order emits an ArgMax or ArgMin (opset 13) or a TopK (opset 11).
func (c *compiler) order(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	o := topOp{x: x, k: 1, values: -1, indices: -1, largest: n.Op == "ArgMax"}
	def := 0
	if n.Op == "TopK" {
		def, o.largest = -1, n.Attrs.Int("largest", 1) != 0
	}
	axis, err := graph.Axis(n, def, len(info.Shape))
	if err != nil {
		return err
	}
	o.outer, o.size, o.inner = lanes(info.Shape, axis)
	o.last = n.Attrs.Int("select_last_index", 0) != 0
	if n.Op != "TopK" {
		o.indices = c.define(n.Outputs[0])
		o.values = c.buffer(info.Type.Size() * o.outer * o.inner)
	} else {
		o.k = c.shape(n.Outputs[0])[axis]
		if n.Outputs[0] != "" {
			o.values = c.define(n.Outputs[0])
		}
		if len(n.Outputs) > 1 && n.Outputs[1] != "" {
			o.indices = c.define(n.Outputs[1])
		} else {
			o.indices = c.buffer(8 * o.outer * o.inner * o.k)
		}
	}
	op := map[tensor.DType]operator{
		tensor.Float32: &topKOp[float32]{o}, tensor.Float64: &topKOp[float64]{o},
		tensor.Int64: &topKOp[int64]{o}, tensor.Int32: &topKOp[int32]{o}, tensor.Int16: &topKOp[int16]{o}, tensor.Int8: &topKOp[int8]{o},
		tensor.Uint64: &topKOp[uint64]{o}, tensor.Uint32: &topKOp[uint32]{o}, tensor.Uint16: &topKOp[uint16]{o}, tensor.Uint8: &topKOp[uint8]{o},
	}[info.Type]
	c.emit(op, o.values, o.indices, x)
	return nil
}

type topOp struct {
	values, indices, x int
	outer, size, inner int
	k                  int
	largest, last      bool // last: of equal ones the later comes first
}

// topKOp finds the k first of each lane, in order; of equal ones the earlier
// comes first. NaN comes before every number.
type topKOp[T number] struct{ topOp }

func (o *topKOp[T]) run(s *Session) {
	values, indices, x := view[T](s, o.values), view[int64](s, o.indices), view[T](s, o.x)
	for lane := range o.outer * o.inner {
		from := lane/o.inner*o.size*o.inner + lane%o.inner
		to := lane/o.inner*o.k*o.inner + lane%o.inner
		have := 0
		for i := range o.size {
			v := x[from+i*o.inner]
			if have == o.k && !o.before(v, values[to+(have-1)*o.inner]) {
				continue
			}
			at := have // where v goes: after all that are not behind it
			for at > 0 && o.before(v, values[to+(at-1)*o.inner]) {
				at--
			}
			have = min(have+1, o.k)
			for j := have - 1; j > at; j-- {
				values[to+j*o.inner], indices[to+j*o.inner] = values[to+(j-1)*o.inner], indices[to+(j-1)*o.inner]
			}
			values[to+at*o.inner], indices[to+at*o.inner] = v, int64(i)
		}
	}
}

// before reports whether v stands before w, which came earlier.
func (o *topKOp[T]) before(v, w T) bool {
	switch {
	case v == w:
		return o.last
	case isNaN(w):
		return false
	case isNaN(v):
		return true
	}
	return (v > w) == o.largest
}

// cumulate emits a CumSum (opset 14) or CumProd (opset 26).
func (c *compiler) cumulate(n *graph.Node) error {
	info := c.info(n.Inputs[0])
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	at, err := c.g.Ints(n, 1, "axis")
	if err != nil {
		return err
	}
	axis := at[0]
	if axis < 0 {
		axis += len(info.Shape)
	}
	o := sumOp{x: x, product: n.Op == "CumProd", exclusive: n.Attrs.Int("exclusive", 0) != 0, reverse: n.Attrs.Int("reverse", 0) != 0}
	o.outer, o.size, o.inner = lanes(info.Shape, axis)
	o.dst = c.define(n.Outputs[0])
	op := map[tensor.DType]operator{
		tensor.Float32: &cumSumOp[float32]{o}, tensor.Float64: &cumSumOp[float64]{o},
		tensor.Int64: &cumSumOp[int64]{o}, tensor.Int32: &cumSumOp[int32]{o},
		tensor.Uint64: &cumSumOp[uint64]{o}, tensor.Uint32: &cumSumOp[uint32]{o},
	}[info.Type]
	if op == nil {
		return fmt.Errorf("operator is not supported for %v", info.Type)
	}
	c.emit(op, o.dst, x)
	return nil
}

type sumOp struct {
	dst, x             int
	outer, size, inner int
	exclusive, reverse bool
	product            bool
}

// cumSumOp is dst = the sum or product of x up to each index of an axis.
type cumSumOp[T number] struct{ sumOp }

func (o *cumSumOp[T]) run(s *Session) {
	dst, x := view[T](s, o.dst), view[T](s, o.x)
	for lane := range o.outer * o.inner {
		from := lane/o.inner*o.size*o.inner + lane%o.inner
		sum := T(truth(o.product))
		for i := range o.size {
			if o.reverse {
				i = o.size - 1 - i
			}
			at := from + i*o.inner
			before := sum
			if o.product {
				sum *= x[at]
			} else {
				sum += x[at]
			}
			if dst[at] = sum; o.exclusive {
				dst[at] = before
			}
		}
	}
}
