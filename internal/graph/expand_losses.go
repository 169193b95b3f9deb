package graph

import (
	"fmt"
	"slices"

	"starling/internal/tensor"
)

// expandCrossEntropy: the likelihood loss of the scores' log-softmax along axis 1
// (ONNX SoftmaxCrossEntropyLoss 13).
func expandCrossEntropy(c *call, e *expansion) error {
	s := c.shape(0)
	if len(s) < 2 {
		return fmt.Errorf("scores of shape %v have no classes", s)
	}
	// The classes last, because before opset 13 a softmax took all axes from one on.
	perm := make([]int, len(s))
	for i := range perm {
		perm[i] = i
	}
	last := append(slices.Delete(slices.Clone(perm), 1, 2), 1)
	back := slices.Insert(slices.Clone(perm[:len(s)-1]), 1, len(s)-1)
	log := e.add("LogSoftmax", Attrs{"axis": int64(len(s) - 1)}, e.transpose(c.node.Inputs[0], last...))
	log = e.transpose(log, back...)
	e.output(1, "Identity", nil, log)
	return likelihood(c, e, log)
}

// expandLikelihood: −x[n,target[n,…],…]·weight[target[n,…]], summed up (ONNX
// NegativeLogLikelihoodLoss 22).
func expandLikelihood(c *call, e *expansion) error { return likelihood(c, e, c.node.Inputs[0]) }

func likelihood(c *call, e *expansion, x string) error {
	s, target := c.shape(0), c.node.Inputs[1]
	typ := c.in[1].Type
	if len(s) < 2 || !c.shape(1).Equal(append(tensor.Shape{s[0]}, s[2:]...)) || typ != tensor.Int64 && typ != tensor.Int32 {
		return fmt.Errorf("target %v%v for %v, want integers of [N,…]", typ, c.shape(1), s)
	}
	if c.has(2) && (c.in[2].Type != c.in[0].Type || !c.shape(2).Equal(tensor.Shape{s[1]})) {
		return fmt.Errorf("weight %v%v, want %v[%d]", c.in[2].Type, c.shape(2), c.in[0].Type, s[1])
	}
	whole := func(v int) string {
		t := tensor.New(typ)
		setInteger(t, 0, int64(v))
		return e.constant(t)
	}
	ignored := ""
	if _, ok := c.node.Attrs["ignore_index"]; ok {
		ignored = e.add("Equal", nil, target, whole(c.node.Attrs.Int("ignore_index", 0)))
		target = e.add("Where", nil, ignored, whole(0), target)
	}
	one := append(tensor.Shape{s[0], 1}, s[2:]...)
	loss := e.add("GatherElements", Attrs{"axis": int64(1)}, x, e.reshape(target, one...))
	loss = e.add("Neg", nil, e.reshape(loss, c.shape(1)...))
	weight := ""
	if c.has(2) {
		weight = e.add("Gather", nil, c.node.Inputs[2], target)
	} else if ignored != "" {
		weight = e.add("Expand", nil, e.scalar(1), e.ints(c.shape(1)...))
	}
	if ignored != "" {
		weight = e.add("Where", nil, ignored, e.scalar(0), weight)
	}
	if weight != "" {
		loss = e.add("Mul", nil, loss, weight)
	}
	flat := func(v string) string { return e.reshape(v, c.shape(1).Elements()) }
	sum := func(op, v string) string { return e.reshape(e.reduce(op, flat(v), 0)) }
	switch reduction := c.node.Attrs.String("reduction", "mean"); {
	case reduction == "none":
	case reduction == "sum":
		loss = sum("ReduceSum", loss)
	case reduction == "mean" && weight != "":
		loss = e.add("Div", nil, sum("ReduceSum", loss), sum("ReduceSum", weight))
	case reduction == "mean":
		loss = sum("ReduceMean", loss)
	default:
		return fmt.Errorf("reduction %q, want none, sum or mean", reduction)
	}
	e.output(0, "Identity", nil, loss)
	return nil
}
