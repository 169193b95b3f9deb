package graph

import (
	"fmt"
	"maps"
	"slices"

	"starling/internal/tensor"
)

// bind is a copy of nodes that reads and makes values under other names, in
// subgraphs of theirs too.
func bind(nodes []*Node, names map[string]string) []*Node {
	to := func(list []string) []string {
		list = slices.Clone(list)
		for i, name := range list {
			if other, ok := names[name]; ok {
				list[i] = other
			}
		}
		return list
	}
	out := make([]*Node, len(nodes))
	for i, n := range nodes {
		c := *n
		c.Inputs, c.Outputs, c.Attrs = to(n.Inputs), to(n.Outputs), maps.Clone(n.Attrs)
		for key, v := range n.Attrs {
			if body, ok := v.(*Subgraph); ok {
				c.Attrs[key] = &Subgraph{
					Inputs: body.Inputs, Outputs: to(body.Outputs), Constants: body.Constants, Nodes: bind(body.Nodes, names),
				}
			}
		}
		out[i] = &c
	}
	return out
}

// size counts a subgraph's nodes and those of subgraphs in it.
func (s *Subgraph) size() int {
	count := 1
	for _, n := range s.Nodes {
		count++
		for _, v := range n.Attrs {
			if body, ok := v.(*Subgraph); ok {
				count += body.size()
			}
		}
	}
	return count
}

// body adds the nodes of a node's subgraph, with these values as its inputs, and
// returns the names of its outputs.
func (e *expansion) body(s *Subgraph, inputs ...string) []string {
	if len(inputs) != len(s.Inputs) {
		e.fail("a body of %d inputs is given %d", len(s.Inputs), len(inputs))
		return nil
	}
	if e.p.added += s.size(); e.p.added > maxAdded {
		e.fail("written as more than %d nodes", maxAdded)
		return nil
	}
	names := map[string]string{}
	for i, name := range s.Inputs {
		names[name] = inputs[i]
	}
	for _, name := range slices.Sorted(maps.Keys(s.Constants)) {
		names[name] = e.constant(s.Constants[name])
	}
	delete(names, "") // is what is left out
	for _, n := range s.Nodes {
		for _, out := range n.Outputs {
			if _, ok := names[out]; ok {
				e.fail("body: node %q (%s): value %q is defined twice", n.Name, n.Op, out)
				return nil
			}
			if out != "" {
				names[out] = e.name(out)
				e.p.later[names[out]] = true
			}
		}
	}
	for _, n := range bind(s.Nodes, names) {
		n.Name = e.name(e.node.Name + "/" + n.Name)
		for _, name := range n.Inputs {
			if name != "" && (!e.p.names[name] || e.p.later[name]) {
				e.fail("body: node %q (%s): input %q is not defined before it", n.Name, n.Op, name)
			}
		}
		if len(n.Outputs) == 0 {
			e.fail("body: node %q (%s) has no output", n.Name, n.Op)
		}
		if e.err != nil {
			return nil
		}
		for _, out := range n.Outputs {
			e.p.users[out] = []*Node{nil}
		}
		e.p.readInside(n)
		if n.Op == "Constant" && n.Domain == "" {
			t, err := constantOf(n)
			if err != nil {
				e.fail("body: node %q (Constant): %w", n.Name, err)
				return nil
			}
			e.p.g.Constants[n.Outputs[0]], e.p.g.Infos[n.Outputs[0]] = t, Info{t.Type, t.Shape}
		} else {
			e.take(n)
		}
		e.p.passed(n)
	}
	outputs := make([]string, len(s.Outputs))
	for i, name := range s.Outputs {
		outputs[i] = name
		if other, ok := names[name]; ok {
			outputs[i] = other
		}
		if !e.p.names[outputs[i]] || e.p.later[outputs[i]] {
			e.fail("body: output %q is not defined", name)
		}
	}
	return outputs
}

func (e *expansion) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

// truth is a value that must be a constant bool, true where it is left out.
func (e *expansion) truth(name, what string) (bool, error) {
	if name == "" || e.err != nil {
		return true, e.err
	}
	t, err := e.p.g.value(name)
	switch {
	case err != nil:
		return false, err
	case t == nil:
		return false, &DynamicError{What: what, Value: name, Inputs: e.p.g.sources(name)}
	case t.Type != tensor.Bool || t.Shape.Elements() != 1:
		return false, fmt.Errorf("%s %q is %v%v, want one bool", what, name, t.Type, t.Shape)
	}
	return t.Data[0] != 0, nil
}

// expandIf: the branch that a constant condition takes (ONNX If 11).
func expandIf(c *call, e *expansion) error {
	yes, err := e.truth(c.node.Inputs[0], "condition")
	if err != nil {
		return err
	}
	branch := c.node.Attrs["else_branch"]
	if yes {
		branch = c.node.Attrs["then_branch"]
	}
	outputs := e.body(branch.(*Subgraph))
	if e.err == nil && len(outputs) != len(c.node.Outputs) {
		return fmt.Errorf("a branch has %d outputs, the node %d", len(outputs), len(c.node.Outputs))
	}
	e.alias(0, outputs)
	return nil
}

// alias makes outputs from the i-th on values that are there already.
func (e *expansion) alias(i int, values []string) {
	for k, v := range values {
		e.output(i+k, "Identity", nil, v)
	}
}

// expandLoop: the body as often as a constant trip count and conditions say,
// which must follow from shapes and constants (ONNX Loop 11).
func expandLoop(c *call, e *expansion) error {
	n, body := c.node, c.node.Attrs["body"].(*Subgraph)
	trips := maxAdded
	if n.Input(0) != "" {
		t, err := c.graph.constant(n, 0, "trip count")
		if err != nil {
			return err
		}
		if t.Type != tensor.Int64 || t.Shape.Elements() != 1 {
			return fmt.Errorf("trip count is %v%v, want one int64", t.Type, t.Shape)
		}
		trips = int(min(max(integerOf(t, 0), 0), maxAdded+1))
	}
	state := slices.Clone(n.Inputs[min(2, len(n.Inputs)):])
	if len(body.Inputs) != 2+len(state) || len(body.Outputs) < 1+len(state) || len(n.Outputs) != len(body.Outputs)-1 {
		return fmt.Errorf("a body of %d inputs and %d outputs, the node has %d and %d", len(body.Inputs), len(body.Outputs), len(n.Inputs), len(n.Outputs))
	}
	scans := make([][]string, len(body.Outputs)-1-len(state))
	condition := n.Input(1)
	for i := 0; i < trips; i++ {
		more, err := e.truth(condition, "condition")
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if condition == "" {
			condition = e.constant(tensor.FromSlice([]bool{true}))
		}
		turn := e.constant(tensor.FromSlice([]int64{int64(i)}))
		outputs := e.body(body, append([]string{turn, condition}, state...)...)
		if e.err != nil {
			return e.err
		}
		condition, state = outputs[0], outputs[1:1+len(state)]
		for k := range scans {
			scans[k] = append(scans[k], outputs[1+len(state)+k])
		}
	}
	e.alias(0, state)
	for k, parts := range scans {
		e.stack(len(state)+k, parts, 0)
	}
	return e.err
}

// stack makes output i of values behind each other on a new axis.
func (e *expansion) stack(i int, parts []string, axis int) {
	if e.err != nil || i >= len(e.node.Outputs) || e.node.Outputs[i] == "" {
		return
	}
	if len(parts) == 0 {
		e.fail("no turn says what shape output %q has", e.node.Outputs[i])
		return
	}
	s := e.shape(parts[0])
	at, err := axisIn(axis, len(s)+1)
	if err != nil {
		e.err = err
		return
	}
	one := slices.Insert(slices.Clone(s), at, 1)
	for k := range parts {
		parts[k] = e.reshape(parts[k], one...)
	}
	e.output(i, "Concat", Attrs{"axis": int64(at)}, parts...)
}

// expandScan: the body for each index of its inputs' axes (ONNX Scan 9).
func expandScan(c *call, e *expansion) error {
	n, body := c.node, c.node.Attrs["body"].(*Subgraph)
	if c.graph.Opset < 9 {
		return fmt.Errorf("opset %d is not supported: convert the model to 9 or later", c.graph.Opset)
	}
	count := n.Attrs.Int("num_scan_inputs", 0)
	states := len(n.Inputs) - count
	if count < 1 || states < 0 || len(body.Inputs) != len(n.Inputs) || len(body.Outputs) < states || len(n.Outputs) != len(body.Outputs) {
		return fmt.Errorf("%d scan inputs, a body of %d inputs and %d outputs, the node has %d and %d",
			count, len(body.Inputs), len(body.Outputs), len(n.Inputs), len(n.Outputs))
	}
	outs := len(body.Outputs) - states
	lists := map[string][]int{}
	for name, length := range map[string]int{"scan_input_axes": count, "scan_input_directions": count, "scan_output_axes": outs, "scan_output_directions": outs} {
		if lists[name] = n.Attrs.Ints(name, make([]int, length)); len(lists[name]) != length {
			return fmt.Errorf("%s %v for %d", name, lists[name], length)
		}
	}
	turns := -1
	axes := make([]int, count)
	for k := range axes {
		s := c.shape(states + k)
		var err error
		if axes[k], err = axisIn(lists["scan_input_axes"][k], len(s)); err != nil {
			return err
		}
		if size := s[axes[k]]; turns >= 0 && size != turns {
			return fmt.Errorf("scan inputs of %d and %d turns", turns, size)
		}
		turns = s[axes[k]]
	}
	state := slices.Clone(n.Inputs[:states])
	scans := make([][]string, outs)
	for t := range turns {
		inputs := slices.Clone(state)
		for k, axis := range axes {
			at := t
			if lists["scan_input_directions"][k] != 0 {
				at = turns - 1 - t
			}
			index := e.constant(&tensor.Tensor{Type: tensor.Int64, Shape: tensor.Shape{}, Data: tensor.Bytes([]int64{int64(at)})})
			inputs = append(inputs, e.add("Gather", Attrs{"axis": int64(axis)}, n.Inputs[states+k], index))
		}
		outputs := e.body(body, inputs...)
		if e.err != nil {
			return e.err
		}
		state = outputs[:states]
		for k := range scans {
			scans[k] = append(scans[k], outputs[states+k])
		}
	}
	e.alias(0, state)
	for k, parts := range scans {
		if lists["scan_output_directions"][k] != 0 {
			slices.Reverse(parts)
		}
		e.stack(states+k, parts, lists["scan_output_axes"][k])
	}
	return e.err
}
