package engine_test

import (
	"math"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// unit is the unit roundoff of float32, rounding to nearest.
const unit = 1.0 / (1 << 24)

// gamma is γ_n = n·u/(1 − n·u): n float32 operations in a row lose at most that,
// relative to the sum of the magnitudes that take part (Higham, Accuracy and
// Stability of Numerical Algorithms, 2002, lemma 3.1). It holds for every order
// of summation, fused or not.
func gamma(n int) float64 { return float64(n) * unit / (1 - float64(n)*unit) }

// exact is a value computed in float64, and by how much float32 may miss it.
type exact struct {
	shape tensor.Shape
	y     []float64
	bound []float64
}

func exactOf(shape tensor.Shape) *exact {
	return &exact{shape: shape, y: make([]float64, shape.Elements()), bound: make([]float64, shape.Elements())}
}

// index is the offset of coordinates in a shape, which broadcasts.
func index(shape tensor.Shape, at []int) int {
	at = at[len(at)-len(shape):]
	offset := 0
	for d, size := range shape {
		offset *= size
		if size > 1 {
			offset += at[d]
		}
	}
	return offset
}

// each calls f with the coordinates of every element of a shape, in order.
func each(shape tensor.Shape, f func(i int, at []int)) {
	at := make([]int, len(shape))
	for i := range shape.Elements() {
		rest := i
		for d := len(shape) - 1; d >= 0; d-- {
			at[d], rest = rest%shape[d], rest/shape[d]
		}
		f(i, at)
	}
}

// reference computes a node naively in float64 from float32 operands.
func reference(g *graph.Graph, n *graph.Node, in []*tensor.Tensor) *exact {
	out := exactOf(g.Infos[n.Outputs[0]].Shape)
	a := n.Attrs
	x := in[0]
	f := func(i, at int) float64 { return float64(in[i].F32()[at]) }
	switch n.Op {
	case "Conv":
		referenceConv(n, in, out)
	case "Gemm":
		transA, transB := a.Int("transA", 0) != 0, a.Int("transB", 0) != 0
		alpha, beta := float64(a.Float("alpha", 1)), float64(a.Float("beta", 1))
		k := x.Shape[1]
		if transA {
			k = x.Shape[0]
		}
		each(out.shape, func(i int, at []int) {
			sum, size := 0.0, 0.0
			for p := range k {
				ia, ib := []int{at[0], p}, []int{p, at[1]}
				if transA {
					slices.Reverse(ia)
				}
				if transB {
					slices.Reverse(ib)
				}
				v := f(0, index(x.Shape, ia)) * f(1, index(in[1].Shape, ib))
				sum += v
				size += math.Abs(v)
			}
			out.y[i], out.bound[i] = alpha*sum, math.Abs(alpha)*size
			if len(in) > 2 && in[2] != nil {
				c := beta * f(2, index(in[2].Shape, at))
				out.y[i] += c
				out.bound[i] += math.Abs(c)
			}
			// k products and sums, a reduction of 16 lanes, alpha, beta, C.
			out.bound[i] *= gamma(k + 4 + 3)
		})
	case "MatMul":
		referenceMatMul(in, out)
	case "Relu", "Clip":
		lo, hi := 0.0, math.Inf(1)
		if n.Op == "Clip" {
			l, h, _ := g.ClipBounds(n)
			lo, hi = float64(l), float64(h)
		}
		for i := range out.y {
			out.y[i] = min(max(f(0, i), lo), hi)
		}
	case "Add", "Mul":
		each(out.shape, func(i int, at []int) {
			p, q := f(0, index(x.Shape, at)), f(1, index(in[1].Shape, at))
			if out.y[i] = p + q; n.Op == "Mul" {
				out.y[i] = p * q
			}
			out.bound[i] = unit * math.Abs(out.y[i])
		})
	case "MaxPool", "AveragePool":
		referencePool(n, in, out)
	case "GlobalAveragePool":
		hw := x.Shape[2:].Elements()
		for i := range out.y {
			for p := range hw {
				out.y[i] += f(0, i*hw+p)
			}
			out.y[i] /= float64(hw)
			out.bound[i] = gamma(2) * math.Abs(out.y[i]) // summed in float64
		}
	case "Softmax":
		referenceSoftmax(g, n, in, out)
	case "BatchNormalization":
		each(out.shape, func(i int, at []int) {
			c := at[1]
			factor := f(1, c) / math.Sqrt(f(4, c)+float64(a.Float("epsilon", 1e-5)))
			scaled := (f(0, i) - f(3, c)) * factor
			out.y[i] = scaled + f(2, c)
			// Rounded: factor, difference, product, sum.
			out.bound[i] = gamma(4) * (math.Abs(scaled) + math.Abs(f(2, c)))
		})
	case "LRN":
		size := a.Int("size", 0)
		alpha, beta, bias := float64(a.Float("alpha", 1e-4)), float64(a.Float("beta", 0.75)), float64(a.Float("bias", 1))
		each(out.shape, func(i int, at []int) {
			sum := 0.0
			for c := at[1] - (size-1)/2; c <= at[1]+size/2; c++ {
				if c >= 0 && c < x.Shape[1] {
					v := f(0, index(x.Shape, []int{at[0], c, at[2], at[3]}))
					sum += v * v
				}
			}
			out.y[i] = f(0, i) / math.Pow(bias+alpha/float64(size)*sum, beta)
			out.bound[i] = gamma(2) * math.Abs(out.y[i]) // computed in float64
		})
	case "Concat":
		axis := a.Int("axis", 1)
		if axis < 0 {
			axis += len(out.shape)
		}
		each(out.shape, func(i int, at []int) {
			at = slices.Clone(at)
			part := 0
			for at[axis] >= in[part].Shape[axis] {
				at[axis] -= in[part].Shape[axis]
				part++
			}
			out.y[i] = float64(in[part].F32()[flat(in[part].Shape, at)])
		})
	case "Transpose":
		perm := a.Ints("perm", nil)
		each(out.shape, func(i int, at []int) {
			from := make([]int, len(at))
			for d := range at {
				if perm != nil {
					from[perm[d]] = at[d]
				} else {
					from[len(at)-1-d] = at[d]
				}
			}
			out.y[i] = f(0, flat(x.Shape, from))
		})
	case "DequantizeLinear":
		axis := a.Int("axis", 1)
		if axis < 0 {
			axis += len(out.shape)
		}
		each(out.shape, func(i int, at []int) {
			channel := 0
			if in[1].Shape.Elements() > 1 {
				channel = at[axis]
			}
			v := integer(x, i)
			if len(in) > 2 && in[2] != nil {
				v -= integer(in[2], channel)
			}
			// The difference may round where it is 2²⁴ and more, then the product.
			out.y[i] = v * f(1, channel)
			out.bound[i] = gamma(2) * math.Abs(out.y[i])
		})
	case "Flatten", "Reshape", "Identity", "Dropout":
		for i := range out.y {
			out.y[i] = f(0, i)
		}
	default:
		panic("no reference for " + n.Op)
	}
	return out
}

// flat is index without broadcasting.
func flat(shape tensor.Shape, at []int) int {
	offset := 0
	for d, size := range shape {
		offset = offset*size + at[d]
	}
	return offset
}

func integer(t *tensor.Tensor, i int) float64 {
	switch t.Type {
	case tensor.Int8:
		return float64(tensor.Of[int8](t)[i])
	case tensor.Uint8:
		return float64(tensor.Of[uint8](t)[i])
	case tensor.Int16:
		return float64(tensor.Of[int16](t)[i])
	case tensor.Uint16:
		return float64(tensor.Of[uint16](t)[i])
	default:
		return float64(tensor.Of[int32](t)[i])
	}
}

func referenceConv(n *graph.Node, in []*tensor.Tensor, out *exact) {
	x, w := in[0], in[1]
	win, err := graph.WindowOf(n, x.Shape[2:], w.Shape[2:])
	if err != nil {
		panic(err)
	}
	perGroup := w.Shape[0] / n.Attrs.Int("group", 1)
	each(out.shape, func(i int, at []int) {
		sum, size := 0.0, 0.0
		each(w.Shape[1:], func(k int, tap []int) {
			h := at[2]*win.Strides[0] + tap[1]*win.Dilations[0] - win.PadBegin[0]
			v := at[3]*win.Strides[1] + tap[2]*win.Dilations[1] - win.PadBegin[1]
			if h < 0 || h >= x.Shape[2] || v < 0 || v >= x.Shape[3] {
				return
			}
			c := at[1]/perGroup*w.Shape[1] + tap[0]
			p := float64(x.F32()[flat(x.Shape, []int{at[0], c, h, v})]) * float64(w.F32()[at[1]*w.Shape[1:].Elements()+k])
			sum += p
			size += math.Abs(p)
		})
		if len(in) > 2 && in[2] != nil {
			b := float64(in[2].F32()[at[1]])
			sum += b
			size += math.Abs(b)
		}
		out.y[i] = sum
		out.bound[i] = gamma(w.Shape[1:].Elements()+1) * size
	})
}

func referenceMatMul(in []*tensor.Tensor, out *exact) {
	a, b := slices.Clone(in[0].Shape), slices.Clone(in[1].Shape)
	shape := slices.Clone(out.shape)
	if len(b) == 1 {
		b, shape = append(b, 1), append(shape, 1)
	}
	if len(a) == 1 {
		a = append(tensor.Shape{1}, a...)
		shape = slices.Insert(shape, len(shape)-1, 1)
	}
	k := a[len(a)-1]
	each(shape, func(i int, at []int) {
		sum, size := 0.0, 0.0
		left, right := slices.Clone(at), slices.Clone(at)
		for p := range k {
			left[len(at)-1], right[len(at)-2] = p, p
			v := float64(in[0].F32()[index(a, left)]) * float64(in[1].F32()[index(b, right)])
			sum += v
			size += math.Abs(v)
		}
		out.y[i], out.bound[i] = sum, gamma(k+4)*size
	})
}

func referencePool(n *graph.Node, in []*tensor.Tensor, out *exact) {
	x := in[0]
	win, err := graph.WindowOf(n, x.Shape[2:], nil)
	if err != nil {
		panic(err)
	}
	pads := n.Attrs.Int("count_include_pad", 0) != 0
	each(out.shape, func(i int, at []int) {
		most, sum, size := math.Inf(-1), 0.0, 0.0
		cells, padded := 0, 0
		each(win.Kernel, func(_ int, tap []int) {
			h := at[2]*win.Strides[0] + tap[0]*win.Dilations[0] - win.PadBegin[0]
			w := at[3]*win.Strides[1] + tap[1]*win.Dilations[1] - win.PadBegin[1]
			if h < x.Shape[2]+win.PadEnd[0] && w < x.Shape[3]+win.PadEnd[1] {
				padded++
			}
			if h < 0 || h >= x.Shape[2] || w < 0 || w >= x.Shape[3] {
				return
			}
			v := float64(x.F32()[flat(x.Shape, []int{at[0], at[1], h, w})])
			cells++
			most, sum, size = max(most, v), sum+v, size+math.Abs(v)
		})
		if n.Op == "MaxPool" {
			out.y[i] = most
			return
		}
		count := cells
		if pads {
			count = padded
		}
		out.y[i] = sum / float64(count)
		out.bound[i] = gamma(cells) * size / float64(count) // cells-1 sums and a division
	})
}

func referenceSoftmax(g *graph.Graph, n *graph.Node, in []*tensor.Tensor, out *exact) {
	x := in[0]
	axis := n.Attrs.Int("axis", -1)
	if _, ok := n.Attrs["axis"]; !ok && g.Opset < 13 {
		axis = 1
	}
	if axis < 0 {
		axis += len(x.Shape)
	}
	line := func(at []int) string { // elements of one line have equal keys
		key := []byte{}
		for d, v := range at {
			if d < axis || (g.Opset >= 13 && d > axis) {
				key = append(key, byte(v), ',')
			}
		}
		return string(key)
	}
	most, least, sums := map[string]float64{}, map[string]float64{}, map[string]float64{}
	each(x.Shape, func(i int, at []int) {
		v, key := float64(x.F32()[i]), line(at)
		if _, ok := most[key]; !ok {
			most[key], least[key] = v, v
		}
		most[key], least[key] = max(most[key], v), min(least[key], v)
	})
	each(x.Shape, func(i int, at []int) {
		sums[line(at)] += math.Exp(float64(x.F32()[i]) - most[line(at)])
	})
	each(x.Shape, func(i int, at []int) {
		key := line(at)
		out.y[i] = math.Exp(float64(x.F32()[i])-most[key]) / sums[key]
		// x - max rounds, which exp turns into a relative error of u·|x - max|;
		// exp itself is within 1 ulp (2u). So it is for the sum; the quotient
		// rounds once. One more unit covers products of errors.
		out.bound[i] = unit * (2*(most[key]-least[key]+2) + 2) * out.y[i]
	})
}
