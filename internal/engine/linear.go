package engine

import (
	"errors"
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// Linear is the linear part of a layer, y = W·x before bias, requantisation and
// activation, or a part of it that is computed apart, as some of its rows, columns
// or output cells: package plan cuts it. It is plain data that is written to shard
// files as JSON, so what comes from outside must pass Validate before anything else
// is done with it.
type Linear struct {
	Op         string        // "Gemm", "MatMul" or "Conv"
	Rows, Cols int           // W is [Rows,Cols]
	Outer      int           // y is [Outer,Rows,Inner]: the batch,
	Inner      int           // and for a Conv the cells of a map, else 1
	Conv       kernel.Conv3D // zero unless Op is "Conv"
	Integers   Integers      `json:"integers,omitzero"` // zero for float32
}

// ErrNotLinear is wrapped by the error of LinearOf for a node that is not a
// product with constant weights.
var ErrNotLinear = errors.New("not a layer that can be split")

// Validate says whether the sizes are positive, agree with each other and fit
// this machine's int as bytes.
func (l Linear) Validate() error {
	if l.Rows < 1 || l.Cols < 1 || l.Outer < 1 || l.Inner < 1 {
		return fmt.Errorf("linear layer has sizes rows %d, cols %d, outer %d, inner %d: all must be positive", l.Rows, l.Cols, l.Outer, l.Inner)
	}
	if err := l.Integers.validate(l.Cols); err != nil {
		return err
	}
	x := tensor.Shape{l.Outer, l.Cols}
	switch l.Op {
	case "Gemm", "MatMul":
		if l.Inner != 1 || l.Conv != (kernel.Conv3D{}) {
			return fmt.Errorf("dense layer with inner size %d or a convolution's geometry", l.Inner)
		}
	case "Conv":
		g := l.Conv
		if err := g.Validate(); err != nil {
			return err
		}
		if g.Deep() && l.Integers != (Integers{}) {
			return errors.New("convolution of three dimensions over integers")
		}
		if l.Rows != g.M || l.Cols != g.K() || l.Outer != g.N || l.Inner != g.OutputCells() {
			return fmt.Errorf("layer of weights [%d,%d] and output [%d,%d,%d] is not the convolution %+v", l.Rows, l.Cols, l.Outer, l.Rows, l.Inner, g)
		}
		x = tensor.Shape{g.N, g.C, g.InputCells()}
	default:
		return fmt.Errorf("operator %q is not a linear layer", l.Op)
	}
	for _, s := range []tensor.Shape{x, {l.Rows, l.Cols}, {l.Outer, l.Rows, l.Inner}} {
		if err := s.Check(8, math.MaxInt); err != nil { // no element has more bytes
			return err
		}
	}
	return nil
}

// InputLen is the number of elements of the layer's input.
func (l Linear) InputLen() int {
	if l.Op == "Conv" {
		return l.Conv.N * l.Conv.C * l.Conv.InputCells()
	}
	return l.Outer * l.Cols
}

// OutputLen is the number of elements of the output.
func (l Linear) OutputLen() int { return l.Outer * l.Rows * l.Inner }

// InputBytes is the size of the input as a [Slice] takes it: one of bytes is
// followed by its zero point.
func (l Linear) InputBytes() int {
	size := l.InputSize()
	if size == 1 {
		return l.InputLen() + 1
	}
	return size * l.InputLen()
}

// OutputBytes is the size of the output.
func (l Linear) OutputBytes() int { return l.OutputSize() * l.OutputLen() }

// WeightBytes is the size of the weights.
func (l Linear) WeightBytes() int { return l.RowBytes() * l.Rows }

// RowBytes is the size of a row of the weights.
func (l Linear) RowBytes() int { return l.WeightSize() * l.Cols }

// OfRows is l with weights of that many rows. Its results have the bits of the
// same rows of l. A convolution must have one group.
func (l Linear) OfRows(rows int) Linear {
	l.Rows = rows
	if l.Op == "Conv" {
		l.Conv.M = rows
	}
	return l
}

// LinearOf returns the linear part of a node of a prepared graph, and its
// weights, row-major [Rows,Cols] as bytes of float32, or as Linear.Integers says.
// Where they lie so in the graph's constant (Conv, Gemm with transB) w views it and
// must not be written; else it is a copy. The error wraps ErrNotLinear where the
// node cannot be split.
//
// Several dense nodes that read the same input are one layer, of the rows of
// the first, then of the second, and so on; its w is a copy.
//
// Conv: y[n,m] = Σ W[m]·x (ONNX Conv, opset 11). Gemm: opset 13, y = A·B' with
// W = B'ᵀ; alpha, beta and C come after the linear part. MatMul: opset 13, the
// right operand constant and at most 2-D. ConvInteger, MatMulInteger (opset 10),
// QLinearConv (10) and QLinearMatMul (21) are the same over integers; see Integers.
func LinearOf(g *graph.Graph, nodes ...*graph.Node) (l Linear, w []byte, err error) {
	l, each, err := jointOf(g, nodes)
	if err != nil || len(nodes) == 1 {
		if err == nil {
			w = weightsOf(g, nodes[0], l)
		}
		return l, w, err
	}
	for i, n := range nodes {
		w = append(w, weightsOf(g, n, each[i])...)
	}
	return l, w, nil
}

// jointOf is LinearOf without weights, and what it is of each node.
func jointOf(g *graph.Graph, nodes []*graph.Node) (l Linear, each []Linear, err error) {
	first := nodes[0]
	for i, n := range nodes {
		one, err := linearOf(g, n)
		if err == nil && i > 0 && !(l.Joins(one) && InputOf(n) == InputOf(first)) {
			err = fmt.Errorf("%w with %s: it does not take the same input", ErrNotLinear, describe(first.Op, first.Name))
		}
		if err != nil {
			return Linear{}, nil, fmt.Errorf("%s: %w", describe(n.Op, n.Name), err)
		}
		each = append(each, one)
		if i == 0 {
			l = one
		} else {
			l.Rows += one.Rows
		}
	}
	return l, each, l.Validate()
}

// Joins says whether l and m can be one layer, of the rows of both, if they read
// the same input: see [InputOf].
func (l Linear) Joins(m Linear) bool {
	m.Op, m.Rows = l.Op, l.Rows
	return l.Op != "Conv" && m == l
}

// InputOf names what a node that can be split reads: a value and, of an integer
// layer, its zero point.
func InputOf(n *graph.Node) [2]string {
	if p := quantisedInputs(n.Op); p.weights > 0 {
		return [2]string{n.Input(0), n.Input(p.zero)}
	}
	return [2]string{n.Input(0)}
}

// linearOf is LinearOf without weights, its errors without the node's name.
func linearOf(g *graph.Graph, n *graph.Node) (l Linear, err error) {
	at := 1 // of the weights among the inputs
	switch n.Op {
	case "Conv", "Gemm", "MatMul":
	default:
		if at = quantisedInputs(n.Op).weights; at == 0 {
			return l, fmt.Errorf("%w: operator %s", ErrNotLinear, n.Op)
		}
	}
	weights := g.Constants[n.Input(at)]
	if weights == nil {
		return l, fmt.Errorf("%w: the weights %q are not constant", ErrNotLinear, n.Input(at))
	}
	if at == 1 && quantisedInputs(n.Op).weights == 0 {
		if weights.Type != tensor.Float32 {
			return l, fmt.Errorf("%w: weights are %v, not float32", ErrNotLinear, weights.Type)
		}
	} else if l.Integers, err = integersOf(g, n); err != nil {
		return l, err
	}
	x, b := g.Infos[n.Input(0)].Shape, weights.Shape
	switch n.Op {
	case "Conv", "ConvInteger", "QLinearConv":
		geometry, err := convGeometry(n, x, b)
		if err != nil {
			return l, err
		}
		if n.Op != "Conv" && geometry.Deep() {
			return l, fmt.Errorf("%w: three dimensions over integers", ErrNotLinear)
		}
		l.Op, l.Conv = "Conv", geometry
		l.Rows, l.Cols, l.Outer, l.Inner = geometry.M, geometry.K(), geometry.N, geometry.OutputCells()
	case "Gemm":
		if n.Attrs.Int("transA", 0) != 0 {
			return l, fmt.Errorf("%w: the input is transposed", ErrNotLinear)
		}
		l = Linear{Op: n.Op, Rows: b[1], Cols: b[0], Outer: x[0], Inner: 1}
		if n.Attrs.Int("transB", 0) != 0 {
			l.Rows, l.Cols = b[0], b[1]
		}
	default:
		if len(b) > 2 {
			return l, fmt.Errorf("%w: the weights are %d-dimensional", ErrNotLinear, len(b))
		}
		l.Op, l.Rows, l.Cols, l.Outer, l.Inner = "MatMul", 1, b[0], x[:len(x)-1].Elements(), 1
		if len(b) == 2 {
			l.Rows = b[1]
		}
	}
	return l, l.Validate()
}

// weightsOf returns the weights [Rows,Cols] of a node whose linear part is l: a
// view of the constant, or a copy if it lies otherwise.
func weightsOf(g *graph.Graph, n *graph.Node, l Linear) []byte {
	if l.Integers != (Integers{}) {
		return l.integerWeights(g, n)
	}
	w := g.Constants[n.Inputs[1]]
	if l.Op == "Conv" || l.Rows == 1 || (l.Op == "Gemm" && n.Attrs.Int("transB", 0) != 0) {
		return w.Data
	}
	rows := tensor.Alloc(l.WeightBytes())
	transpose(tensor.View[float32](rows), w.F32(), l.Cols, l.Rows)
	return rows
}

// convGeometry is the convolution of x [N,C,H,W] with w [M,C/groups,KH,KW], or
// of x [N,C,D,H,W] with w [M,C/groups,KD,KH,KW]; one spatial dimension is taken
// as W, with an H of 1.
func convGeometry(n *graph.Node, x, w tensor.Shape) (kernel.Conv3D, error) {
	win, err := graph.WindowOf(n, x[2:], w[2:])
	if err != nil {
		return kernel.Conv3D{}, err
	}
	if len(x) > 5 {
		return kernel.Conv3D{}, fmt.Errorf("%w: Conv has %d spatial dimensions", ErrNotLinear, len(x)-2)
	}
	x, w, win = plane(x), plane(w), planeWindow(win)
	v, h := len(x)-2, len(x)-4 // where H stands in shapes and in windows
	g := kernel.Conv3D{Conv2D: kernel.Conv2D{
		N: x[0], C: x[1], H: x[v], W: x[v+1], M: w[0],
		KH: win.Kernel[h], KW: win.Kernel[h+1], StrideH: win.Strides[h], StrideW: win.Strides[h+1],
		PadTop: win.PadBegin[h], PadLeft: win.PadBegin[h+1], PadBottom: win.PadEnd[h], PadRight: win.PadEnd[h+1],
		DilationH: win.Dilations[h], DilationW: win.Dilations[h+1], Groups: n.Attrs.Int("group", 1),
		OH: win.Out[h], OW: win.Out[h+1],
	}}
	if len(x) == 5 {
		g.D, g.KD, g.StrideD, g.PadFront = x[2], win.Kernel[0], win.Strides[0], win.PadBegin[0]
		g.PadBack, g.DilationD, g.OD = win.PadEnd[0], win.Dilations[0], win.Out[0]
	}
	return g, nil
}

// plane puts a dimension of 1 before a single spatial one.
func plane(x tensor.Shape) tensor.Shape {
	if len(x) == 3 {
		return tensor.Shape{x[0], x[1], 1, x[2]}
	}
	return x
}

func planeWindow(w graph.Window) graph.Window {
	if len(w.Out) == 1 {
		w.Kernel, w.Strides, w.Dilations, w.Out = []int{1, w.Kernel[0]}, []int{1, w.Strides[0]}, []int{1, w.Dilations[0]}, []int{1, w.Out[0]}
		w.PadBegin, w.PadEnd = []int{0, w.PadBegin[0]}, []int{0, w.PadEnd[0]}
	}
	return w
}

// transpose is dst = srcᵀ for src [rows,cols].
func transpose(dst, src []float32, rows, cols int) {
	// Blocks of 16 × 16 so that both sides stay within cache lines being used.
	const block = 16
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
