package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// attention are the sizes of an Attention node (ONNX Attention 23 to 25).
type attention struct {
	c                  *call
	e                  *expansion
	batch, heads, kept int // heads of the queries, and of keys and values
	queries, keys      int // in the sequences; keys with those of the past
	past               int
}

// expandAttention: softmax(softcap(q·kᵀ·scale) + bias)·v for each head. A row
// whose keys are all masked is zero.
func expandAttention(c *call, e *expansion) error {
	a, n := &attention{c: c, e: e}, c.node
	values := []string{n.Inputs[0], n.Inputs[1], n.Inputs[2]}
	rank := len(c.shape(0))
	if rank != 3 && rank != 4 || len(c.shape(1)) != rank || len(c.shape(2)) != rank {
		return fmt.Errorf("q, k and v of shapes %v, %v and %v, want three or four dimensions each", c.shape(0), c.shape(1), c.shape(2))
	}
	if c.has(4) != c.has(5) || c.has(4) && c.has(6) {
		return fmt.Errorf("a past key needs a past value, and neither goes with nonpad_kv_seqlen")
	}
	for i := range values {
		if rank == 4 {
			continue
		}
		name := "kv_num_heads"
		if i == 0 {
			name = "q_num_heads"
		}
		s, heads := c.shape(i), n.Attrs.Int(name, 0)
		if heads < 1 || s[2]%heads != 0 {
			return fmt.Errorf("%s %d of %v", name, heads, s)
		}
		values[i] = e.transpose(e.reshape(values[i], s[0], s[1], heads, s[2]/heads), 0, 2, 1, 3)
	}
	if c.has(4) {
		a.past = e.shape(n.Inputs[4])[max(0, len(e.shape(n.Inputs[4]))-2)]
		values[1], values[2] = e.concat(2, n.Inputs[4], values[1]), e.concat(2, n.Inputs[5], values[2])
	}
	e.output(1, "Identity", nil, values[1])
	e.output(2, "Identity", nil, values[2])
	if e.err != nil {
		return e.err
	}
	q, k, v := e.shape(values[0]), e.shape(values[1]), e.shape(values[2])
	a.batch, a.heads, a.queries, a.kept, a.keys = q[0], q[1], q[2], k[1], k[2]
	if k[0] != q[0] || v[0] != q[0] || k[3] != q[3] || v[1] != k[1] || v[2] != k[2] || a.kept < 1 || a.heads%a.kept != 0 {
		return fmt.Errorf("q, k and v of shapes %v, %v and %v for each head do not fit", q, k, v)
	}
	scale := n.Attrs.Float("scale", float32(1/math.Sqrt(float64(q[3]))))
	if !(scale >= 0) {
		return fmt.Errorf("scale %v", scale)
	}
	root := e.scalar(float32(math.Sqrt(float64(scale)))) // on both sides, as ONNX has it
	scores := e.add("MatMul", nil, e.add("Mul", nil, values[0], root),
		e.add("Mul", nil, e.transpose(a.repeated(values[1]), 0, 1, 3, 2), root))
	outputs := []string{scores}
	if most := n.Attrs.Float("softcap", 0); most > 0 {
		scores = e.add("Mul", nil, e.add("Tanh", nil, e.add("Div", nil, scores, e.scalar(most))), e.scalar(most))
	}
	outputs = append(outputs, scores)
	bias, err := a.bias()
	if err != nil {
		return err
	}
	if bias != "" {
		scores = e.add("Add", nil, scores, bias)
	}
	outputs = append(outputs, scores)
	chances := e.add("Softmax", Attrs{"axis": int64(-1)}, scores)
	if bias != "" {
		masked := e.add("Equal", nil, e.reduce("ReduceMax", bias, -1), e.scalar(float32(math.Inf(-1))))
		chances = e.add("Where", nil, masked, e.scalar(0), chances)
	}
	outputs = append(outputs, chances)
	mode := n.Attrs.Int("qk_matmul_output_mode", 0)
	if mode < 0 || mode >= len(outputs) {
		return fmt.Errorf("qk_matmul_output_mode %d, want 0 to 3", mode)
	}
	e.output(3, "Identity", nil, outputs[mode])
	y := e.add("MatMul", nil, chances, a.repeated(values[2]))
	if rank == 4 {
		e.output(0, "Identity", nil, y)
		return e.err
	}
	e.output(0, "Reshape", nil, e.transpose(y, 0, 2, 1, 3), e.ints(a.batch, a.queries, a.heads*v[3]))
	return e.err
}

// repeated is a value of the keys' heads, each for all the queries' heads that
// share it.
func (a *attention) repeated(value string) string {
	if a.heads == a.kept {
		return value
	}
	s, e := a.e.shape(value), a.e
	if len(s) != 4 {
		return value // an error sticks
	}
	wide := e.add("Expand", nil, e.reshape(value, s[0], s[1], 1, s[2], s[3]), e.ints(s[0], s[1], a.heads/a.kept, s[2], s[3]))
	return e.reshape(wide, s[0], a.heads, s[2], s[3])
}

// bias is what is added to the scores: −∞ where a key is not to be seen, and a
// mask of floats. It is "" where there is none.
func (a *attention) bias() (string, error) {
	c, e := a.c, a.e
	allowed, mask := a.allowed(), ""
	if c.has(3) {
		mask = c.node.Inputs[3]
		s := c.shape(3)
		if len(s) == 0 || s[len(s)-1] > a.keys {
			return "", fmt.Errorf("mask of shape %v for %d keys", s, a.keys)
		}
		if missing := a.keys - s[len(s)-1]; missing > 0 {
			rest := slices.Clone(s)
			rest[len(s)-1] = missing
			if err := e.room(rest...); err != nil {
				return "", err
			}
			t := tensor.New(c.in[3].Type, rest...)
			if t.Type == tensor.Float32 {
				for i := range t.F32() {
					t.F32()[i] = float32(math.Inf(-1))
				}
			}
			mask = e.concat(len(s)-1, mask, e.constant(t))
		}
		if c.in[3].Type == tensor.Bool {
			if allowed == "" {
				allowed = mask
			} else {
				allowed = e.add("And", nil, allowed, mask)
			}
			mask = ""
		}
	}
	if allowed == "" {
		return mask, nil
	}
	bias := e.add("Where", nil, allowed, e.scalar(0), e.scalar(float32(math.Inf(-1))))
	if mask != "" {
		bias = e.add("Add", nil, bias, mask)
	}
	return bias, nil
}

// allowed says which keys each query may see, a bool that broadcasts to
// [batch,heads,queries,keys]; "" for all.
func (a *attention) allowed() string {
	e, attrs := a.e, a.c.node.Attrs
	left, right := attrs.Int("left_window_size", -1), attrs.Int("right_window_size", -1)
	if attrs.Int("is_causal", 0) != 0 {
		right = 0
	}
	key := e.reshape(e.sequence(0, a.keys), 1, 1, 1, a.keys)
	place := e.reshape(e.sequence(a.past, a.queries), 1, 1, a.queries, 1) // of queries among the keys
	var list []string
	if a.c.has(6) {
		valid := e.reshape(a.c.node.Inputs[6], a.batch, 1, 1, 1)
		list = append(list, e.add("Less", nil, key, valid))
		place = e.add("Add", nil, place, e.add("Sub", nil, valid, e.ints(a.queries)))
	}
	if right >= 0 {
		list = append(list, e.add("LessOrEqual", nil, key, e.add("Add", nil, place, e.ints(right))))
	}
	if left >= 0 {
		list = append(list, e.add("GreaterOrEqual", nil, key, e.add("Sub", nil, place, e.ints(left))))
	}
	all := ""
	for i, one := range list {
		if i > 0 {
			one = e.add("And", nil, all, one)
		}
		all = one
	}
	return all
}

// expandRotary: pairs of elements, halves of each head or neighbours, are turned
// by the angle of their place (ONNX RotaryEmbedding 23).
func expandRotary(c *call, e *expansion) error {
	x, s, rank := c.node.Inputs[0], c.shape(0), len(c.shape(0))
	heads := c.node.Attrs.Int("num_heads", 0)
	switch {
	case rank == 4:
		x = e.transpose(x, 0, 2, 1, 3)
	case rank == 3 && heads > 0 && s[2]%heads == 0:
		x = e.reshape(x, s[0], s[1], heads, s[2]/heads)
	default:
		return fmt.Errorf("num_heads %d of %v", heads, s)
	}
	if e.err != nil {
		return e.err
	}
	whole := e.shape(x) // [batch,sequence,heads,size]
	size := c.node.Attrs.Int("rotary_embedding_dim", 0)
	if size == 0 {
		size = whole[3]
	}
	if size < 2 || size%2 != 0 || size > whole[3] {
		return fmt.Errorf("rotary_embedding_dim %d of %d", size, whole[3])
	}
	var turns [2]string
	for i := range turns {
		turns[i] = c.node.Inputs[1+i]
		if c.has(3) {
			turns[i] = e.add("Gather", nil, turns[i], c.node.Inputs[3])
		}
		if got, want := e.shape(turns[i]), (tensor.Shape{whole[0], whole[1], size / 2}); e.err == nil && !got.Equal(want) {
			return fmt.Errorf("cache %q gives %v, want %v", c.node.Inputs[1+i], got, want)
		}
		turns[i] = e.reshape(turns[i], whole[0], whole[1], 1, size/2)
	}
	cos, sin := turns[0], turns[1]
	apart := c.node.Attrs.Int("interleaved", 0) != 0
	first, second := e.cut(x, 3, 0, size/2, 1), e.cut(x, 3, size/2, size, 1)
	if apart {
		first, second = e.cut(x, 3, 0, size, 2), e.cut(x, 3, 1, size, 2)
	}
	re := e.add("Sub", nil, e.add("Mul", nil, cos, first), e.add("Mul", nil, sin, second))
	im := e.add("Add", nil, e.add("Mul", nil, sin, first), e.add("Mul", nil, cos, second))
	var y string
	if apart {
		dims := []int{whole[0], whole[1], whole[2], size / 2, 1}
		y = e.reshape(e.concat(4, e.reshape(re, dims...), e.reshape(im, dims...)), whole[0], whole[1], whole[2], size)
	} else {
		y = e.concat(3, re, im)
	}
	if size < whole[3] {
		y = e.concat(3, y, e.cut(x, 3, size, whole[3], 1))
	}
	if rank == 4 {
		e.output(0, "Transpose", Attrs{"perm": int64s(0, 2, 1, 3)}, y)
	} else {
		e.output(0, "Reshape", nil, y, e.ints(s...))
	}
	return nil
}
