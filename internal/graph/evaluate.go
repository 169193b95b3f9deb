package graph

import (
	"fmt"
	"math"

	"starling/internal/tensor"
)

// maxKnown limits the elements of a value that Prepare computes, and maxKnownSum
// those of all: shapes and what they are made of are short.
const (
	maxKnown    = 1 << 16
	maxKnownSum = 1 << 24
)

// numberOf is element i as a float64; an int64 beyond 2⁵³ rounds.
func numberOf(t *tensor.Tensor, i int) float64 {
	switch t.Type {
	case tensor.Float32:
		return float64(tensor.Of[float32](t)[i])
	case tensor.Float64:
		return tensor.Of[float64](t)[i]
	case tensor.Float16:
		return float64(tensor.FromFloat16(tensor.View[uint16](t.Data)[i]))
	case tensor.BFloat16:
		return float64(tensor.FromBFloat16(tensor.View[uint16](t.Data)[i]))
	}
	return float64(integerOf(t, i))
}

// integerOf is element i of integers or bools as an int64, of floats cut off.
func integerOf(t *tensor.Tensor, i int) int64 {
	switch t.Type {
	case tensor.Int64:
		return tensor.Of[int64](t)[i]
	case tensor.Uint64:
		return int64(tensor.Of[uint64](t)[i])
	case tensor.Int32:
		return int64(tensor.Of[int32](t)[i])
	case tensor.Uint32:
		return int64(tensor.Of[uint32](t)[i])
	case tensor.Int16:
		return int64(tensor.Of[int16](t)[i])
	case tensor.Uint16:
		return int64(tensor.Of[uint16](t)[i])
	case tensor.Int8:
		return int64(tensor.Of[int8](t)[i])
	case tensor.Uint8, tensor.Bool:
		return int64(t.Data[i])
	}
	return int64(numberOf(t, i))
}

// setNumber rounds to floats; setInteger cuts off to the type's bits.
func setNumber(t *tensor.Tensor, i int, v float64) {
	switch t.Type {
	case tensor.Float32:
		tensor.Of[float32](t)[i] = float32(v)
	case tensor.Float64:
		tensor.Of[float64](t)[i] = v
	case tensor.Float16:
		tensor.View[uint16](t.Data)[i] = tensor.ToFloat16(v)
	case tensor.BFloat16:
		tensor.View[uint16](t.Data)[i] = tensor.ToBFloat16(float32(v))
	}
}

func setInteger(t *tensor.Tensor, i int, v int64) {
	switch t.Type.Size() {
	case 8:
		tensor.View[int64](t.Data)[i] = v
	case 4:
		tensor.View[int32](t.Data)[i] = int32(v)
	case 2:
		tensor.View[int16](t.Data)[i] = int16(v)
	case 1:
		t.Data[i] = byte(v)
	}
}

func isFloat(t tensor.DType) bool { return (floating|narrow)&(1<<t) != 0 }

// nonZero lists the elements that are not 0.
func nonZero(t *tensor.Tensor) []int {
	size := t.Type.Size()
	var list []int
	for i := range t.Shape.Elements() {
		negativeZero := isFloat(t.Type) && numberOf(t, i) == 0
		for _, b := range t.Data[i*size : (i+1)*size] {
			if b != 0 && !negativeZero {
				list = append(list, i)
				break
			}
		}
	}
	return list
}

// evaluate computes a node of the operators that shapes are computed with from
// the values of its inputs, which have been inferred. What float32 has to round
// is rounded once an operator, as the engine does.
func (g *Graph) evaluate(n *Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	out := make([]*tensor.Tensor, len(n.Outputs))
	for i, name := range n.Outputs {
		if name == "" {
			continue
		}
		info, ok := g.Infos[name]
		if !ok {
			return nil, fmt.Errorf("its type is not known")
		}
		elements := info.Shape.Elements()
		if g.known += elements; elements > maxKnown || g.known > maxKnownSum {
			return nil, fmt.Errorf("shape %v is too large for what other shapes depend on", info.Shape)
		}
		out[i] = tensor.New(info.Type, info.Shape...)
	}
	for _, t := range in {
		if t != nil && t.Shape.Elements() > maxKnown {
			return nil, fmt.Errorf("an input of shape %v is too large for what other shapes depend on", t.Shape)
		}
	}
	if out[0] == nil {
		return nil, fmt.Errorf("its first output is left out")
	}
	if ok, err := g.evaluateMove(n, in, out); ok || err != nil {
		return out, err
	}
	if evaluateMath(n, in, out[0]) || evaluateReduce(g, n, in, out[0]) {
		return out, nil
	}
	return nil, fmt.Errorf("the operator is not one that shapes can depend on")
}

// evaluateMath computes elementwise operators; not ok if it knows no such.
func evaluateMath(n *Node, in []*tensor.Tensor, out *tensor.Tensor) bool {
	if n.Op == "Cast" || n.Op == "CastLike" {
		for i := range out.Shape.Elements() {
			switch {
			case isFloat(out.Type):
				setNumber(out, i, numberOf(in[0], i))
			case out.Type == tensor.Bool && isFloat(in[0].Type):
				setInteger(out, i, truth(numberOf(in[0], i) != 0))
			case out.Type == tensor.Bool:
				setInteger(out, i, truth(integerOf(in[0], i) != 0))
			default:
				setInteger(out, i, integerOf(in[0], i))
			}
		}
		return true
	}
	numbers, withIntegers := numberMath[n.Op], integerMath[n.Op]
	if numbers == nil && withIntegers == nil || n.Op == "Mod" && n.Attrs.Int("fmod", 0) != 0 {
		return false
	}
	each := make([][]int, len(in))
	for i, t := range in {
		each[i] = spread(t.Shape, out.Shape)
	}
	for i := range out.Shape.Elements() {
		at := func(k int) int { return each[k][i] }
		if isFloat(in[0].Type) {
			if numbers == nil {
				return false
			}
			v := numberOf(in[0], at(0))
			if len(in) == 1 {
				v = numbers(v, v)
			}
			for k := 1; k < len(in); k++ {
				v = numbers(v, numberOf(in[k], at(k)))
				if out.Type == tensor.Float32 {
					v = float64(float32(v))
				}
			}
			if isFloat(out.Type) {
				setNumber(out, i, v)
			} else {
				setInteger(out, i, int64(v))
			}
			continue
		}
		if withIntegers == nil {
			return false
		}
		v := integerOf(in[0], at(0))
		if len(in) == 1 {
			v = withIntegers(v, v)
		}
		for k := 1; k < len(in); k++ {
			v = withIntegers(v, integerOf(in[k], at(k)))
		}
		setInteger(out, i, v)
	}
	return true
}

// spread lists, for each element of a broadcast result, which one of a tensor of
// that shape it comes from.
func spread(shape, out tensor.Shape) []int {
	list := []int{0}
	for d, size := range out {
		next := make([]int, 0, len(list)*size)
		own := 1
		if k := d - (len(out) - len(shape)); k >= 0 {
			own = shape[k]
		}
		for _, at := range list {
			for i := range size {
				next = append(next, at*own+min(i, own-1))
			}
		}
		list = next
	}
	return list
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func number(b bool) float64 { return float64(truth(b)) }

// Both take an operand twice where there is one only.
var (
	numberMath = map[string]func(a, b float64) float64{
		"Add": func(a, b float64) float64 { return a + b }, "Sub": func(a, b float64) float64 { return a - b },
		"Mul": func(a, b float64) float64 { return a * b }, "Div": func(a, b float64) float64 { return a / b },
		"Max": math.Max, "Min": math.Min, "Sum": func(a, b float64) float64 { return a + b },
		"Relu": func(a, _ float64) float64 { return math.Max(a, 0) },
		"Neg":  func(a, _ float64) float64 { return -a }, "Abs": func(a, _ float64) float64 { return math.Abs(a) },
		"Floor": func(a, _ float64) float64 { return math.Floor(a) }, "Ceil": func(a, _ float64) float64 { return math.Ceil(a) },
		"Round": func(a, _ float64) float64 { return math.RoundToEven(a) }, "Sqrt": func(a, _ float64) float64 { return math.Sqrt(a) },
		"Reciprocal": func(a, _ float64) float64 { return 1 / a },
		"Equal":      func(a, b float64) float64 { return number(a == b) }, "Less": func(a, b float64) float64 { return number(a < b) },
		"Greater": func(a, b float64) float64 { return number(a > b) }, "LessOrEqual": func(a, b float64) float64 { return number(a <= b) },
		"GreaterOrEqual": func(a, b float64) float64 { return number(a >= b) },
	}
	integerMath = map[string]func(a, b int64) int64{
		"Add": func(a, b int64) int64 { return a + b }, "Sub": func(a, b int64) int64 { return a - b },
		"Mul": func(a, b int64) int64 { return a * b }, "Div": func(a, b int64) int64 {
			if b == 0 {
				return 0
			}
			return a / b
		},
		"Mod": func(a, b int64) int64 {
			if b == 0 {
				return 0
			}
			if r := a % b; r == 0 || (r < 0) == (b < 0) {
				return r
			}
			return a%b + b
		},
		"Max": func(a, b int64) int64 { return max(a, b) }, "Min": func(a, b int64) int64 { return min(a, b) },
		"Neg": func(a, _ int64) int64 { return -a }, "Abs": func(a, _ int64) int64 { return max(a, -a) },
		"Equal": func(a, b int64) int64 { return truth(a == b) }, "Less": func(a, b int64) int64 { return truth(a < b) },
		"Greater": func(a, b int64) int64 { return truth(a > b) }, "LessOrEqual": func(a, b int64) int64 { return truth(a <= b) },
		"GreaterOrEqual": func(a, b int64) int64 { return truth(a >= b) },
		"Not":            func(a, _ int64) int64 { return 1 - a }, "And": func(a, b int64) int64 { return a & b },
		"Or": func(a, b int64) int64 { return a | b }, "Xor": func(a, b int64) int64 { return a ^ b },
	}
)

// evaluateReduce computes the reductions that shapes need; not ok if it is none.
func evaluateReduce(g *Graph, n *Node, in []*tensor.Tensor, out *tensor.Tensor) bool {
	op := map[string]string{"ReduceProd": "Mul", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}[n.Op]
	x := in[0]
	if op == "" || isFloat(x.Type) {
		return false
	}
	reduced, err := g.ReducedAxes(n, len(x.Shape))
	if err != nil {
		return false
	}
	kept := make(tensor.Shape, len(x.Shape))
	for i, d := range x.Shape {
		if kept[i] = d; reduced[i] {
			kept[i] = 1
		}
	}
	first := make([]bool, out.Shape.Elements())
	for i, to := range spread(kept, x.Shape) {
		v := integerOf(x, i)
		if first[to] {
			v = integerMath[op](integerOf(out, to), v)
		}
		first[to] = true
		setInteger(out, to, v)
	}
	for i, any := range first {
		if !any && op == "Mul" { // the product of nothing
			setInteger(out, i, 1)
		}
	}
	return true
}
