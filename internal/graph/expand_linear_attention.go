package graph

import (
	"fmt"
	"math"

	"starling/internal/tensor"
)

// expandLinearAttention: for each element of the sequence the state decays, takes
// up key·valueᵀ and answers the query (ONNX LinearAttention 27).
func expandLinearAttention(c *call, e *expansion) error {
	n, q, v := c.node, c.shape(0), c.shape(2)
	heads, kept := n.Attrs.Int("q_num_heads", 0), n.Attrs.Int("kv_num_heads", 0)
	if len(q) != 3 || len(v) != 3 || kept < 1 || heads < 1 || heads%kept != 0 || q[2]%heads != 0 || v[2]%kept != 0 {
		return fmt.Errorf("%d heads of %d of queries %v and values %v", heads, kept, q, v)
	}
	batch, steps, size, wide := q[0], q[1], q[2]/heads, v[2]/kept
	rule := n.Attrs.String("update_rule", "gated_delta")
	gated, delta := rule == "gated" || rule == "gated_delta", rule == "delta" || rule == "gated_delta"
	if !gated && !delta && rule != "linear" || gated != c.has(4) || delta != c.has(5) {
		return fmt.Errorf("update_rule %q, with decay %v and beta %v", rule, c.has(4), c.has(5))
	}
	want := tensor.Shape{batch, steps, kept * size}
	if !c.shape(1).Equal(want) || v[0] != batch || v[1] != steps {
		return fmt.Errorf("keys of shape %v and values of shape %v, want %v", c.shape(1), v, want)
	}
	state := n.Input(3)
	if full := (tensor.Shape{batch, kept, size, wide}); state == "" {
		if err := e.room(full...); err != nil {
			return err
		}
		state = e.constant(tensor.New(tensor.Float32, full...))
	} else if !c.shape(3).Equal(full) {
		return fmt.Errorf("past state of shape %v, want %v", c.shape(3), full)
	}
	scale := n.Attrs.Float("scale", 0)
	if scale == 0 {
		scale = float32(1 / math.Sqrt(float64(size)))
	}
	// One element of the sequence, [batch,heads,rows,columns] of each head.
	step := func(x string, t, heads, rows, columns int) string {
		return e.reshape(e.cut(x, 1, t, t+1, 1), batch, heads, rows, columns)
	}
	a := &attention{e: e, heads: heads, kept: kept}
	outputs := make([]string, steps)
	for t := range steps {
		if gated {
			s := c.shape(4)
			rows := size
			if len(s) == 3 && s[2] == kept {
				rows = 1
			}
			state = e.add("Mul", nil, state, e.add("Exp", nil, step(n.Inputs[4], t, kept, rows, 1)))
		}
		value := step(n.Inputs[2], t, kept, 1, wide)
		if delta {
			s := c.shape(5)
			rows := kept
			if len(s) == 3 && s[2] == 1 {
				rows = 1
			}
			found := e.add("MatMul", nil, step(n.Inputs[1], t, kept, 1, size), state)
			value = e.add("Mul", nil, step(n.Inputs[5], t, rows, 1, 1), e.add("Sub", nil, value, found))
		}
		state = e.add("Add", nil, state, e.add("Mul", nil, step(n.Inputs[1], t, kept, size, 1), value))
		y := e.add("MatMul", nil, step(n.Inputs[0], t, heads, 1, size), a.repeated(state))
		outputs[t] = e.reshape(e.add("Mul", nil, y, e.scalar(scale)), batch, 1, heads*wide)
		if e.err != nil {
			return e.err
		}
	}
	e.output(0, "Concat", Attrs{"axis": int64(1)}, outputs...)
	e.output(1, "Identity", nil, state)
	return nil
}
