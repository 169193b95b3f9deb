package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// float32Of is the type of a computed value.
func float32Of(dims ...int) Info { return Info{tensor.Float32, dims} }

func inferSame(c *call) (Info, error) { return c.in[0], nil }

// broadcast is the shape of an elementwise result by numpy's rule.
func broadcast(a, b tensor.Shape) (tensor.Shape, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	tail := out[len(a)-len(b):]
	for i, d := range b {
		switch {
		case tail[i] == d || d == 1:
		case tail[i] == 1:
			tail[i] = d
		default:
			return nil, fmt.Errorf("shapes %v and %v do not broadcast", a, b)
		}
	}
	return out, nil
}

// broadcastsTo reports whether b stretches to a (ONNX unidirectional
// broadcasting).
func broadcastsTo(b, a tensor.Shape) bool {
	s, err := broadcast(a, b)
	return err == nil && s.Equal(a)
}

// featuresOf checks that x is [N,C,…] with at least so many dimensions after.
func featuresOf(x tensor.Shape, spatial int) error {
	if len(x) < 2+spatial {
		return fmt.Errorf("input of shape %v, want [N,C,…] with at least %d dimensions after", x, spatial)
	}
	return nil
}

// inferConv: x [N,C,…], w [M,C/group,…], b [M] → [N,M,…].
func inferConv(c *call) (Info, error) {
	x, w := c.shape(0), c.shape(1)
	if err := featuresOf(x, 1); err != nil {
		return Info{}, err
	}
	if len(w) != len(x) {
		return Info{}, fmt.Errorf("weights of shape %v for input %v, want [M,C/group,…]", w, x)
	}
	group := c.node.Attrs.Int("group", 1)
	if group < 1 || x[1]%group != 0 || x[1]/group != w[1] || w[0]%group != 0 {
		return Info{}, fmt.Errorf("group %d does not fit input %v and weights %v", group, x, w)
	}
	if len(c.in) > 2 && !c.shape(2).Equal(tensor.Shape{w[0]}) {
		return Info{}, fmt.Errorf("bias of shape %v, want [%d]", c.shape(2), w[0])
	}
	win, err := WindowOf(c.node, x[2:], w[2:])
	if err != nil {
		return Info{}, err
	}
	return float32Of(append([]int{x[0], w[0]}, win.Out...)...), nil
}

// inferConvTranspose: x [N,C,…], w [C,M/group,…], b [M] → [N,M,…].
func inferConvTranspose(c *call) (Info, error) {
	x, w := c.shape(0), c.shape(1)
	if err := featuresOf(x, 1); err != nil {
		return Info{}, err
	}
	group := c.node.Attrs.Int("group", 1)
	if len(w) != len(x) || group < 1 || x[1]%group != 0 || x[1] != w[0] || w[1] > math.MaxInt32/group {
		return Info{}, fmt.Errorf("group %d does not fit input %v and weights %v", group, x, w)
	}
	m := w[1] * group
	if len(c.in) > 2 && !c.shape(2).Equal(tensor.Shape{m}) {
		return Info{}, fmt.Errorf("bias of shape %v, want [%d]", c.shape(2), m)
	}
	win, err := TransposedWindowOf(c.node, x[2:], w[2:])
	if err != nil {
		return Info{}, err
	}
	return float32Of(append([]int{x[0], m}, win.Out...)...), nil
}

func inferPool(c *call) (Info, error) {
	x := c.shape(0)
	if err := featuresOf(x, 1); err != nil {
		return Info{}, err
	}
	win, err := WindowOf(c.node, x[2:], nil)
	if err != nil {
		return Info{}, err
	}
	out := append([]int{x[0], x[1]}, win.Out...)
	c.more = []Info{{tensor.Int64, out}} // a MaxPool's indices
	return Info{c.in[0].Type, out}, nil
}

func inferGlobalPool(c *call) (Info, error) {
	out := slices.Clone(c.shape(0))
	if err := featuresOf(out, 1); err != nil {
		return Info{}, err
	}
	for i := range out[2:] {
		out[2+i] = 1
	}
	return float32Of(out...), nil
}

// inferGemm: alpha·A'·B' + beta·C with A' [M,K], B' [K,N], C broadcast to [M,N].
func inferGemm(c *call) (Info, error) {
	a, b := c.shape(0), c.shape(1)
	if len(a) != 2 || len(b) != 2 {
		return Info{}, fmt.Errorf("operands of shapes %v and %v, want two matrices", a, b)
	}
	if c.graph.Opset < 11 && len(c.in) < 3 {
		return Info{}, fmt.Errorf("input C is missing, which opset %d does not allow", c.graph.Opset)
	}
	m, k := a[0], a[1]
	if c.node.Attrs.Int("transA", 0) != 0 {
		m, k = k, m
	}
	kb, n := b[0], b[1]
	if c.node.Attrs.Int("transB", 0) != 0 {
		kb, n = n, kb
	}
	if k != kb {
		return Info{}, fmt.Errorf("inner sizes %d and %d of %v and %v differ", k, kb, a, b)
	}
	if len(c.in) > 2 && !broadcastsTo(c.shape(2), tensor.Shape{m, n}) {
		return Info{}, fmt.Errorf("input C of shape %v does not broadcast to [%d,%d]", c.shape(2), m, n)
	}
	return float32Of(m, n), nil
}

// inferMatMul: numpy.matmul; a vector is a row on the left and a column on
// the right, and its axis is gone from the result.
func inferMatMul(c *call) (Info, error) {
	a, b := c.shape(0), c.shape(1)
	if len(a) == 0 || len(b) == 0 {
		return Info{}, fmt.Errorf("operands of shapes %v and %v: a scalar is no matrix", a, b)
	}
	var m, n tensor.Shape
	k, kb := a[len(a)-1], b[0]
	var batchA, batchB tensor.Shape
	if len(a) > 1 {
		batchA, m = a[:len(a)-2], a[len(a)-2:len(a)-1]
	}
	if len(b) > 1 {
		batchB, kb, n = b[:len(b)-2], b[len(b)-2], b[len(b)-1:]
	}
	if k != kb {
		return Info{}, fmt.Errorf("inner sizes %d and %d of %v and %v differ", k, kb, a, b)
	}
	batch, err := broadcast(batchA, batchB)
	if err != nil {
		return Info{}, fmt.Errorf("batch %w", err)
	}
	return float32Of(slices.Concat(batch, m, n)...), nil
}

// inferConcat: the axis was optional, 1 by default, before opset 4.
func inferConcat(c *call) (Info, error) {
	if _, ok := c.node.Attrs["axis"]; !ok && c.graph.Opset >= 4 {
		return Info{}, fmt.Errorf("attribute %q is missing", "axis")
	}
	first := c.shape(0)
	axis, err := c.axis(1, len(first), len(first))
	if err != nil {
		return Info{}, err
	}
	out := slices.Clone(first)
	for i := range c.in[1:] {
		s := slices.Clone(c.shape(i + 1))
		if c.node.Inputs[i+1] == "" || len(s) != len(out) {
			return Info{}, fmt.Errorf("shapes %v and %v do not concatenate along axis %d", first, s, axis)
		}
		d := s[axis]
		s[axis] = first[axis]
		if !s.Equal(first) {
			return Info{}, fmt.Errorf("shapes %v and %v do not concatenate along axis %d", first, c.shape(i+1), axis)
		}
		if d > math.MaxInt32-out[axis] {
			return Info{}, fmt.Errorf("the sizes along axis %d add up to over %d", axis, math.MaxInt32)
		}
		out[axis] += d
	}
	return Info{c.in[0].Type, out}, nil
}

// inferFlatten: [d0·…·d(axis-1), d(axis)·…].
func inferFlatten(c *call) (Info, error) {
	x := c.shape(0)
	axis, err := c.axis(1, len(x), len(x)+1)
	if err != nil {
		return Info{}, err
	}
	return Info{c.in[0].Type, tensor.Shape{x[:axis].Elements(), x[axis:].Elements()}}, nil
}

// inferReshape: 0 copies the input's dimension (unless allowzero, opset 14),
// one -1 takes what is left. Opsets 1 to 4 have the shape as an attribute.
func inferReshape(c *call) (Info, error) {
	x := c.shape(0)
	var want []int64
	switch {
	case c.graph.Opset < 5:
		if len(c.in) > 1 {
			return Info{}, fmt.Errorf("2 inputs, want 1 in opset %d", c.graph.Opset)
		}
		for _, d := range c.node.Attrs.Ints("shape", nil) {
			want = append(want, int64(d))
		}
	case len(c.in) < 2:
		return Info{}, fmt.Errorf("1 input, want 2")
	default:
		var err error
		if want, err = c.graph.integers(c.node, 1, "shape"); err != nil {
			return Info{}, err
		}
	}
	keepZero := c.node.Attrs.Int("allowzero", 0) == 0
	out, known, free := make(tensor.Shape, len(want)), make(tensor.Shape, 0, len(want)), -1
	for i, d := range want {
		switch {
		case d == -1 && free < 0:
			free = i
			continue
		case d == 0 && keepZero && i < len(x):
			out[i] = x[i]
		case d >= 0 && d <= math.MaxInt32:
			out[i] = int(d)
		default:
			return Info{}, fmt.Errorf("%v does not reshape to %v", x, want)
		}
		known = append(known, out[i])
	}
	if err := known.Check(1, MaxTensorBytes); err != nil {
		return Info{}, fmt.Errorf("reshape to %v: %w", want, err)
	}
	have, left := x.Elements(), known.Elements()
	if free >= 0 && left > 0 {
		out[free] = have / left
		left *= out[free]
	}
	if left != have {
		return Info{}, fmt.Errorf("%v does not reshape to %v: %d elements", x, want, have)
	}
	return Info{c.in[0].Type, out}, nil
}

// inferSoftmax: before opset 13 the input is seen as a matrix, cut at axis
// (default 1); from then on the axis (default -1) alone is normalised.
func inferSoftmax(c *call) (Info, error) {
	x := c.shape(0)
	def := -1
	if c.graph.Opset < 13 {
		def = 1
	}
	if _, err := c.axis(def, len(x), len(x)); err != nil {
		return Info{}, err
	}
	return c.in[0], nil
}

// inferBatchNorm: x [N,C,…] and four vectors of C; inference only.
func inferBatchNorm(c *call) (Info, error) {
	a, x := c.node.Attrs, c.shape(0)
	if a.Int("training_mode", 0) != 0 || (c.graph.Opset < 7 && a.Int("is_test", 0) == 0) {
		return Info{}, fmt.Errorf("the node is in training mode: export the model for inference")
	}
	if a.Int("spatial", 1) != 1 {
		return Info{}, fmt.Errorf("attribute spatial 0 is not supported")
	}
	if len(x) < 2 {
		return Info{}, fmt.Errorf("input of shape %v has no channels", x)
	}
	for i, name := range c.node.Inputs[1:] {
		if !c.shape(i + 1).Equal(tensor.Shape{x[1]}) {
			return Info{}, fmt.Errorf("input %q of shape %v, want [%d]", name, c.shape(i+1), x[1])
		}
	}
	return c.in[0], nil
}

func inferLRN(c *call) (Info, error) {
	if size := c.node.Attrs.Int("size", 0); size < 1 {
		return Info{}, fmt.Errorf("size %d, want at least 1", size)
	}
	return c.in[0], featuresOf(c.shape(0), 1)
}

// inferDropout: the input as it is. Ratio and training mode are inputs from
// opset 12 on; a training mode that is not a constant false is refused.
func inferDropout(c *call) (Info, error) {
	if c.graph.Opset < 12 && len(c.in) > 1 {
		return Info{}, fmt.Errorf("%d inputs, want 1 in opset %d", len(c.in), c.graph.Opset)
	}
	if len(c.in) > 2 {
		t, err := c.graph.value(c.node.Inputs[2])
		if err != nil {
			return Info{}, err
		}
		ratio, err := c.graph.value(c.node.Inputs[1])
		if err != nil {
			return Info{}, err
		}
		// A ratio of 0 keeps everything, as exporters write what never drops.
		none := ratio != nil && !slices.ContainsFunc(ratio.Data, func(b byte) bool { return b != 0 })
		if !none && (t == nil || t.Type != tensor.Bool || slices.ContainsFunc(t.Data, func(b byte) bool { return b != 0 })) {
			return Info{}, fmt.Errorf("training mode %q is not a constant false: export the model for inference", c.node.Inputs[2])
		}
	}
	c.more = []Info{{tensor.Bool, c.shape(0)}}
	return c.in[0], nil
}

func inferTranspose(c *call) (Info, error) {
	x := c.shape(0)
	perm := c.node.Attrs.Ints("perm", nil)
	if perm == nil {
		out := slices.Clone(x)
		slices.Reverse(out)
		return Info{c.in[0].Type, out}, nil
	}
	seen := make([]bool, len(x))
	out := make(tensor.Shape, 0, len(x))
	for _, p := range perm {
		if p < 0 || p >= len(x) || seen[p] {
			return Info{}, fmt.Errorf("perm %v is no permutation of the axes of %v", perm, x)
		}
		seen[p] = true
		out = append(out, x[p])
	}
	if len(out) != len(x) {
		return Info{}, fmt.Errorf("perm %v is no permutation of the axes of %v", perm, x)
	}
	return Info{c.in[0].Type, out}, nil
}
