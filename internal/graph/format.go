package graph

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"starling/internal/tensor"
)

// Format writes the graph as text, the same bytes for the same graph: inputs,
// constants by name, nodes in order and outputs, with the types that Prepare
// found ("?" where it has not). Constants' elements are left out. Errors are
// those of w.
func (g *Graph) Format(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "graph %q opset %d\n", g.Name, g.Opset)
	for _, k := range slices.Sorted(maps.Keys(g.Domains)) {
		fmt.Fprintf(&b, "domain %q opset %d\n", k, g.Domains[k])
	}
	for _, k := range slices.Sorted(maps.Keys(g.Metadata)) {
		fmt.Fprintf(&b, "metadata %q %q\n", k, g.Metadata[k])
	}
	for _, v := range g.Inputs {
		fmt.Fprintf(&b, "input %q %v\n", v.Name, v.Info)
	}
	for _, k := range slices.Sorted(maps.Keys(g.Constants)) {
		t := g.Constants[k]
		fmt.Fprintf(&b, "constant %q %v\n", k, Info{t.Type, t.Shape})
	}
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "node %s %q (%s) -> (%s)", strings.TrimPrefix(n.Domain+"."+n.Op, "."), n.Name,
			g.values(n.Inputs), g.values(n.Outputs))
		for _, k := range slices.Sorted(maps.Keys(n.Attrs)) {
			fmt.Fprintf(&b, " %s=%s", k, formatAttr(n.Attrs[k]))
		}
		b.WriteByte('\n')
	}
	for _, name := range g.Outputs {
		fmt.Fprintf(&b, "output %s\n", g.values([]string{name}))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String formats the type as float32[1,3,224,224]; "?" if it is not known.
func (i Info) String() string {
	if i.Type == tensor.Invalid {
		return "?"
	}
	return i.Type.String() + i.Shape.String()
}

func (g *Graph) values(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		if name == "" {
			list[i] = "-"
			continue
		}
		list[i] = fmt.Sprintf("%q %v", name, g.Infos[name])
	}
	return strings.Join(list, ", ")
}

func formatAttr(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []string:
		return fmt.Sprintf("%q", v)
	case *tensor.Tensor:
		return "tensor " + Info{v.Type, v.Shape}.String()
	case *Subgraph:
		return fmt.Sprintf("<graph of %d nodes>", len(v.Nodes))
	case Opaque:
		return "<" + string(v) + ">"
	default:
		return strings.ReplaceAll(fmt.Sprint(v), " ", ",")
	}
}
