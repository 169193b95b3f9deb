package engine

import (
	"fmt"
	"maps"
	"math"
	"runtime/debug"
	"slices"
	"strings"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Compile makes a program of a graph that has been prepared. The graph's
// constants are kept by reference and must not change; weights that the kernels
// want in another order are copied into it. Nodes whose inputs are all constant
// are computed now. The error names the operator and node that cannot be run.
func Compile(g *graph.Graph, opt Options) (*Program, error) {
	if opt.Consume { // nor is what read the model needed now
		debug.FreeOSMemory()
		tensor.DropProgram()
	}
	evaluated, done, err := evalConstants(g)
	if err != nil {
		return nil, err
	}
	evaluated = inBands(evaluated, opt.Split)
	if opt.Consume { // bands have those that were cut
		maps.DeleteFunc(g.Constants, func(name string, _ *tensor.Tensor) bool { return evaluated.Constants[name] == nil })
	}
	c := newCompiler(evaluated, opt)
	c.given = g
	if opt.Consume {
		defer func() { // before sessions take their memory
			for _, m := range c.p.mappings {
				m.Drop()
			}
			debug.FreeOSMemory()
			tensor.DropProgram()
		}()
	}
	for _, n := range evaluated.Nodes {
		if done[n] {
			continue
		}
		if err := c.node(n); err != nil {
			return nil, fmt.Errorf("%s: %w", describe(n.Op, n.Name), err)
		}
	}
	for name := range opt.Split {
		if !c.split[name] {
			return nil, fmt.Errorf("split node %q: the graph has no such node to compute", name)
		}
	}
	return c.finish()
}

// Eval computes one node of a prepared graph from the given values of its
// inputs, nil where one is left out. The outputs are the caller's, nil where the
// node leaves one out.
func Eval(g *graph.Graph, n *graph.Node, inputs []*tensor.Tensor) ([]*tensor.Tensor, error) {
	one := &graph.Graph{
		Opset: g.Opset, Infos: g.Infos, Constants: map[string]*tensor.Tensor{},
		Nodes: []*graph.Node{n}, Outputs: slices.DeleteFunc(slices.Clone(n.Outputs), func(name string) bool { return name == "" }),
	}
	for i, name := range n.Inputs {
		if name != "" {
			one.Constants[name] = inputs[i]
		}
	}
	c := newCompiler(one, Options{})
	if err := c.node(n); err != nil {
		return nil, fmt.Errorf("%s: %w", describe(n.Op, n.Name), err)
	}
	p, err := c.finish()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(n.Op, n.Name), err)
	}
	s := p.NewSession()
	for i := range p.steps {
		if p.steps[i].op.run(s); s.err != nil {
			return nil, fmt.Errorf("%s: %w", describe(n.Op, n.Name), s.err)
		}
	}
	bytes := 0
	for _, t := range s.outputs {
		bytes += len(t.Data)
	}
	outputs := make([]*tensor.Tensor, len(n.Outputs))
	for i, name := range n.Outputs {
		if at := slices.Index(one.Outputs, name); at >= 0 {
			outputs[i] = s.outputs[at]
			if p.arenaBytes > bytes { // the arena would stay for their sake
				outputs[i] = outputs[i].Clone()
			}
		}
	}
	return outputs, nil
}

// evalConstants returns g with the values of all nodes whose inputs are constant
// among its constants, and says which nodes these are.
func evalConstants(g *graph.Graph) (*graph.Graph, map[*graph.Node]bool, error) {
	evaluated := *g
	evaluated.Constants = maps.Clone(g.Constants)
	done := map[*graph.Node]bool{}
	for _, n := range g.Nodes {
		inputs, ok := ConstantInputs(&evaluated, n)
		if !ok {
			continue
		}
		outputs, err := Eval(g, n, inputs)
		if err != nil {
			return nil, nil, err
		}
		for i, t := range outputs {
			if t != nil {
				evaluated.Constants[n.Outputs[i]] = t
			}
		}
		done[n] = true
	}
	return &evaluated, done, nil
}

// ConstantInputs returns the inputs of a node as Eval takes them, if all of them
// are constants of the graph and there is at least one.
func ConstantInputs(g *graph.Graph, n *graph.Node) ([]*tensor.Tensor, bool) {
	inputs := make([]*tensor.Tensor, len(n.Inputs))
	some := false
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		if inputs[i] = g.Constants[name]; inputs[i] == nil {
			return nil, false
		}
		some = true
	}
	return inputs, some
}

// describe names a node in an error.
func describe(op, node string) string { return fmt.Sprintf("%s node %q", op, node) }

// compiler is the state of one compilation.
type compiler struct {
	g     *graph.Graph
	given *graph.Graph // that g was made of
	waste tensor.Waste // weights removed from it
	opt   Options
	p     *Program

	slots   map[string]int         // of values
	readers map[string]int         // how many inputs of nodes, and outputs of the graph, a value is
	reader  map[string]*graph.Node // the last of the nodes
	fused   map[*graph.Node]bool   // nodes that the step of another computes
	split   map[string]bool        // nodes of opt.Split that were met
	joint   map[int]*joint         // by layer, of opt.Split
	current *graph.Node            // the one being compiled
}

func newCompiler(g *graph.Graph, opt Options) *compiler {
	c := &compiler{
		g: g, opt: opt, p: &Program{inputs: g.Inputs, pool: opt.Pool},
		slots: map[string]int{}, readers: map[string]int{}, reader: map[string]*graph.Node{},
		fused: map[*graph.Node]bool{}, split: map[string]bool{}, joint: map[int]*joint{},
	}
	for _, t := range g.Constants {
		if t.Mapping != nil && !slices.Contains(c.p.mappings, t.Mapping) {
			c.p.mappings = append(c.p.mappings, t.Mapping)
		}
	}
	for i, in := range g.Inputs {
		c.slots[in.Name] = c.addSlot(slot{input: i})
	}
	for _, n := range g.Nodes {
		if number, ok := opt.Split[n.Name]; ok {
			if c.joint[number] == nil {
				c.joint[number] = new(joint)
			}
			c.joint[number].nodes = append(c.joint[number].nodes, n)
		}
		for _, name := range n.Inputs {
			c.readers[name]++
			c.reader[name] = n
		}
	}
	for _, name := range g.Outputs {
		c.readers[name]++
		c.reader[name] = nil
	}
	return c
}

// finish gives every output a buffer, so that it is the session's own, and lays
// out the arena.
func (c *compiler) finish() (*Program, error) {
	p := c.p
	c.current = &graph.Node{Name: "output", Op: "Copy"}
	for _, name := range c.g.Outputs {
		info := c.info(name)
		at, err := c.value(name)
		if err != nil {
			return nil, err
		}
		if !p.slots[at].isBuffer() {
			own := c.buffer(info.Shape.Elements() * info.Type.Size())
			c.emit(&copyOp{dst: own, x: at}, own, at)
			at = own
		}
		p.outputs = append(p.outputs, output{slot: at, info: info})
	}
	for _, o := range p.outputs {
		p.use(o.slot, len(p.steps))
	}
	var err error
	p.arenaBytes, err = layOut(p.slots)
	return p, err
}

func (c *compiler) addSlot(s slot) int {
	c.p.slots = append(c.p.slots, s)
	return len(c.p.slots) - 1
}

// buffer adds a slot in the arena; it lives from the step that emit names it in
// first to the one that emit names it in last.
func (c *compiler) buffer(sizeBytes int) int {
	return c.addSlot(slot{input: -1, sizeBytes: sizeBytes, first: math.MaxInt})
}

// info is the type of a value.
func (c *compiler) info(name string) graph.Info { return c.g.Infos[name] }

// shape is the shape of a value.
func (c *compiler) shape(name string) tensor.Shape { return c.info(name).Shape }

// value is the slot of a value that is an input, a constant or computed.
func (c *compiler) value(name string) (int, error) {
	if at, ok := c.slots[name]; ok {
		return at, nil
	}
	t := c.g.Constants[name]
	if t == nil {
		return 0, fmt.Errorf("value %q is not computed before it is used", name)
	}
	at := c.addSlot(slot{input: -1, constant: t.Data})
	c.slots[name] = at
	return at, nil
}

// float is value for one that must be float32.
func (c *compiler) float(name string) (int, error) {
	if t := c.info(name).Type; t != tensor.Float32 {
		return 0, fmt.Errorf("%q is %v: only float32 is supported", name, t)
	}
	return c.value(name)
}

// floats is float for several values.
func (c *compiler) floats(names ...string) ([]int, error) {
	at := make([]int, len(names))
	for i, name := range names {
		var err error
		if at[i], err = c.float(name); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// placed says that a node's slice has what it needs of a constant.
func (c *compiler) placed(name string, n *graph.Node) {
	t := c.g.Constants[name]
	if !c.opt.Consume || c.reader[name] != n {
		t.Drop()
		return
	}
	delete(c.g.Constants, name)
	delete(c.given.Constants, name)
	c.waste.Add(t)
}

// define gives a computed value a buffer: where a Concat wants it, if one reads
// it last.
func (c *compiler) define(name string) int {
	info := c.info(name)
	s := slot{input: -1, sizeBytes: info.Shape.Elements() * info.Type.Size(), first: math.MaxInt}
	if next := c.reader[name]; next != nil && next.Op == "Concat" && next.Domain == "" {
		if s.at, s.part = c.before(next, name); s.part {
			whole, known := c.slots[next.Outputs[0]]
			if !known {
				whole = c.define(next.Outputs[0])
			}
			s.whole = whole
		}
	}
	at := c.addSlot(s)
	c.slots[name] = at
	return at
}

// emit adds a step that reads and writes these slots.
func (c *compiler) emit(op operator, slots ...int) {
	c.p.steps = append(c.p.steps, step{op: op, node: c.current.Name, kind: c.current.Op})
	c.touch(slots...)
}

// touch says that the step emitted last uses these slots.
func (c *compiler) touch(slots ...int) {
	for _, at := range slots {
		c.p.use(at, len(c.p.steps)-1)
	}
}

// use says that a step uses a slot, and what it is a part of.
func (p *Program) use(at, step int) {
	s := &p.slots[at]
	s.first, s.last = min(s.first, step), max(s.last, step)
	if s.part {
		p.use(s.whole, step)
	}
}

// view makes a node's output share the memory of its first input.
func (c *compiler) view(n *graph.Node) error {
	at, err := c.value(n.Inputs[0])
	c.slots[n.Outputs[0]] = at
	return err
}

// node emits the steps of a node.
func (c *compiler) node(n *graph.Node) error {
	if c.fused[n] {
		return nil
	}
	c.current = n
	if number, ok := c.opt.Split[n.Name]; ok {
		if n.Domain == graph.StageDomain {
			return c.stage(number, n)
		}
		if _, err := linearOf(c.g, n); err != nil {
			return err
		}
	}
	if emit := emitters[n.Op]; emit != nil && n.Domain == "" {
		return emit(c, n)
	}
	return fmt.Errorf("operator is not supported by the engine (opset %d)", c.g.Opset)
}

// emitters are the methods that emit each operator's steps.
var emitters = func() map[string]func(*compiler, *graph.Node) error {
	all := map[string]func(*compiler, *graph.Node) error{
		"AveragePool": (*compiler).pool, "MaxPool": (*compiler).pool, "GlobalAveragePool": (*compiler).globalPool,
		"GlobalMaxPool": (*compiler).globalMax, "Softmax": (*compiler).softmax, "BatchNormalization": (*compiler).batchNorm,
		"LRN": (*compiler).lrn, "LpNormalization": (*compiler).lpNorm, "DequantizeLinear": (*compiler).dequantize,
		"QuantizeLinear": (*compiler).quantize, "DynamicQuantizeLinear": (*compiler).dynamicQuantize,
		"Concat": (*compiler).concat, "Transpose": (*compiler).transpose, "Slice": (*compiler).slice, "Split": (*compiler).divide,
		"Pad": (*compiler).pad, "Gather": (*compiler).gather, "Where": (*compiler).where, "Pow": (*compiler).power,
		"Dropout": (*compiler).dropout, "Trilu": (*compiler).triangle, "OneHot": (*compiler).oneHot, "CumSum": (*compiler).cumulate, "CumProd": (*compiler).cumulate,
		"Einsum": (*compiler).einsum, "GridSample": (*compiler).gridSample, "NonMaxSuppression": (*compiler).suppress, "RoiAlign": (*compiler).roiAlign,
	}
	for ops, emit := range map[string]func(*compiler, *graph.Node) error{
		"Conv ConvTranspose Gemm MatMul": (*compiler).layer,
		"Relu Clip":                      (*compiler).clamp,
		"LogSoftmax Hardmax":             (*compiler).logSoftmax,
		"InstanceNormalization GroupNormalization LayerNormalization RMSNormalization": (*compiler).standardise,
		"Reshape Flatten Squeeze Unsqueeze Identity BitCast":                           (*compiler).view,
		"Cast CastLike": (*compiler).cast,
		"Expand Tile":   (*compiler).repeat,
		"GatherElements GatherND ScatterElements Scatter ScatterND": (*compiler).elements,
		"DepthToSpace SpaceToDepth":                                 (*compiler).depth,
		"ConstantOfShape Range EyeLike":                             (*compiler).made,
		"Resize Upsample":                                           (*compiler).resize,
		"ConvInteger QLinearConv":                                   (*compiler).quantConv,
		"MatMulInteger QLinearMatMul":                               (*compiler).quantMatMul,
		"RNN GRU LSTM":                                              (*compiler).recurrent,
		"ArgMax ArgMin TopK":                                        (*compiler).order,
		"Neg Sign Abs Not BitwiseNot IsNaN IsInf " + strings.Join(floatFunctions(), " "):                                                               (*compiler).unary,
		"Add Sub Mul Div Mod Max Min Sum Mean PRelu And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual BitwiseAnd BitwiseOr BitwiseXor BitShift": (*compiler).binary,
		"ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp":                           (*compiler).reduce,
	} {
		for op := range strings.FieldsSeq(ops) {
			all[op] = emit
		}
	}
	return all
}()
