package plan

import (
	"slices"

	"starling/internal/graph"
)

// A model that is split by Stage is cut into stages that follow each other, one for
// each worker that holds data, of as much work as it is fast. It can be cut where a
// single value passes from all that comes before to all that follows. What the plan
// says otherwise of single layers and stages holds.

// atom is the nodes between two such places.
type atom struct {
	nodes []*graph.Node
	work  float64 // as in Devices.compute, of any unit
	free  bool    // the plan says nothing of them
}

// usual are devices whose computing and reading of weights are compared by what is
// cut.
var usual = Devices{GFLOPS: 10, ReadGBs: 3}

// sequence adds the stages of a model that is split by Stage to those that are named.
func (m *maker) sequence(g *graph.Graph, stages map[string]*candidate) error {
	cover, err := m.cover(candidate{}.linear, Stage, &Setting{})
	if err != nil {
		return err
	}
	h, err := m.choose(0, &Layer{Cover: cover}, &Setting{})
	if err != nil {
		return err
	}
	atoms := m.atoms(g, stages)
	holder := assign(atoms, h.shares)
	var run []atom
	for i, a := range atoms {
		if a.free {
			run = append(run, a)
		}
		if !a.free || i == len(atoms)-1 || holder[i+1] != holder[i] {
			if err := m.stage(g, stages, run, cover, h, holder[i]); err != nil {
				return err
			}
			run = nil
		}
	}
	return nil
}

// assign says which holder each atom is for, so that the slowest of them is done
// soonest: each takes as much as he can do in a time, and the least time in which
// they can do all is found by bisection.
func assign(atoms []atom, speeds []float64) []int {
	holder := make([]int, len(atoms))
	within := func(time float64) bool {
		j, load := 0, 0.0
		for i, a := range atoms {
			for a.free && load+a.work > time*speeds[j] {
				if j++; j == len(speeds) {
					return false
				}
				load = 0
			}
			if a.free {
				load += a.work
			}
			holder[i] = j
		}
		return true
	}
	most := 0.0
	for _, a := range atoms {
		most += a.work / speeds[0]
	}
	most *= 1 + 1e-9 // it may have been rounded down
	for least := 0.0; most-least > 1e-9*most; {
		if middle := (least + most) / 2; within(middle) {
			most = middle
		} else {
			least = middle
		}
	}
	within(most)
	return holder
}

// stage makes a stage of atoms that holder j of the data is to have, if there is work
// in them.
func (m *maker) stage(g *graph.Graph, stages map[string]*candidate, run []atom, cover string, h holders, j int) error {
	if !slices.ContainsFunc(run, func(a atom) bool { return a.work > 0 }) {
		return nil
	}
	last := run[len(run)-1].nodes
	set := &Setting{Node: run[0].nodes[0].Name, To: last[len(last)-1].Name, Redundancy: cover, Data: h.data[j : j+1]}
	for ; j < len(h.extra); j += len(h.data) {
		set.Spare = append(set.Spare, h.extra[j])
	}
	return addStage(g, stages, set)
}

// atoms cuts the graph wherever it can be cut, but for what takes no work, as
// activations and pools: that stays with the layer before.
func (m *maker) atoms(g *graph.Graph, stages map[string]*candidate) []atom {
	left := map[string]int{} // how often a value is still to be read, at the end too
	for _, n := range g.Nodes {
		for _, name := range n.Inputs {
			left[name]++
		}
	}
	for _, name := range g.Outputs {
		left[name]++
	}
	live := 0 // values that are there and will be read
	for _, in := range g.Inputs {
		if left[in.Name] > 0 {
			live++
		}
	}
	var atoms []atom
	a, begun := atom{free: true}, live == 1
	for _, n := range g.Nodes {
		a.nodes = append(a.nodes, n)
		a.work += usual.compute(graph.FLOPs(g, n), weightBytes(g, n), 1)
		a.free = a.free && m.settings[n.Name] == nil && stages[n.Name] == nil
		for _, name := range n.Inputs {
			if left[name]--; left[name] == 0 && name != "" && g.Constants[name] == nil {
				live--
			}
		}
		for _, name := range n.Outputs {
			if left[name] > 0 && name != "" {
				live++
			}
		}
		if live != 1 {
			continue
		}
		if last := len(atoms) - 1; last >= 0 && a.work == 0 && a.free == atoms[last].free {
			atoms[last].nodes = append(atoms[last].nodes, a.nodes...)
		} else if begun {
			atoms = append(atoms, a)
		}
		a, begun = atom{free: true}, true
	}
	return atoms
}
