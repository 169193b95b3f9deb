package graph

import (
	"fmt"
	"slices"

	"starling/internal/tensor"
)

// expandCausalConv: a convolution of each channel that sees the past only (ONNX
// CausalConvWithState 27).
func expandCausalConv(c *call, e *expansion) error {
	x, w := c.shape(0), c.shape(1)
	if len(x) != 3 || len(w) != 3 || w[0] != x[1] || w[1] != 1 || w[2] < 1 {
		return fmt.Errorf("weights of shape %v for input %v, want [C,1,k]", w, x)
	}
	past := c.node.Input(3)
	want := tensor.Shape{x[0], x[1], w[2] - 1}
	if past == "" {
		if err := e.room(want...); err != nil {
			return err
		}
		past = e.constant(tensor.New(tensor.Float32, want...))
	}
	if !e.shape(past).Equal(want) {
		return fmt.Errorf("past state of shape %v, want %v", e.shape(past), want)
	}
	long := e.concat(2, past, c.node.Inputs[0])
	inputs := []string{long, c.node.Inputs[1]}
	if c.has(2) {
		inputs = append(inputs, c.node.Inputs[2])
	}
	y := e.add("Conv", Attrs{"group": int64(x[1])}, inputs...)
	switch name := c.node.Attrs.String("activation", "none"); name {
	case "none":
		e.output(0, "Identity", nil, y)
	case "silu", "swish":
		e.output(0, "Swish", nil, y)
	default:
		return fmt.Errorf("activation %q, want none, silu or swish", name)
	}
	e.output(1, "Slice", nil, long, e.ints(x[2]), e.ints(x[2]+w[2]-1), e.ints(2))
	return nil
}

// expandCenterCropPad: the middle of what is too long, zeros around what is too
// short (ONNX CenterCropPad 18).
func expandCenterCropPad(c *call, e *expansion) error {
	x := c.shape(0)
	sizes, err := c.graph.Ints(c.node, 1, "shape")
	if err != nil {
		return err
	}
	axes := c.node.Attrs.Ints("axes", nil)
	if axes == nil {
		for i := range x {
			axes = append(axes, i)
		}
	}
	if _, err := axesIn(axes, len(x)); err != nil {
		return err
	}
	if len(axes) != len(sizes) {
		return fmt.Errorf("%d sizes for %d axes", len(sizes), len(axes))
	}
	from, to, pads := make([]int, len(axes)), make([]int, len(axes)), make([]int, 2*len(axes))
	for i, size := range sizes {
		axes[i], _ = axisIn(axes[i], len(x)) // checked above
		if size < 0 {
			return fmt.Errorf("size %d", size)
		}
		to[i] = x[axes[i]]
		if more := size - to[i]; more > 0 {
			pads[i], pads[len(axes)+i] = more/2, more-more/2
		} else {
			from[i], to[i] = -more/2, -more/2+size
		}
	}
	cut := e.add("Slice", nil, c.node.Inputs[0], e.ints(from...), e.ints(to...), e.ints(axes...))
	e.output(0, "Pad", nil, cut, e.ints(pads...), "", e.ints(axes...))
	return nil
}

// expandCompress: the slices for which a condition, that must be constant, holds
// (ONNX Compress 11).
func expandCompress(c *call, e *expansion) error {
	x, s := c.node.Inputs[0], c.shape(0)
	condition, err := c.graph.constant(c.node, 1, "condition")
	if err != nil {
		return err
	}
	if condition.Type != tensor.Bool || len(condition.Shape) != 1 {
		return fmt.Errorf("condition is %v%v, want a vector of bools", condition.Type, condition.Shape)
	}
	axis := 0
	if _, ok := c.node.Attrs["axis"]; !ok {
		s = tensor.Shape{s.Elements()}
		x = e.reshape(x, s...)
	} else if axis, err = Axis(c.node, 0, len(s)); err != nil {
		return err
	}
	at := nonZero(condition)
	if len(condition.Shape) > 0 && len(at) > 0 && at[len(at)-1] >= s[axis] {
		return fmt.Errorf("condition of %d for axis %d of %v", condition.Shape[0], axis, s)
	}
	e.output(0, "Gather", Attrs{"axis": int64(axis)}, x, e.ints(at...))
	return nil
}

// expandLpPool: (Σ|x|ᵖ)^(1/p), the sum as a convolution of each channel with ones
// (ONNX LpPool 22).
func expandLpPool(c *call, e *expansion) error {
	x, p := c.shape(0), c.node.Attrs.Int("p", 2)
	if err := featuresOf(x, 1); err != nil {
		return err
	}
	if p < 1 {
		return fmt.Errorf("p %d, want at least 1", p)
	}
	win, err := WindowOf(c.node, x[2:], nil)
	if err != nil {
		return err
	}
	w := append(tensor.Shape{x[1], 1}, win.Kernel...)
	if err := e.room(w...); err != nil {
		return err
	}
	ones := tensor.New(tensor.Float32, w...)
	for i := range ones.F32() {
		ones.F32()[i] = 1
	}
	end := make([]int, len(win.Out)) // with what the last window needs
	for i, out := range win.Out {
		end[i] = max(0, (out-1)*win.Strides[i]+(win.Kernel[i]-1)*win.Dilations[i]+1-x[2+i]-win.PadBegin[i])
	}
	powers := e.add("Pow", nil, e.add("Abs", nil, c.node.Inputs[0]), e.scalar(float32(p)))
	sums := e.add("Conv", Attrs{
		"group": int64(x[1]), "pads": int64s(slices.Concat(win.PadBegin, end)...),
		"strides": int64s(win.Strides...), "dilations": int64s(win.Dilations...),
	}, powers, e.constant(ones))
	e.output(0, "Pow", nil, sums, e.scalar(1/float32(p)))
	return nil
}

// expandMeanVariance: (x − E x)/(√(E x² − (E x)²) + 1e-9) (ONNX
// MeanVarianceNormalization 13).
func expandMeanVariance(c *call, e *expansion) error {
	x, axes := c.node.Inputs[0], c.node.Attrs.Ints("axes", []int{0, 2, 3})
	mean := e.reduce("ReduceMean", x, axes...)
	variance := e.add("Sub", nil, e.reduce("ReduceMean", e.add("Mul", nil, x, x), axes...), e.add("Mul", nil, mean, mean))
	deviation := e.add("Add", nil, e.add("Sqrt", nil, variance), e.scalar(1e-9))
	e.output(0, "Div", nil, e.add("Sub", nil, x, mean), deviation)
	return nil
}

// expandReverseSequence: the first elements of each sequence the other way round
// (ONNX ReverseSequence 10).
func expandReverseSequence(c *call, e *expansion) error {
	x := c.shape(0)
	batch, time := c.node.Attrs.Int("batch_axis", 1), c.node.Attrs.Int("time_axis", 0)
	if len(x) < 2 || min(batch, time) < 0 || max(batch, time) > 1 || batch == time {
		return fmt.Errorf("batch axis %d and time axis %d of %v, want 0 and 1 or 1 and 0", batch, time, x)
	}
	if c.in[1].Type != tensor.Int64 || !c.shape(1).Equal(tensor.Shape{x[batch]}) {
		return fmt.Errorf("lengths are %v%v, want int64[%d]", c.in[1].Type, c.shape(1), x[batch])
	}
	times, lengths := slices.Repeat([]int{1}, len(x)), slices.Repeat([]int{1}, len(x))
	times[time], lengths[batch] = x[time], x[batch]
	at, length := e.reshape(e.sequence(0, x[time]), times...), e.reshape(c.node.Inputs[1], lengths...)
	back := e.add("Sub", nil, e.add("Sub", nil, length, e.ints(1)), at)
	from := e.add("Where", nil, e.add("Less", nil, at, length), back, at)
	e.output(0, "GatherElements", Attrs{"axis": int64(time)}, c.node.Inputs[0], e.add("Expand", nil, from, e.ints(x...)))
	return nil
}

func expandSwiGLU(c *call, e *expansion) error {
	alpha := c.node.Attrs.Float("alpha", 1)
	e.output(0, "Mul", nil, e.add("Swish", Attrs{"alpha": alpha}, c.node.Inputs[0]), c.node.Inputs[1])
	return nil
}

// expandTensorScatter: an update written into a cache at each sequence's index
// (ONNX TensorScatter 24).
func expandTensorScatter(c *call, e *expansion) error {
	x, update := c.shape(0), c.shape(1)
	axis, err := axisIn(c.node.Attrs.Int("axis", -2), len(x))
	if err != nil {
		return err
	}
	if axis == 0 || len(update) != len(x) || update[axis] > x[axis] {
		return fmt.Errorf("update of shape %v along axis %d of %v", update, axis, x)
	}
	dims := slices.Repeat([]int{1}, len(x))
	dims[axis] = update[axis]
	at := e.reshape(e.sequence(0, update[axis]), dims...)
	if c.has(2) {
		if c.in[2].Type != tensor.Int64 || !c.shape(2).Equal(tensor.Shape{x[0]}) {
			return fmt.Errorf("write indices are %v%v, want int64[%d]", c.in[2].Type, c.shape(2), x[0])
		}
		dims = slices.Repeat([]int{1}, len(x))
		dims[0] = x[0]
		at = e.add("Add", nil, at, e.reshape(c.node.Inputs[2], dims...))
	}
	switch mode := c.node.Attrs.String("mode", "linear"); mode {
	case "linear":
	case "circular":
		at = e.add("Mod", nil, at, e.ints(x[axis]))
	default:
		return fmt.Errorf("mode %q, want linear or circular", mode)
	}
	e.output(0, "ScatterElements", Attrs{"axis": int64(axis)}, c.node.Inputs[0], e.add("Expand", nil, at, e.ints(update...)), c.node.Inputs[1])
	return nil
}

// expandAffineGrid: θ·(places of a grid in [−1,1], 1) (ONNX AffineGrid 20).
func expandAffineGrid(c *call, e *expansion) error {
	size, err := c.graph.Ints(c.node, 1, "size")
	if err != nil {
		return err
	}
	dims := len(size) - 2
	if dims != 2 && dims != 3 || !c.shape(0).Equal(tensor.Shape{size[0], dims, dims + 1}) || slices.Min(size) < 1 {
		return fmt.Errorf("theta of shape %v for size %v", c.shape(0), size)
	}
	out := tensor.Shape(size[2:])
	if err := e.room(append(slices.Clone(out), dims+1)...); err != nil {
		return err
	}
	grid := tensor.New(tensor.Float32, out.Elements(), dims+1)
	for i := range out.Elements() {
		row := grid.F32()[i*(dims+1) : (i+1)*(dims+1)]
		row[dims] = 1
		rest := i
		for d := dims - 1; d >= 0; d-- { // x comes first, of the last axis
			at, n := float64(rest%out[d]), float64(out[d])
			rest /= out[d]
			v := float64((2*at+1)/n) - 1
			if c.node.Attrs.Int("align_corners", 0) != 0 {
				v = float64(2*at/max(n-1, 1)) - 1
			}
			row[dims-1-d] = float32(v)
		}
	}
	y := e.add("MatMul", nil, e.constant(grid), e.transpose(c.node.Inputs[0], 0, 2, 1))
	e.output(0, "Reshape", nil, y, e.ints(append(append([]int{size[0]}, out...), dims)...))
	return nil
}
