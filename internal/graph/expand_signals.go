package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// expandDFT: ONNX DFT 17, whose axis is an attribute, and 20.
func expandDFT(c *call, e *expansion) error {
	x := c.shape(0)
	axes := []int{c.node.Attrs.Int("axis", 1)}
	if c.graph.Opset >= 20 {
		axes[0] = -2
	}
	if c.has(2) {
		var err error
		if axes, err = c.graph.Ints(c.node, 2, "axis"); err != nil {
			return err
		}
	}
	if len(axes) != 1 || len(x) < 2 {
		return fmt.Errorf("axes %v of %v", axes, x)
	}
	axis, err := axisIn(axes[0], len(x))
	if err != nil {
		return err
	}
	if axis == len(x)-1 {
		return fmt.Errorf("axis %d of %v is that of real and imaginary parts", axis, x)
	}
	inverse, half := c.node.Attrs.Int("inverse", 0) != 0, c.node.Attrs.Int("onesided", 0) != 0
	length := []int{x[axis]}
	if inverse && half {
		length[0] = 2 * (x[axis] - 1)
	}
	if c.has(1) {
		if length, err = c.graph.Ints(c.node, 1, "dft_length"); err != nil {
			return err
		}
	}
	if len(length) != 1 || length[0] < 1 {
		return fmt.Errorf("dft_length %v", length)
	}
	y, err := e.fourier(c.node.Inputs[0], x, axis, length[0], inverse, half)
	e.alias(0, []string{y})
	return err
}

// fourier is the discrete transform of that length along an axis of x, whose last
// axis holds real and imaginary parts, as products with matrices of cosines and
// sines. If half, only the frequencies up to length/2 are computed or, by the
// inverse, taken, with a real result.
func (e *expansion) fourier(x string, s tensor.Shape, axis, length int, inverse, half bool) (string, error) {
	last := len(s) - 1
	parts := s[last]
	from, to := min(s[axis], length), length
	if half && inverse {
		from = min(s[axis], length/2+1)
	} else if half {
		to = length/2 + 1
	}
	if parts != 1 && parts != 2 {
		return "", fmt.Errorf("transform of %d along axis %d of %v", length, axis, s)
	}
	if err := e.room(from, to); err != nil {
		return "", err
	}
	cos, sin := e.waves(from, to, length, inverse, half)
	perm := make([]int, last) // the axis comes last
	for i := range perm {
		perm[i] = i
	}
	perm = append(slices.Delete(perm, axis, axis+1), axis)
	back := make([]int, last)
	for i, p := range perm {
		back[p] = i
	}
	values := make([]string, parts)
	for k := range values {
		one := e.reshape(e.cut(e.cut(x, axis, 0, from, 1), last, k, k+1, 1), slices.Replace(slices.Clone(s[:last]), axis, axis+1, from)...)
		values[k] = e.transpose(one, perm...)
	}
	times := func(v, waves string) string { return e.add("MatMul", nil, v, waves) }
	re, im := times(values[0], cos), ""
	if parts == 2 {
		re = e.add("Sub", nil, re, times(values[1], sin))
	}
	if !half || !inverse {
		im = times(values[0], sin)
		if parts == 2 {
			im = e.add("Add", nil, im, times(values[1], cos))
		}
	}
	out := slices.Replace(slices.Clone(s[:last]), axis, axis+1, to)
	re = e.reshape(e.transpose(re, back...), append(out, 1)...)
	if im == "" {
		return re, nil
	}
	return e.concat(last, re, e.reshape(e.transpose(im, back...), append(out, 1)...)), nil
}

// waves are e^(∓2πi·jk/length) for j < from and k < to: cosines and sines.
func (e *expansion) waves(from, to, length int, inverse, half bool) (cos, sin string) {
	turns, factors := tensor.New(tensor.Float64, from, to), tensor.New(tensor.Float64, from, 1)
	sign := -1.0
	if inverse {
		sign = 1
	}
	for j := range from {
		factor := 1.0
		if inverse {
			factor = 1 / float64(length)
		}
		if inverse && half && j > 0 && 2*j != length { // stands for its mirror image too
			factor *= 2
		}
		tensor.Of[float64](factors)[j] = factor
		for k := range to {
			at := int64(j) * int64(k) % int64(length)
			tensor.Of[float64](turns)[j*to+k] = sign * 2 * math.Pi * float64(at) / float64(length)
		}
	}
	angle, factor := e.constant(turns), e.constant(factors)
	list := [2]string{}
	for i, op := range []string{"Cos", "Sin"} {
		list[i] = e.add("Cast", Attrs{"to": int64(numberOfFloat32)}, e.add("Mul", nil, e.add(op, nil, angle), factor))
	}
	return list[0], list[1]
}

// expandSTFT: the transform of each frame, under a window (ONNX STFT 17).
func expandSTFT(c *call, e *expansion) error {
	x, s := c.node.Inputs[0], c.shape(0)
	if len(s) == 2 {
		s = append(slices.Clone(s), 1)
		x = e.reshape(x, s...)
	}
	if len(s) != 3 {
		return fmt.Errorf("signal of shape %v, want [batch,length,1 or 2]", c.shape(0))
	}
	step, err := c.graph.Ints(c.node, 1, "frame_step")
	if err != nil {
		return err
	}
	length := []int{s[1]}
	switch {
	case c.has(3):
		if length, err = c.graph.Ints(c.node, 3, "frame_length"); err != nil {
			return err
		}
	case c.has(2):
		length[0] = c.shape(2).Elements()
	}
	if len(step) != 1 || len(length) != 1 || step[0] < 1 || length[0] < 1 || length[0] > s[1] {
		return fmt.Errorf("frames of %v every %v of %v", length, step, s)
	}
	frames, size := 1+(s[1]-length[0])/step[0], length[0]
	if err := e.room(frames, size); err != nil {
		return err
	}
	places := make([]int, 0, frames*size)
	for f := range frames {
		for i := range size {
			places = append(places, f*step[0]+i)
		}
	}
	x = e.add("Gather", Attrs{"axis": int64(1)}, x, e.reshape(e.ints(places...), frames, size))
	if c.has(2) {
		if c.in[2].Type != tensor.Float32 || c.shape(2).Elements() != size {
			return fmt.Errorf("window %v%v for frames of %d", c.in[2].Type, c.shape(2), size)
		}
		x = e.add("Mul", nil, x, e.reshape(c.node.Inputs[2], size, 1))
	}
	y, err := e.fourier(x, tensor.Shape{s[0], frames, size, s[2]}, 2, size, false, c.node.Attrs.Int("onesided", 1) != 0)
	e.alias(0, []string{y})
	return err
}

// expandWindow: a₀ − a₁·cos(2πn/N) + a₂·cos(4πn/N) (ONNX HannWindow and others, 17).
func expandWindow(c *call, e *expansion) error {
	a := map[string][3]float64{
		"HannWindow": {0.5, 0.5, 0}, "HammingWindow": {25.0 / 46, 21.0 / 46, 0}, "BlackmanWindow": {0.42, 0.5, 0.08},
	}[c.node.Op]
	size, err := c.graph.Ints(c.node, 0, "size")
	if err != nil {
		return err
	}
	if len(size) != 1 || size[0] < 1 {
		return fmt.Errorf("size %v", size)
	}
	if err := e.room(2, size[0]); err != nil {
		return err
	}
	period := size[0]
	if c.node.Attrs.Int("periodic", 1) == 0 {
		period = max(1, period-1)
	}
	number := func(v float64) string { return e.constant(tensor.FromSlice([]float64{v})) }
	y := number(a[0])
	for k := 1; k <= 2; k++ {
		angles := tensor.New(tensor.Float64, size[0])
		for i := range size[0] {
			tensor.Of[float64](angles)[i] = 2 * math.Pi * float64(k*i%period) / float64(period)
		}
		wave := e.add("Mul", nil, e.add("Cos", nil, e.constant(angles)), number(a[k]))
		y = e.add([]string{"", "Sub", "Add"}[k], nil, y, wave)
	}
	e.output(0, "Cast", Attrs{"to": int64(c.node.Attrs.Int("output_datatype", numberOfFloat32))}, y)
	return nil
}

// expandCol2Im: each column's elements added where the window stood, which a
// transposed convolution with a kernel of a single 1 for each does (ONNX Col2Im 18).
func expandCol2Im(c *call, e *expansion) error {
	x := c.shape(0)
	image, err := c.graph.Ints(c.node, 1, "image_shape")
	if err != nil {
		return err
	}
	block, err := c.graph.Ints(c.node, 2, "block_shape")
	if err != nil {
		return err
	}
	rank, each := len(block), 1
	for _, size := range block {
		if size < 1 || size > maxMade/each {
			return fmt.Errorf("block_shape %v", block)
		}
		each *= size
	}
	if rank == 0 || len(image) != rank || len(x) != 3 || x[1]%each != 0 {
		return fmt.Errorf("columns of shape %v for image_shape %v and block_shape %v", x, image, block)
	}
	if err := e.room(x[1], each); err != nil {
		return err
	}
	ones := make([]int, rank)
	for i := range ones {
		ones[i] = 1
	}
	strides, dilations := c.node.Attrs.Ints("strides", ones), c.node.Attrs.Ints("dilations", ones)
	pads := c.node.Attrs.Ints("pads", make([]int, 2*rank))
	if len(strides) != rank || len(dilations) != rank || len(pads) != 2*rank || slices.Min(strides) < 1 || slices.Min(dilations) < 1 || slices.Min(pads) < 0 {
		return fmt.Errorf("strides %v, dilations %v and pads %v for %d axes", strides, dilations, pads, rank)
	}
	steps, more := make([]int, rank), make([]int, rank)
	for i := range steps {
		room := image[i] + pads[i] + pads[rank+i] - dilations[i]*(block[i]-1) - 1
		if room < 0 {
			return fmt.Errorf("block_shape %v does not fit image_shape %v", block, image)
		}
		steps[i], more[i] = room/strides[i]+1, room%strides[i]
	}
	weights := tensor.New(tensor.Float32, append([]int{x[1], 1}, block...)...)
	for ch := range x[1] {
		weights.F32()[ch*each+ch%each] = 1
	}
	columns := e.reshape(c.node.Inputs[0], append([]int{x[0], x[1]}, steps...)...)
	e.output(0, "ConvTranspose", Attrs{
		"group": int64(x[1] / each), "strides": int64s(strides...), "dilations": int64s(dilations...),
		"pads": int64s(pads...), "output_padding": int64s(more...),
	}, columns, e.constant(weights))
	return nil
}
