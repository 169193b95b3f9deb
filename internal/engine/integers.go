package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Integers says how the numbers of an integer layer are stored,
//
//	y = Σ (w − Zero)·(x − the zero point of x)
//
// which wraps modulo 2³² or 2⁶⁴. Pads of a convolution are zero points. So y is
// linear in w − Zero as in x − its zero point, and what combines weights or inputs
// takes zero points out first: its wider numbers have none.
type Integers struct {
	Input   tensor.DType // Uint8 or Int8; Int16 or Int32, without a zero point, for combinations of inputs
	Weights tensor.DType // Uint8 or Int8; Int16 or Int32 for combinations, or rows of different zero points
	Result  tensor.DType // Int32; Int64 where sums of combinations do not fit
	Zero    int          // the zero point of weights of bytes
}

// Largest magnitudes of bytes less their zero points.
const (
	mostByte       = 255
	mostSignedByte = 128 // of int8 with zero point 0
)

// validate says whether a layer whose rows have that length can have such numbers.
func (i Integers) validate(cols int) error {
	if i == (Integers{}) {
		return nil
	}
	wide := func(t tensor.DType) bool { return t == tensor.Int16 || t == tensor.Int32 }
	low, high, isByte := byteRange(i.Weights)
	switch {
	case i.Input.Size() != 1 && !wide(i.Input) || i.Input == tensor.Bool,
		!isByte && !wide(i.Weights), wide(i.Input) && wide(i.Weights),
		i.Result != tensor.Int32 && i.Result != tensor.Int64:
		return fmt.Errorf("integer layer of %v inputs, %v weights and %v results", i.Input, i.Weights, i.Result)
	case isByte && (i.Zero < low || i.Zero > high) || !isByte && i.Zero != 0:
		return fmt.Errorf("zero point %d of %v weights", i.Zero, i.Weights)
	case i.Result == tensor.Int64 && cols > MaxWide:
		return fmt.Errorf("rows of %d weights with int64 results: the limit is %d", cols, MaxWide)
	}
	return nil
}

// MaxWide is how long rows with results of int64 may be: these are put together
// from sums of products of bytes, which have to fit in int32.
const MaxWide = math.MaxInt32 / (mostByte * mostByte)

// byteRange is what an element of a type of bytes can be.
func byteRange(t tensor.DType) (low, high int, ok bool) {
	switch t {
	case tensor.Int8:
		return math.MinInt8, math.MaxInt8, true
	case tensor.Uint8:
		return 0, math.MaxUint8, true
	}
	return 0, 0, false
}

// MostWeight is the largest magnitude that a weight of a layer of the graph, less
// its zero point, can have.
func (i Integers) MostWeight() int {
	if i.Weights == tensor.Int8 && i.Zero == 0 {
		return mostSignedByte
	}
	return mostByte
}

// MostInput is the same of an input.
func (i Integers) MostInput() int { return mostByte }

// Values fills dst with weights of w, from number first on, less their zero point.
func (i Integers) Values(dst []int32, w []byte, first int) {
	switch i.Weights {
	case tensor.Int16:
		for n, v := range tensor.View[int16](w)[first : first+len(dst)] {
			dst[n] = int32(v)
		}
	case tensor.Int32:
		copy(dst, tensor.View[int32](w)[first:])
	default:
		for n, b := range w[first : first+len(dst)] {
			dst[n] = byteValue(b, i.Weights) - int32(i.Zero)
		}
	}
}

// Inputs fills dst with inputs of x, from number first on, less the zero point that
// stands behind them. They are of bytes.
func (i Integers) Inputs(dst []int32, x []byte, first int) {
	zero := byteValue(x[len(x)-1], i.Input)
	for n, b := range x[first : first+len(dst)] {
		dst[n] = byteValue(b, i.Input) - zero
	}
}

// InputSize is the size of an element of the input.
func (l Linear) InputSize() int { return sizeOf(l.Integers.Input) }

// WeightSize is the size of a weight.
func (l Linear) WeightSize() int { return sizeOf(l.Integers.Weights) }

// OutputSize is the size of an element of the output.
func (l Linear) OutputSize() int { return sizeOf(l.Integers.Result) }

// sizeOf is the size of one of Integers; float32 where there are none.
func sizeOf(t tensor.DType) int {
	if t == tensor.Invalid {
		return tensor.Float32.Size()
	}
	return t.Size()
}

// quantisedInputs are which inputs of an operator over integers are its zero point
// of x, its weights and their zero points; all 0 for other operators.
func quantisedInputs(op string) (at struct{ zero, weights, zeros int }) {
	switch op {
	case "ConvInteger", "MatMulInteger":
		at.zero, at.weights, at.zeros = 2, 1, 3
	case "QLinearConv", "QLinearMatMul":
		at.zero, at.weights, at.zeros = 2, 3, 5
	}
	return at
}

// integersOf is how the numbers of a node over integers are stored. It follows from
// types and zero points alone, so that other weights do not change it: a layer of
// one zero point has the bytes that the node has, or int8 where the zero point is
// that of uint8 in the middle.
func integersOf(g *graph.Graph, n *graph.Node) (i Integers, err error) {
	at := quantisedInputs(n.Op)
	if name := n.Input(at.zero); name != "" && g.Infos[name].Shape.Elements() != 1 {
		return i, fmt.Errorf("%w: each row of its input has a zero point of its own", ErrNotLinear)
	}
	i = Integers{Input: g.Infos[n.Input(0)].Type, Weights: g.Constants[n.Input(at.weights)].Type, Result: tensor.Int32}
	zeros, err := weightZeros(g, n)
	if err != nil || len(zeros) == 0 {
		return i, err
	}
	i.Zero = int(zeros[0])
	for _, z := range zeros {
		if z != zeros[0] {
			i.Weights, i.Zero = tensor.Int16, 0
		}
	}
	if i.Weights == tensor.Uint8 && i.Zero == mostSignedByte {
		i.Weights, i.Zero = tensor.Int8, 0
	}
	return i, nil
}

// weightZeros are the zero points of the weights of a node over integers: none, one,
// or one for each row.
func weightZeros(g *graph.Graph, n *graph.Node) ([]int32, error) {
	name := n.Input(quantisedInputs(n.Op).zeros)
	if name == "" {
		return nil, nil
	}
	z := g.Constants[name]
	if z == nil {
		return nil, fmt.Errorf("%w: the zero points %q are not constant", ErrNotLinear, name)
	}
	zeros := make([]int32, len(z.Data))
	fillZeros(zeros, z.Data, z.Type)
	return zeros, nil
}

// integerWeights is weightsOf for a layer over integers.
func (l Linear) integerWeights(g *graph.Graph, n *graph.Node) []byte {
	w := g.Constants[n.Input(quantisedInputs(n.Op).weights)]
	rows := w.Data
	if l.Op != "Conv" && l.Rows > 1 && l.Cols > 1 {
		rows = tensor.Alloc(len(w.Data))
		transpose8(rows, w.Data, l.Cols, l.Rows)
	}
	return l.StoreRows(g, n, 0, rows)
}

// StoreRows is weights of a node over integers, whose linear part is l, as
// Linear.Integers says: rows from row begin on, as bytes of the type of the node's
// constant, row by row of the linear part. It may return rows itself.
func (l Linear) StoreRows(g *graph.Graph, n *graph.Node, begin int, rows []byte) []byte {
	typ := g.Constants[n.Input(quantisedInputs(n.Op).weights)].Type
	zeros, _ := weightZeros(g, n) // linearOf has seen them
	switch {
	case l.Integers.Weights == tensor.Int16:
		wide := make([]int16, len(rows))
		for i, b := range rows {
			wide[i] = int16(byteValue(b, typ) - zeros[begin+i/l.Cols])
		}
		return tensor.Bytes(wide)
	case l.Integers.Weights != typ: // uint8 less 128
		flipped := tensor.Alloc(len(rows))
		for i, b := range rows {
			flipped[i] = b ^ 0x80
		}
		return flipped
	}
	return rows
}
