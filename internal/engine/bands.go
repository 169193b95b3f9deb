package engine

import (
	"fmt"
	"maps"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// bandBytes is the most that is in memory of maps that are computed in bands. In
// bands of fewer channels a layer's input would be packed too often.
const bandBytes = 5 << 18

// bandStep divides the number of channels in a band, so that no tile is cut.
const bandStep = 12

// inBands returns g with large maps computed in bands. Where the output of a 1×1
// convolution is read only by a window over each of its maps, a depthwise
// convolution or a pooling, both become layers of some channels, each pair
// computed before the next one, and a Concat, for which nothing is copied: so one
// band is in memory instead of all maps. Every element is computed as it was.
// Constants that were cut are not among those of the result, their bands are.
func inBands(g *graph.Graph, split map[string]int) *graph.Graph {
	cut := *g
	cut.Nodes, cut.Infos, cut.Constants = nil, maps.Clone(g.Infos), maps.Clone(g.Constants)
	b := bands{g: g, split: split, readers: g.Consumers()}
	for _, name := range g.Outputs {
		b.readers[name] = append(b.readers[name], nil)
	}
	done := map[*graph.Node]bool{}
	for _, n := range g.Nodes {
		if done[n] {
			continue
		}
		chain := b.chain(n)
		if chain == nil {
			cut.Nodes = append(cut.Nodes, n)
			continue
		}
		addBands(&cut, chain)
		for _, n := range chain {
			done[n] = true
		}
	}
	left := cut.Consumers()
	for n := range done {
		for _, name := range n.Inputs[1:] {
			if len(left[name]) == 0 && !slices.Contains(g.Outputs, name) {
				delete(cut.Constants, name)
			}
		}
	}
	return &cut
}

// bands finds what to compute in bands.
type bands struct {
	g       *graph.Graph
	split   map[string]int
	readers map[string][]*graph.Node // of each value; nil for the graph's outputs
}

// chain lists the nodes to compute in bands from n on: a 1×1 convolution of large
// maps, a window over each, and the activations after both; nil if it is no such.
func (b *bands) chain(n *graph.Node) []*graph.Node {
	l, ok := b.conv(n)
	shape := b.g.Infos[n.Outputs[0]].Shape
	if !ok || l.Conv.Groups != 1 || l.Conv.KH*l.Conv.KW != 1 || l.Outer != 1 || bandRows(shape) >= shape[1] {
		return nil
	}
	chain, window := []*graph.Node{n}, false
	for next := b.follower(n); next != nil; next = b.follower(next) {
		if !b.activation(next) {
			if window || !b.window(next) {
				break
			}
			window = true
		}
		chain = append(chain, next)
	}
	if !window {
		return nil
	}
	return chain
}

// bandRows is the number of channels in a band of maps of a shape.
func bandRows(maps tensor.Shape) int {
	most := max(1, bandBytes/(4*maps[2:].Elements())/bandStep) * bandStep
	count := (maps[1] + most - 1) / most
	even := (maps[1] + count - 1) / count
	return (even + bandStep - 1) / bandStep * bandStep
}

// conv is the linear part of a convolution of two dimensions that is computed here
// and whose bias, if any, is constant.
func (b *bands) conv(n *graph.Node) (Linear, bool) {
	if _, split := b.split[n.Name]; split || n.Op != "Conv" || n.Domain != "" {
		return Linear{}, false
	}
	l, err := linearOf(b.g, n)
	bias := n.Input(2) == "" || b.g.Constants[n.Input(2)] != nil
	return l, err == nil && bias && len(b.g.Infos[n.Outputs[0]].Shape) == 4
}

// follower is the only reader of a node's output, as its first input; else nil.
func (b *bands) follower(n *graph.Node) *graph.Node {
	after := b.readers[n.Outputs[0]]
	if len(after) != 1 || after[0] == nil || after[0].Input(0) != n.Outputs[0] || after[0].Domain != "" {
		return nil
	}
	return after[0]
}

func (b *bands) activation(n *graph.Node) bool {
	if n.Op == "Clip" {
		_, _, constant := b.g.ClipBounds(n)
		return constant
	}
	return n.Op == "Relu"
}

// window says whether a node computes each channel of its output from the same
// one of its input.
func (b *bands) window(n *graph.Node) bool {
	if n.Op == "MaxPool" || n.Op == "AveragePool" {
		return len(n.Outputs) == 1
	}
	l, ok := b.conv(n)
	return ok && l.Conv.Groups == l.Conv.C && l.Conv.M == l.Conv.C
}

// addBands adds the nodes of a chain to g, in bands.
func addBands(g *graph.Graph, chain []*graph.Node) {
	first, last := chain[0], chain[len(chain)-1]
	whole := &graph.Node{Name: last.Name, Op: "Concat", Outputs: last.Outputs, Attrs: graph.Attrs{"axis": int64(1)}}
	shape := g.Infos[first.Outputs[0]].Shape
	rows := bandRows(shape)
	for from := 0; from < shape[1]; from += rows {
		to := min(from+rows, shape[1])
		x := first.Inputs[0]
		for _, n := range chain {
			band := *n
			band.Inputs = append([]string{x}, n.Inputs[1:]...)
			if n.Op == "Conv" {
				for i, name := range n.Inputs[1:] {
					band.Inputs[1+i] = constantRows(g, name, from, to)
				}
			}
			if n.Op == "Conv" && n != first {
				band.Attrs = maps.Clone(n.Attrs)
				band.Attrs["group"] = int64(to - from)
			}
			info := g.Infos[n.Outputs[0]]
			info.Shape = append(tensor.Shape{1, to - from}, info.Shape[2:]...)
			x = bandName(n.Outputs[0], from, to)
			g.Infos[x], band.Outputs = info, []string{x}
			g.Nodes = append(g.Nodes, &band)
		}
		whole.Inputs = append(whole.Inputs, x)
	}
	g.Nodes = append(g.Nodes, whole)
}

// bandName names some channels of a value. No model has a name with a zero byte.
func bandName(value string, from, to int) string { return fmt.Sprintf("%s\x00%d:%d", value, from, to) }

// constantRows adds some rows of a constant to g and returns their name, which is
// "" where the constant is left out.
func constantRows(g *graph.Graph, name string, from, to int) string {
	if name == "" {
		return ""
	}
	t := g.Constants[name]
	size := len(t.Data) / t.Shape[0]
	rows := &tensor.Tensor{
		Type: t.Type, Shape: append(tensor.Shape{to - from}, t.Shape[1:]...),
		Data: t.Data[from*size : to*size], Mapping: t.Mapping,
	}
	name = bandName(name, from, to)
	g.Constants[name], g.Infos[name] = rows, graph.Info{Type: rows.Type, Shape: rows.Shape}
	return name
}
