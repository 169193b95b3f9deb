package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/graph"
	"starling/internal/parity"
)

// maker makes a plan.
type maker struct {
	opt      Options // defaults put in
	settings map[string]*Setting
	nodes    []candidate
	speeds   []float64 // of all workers; made lower for those that hold too much
	over     []int64   // bytes that each worker held beyond its memory
}

// candidate is a node of the graph that can be split, or several dense ones
// that read the same input, whose rows are one layer; or a stage.
type candidate struct {
	nodes  []string
	linear engine.Linear
	run    *Run
	set    *Setting // nil if it has none
}

// newMaker checks the options and puts their defaults in.
func newMaker(g *graph.Graph, opt Options) (*maker, error) {
	if _, ok := wanted[opt.Split]; !ok {
		return nil, fmt.Errorf("unknown split %q: use %s", opt.Split, strings.Join(Kinds, ", "))
	}
	n := opt.Workers()
	switch opt.Redundancy {
	case "", Parity:
	case None, Replicate:
		opt.Parity = 0
	default:
		return nil, fmt.Errorf("unknown redundancy %q: use %s, %s or %s", opt.Redundancy, None, Parity, Replicate)
	}
	if _, err := parity.New(opt.Data, opt.Parity); err != nil {
		return nil, err
	}
	m := &maker{opt: opt, settings: map[string]*Setting{}, speeds: slices.Clone(opt.Speeds), over: make([]int64, n)}
	if m.speeds == nil {
		m.speeds = slices.Repeat([]float64{1}, n)
	}
	if len(m.speeds) != n {
		return nil, fmt.Errorf("%d speeds for %d workers", len(m.speeds), n)
	}
	for w, s := range m.speeds {
		if !(s > 0 && s < 1e9) { // not a number is not
			return nil, fmt.Errorf("speed %v of worker %s: must be above 0 and below 1e9", s, WorkerName(w))
		}
	}
	if opt.Memory != nil && len(opt.Memory) != n {
		return nil, fmt.Errorf("%d memory limits for %d workers", len(opt.Memory), n)
	}
	for i := range opt.Layers {
		set := &opt.Layers[i]
		if m.settings[set.Node] != nil {
			return nil, fmt.Errorf("layer %s is planned twice", set.Node)
		}
		m.settings[set.Node] = set
	}
	return m, m.find(g)
}

// find lists the stages and the nodes to split.
func (m *maker) find(g *graph.Graph) error {
	stages, err := m.stages(g)
	if err != nil {
		return err
	}
	m.nodes = nil
	known := map[string]bool{}
	dense := map[[2]string]int{} // in nodes, by what they read
	for _, n := range g.Nodes {
		known[n.Name] = true
		if c := stages[n.Name]; c != nil {
			if n.Name == c.nodes[0] {
				m.nodes = append(m.nodes, *c)
			}
			continue
		}
		set := m.settings[n.Name]
		if set != nil && set.Split == Local {
			continue
		}
		l, _, err := engine.LinearOf(g, n)
		if err != nil {
			if errors.Is(err, engine.ErrNotLinear) && set == nil {
				continue
			}
			return err
		}
		if set == nil && (m.opt.Split == Stage || kindOf(l, m.opt.Split) == "") {
			continue
		}
		if l.Op != "Conv" {
			if i, ok := dense[engine.InputOf(n)]; ok && set == nil && m.nodes[i].join(n.Name, l) {
				continue
			}
			dense[engine.InputOf(n)] = len(m.nodes)
		}
		m.nodes = append(m.nodes, candidate{nodes: []string{n.Name}, linear: l, set: set})
	}
	for name := range m.settings {
		if !known[name] {
			return fmt.Errorf("the plan's layer %s is not in the model: starling inspect lists its layers", name)
		}
	}
	if len(m.nodes) == 0 {
		return fmt.Errorf("%w: the model has no %s with constant weights: use another --split, or --workers 0 to run it here",
			ErrNothingToSplit, wanted[m.opt.Split])
	}
	return nil
}

// join adds a dense node that reads the same input, unless their results
// together would be too large for a frame.
func (c *candidate) join(name string, l engine.Linear) bool {
	all := c.linear.OfRows(c.linear.Rows + l.Rows)
	if !c.linear.Joins(l) || 4*int64(all.Outer)*int64(all.Rows) > frame.DefaultMaxPayload {
		return false
	}
	c.nodes, c.linear = append(c.nodes, name), all
	return true
}

func (m *maker) plan() (*Plan, error) {
	p := &Plan{Data: m.opt.Data, Parity: m.opt.Parity, Workers: len(m.speeds)}
	for i, c := range m.nodes {
		layer, err := m.layer(i, c)
		if err != nil {
			return nil, fmt.Errorf("split layer %s: %w", c.name(), err)
		}
		p.Layers = append(p.Layers, layer)
	}
	return p, nil
}

// fittings is how often New makes slices smaller for workers of little memory.
const fittings = 32

// fit says whether every worker has the memory for its slices, and makes those
// slower in the maker's eyes that have not.
func (m *maker) fit(p *Plan) bool {
	if m.opt.Memory == nil {
		return true
	}
	held := p.Memory()
	fits := true
	for w, limit := range m.opt.Memory {
		m.over[w] = held[w] - limit
		if m.over[w] > 0 {
			fits = false
			m.speeds[w] *= 0.98 * float64(limit) / float64(held[w])
			m.speeds[w] = max(m.speeds[w], 1e-12)
		}
	}
	return fits
}

func (m *maker) tooLarge() error {
	var who []string
	for w, bytes := range m.over {
		if bytes > 0 {
			who = append(who, fmt.Sprintf("%s by %.1f MB", WorkerName(w), float64(bytes)/1e6))
		}
	}
	return fmt.Errorf("the weights do not fit the workers' memory: %s too much: use more workers or another split", strings.Join(who, ", "))
}

// layer plans layer number i.
func (m *maker) layer(i int, c candidate) (Layer, error) {
	set := c.set
	if set == nil {
		set = &Setting{}
	}
	layer := Layer{Node: c.name(), Nodes: c.nodes, Linear: c.linear, Run: c.run, Kind: set.Split}
	layer.Wire = layer.encodingFor(m.opt.Wire)
	if set.Wire != nil {
		layer.Wire = layer.encodingFor(*set.Wire)
	}
	switch {
	case c.run != nil:
		layer.Kind = Stage
	case layer.Kind == "":
		layer.Kind = kindOf(c.linear, m.opt.Split)
	}
	var err error
	if layer.Cover, err = m.cover(c.linear, layer.Kind, set); err != nil {
		return layer, err
	}
	var h holders
	if set.Data == nil {
		h, err = m.choose(i, &layer, set)
	} else {
		h, err = m.given(i, &layer, set)
	}
	if err != nil {
		return layer, err
	}
	if err := layer.fill(h, m.opt.Block); err != nil {
		return layer, err
	}
	_, err = parity.New(layer.K(), layer.R())
	return layer, err
}

// cover decides what covers a layer, or says why it can't be the one wanted.
func (m *maker) cover(l engine.Linear, kind string, set *Setting) (string, error) {
	cheapest := Replicate
	switch {
	case kind == Output || kind == Channel && l.Conv.Groups <= 1:
		cheapest = Parity
	case kind == Spatial:
		cheapest = Inputs
	}
	able := canCombine(l, m.losses())
	if !able {
		cheapest = Replicate
	}
	switch set.Redundancy {
	case "":
		switch {
		case m.opt.Redundancy == Replicate:
			return Replicate, nil
		case m.opt.Parity == 0:
			return None, nil
		}
		return cheapest, nil
	case None, Replicate:
		return set.Redundancy, nil
	case Inputs, Parity:
		switch {
		case kind == Stage:
			return "", errors.New("a stage is not linear, so no combination covers it: use replicate")
		case !able:
			return "", fmt.Errorf("sums of combinations would not fit, with rows of more than %d integers: use replicate or one parity", engine.MaxWide)
		case set.Redundancy == Inputs && kind != Spatial:
			return "", fmt.Errorf("combinations of inputs cover a spatial split, not %s: use replicate", kind)
		case set.Redundancy == Parity && kind == Spatial:
			return "", errors.New("all slices of a spatial split have the same weights: use inputs or replicate")
		case set.Redundancy == Parity && cheapest == Replicate:
			return "", fmt.Errorf("slices of kind %s differ in weights and in inputs, so no parity of weights covers them: use replicate", kind)
		}
	default:
		return "", fmt.Errorf("unknown redundancy %q: use %s, %s, %s or %s", set.Redundancy, None, Parity, Inputs, Replicate)
	}
	return set.Redundancy, nil
}

// holders are the workers of a layer's slices: of the data slices, with their
// shares; and extra ones of the parity slices, or of the copies, one for each
// data slice and so on.
type holders struct {
	data, extra []int
	shares      []float64
}

// losses is how many losses a covered layer is to survive.
func (m *maker) losses() int { return max(m.opt.Parity, 1) }

// choose takes the holders from all workers.
func (m *maker) choose(number int, layer *Layer, set *Setting) (holders, error) {
	cover := layer.Cover
	if set.Shares != nil || set.Spare != nil {
		return holders{}, errors.New("it has shares or spare workers, but no data workers")
	}
	if cover != None && len(m.speeds) <= m.losses() {
		return holders{}, fmt.Errorf("%s needs more than %d workers", cover, len(m.speeds))
	}
	switch {
	case layer.Run != nil:
		return m.alone(number, cover), nil
	case cover == Parity || cover == Inputs:
		return m.coded(number), nil
	case cover == Replicate && m.opt.Redundancy == Replicate:
		return m.pairs(), nil
	case cover == Replicate:
		all := slices.Sorted(slices.Values(m.rotated(0)))
		return holders{all, m.ring(all), m.speeds}, nil
	}
	order := m.rotated(number)
	return holders{data: order, shares: m.speedsOf(order)}, nil
}

// given takes the holders that the setting names, and chooses the spare ones if
// it names none.
func (m *maker) given(number int, layer *Layer, set *Setting) (holders, error) {
	cover := layer.Cover
	h := holders{set.Data, set.Spare, set.Shares}
	if err := m.check(h, layer.Cover, layer.Run != nil); err != nil {
		return h, err
	}
	if h.shares == nil {
		h.shares = m.speedsOf(h.data)
	}
	if len(h.shares) != len(h.data) {
		return h, fmt.Errorf("%d shares for %d data workers", len(h.shares), len(h.data))
	}
	for _, s := range h.shares {
		if !(s > 0 && s < 1e9) {
			return h, fmt.Errorf("share %v: must be above 0 and below 1e9", s)
		}
	}
	if h.extra == nil && cover != None {
		if len(m.speeds) <= m.losses() {
			return h, fmt.Errorf("%s needs more than %d workers", cover, len(m.speeds))
		}
		if cover == Replicate {
			h.extra = m.ring(h.data)
		} else {
			for _, w := range m.rotated(number) {
				if !slices.Contains(h.data, w) && len(h.extra) < m.losses() {
					h.extra = append(h.extra, w)
				}
			}
			if len(h.extra) < m.losses() {
				return h, fmt.Errorf("%d workers are too few for %d data and %d parity slices", len(m.speeds), len(h.data), m.losses())
			}
		}
	}
	return h, nil
}

// check finds holders that make no sense.
func (m *maker) check(h holders, cover string, stage bool) error {
	for _, w := range slices.Concat(h.data, h.extra) {
		if w < 0 || w >= len(m.speeds) {
			return fmt.Errorf("there is no worker %s among %d", WorkerName(w), len(m.speeds))
		}
	}
	held := map[[2]int]bool{} // worker and data slice
	for i, w := range slices.Concat(h.data, h.extra) {
		key := [2]int{w}
		if cover == Replicate {
			key[1] = i % len(h.data)
		}
		if held[key] {
			return fmt.Errorf("%s is named twice, but a worker that is lost takes all it holds with it", WorkerName(w))
		}
		held[key] = true
	}
	switch {
	case stage && len(h.data) != 1:
		return fmt.Errorf("a stage lives whole on one worker, not on %d: name the others as spare", len(h.data))
	case cover == None && h.extra != nil:
		return errors.New("it has spare workers, but no redundancy")
	case cover == Replicate && len(h.extra)%len(h.data) != 0:
		return fmt.Errorf("%d spare workers for copies of %d data slices", len(h.extra), len(h.data))
	}
	return nil
}

func (m *maker) speedsOf(workers []int) []float64 {
	speeds := make([]float64, len(workers))
	for i, w := range workers {
		speeds[i] = m.speeds[w]
	}
	return speeds
}

// rotated lists all workers, in another order for each layer, so that a
// remainder does not always go to the same one.
func (m *maker) rotated(layer int) []int {
	n := len(m.speeds)
	order := make([]int, n)
	for s := range order {
		order[s] = ((s-layer)%n + n) % n
	}
	return order
}

// coded chooses who holds parity, so that the layer is done soonest. A parity
// slice is as high as the highest data slice, so nobody should have more than
// the parity workers can do in the same time: with c the speed of the slowest
// of them, worker w is given rows in proportion to min(speed, c), and the layer
// takes 1/(Σ min(speed, c) − r·c). Among the workers as fast as c, parity
// rotates over the layers.
func (m *maker) coded(layer int) holders {
	r := m.losses()
	best, least := 0.0, 0.0
	fast := slices.SortedFunc(slices.Values(m.speeds), func(a, b float64) int { return cmp.Compare(b, a) })
	for _, c := range fast[r-1:] {
		sum := -float64(r) * c
		for _, s := range m.speeds {
			sum += min(s, c)
		}
		if sum > best {
			best, least = sum, c
		}
	}
	var h holders
	order := m.rotated(layer)
	for _, w := range slices.Backward(order) {
		if m.speeds[w] >= least && len(h.extra) < r {
			h.extra = append(h.extra, w)
		}
	}
	slices.Reverse(h.extra)
	for _, w := range order {
		if !slices.Contains(h.extra, w) {
			h.data = append(h.data, w)
			h.shares = append(h.shares, min(m.speeds[w], least))
		}
	}
	return h
}

// ring gives what each data worker holds to the workers after it too, as many
// as there may be losses.
func (m *maker) ring(data []int) (extra []int) {
	for c := range m.losses() {
		for _, w := range data {
			extra = append(extra, (w+c+1)%len(m.speeds))
		}
	}
	return extra
}

// pairs gives the same data slice to workers that are about as fast.
func (m *maker) pairs() (h holders) {
	order := m.rotated(0)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.speeds[b], m.speeds[a]) })
	for i := 0; i < len(order); i += 2 {
		h.data, h.extra = append(h.data, order[i]), append(h.extra, order[i+1])
		h.shares = append(h.shares, m.speeds[order[i+1]])
	}
	return h
}
