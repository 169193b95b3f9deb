package plan

import (
	"cmp"
	"fmt"
	"slices"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// Run is what a stage computes; see graph.Graph.StageOf.
type Run struct {
	From, To      string // nodes
	Input, Output graph.Value
	WeightBytes   int          // of its constants
	Weights       tensor.DType // of the largest of these
	FLOPs         int64        // as graph.FLOPs counts them
}

// Work is what a slice, or a block of it, is given, gives and takes.
type Work struct {
	InputLen, InputBytes   int // elements and bytes
	OutputLen, OutputBytes int
	WeightBytes            int
	FLOPs                  int64
}

func workOf(l engine.Linear) Work {
	return Work{
		InputLen: l.InputLen(), InputBytes: l.InputBytes(), OutputLen: l.OutputLen(), OutputBytes: l.OutputBytes(),
		WeightBytes: l.WeightBytes(), FLOPs: 2 * int64(l.OutputLen()) * int64(l.Cols),
	}
}

func (r *Run) work() Work {
	in, out := r.Input.Shape.Elements(), r.Output.Shape.Elements()
	return Work{in, in * r.Input.Type.Size(), out, out * r.Output.Type.Size(), r.WeightBytes, r.FLOPs}
}

// Work is that of slice s.
func (l *Layer) Work(s int) Work {
	if l.Run != nil {
		return l.Run.work()
	}
	return workOf(l.Slice(s))
}

// BlockWork is the work of block b of slice s.
func (l *Layer) BlockWork(s, b int) Work {
	if l.Run != nil {
		return l.Run.work()
	}
	return workOf(l.Block(s, b))
}

// runOf is the stage of the graph between two nodes, and the names of its nodes.
func runOf(g *graph.Graph, from, to string) (*Run, []string, error) {
	s, err := g.StageOf(from, to)
	if err != nil {
		return nil, nil, err
	}
	own := g.Cut(s)
	if err := own.Prepare(); err != nil {
		return nil, nil, err
	}
	r := &Run{From: from, To: to, Input: s.Input, Output: s.Output}
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
		r.FLOPs += graph.FLOPs(g, n)
	}
	most := 0
	for _, c := range own.Constants {
		r.WeightBytes += len(c.Data)
		if len(c.Data) > most || len(c.Data) == most && c.Type < r.Weights {
			most, r.Weights = len(c.Data), c.Type
		}
	}
	return r, names, nil
}

// stages are the stages of the plan, by the names of their nodes.
func (m *maker) stages(g *graph.Graph) (map[string]*candidate, error) {
	of := map[string]*candidate{}
	for i := range m.opt.Layers {
		set := &m.opt.Layers[i]
		if set.To == "" {
			if set.Split == Stage {
				return nil, fmt.Errorf("layer %s: a stage has a last node: say which with to", set.Node)
			}
			continue
		}
		if set.Split != "" && set.Split != Stage {
			return nil, fmt.Errorf("stage %s to %s is computed whole, not split by %s", set.Node, set.To, set.Split)
		}
		if err := addStage(g, of, set); err != nil {
			return nil, err
		}
	}
	for i := range m.opt.Layers {
		if set := &m.opt.Layers[i]; of[set.Node] != nil && of[set.Node].set != set {
			return nil, fmt.Errorf("layer %s is in the stage %s", set.Node, of[set.Node].name())
		}
	}
	if m.opt.Split == Stage {
		return of, m.sequence(g, of)
	}
	return of, nil
}

// addStage adds a stage to others, by the names of its nodes.
func addStage(g *graph.Graph, stages map[string]*candidate, set *Setting) error {
	run, nodes, err := runOf(g, set.Node, set.To)
	if err != nil {
		return fmt.Errorf("stage %s to %s: %w", set.Node, set.To, err)
	}
	c := &candidate{nodes: nodes, run: run, set: set}
	for _, name := range nodes {
		if other := stages[name]; other != nil {
			return fmt.Errorf("node %s would be in two stages: %s and %s", name, other.name(), c.name())
		}
		stages[name] = c
	}
	return nil
}

func (c *candidate) name() string {
	if c.run != nil {
		return c.run.From + " to " + c.run.To
	}
	return c.nodes[0]
}

// whole gives the stage to its holder, and copies to others.
func (l *Layer) whole(h holders) {
	l.Workers = slices.Concat(h.data, h.extra)
	l.parts = []part{{linear: engine.Linear{Rows: 1}}} // one block of one row
	l.coded, l.block = l.parts[0].linear, 1
}

// alone chooses the fastest worker for a stage and the next ones for its copies,
// other workers for other stages if they are as fast.
func (m *maker) alone(number int, cover string) holders {
	order := m.rotated(-number)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.speeds[b], m.speeds[a]) })
	h := holders{data: order[:1]}
	if cover != None {
		h.extra = order[1 : 1+m.losses()]
	}
	return h
}
