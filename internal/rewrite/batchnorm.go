package rewrite

import (
	"math"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// foldBatchNorm puts a BatchNormalization into the Conv whose only reader it is:
// with f = scale/√(variance + ε), f·(W·x + b − mean) + bias is a convolution with
// the weights f·W and the bias f·(b − mean) + bias. These are computed in float64
// and rounded once, so outputs change within rounding. A pair whose folded
// weights are not finite stays as it is.
func foldBatchNorm(g *graph.Graph) (bool, error) {
	makers := makersOf(g)
	readers := g.Consumers()
	before := len(g.Nodes)
	var waste tensor.Waste
	g.Nodes = slices.DeleteFunc(g.Nodes, func(bn *graph.Node) bool {
		if bn.Op != "BatchNormalization" {
			return false
		}
		x := bn.Inputs[0]
		conv := makers[x]
		if conv == nil || conv.Op != "Conv" || len(readers[x]) != 1 || isOutput(g, x) {
			return false
		}
		plain := conv.Inputs[1]
		if !foldInto(g, conv, bn) {
			return false
		}
		// Now, so that weights are not in memory twice.
		if t := g.Constants[plain]; len(readers[plain]) == 1 && !isOutput(g, plain) {
			delete(g.Constants, plain)
			waste.Add(t)
		} else {
			t.Drop()
		}
		conv.Outputs[0] = bn.Outputs[0]
		makers[conv.Outputs[0]] = conv
		return true
	})
	return len(g.Nodes) < before, nil
}

// foldInto gives conv new weights and a new bias, if the constants allow it.
func foldInto(g *graph.Graph, conv, bn *graph.Node) bool {
	weights := g.Constants[conv.Inputs[1]]
	var norm [4][]float32 // scale, bias, mean, variance
	for i := range norm {
		t := g.Constants[bn.Inputs[1+i]]
		if t == nil {
			return false
		}
		norm[i] = t.F32()
	}
	before := make([]float32, len(norm[0]))
	if name := conv.Input(2); name != "" {
		t := g.Constants[name]
		if t == nil {
			return false
		}
		before = t.F32()
	}
	if weights == nil {
		return false
	}
	w := tensor.New(tensor.Float32, weights.Shape...)
	b := tensor.New(tensor.Float32, len(before))
	scale, bias, mean, variance := norm[0], norm[1], norm[2], norm[3]
	epsilon := float64(bn.Attrs.Float("epsilon", 1e-5))
	k := weights.Shape[1:].Elements()
	for m := range before {
		f := float64(scale[m]) / math.Sqrt(float64(variance[m])+epsilon)
		from, to := weights.F32()[m*k:(m+1)*k], w.F32()[m*k:(m+1)*k]
		for i, v := range from {
			to[i] = float32(f * float64(v))
		}
		// The conversion of the product keeps it from being fused with the sum.
		b.F32()[m] = float32(float64(f*(float64(before[m])-float64(mean[m]))) + float64(bias[m]))
	}
	if !finite(w.F32()) || !finite(b.F32()) {
		return false
	}
	conv.Inputs = []string{conv.Inputs[0], addConstant(g, conv.Name+"_folded_weights", w), addConstant(g, conv.Name+"_folded_bias", b)}
	return true
}

func finite(x []float32) bool {
	return !slices.ContainsFunc(x, func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) })
}
