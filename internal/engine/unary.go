package engine

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// float is an element type of floating point, integer one that is none; number
// is either.
type float interface{ float32 | float64 }

type integer interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

type number interface{ float | integer }

// isNaN is math.IsNaN for every type; no integer is NaN.
func isNaN[T number](v T) bool {
	return v != v //nolint:gocritic // only NaN differs from itself
}

// view views a slot's memory.
func view[T tensor.Element](s *Session, slot int) []T { return tensor.View[T](s.data[slot]) }

// functions are the operators on one float, computed in float64 and rounded once,
// with their attributes (opsets: ONNX's latest up to graph.MaxOpset).
var functions = map[string]func(a graph.Attrs) func(float64) float64{
	"Abs": plain(math.Abs), "Ceil": plain(math.Ceil), "Floor": plain(math.Floor), "Round": plain(math.RoundToEven),
	"Sqrt": plain(math.Sqrt), "Exp": plain(exp), "Log": plain(log), "Tanh": plain(tanh), "Sigmoid": plain(sigmoid),
	"Erf": plain(erf), "Softplus": plain(softplus), "Sin": plain(sin), "Cos": plain(cos), "Tan": plain(tan),
	"Asin": plain(asin), "Acos": plain(acos), "Atan": plain(atan), "Sinh": plain(sinh), "Cosh": plain(cosh),
	"Asinh": plain(asinh), "Acosh": plain(acosh), "Atanh": plain(atanh),
	"Neg":        plain(func(x float64) float64 { return -x }),
	"Relu":       plain(func(x float64) float64 { return max(x, 0) }),
	"Reciprocal": plain(func(x float64) float64 { return 1 / x }),
	"Softsign":   plain(func(x float64) float64 { return x / (1 + math.Abs(x)) }),
	"Mish":       plain(func(x float64) float64 { return x * tanh(softplus(x)) }),
	"HardSwish":  plain(func(x float64) float64 { return x * min(max(float64(x/6)+0.5, 0), 1) }),
	"Sign": plain(func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return x
	}),
	"Gelu": func(a graph.Attrs) func(float64) float64 {
		if a.String("approximate", "none") == "tanh" {
			return func(x float64) float64 {
				inner := math.Sqrt(2/math.Pi) * (x + float64(0.044715*x*x*x))
				return 0.5 * x * (1 + tanh(inner))
			}
		}
		return func(x float64) float64 { return 0.5 * x * (1 + erf(x/math.Sqrt2)) }
	},
	"Elu": func(a graph.Attrs) func(float64) float64 {
		alpha := float64(a.Float("alpha", 1))
		return func(x float64) float64 { return below(x, func() float64 { return alpha * expm1(x) }) }
	},
	"Celu": func(a graph.Attrs) func(float64) float64 {
		alpha := float64(a.Float("alpha", 1))
		return func(x float64) float64 { return below(x, func() float64 { return alpha * expm1(x/alpha) }) }
	},
	"Selu": func(a graph.Attrs) func(float64) float64 {
		alpha, gamma := float64(a.Float("alpha", 1.67326319217681884765625)), float64(a.Float("gamma", 1.05070102214813232421875))
		return func(x float64) float64 { return gamma * below(x, func() float64 { return alpha * expm1(x) }) }
	},
	"LeakyRelu": func(a graph.Attrs) func(float64) float64 {
		alpha := float64(a.Float("alpha", 0.01))
		return func(x float64) float64 { return below(x, func() float64 { return alpha * x }) }
	},
	"ThresholdedRelu": func(a graph.Attrs) func(float64) float64 {
		alpha := float64(a.Float("alpha", 1))
		return func(x float64) float64 {
			if x > alpha || x != x {
				return x
			}
			return 0
		}
	},
	"HardSigmoid": func(a graph.Attrs) func(float64) float64 {
		alpha, beta := float64(a.Float("alpha", 0.2)), float64(a.Float("beta", 0.5))
		return func(x float64) float64 { return min(max(float64(alpha*x)+beta, 0), 1) }
	},
	"Shrink": func(a graph.Attrs) func(float64) float64 {
		bias, lambda := float64(a.Float("bias", 0)), float64(a.Float("lambd", 0.5))
		return func(x float64) float64 {
			switch {
			case x < -lambda:
				return x + bias
			case x > lambda:
				return x - bias
			}
			return 0
		}
	},
	"Swish": func(a graph.Attrs) func(float64) float64 {
		alpha := float64(a.Float("alpha", 1))
		return func(x float64) float64 { return x * sigmoid(float64(alpha*x)) }
	},
}

// floatFunctions are their names, without those that are emitted otherwise.
func floatFunctions() []string {
	return slices.DeleteFunc(slices.Collect(maps.Keys(functions)), func(op string) bool { return op == "Relu" })
}

func plain(f func(float64) float64) func(graph.Attrs) func(float64) float64 {
	return func(graph.Attrs) func(float64) float64 { return f }
}

// below is x for x ≥ 0 and NaN, else what f says.
func below(x float64, f func() float64) float64 {
	if x < 0 {
		return f()
	}
	return x
}

// unary emits an operator on each element alone.
func (c *compiler) unary(n *graph.Node) error {
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	dst := c.define(n.Outputs[0])
	typ := c.info(n.Inputs[0]).Type
	var op operator
	switch typ {
	case tensor.Float32:
		op = floats[float32](dst, x, n)
	case tensor.Float64:
		op = floats[float64](dst, x, n)
	case tensor.Int64:
		op = integers[int64](dst, x, n.Op)
	case tensor.Int32:
		op = integers[int32](dst, x, n.Op)
	case tensor.Int16:
		op = integers[int16](dst, x, n.Op)
	case tensor.Int8:
		op = integers[int8](dst, x, n.Op)
	case tensor.Uint64:
		op = integers[uint64](dst, x, n.Op)
	case tensor.Uint32:
		op = integers[uint32](dst, x, n.Op)
	case tensor.Uint16:
		op = integers[uint16](dst, x, n.Op)
	case tensor.Uint8:
		op = integers[uint8](dst, x, n.Op)
	case tensor.Bool:
		op = &mapOp[uint8, uint8]{dst: dst, x: x, f: func(v uint8) uint8 { return 1 - v }} // Not
	}
	if op == nil {
		return fmt.Errorf("operator is not supported for %v", typ)
	}
	c.emit(op, dst, x)
	return nil
}

func floats[T float](dst, x int, n *graph.Node) operator {
	switch n.Op {
	case "IsNaN":
		return &mapOp[T, uint8]{dst: dst, x: x, f: func(v T) uint8 { return truth(isNaN(v)) }}
	case "IsInf":
		positive, negative := n.Attrs.Int("detect_positive", 1) != 0, n.Attrs.Int("detect_negative", 1) != 0
		return &mapOp[T, uint8]{dst: dst, x: x, f: func(v T) uint8 {
			return truth(positive && math.IsInf(float64(v), 1) || negative && math.IsInf(float64(v), -1))
		}}
	}
	function := functions[n.Op]
	if function == nil {
		return nil
	}
	f := function(n.Attrs)
	return &mapOp[T, T]{dst: dst, x: x, f: func(v T) T { return T(f(float64(v))) }}
}

func integers[T integer](dst, x int, op string) operator {
	f := map[string]func(T) T{
		"Abs":        func(v T) T { return max(v, -v*T(truth(v < 0))) },
		"Neg":        func(v T) T { return -v },
		"Relu":       func(v T) T { return max(v, 0) },
		"Sign":       func(v T) T { return T(truth(v > 0)) - T(truth(v < 0)) },
		"BitwiseNot": func(v T) T { return ^v },
	}[op]
	if f == nil {
		return nil
	}
	return &mapOp[T, T]{dst: dst, x: x, f: f}
}

func truth(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// mapOp is dst = f(x), element by element; they may be the same slot if the
// types have the same size.
type mapOp[A, R tensor.Element] struct {
	dst, x int
	f      func(A) R
}

func (o *mapOp[A, R]) run(s *Session) {
	dst := view[R](s, o.dst)
	for i, v := range view[A](s, o.x) {
		dst[i] = o.f(v)
	}
}

// cast emits a Cast or CastLike: integers keep their low bits, floats round to
// the nearest and are cut off towards zero, bool is whether a number is not 0.
func (c *compiler) cast(n *graph.Node) error {
	from, to := c.info(n.Inputs[0]).Type, c.info(n.Outputs[0]).Type
	if from == to {
		return c.view(n)
	}
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	dst := c.define(n.Outputs[0])
	c.emit(&castOp{dst: dst, x: x, from: from, to: to}, dst, x)
	return nil
}

type castOp struct {
	dst, x   int
	from, to tensor.DType
}

func (o *castOp) run(s *Session) {
	dst, x := s.data[o.dst], s.data[o.x]
	switch o.from {
	case tensor.Float32:
		castFloat(o.to, dst, tensor.View[float32](x))
	case tensor.Float64:
		castFloat(o.to, dst, tensor.View[float64](x))
	case tensor.Int64:
		castInteger(o.to, dst, tensor.View[int64](x))
	case tensor.Int32:
		castInteger(o.to, dst, tensor.View[int32](x))
	case tensor.Int16:
		castInteger(o.to, dst, tensor.View[int16](x))
	case tensor.Int8:
		castInteger(o.to, dst, tensor.View[int8](x))
	case tensor.Uint64:
		castInteger(o.to, dst, tensor.View[uint64](x))
	case tensor.Uint32:
		castInteger(o.to, dst, tensor.View[uint32](x))
	case tensor.Uint16:
		castInteger(o.to, dst, tensor.View[uint16](x))
	case tensor.Uint8, tensor.Bool:
		castInteger(o.to, dst, x)
	case tensor.Float16:
		castBits(o.to, dst, tensor.View[uint16](x), tensor.FromFloat16)
	case tensor.BFloat16:
		castBits(o.to, dst, tensor.View[uint16](x), tensor.FromBFloat16)
	}
}

func castFloat[F float](to tensor.DType, dst []byte, x []F) {
	switch to {
	case tensor.Float32:
		convert(tensor.View[float32](dst), x)
	case tensor.Float64:
		convert(tensor.View[float64](dst), x)
	case tensor.Float16:
		for i, v := range x {
			tensor.View[uint16](dst)[i] = tensor.ToFloat16(float64(v))
		}
	case tensor.BFloat16:
		for i, v := range x {
			tensor.View[uint16](dst)[i] = tensor.ToBFloat16(float32(v))
		}
	case tensor.Bool:
		for i, v := range x {
			dst[i] = truth(v != 0)
		}
	case tensor.Uint64:
		for i, v := range x {
			if v >= 1<<63 {
				tensor.View[uint64](dst)[i] = uint64(whole(v-1<<63)) + 1<<63
			} else {
				tensor.View[uint64](dst)[i] = uint64(whole(v))
			}
		}
	default:
		for i, v := range x {
			put(to, dst, i, whole(v))
		}
	}
}

// whole cuts off towards zero; what int64 cannot hold is its nearest, NaN 0: Go
// leaves both to the CPU.
func whole[F float](v F) int64 {
	switch {
	case isNaN(v):
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

// put stores the low bits of v.
func put(to tensor.DType, dst []byte, i int, v int64) {
	switch to.Size() {
	case 8:
		tensor.View[int64](dst)[i] = v
	case 4:
		tensor.View[int32](dst)[i] = int32(v)
	case 2:
		tensor.View[int16](dst)[i] = int16(v)
	case 1:
		dst[i] = byte(v)
	}
}

func castInteger[F integer](to tensor.DType, dst []byte, x []F) {
	switch to {
	case tensor.Float32:
		convert(tensor.View[float32](dst), x)
	case tensor.Float64:
		convert(tensor.View[float64](dst), x)
	case tensor.Float16:
		for i, v := range x {
			tensor.View[uint16](dst)[i] = tensor.ToFloat16(float64(v))
		}
	case tensor.BFloat16:
		for i, v := range x {
			tensor.View[uint16](dst)[i] = tensor.ToBFloat16(float32(v))
		}
	case tensor.Bool:
		for i, v := range x {
			dst[i] = truth(v != 0)
		}
	default:
		for i, v := range x {
			put(to, dst, i, int64(v))
		}
	}
}

func convert[F, T number](dst []T, x []F) {
	for i, v := range x {
		dst[i] = T(v)
	}
}

func castBits(to tensor.DType, dst []byte, x []uint16, value func(uint16) float32) {
	for i, bits := range x {
		v := [1]float32{value(bits)}
		size := to.Size()
		castFloat(to, dst[i*size:(i+1)*size], v[:])
	}
}
