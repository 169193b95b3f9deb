package graph

// FLOPs counts the floating-point operations of node n of the prepared graph
// g: 2 for each multiply-add of a Conv, Gemm or MatMul, on integers too, bias left
// out, and 0 for every other operator. It cannot overflow: both factors are elements of
// tensors within MaxTensorBytes.
func FLOPs(g *Graph, n *Node) int64 {
	var inner int
	in := func(i int) Info { return g.Infos[n.Input(i)] }
	switch n.Op {
	case "QLinearConv":
		inner = in(3).Shape[1:].Elements()
	case "Conv", "ConvInteger":
		inner = in(1).Shape[1:].Elements()
	case "Gemm":
		inner = in(0).Shape[1]
		if n.Attrs.Int("transA", 0) != 0 {
			inner = in(0).Shape[0]
		}
	case "MatMul", "MatMulInteger", "QLinearMatMul":
		a := in(0).Shape
		inner = a[len(a)-1]
	default:
		return 0
	}
	return 2 * int64(g.Infos[n.Outputs[0]].Shape.Elements()) * int64(inner)
}
