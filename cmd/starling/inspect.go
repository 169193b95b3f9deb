package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/tensor"
)

func inspectCommand() *cobra.Command {
	var (
		asJSON bool
		dims   map[string]int
	)
	cmd := &cobra.Command{
		Use:   "inspect MODEL",
		Short: "Show a model's graph, shapes, work and weights, and what Starling can't run of it",
		Args:  exactly(1, "MODEL"),
		RunE: func(_ *cobra.Command, args []string) error {
			g, err := onnx.Parse(args[0])
			if err != nil {
				return withHint(err)
			}
			if err := g.SetDims(dims); err != nil {
				return fmt.Errorf("model %s: %w", args[0], err)
			}
			r := &inspection{
				Model: args[0], Opset: g.Opset, Metadata: g.Metadata,
				Inputs: []value{}, Outputs: []value{}, Nodes: []node{}, Unsupported: []unsupported{}, // none is [], not null
			}
			for _, u := range g.Unsupported() {
				r.Unsupported = append(r.Unsupported, unsupported{Op: u.Op, Domain: u.Domain, Opset: u.Opset, Node: u.Node})
			}
			if len(r.Unsupported) == 0 {
				if err := g.Prepare(); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
			}
			r.fill(g)
			if asJSON {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				err = r.print(os.Stdout)
			}
			if err != nil {
				return err
			}
			if n := len(r.Unsupported); n > 0 {
				return fmt.Errorf("%s: %d of %d nodes have operators that Starling does not have yet", args[0], n, len(r.Nodes))
			}
			return nil
		},
	}
	addDims(cmd, &dims)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// inspection is what inspect says of a model.
type inspection struct {
	Model       string            `json:"model"`
	Opset       int               `json:"opset"`
	Metadata    map[string]string `json:"metadata"`
	Inputs      []value           `json:"inputs"`
	Outputs     []value           `json:"outputs"`
	Parameters  int64             `json:"parameters"`
	Bytes       int64             `json:"bytes"` // of the constants
	FLOPs       int64             `json:"flops"` // of one request, 2 a multiply-add
	Nodes       []node            `json:"nodes"`
	Unsupported []unsupported     `json:"unsupported"`
}

type value struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []int  `json:"shape"`

	Free []string `json:"free,omitempty"` // as graph.Value's
}

type node struct {
	Name       string  `json:"name"`
	Op         string  `json:"op"`
	Outputs    []value `json:"outputs"`
	Parameters int64   `json:"parameters"`
	FLOPs      int64   `json:"flops"`
	Split      string  `json:"split"` // how the layer can be split, "" if it can't
	Rows       int     `json:"rows"`  // among so many rows
}

type unsupported struct {
	Op     string `json:"op"`
	Domain string `json:"domain"`
	Opset  int    `json:"opset"`
	Node   string `json:"node"`
}

func (r *inspection) fill(g *graph.Graph) {
	of := func(name string) value {
		info := g.Infos[name]
		return value{Name: name, Type: info.Type.String(), Shape: append([]int{}, info.Shape...)}
	}
	for _, in := range g.Inputs {
		r.Inputs = append(r.Inputs, value{Name: in.Name, Type: in.Type.String(), Shape: append([]int{}, in.Shape...), Free: in.Free})
	}
	for _, c := range g.Constants {
		r.Parameters += int64(c.Shape.Elements())
		r.Bytes += int64(len(c.Data))
	}
	prepared := len(r.Unsupported) == 0
	if prepared {
		for _, out := range g.Outputs {
			r.Outputs = append(r.Outputs, of(out))
		}
	}
	for _, n := range g.Nodes {
		info := node{Name: n.Name, Op: n.Op, Outputs: []value{}}
		for _, in := range n.Inputs {
			if c := g.Constants[in]; c != nil {
				info.Parameters += int64(c.Shape.Elements())
			}
		}
		if prepared {
			for _, out := range n.Outputs {
				if out != "" {
					info.Outputs = append(info.Outputs, of(out))
				}
			}
			info.FLOPs = graph.FLOPs(g, n)
			r.FLOPs += info.FLOPs
			if l, _, err := engine.LinearOf(g, n); err == nil {
				info.Split = plan.Output
				if l.Op == "Conv" {
					info.Split = plan.Channel
				}
				info.Rows, _ = plan.Units(l, info.Split) // every layer has one of the two
			}
		}
		r.Nodes = append(r.Nodes, info)
	}
}

func (r *inspection) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "model\t%s, opset %d\n", r.Model, r.Opset)
	for _, v := range r.Inputs {
		fmt.Fprintf(t, "input\t%s %s %v", v.Name, v.Type, tensor.Shape(v.Shape))
		if names := (graph.Value{Free: v.Free}).FreeNames(); names != "" {
			fmt.Fprintf(t, ", free: %s", names)
		}
		fmt.Fprintln(t)
	}
	for _, v := range r.Outputs {
		fmt.Fprintf(t, "output\t%s %s %v\n", v.Name, v.Type, tensor.Shape(v.Shape))
	}
	fmt.Fprintf(t, "constants\t%d numbers, %.1f MB\n", r.Parameters, float64(r.Bytes)/1e6)
	if len(r.Unsupported) == 0 {
		fmt.Fprintf(t, "work\t%.3f GFLOP a request\n", float64(r.FLOPs)/1e9)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Metadata)) {
		fmt.Fprintf(t, "%s\t%s\n", visible(key), visible(r.Metadata[key]))
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "node\toperator\toutput\tconstants\tMFLOP\tsplit")
	for _, n := range r.Nodes {
		shape, split := "", ""
		if len(n.Outputs) > 0 {
			shape = fmt.Sprint(tensor.Shape(n.Outputs[0].Shape))
		}
		if n.Split != "" {
			split = fmt.Sprintf("%s, %d rows", n.Split, n.Rows)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.2f\t%s\n", n.Name, n.Op, shape, n.Parameters, float64(n.FLOPs)/1e6, split)
	}
	if len(r.Unsupported) > 0 {
		fmt.Fprintln(t)
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(t, "unsupported operator\topset\tnode")
		for _, u := range r.Unsupported {
			op := u.Op
			if u.Domain != "" {
				op = u.Domain + "." + op
			}
			fmt.Fprintf(t, "%s\t%d\t%s\n", op, u.Opset, u.Node)
		}
	}
	return t.Flush()
}
