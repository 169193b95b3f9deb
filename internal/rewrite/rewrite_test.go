package rewrite_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0 picks one")
	update   = flag.Bool("update", false, "rewrite the golden files")
)

func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat with -seed %d", seed, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// builder makes graphs in code.
type builder struct {
	g graph.Graph
	r *rand.Rand
}

func newBuilder(r *rand.Rand) *builder {
	return &builder{g: graph.Graph{Name: "test", Opset: 13, Constants: map[string]*tensor.Tensor{}}, r: r}
}

func (b *builder) input(shape ...int) string {
	name := fmt.Sprintf("in%d", len(b.g.Inputs))
	b.g.Inputs = append(b.g.Inputs, graph.Value{Name: name, Info: graph.Info{Type: tensor.Float32, Shape: shape}})
	return name
}

func (b *builder) constant(t *tensor.Tensor) string {
	name := fmt.Sprintf("c%d", len(b.g.Constants))
	b.g.Constants[name] = t
	return name
}

// weights adds a constant of uniform values in [low, low+2).
func (b *builder) weights(low float32, shape ...int) string {
	t := tensor.New(tensor.Float32, shape...)
	fill(b.r, t, low)
	return b.constant(t)
}

// vector adds a constant of int64.
func (b *builder) vector(values ...int64) string {
	return b.constant(tensor.FromSlice(values, len(values)))
}

func fill(r *rand.Rand, t *tensor.Tensor, low float32) {
	for i := range t.F32() {
		t.F32()[i] = low + 2*r.Float32()
	}
}

func (b *builder) node(op string, attrs graph.Attrs, inputs ...string) string {
	name := fmt.Sprintf("%s%d", op, len(b.g.Nodes))
	b.g.Nodes = append(b.g.Nodes, &graph.Node{Name: name, Op: op, Inputs: inputs, Outputs: []string{name + "_y"}, Attrs: attrs})
	return name + "_y"
}

// norm adds a BatchNormalization of c channels with positive variances.
func (b *builder) norm(x string, c int) string {
	return b.node("BatchNormalization", nil, x, b.weights(-1, c), b.weights(-1, c), b.weights(-1, c), b.weights(0.25, c))
}

func (b *builder) graph(t testing.TB, outputs ...string) *graph.Graph {
	t.Helper()
	b.g.Outputs = outputs
	if err := b.g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return &b.g
}

// copyOf is a graph that Simplify can change while g stays.
func copyOf(g *graph.Graph) *graph.Graph {
	c := *g
	c.Constants, c.Infos = maps.Clone(g.Constants), maps.Clone(g.Infos)
	c.Nodes = nil
	for _, n := range g.Nodes {
		m := *n
		m.Inputs, m.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
		c.Nodes = append(c.Nodes, &m)
	}
	return &c
}

func simplified(t testing.TB, g *graph.Graph) *graph.Graph {
	t.Helper()
	c := copyOf(g)
	if err := rewrite.Simplify(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func run(t testing.TB, g *graph.Graph, in []*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func inputs(r *rand.Rand, g *graph.Graph) []*tensor.Tensor {
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		in[i] = tensor.New(v.Type, v.Shape...)
		fill(r, in[i], -1)
	}
	return in
}

func TestRules(t *testing.T) {
	one := graph.Attrs{"pads": []int64{1, 1, 1, 1}}
	for _, c := range []struct {
		name  string
		build func(b *builder) []string // returns the outputs
	}{
		{"constants", func(b *builder) []string {
			q := b.constant(tensor.FromSlice([]int8{-1, 2, 3, 4, 5, 6}, 2, 3))
			w := b.node("DequantizeLinear", nil, q, b.weights(0, 1))
			w = b.node("Transpose", nil, w)
			sum := b.node("Add", nil, b.weights(-1, 2), b.weights(-1, 2))
			return []string{b.node("Gemm", nil, b.input(1, 3), w, sum), b.node("Mul", nil, sum, sum)}
		}},
		{"batchnorm", func(b *builder) []string {
			x := b.norm(b.node("Conv", one, b.input(1, 2, 4, 4), b.weights(-1, 3, 2, 3, 3)), 3)
			return []string{b.node("Relu", nil, b.norm(b.node("Conv", one, x, b.weights(-1, 4, 3, 3, 3), b.weights(-1, 4)), 4))}
		}},
		{"batchnorm_kept", func(b *builder) []string {
			x := b.input(1, 2, 4, 4)
			seen := b.node("Conv", one, x, b.weights(-1, 3, 2, 3, 3))
			twice := b.node("Conv", one, x, b.weights(-1, 3, 2, 3, 3))
			dynamic := b.node("Conv", one, x, b.weights(-1, 3, 2, 3, 3), b.input(3))
			return []string{
				seen, b.norm(seen, 3),
				b.norm(twice, 3), b.node("Relu", nil, twice),
				b.norm(dynamic, 3), b.norm(b.node("Relu", nil, x), 2),
				b.node("BatchNormalization", nil, b.node("Conv", one, x, b.weights(-1, 3, 2, 3, 3)),
					b.constant(tensor.FromSlice([]float32{1, 1, 3e38}, 3)), b.weights(0, 3), b.weights(0, 3), b.constant(tensor.New(tensor.Float32, 3))),
			}
		}},
		{"identities", func(b *builder) []string {
			x := b.node("Identity", nil, b.node("Dropout", nil, b.input(2, 3)))
			y := b.node("Relu", nil, b.node("Identity", nil, x))
			return []string{b.node("Identity", nil, y), b.node("Add", nil, y, x)}
		}},
		{"identities_kept", func(b *builder) []string {
			x := b.input(2, 3)
			y := b.node("Relu", nil, x)
			return []string{b.node("Identity", nil, x), y, b.node("Dropout", nil, y)}
		}},
		{"pads", func(b *builder) []string {
			x := b.node("Pad", nil, b.input(1, 2, 4, 4), b.vector(0, 0, 0, 0, 0, 0, 1, 1))
			return []string{
				b.node("Conv", graph.Attrs{"strides": []int64{2, 2}}, x, b.weights(-1, 3, 2, 3, 3)),
				b.node("Conv", one, x, b.weights(-1, 3, 2, 3, 3)),
			}
		}},
		{"pads_kept", func(b *builder) []string {
			x, w := b.input(1, 2, 4, 4), b.weights(-1, 3, 2, 3, 3)
			channels := b.node("Pad", nil, b.input(1, 1, 4, 4), b.vector(0, 1, 0, 0, 0, 0, 0, 0))
			ones := b.node("Pad", nil, x, b.vector(0, 0, 0, 0, 0, 0, 1, 1), b.weights(1))
			edges := b.node("Pad", graph.Attrs{"mode": "edge"}, x, b.vector(0, 0, 0, 0, 0, 0, 1, 1))
			less := b.node("Pad", nil, x, b.vector(0, 0, -1, 0, 0, 0, 1, 1))
			same := b.node("Pad", nil, x, b.vector(0, 0, 0, 0, 0, 0, 1, 1))
			return []string{
				b.node("Conv", nil, channels, w), b.node("Conv", nil, ones, w), b.node("Conv", nil, edges, w), b.node("Conv", nil, less, w),
				b.node("Conv", graph.Attrs{"auto_pad": "SAME_UPPER"}, same, w),
			}
		}},
		{"transposes", func(b *builder) []string {
			back, there := graph.Attrs{"perm": []int64{0, 2, 3, 1}}, graph.Attrs{"perm": []int64{0, 3, 1, 2}}
			x := b.node("Transpose", there, b.input(1, 4, 4, 2)) // as TensorFlow's models are exported
			x = b.node("Transpose", back, b.node("Conv", one, x, b.weights(-1, 3, 2, 3, 3)))
			x = b.node("Add", nil, b.node("Relu", nil, x), b.weights(-1))
			y := b.node("Transpose", back, b.input(1, 3, 4, 4))
			x = b.node("Transpose", there, b.node("Mul", nil, x, b.node("Clip", nil, y, b.weights(-1), b.weights(1))))
			pooled := b.node("Transpose", back, b.node("GlobalAveragePool", nil, x))
			return []string{b.node("Conv", one, x, b.weights(-1, 2, 3, 3, 3)), pooled}
		}},
		{"transposes_kept", func(b *builder) []string {
			t := b.node("Transpose", nil, b.input(2, 3))
			u := b.node("Transpose", nil, b.input(2, 3))
			return []string{t, b.node("Relu", nil, t), b.node("Add", nil, u, b.weights(-1, 2)), b.node("Softmax", nil, b.node("Transpose", nil, b.input(2, 3)))}
		}},
		{"dead", func(b *builder) []string {
			x, _ := b.input(2, 3), b.input(4)
			b.node("Add", nil, b.node("Relu", nil, x), b.weights(0, 3))
			b.weights(0, 5)
			return []string{b.node("Mul", nil, x, b.weights(0, 3))}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(rand.New(rand.NewPCG(1, 1)))
			g := b.graph(t, c.build(b)...)
			var text bytes.Buffer
			text.WriteString("-- before --\n")
			if err := g.Format(&text); err != nil {
				t.Fatal(err)
			}
			text.WriteString("-- after --\n")
			s := simplified(t, g)
			if err := s.Format(&text); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", c.name+".txt")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text.String() != string(want) {
				t.Errorf("%s differs; got\n%s", file, text.String())
			}
			var twice strings.Builder
			if err := simplified(t, s).Format(&twice); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(text.String(), "-- after --\n"+twice.String()) {
				t.Errorf("simplified again, it is\n%s", twice.String())
			}
		})
	}
}

// randomGraph is a network of random operators over maps of one size, with
// constant parts, identities and dead ends, and without batch normalisation
// after a convolution.
func randomGraph(t testing.TB, r *rand.Rand) *graph.Graph {
	b := newBuilder(r)
	const channels = 3
	values := []string{b.input(1, channels, 4, 4), b.input(1, channels, 4, 4), b.weights(-1, 1, channels, 4, 4), b.weights(-1, channels, 1, 1)}
	pads := graph.Attrs{"pads": []int64{1, 1, 1, 1}}
	pick := func() string { return values[r.IntN(len(values))] }
	full := func() string { // a value with all four dimensions
		for {
			if x := pick(); x != values[3] {
				return x
			}
		}
	}
	for range 3 + r.IntN(15) {
		var y string
		switch r.IntN(11) {
		case 8, 9:
			y = b.node("Transpose", graph.Attrs{"perm": [][]int64{{0, 1, 3, 2}, {0, 1, 2, 3}}[r.IntN(2)]}, full())
		case 10:
			around := b.node("Pad", nil, full(), b.vector(0, 0, 1, 0, 0, 0, 1, 2))
			y = b.node("Conv", nil, around, b.weights(-1, channels, channels, 3, 3))
		case 0:
			y = b.node("Conv", pads, full(), b.weights(-1, channels, channels, 3, 3))
		case 1:
			q := b.constant(tensor.FromSlice([]int8{-7, 2, 90, 1, 2, 3, -100, 8, 9}, channels, channels, 1, 1))
			y = b.node("Conv", nil, full(), b.node("DequantizeLinear", nil, q, b.weights(0, 1)))
		case 2:
			y = b.node("Relu", nil, full())
		case 3:
			y = b.node("Add", nil, full(), pick())
		case 4:
			y = b.node("Mul", nil, pick(), full())
		case 5, 6:
			y = b.node("Identity", nil, full())
		case 7:
			y = b.node("Dropout", nil, full())
		}
		values = append(values, y)
	}
	outputs := values[len(values)-1:]
	for _, v := range values[4 : len(values)-1] {
		if r.IntN(4) == 0 {
			outputs = append(slices.Clone(outputs), v)
		}
	}
	return b.graph(t, outputs...)
}

func TestExactRulesKeepEveryBit(t *testing.T) {
	r := random(t)
	for i := range 300 {
		g := randomGraph(t, r)
		s := simplified(t, g)
		if !slices.Equal(s.Outputs, g.Outputs) || len(s.Inputs) != len(g.Inputs) {
			t.Fatalf("graph %d: inputs %v, outputs %v; before %v, %v", i, s.Inputs, s.Outputs, g.Inputs, g.Outputs)
		}
		for _, n := range s.Nodes {
			if _, constant := engine.ConstantInputs(s, n); constant || n.Op == "Dropout" && !slices.Contains(s.Outputs, n.Outputs[0]) {
				t.Errorf("graph %d: %s %q is left", i, n.Op, n.Name)
			}
		}
		in := inputs(r, g)
		want, got := run(t, g, in), run(t, s, in)
		for j := range want {
			if !got[j].Shape.Equal(want[j].Shape) || string(got[j].Data) != string(want[j].Data) {
				t.Fatalf("graph %d: output %q differs", i, g.Outputs[j])
			}
		}
	}
}

// Plain, y = f·(c − mean) + bias with c a chain of K+1 roundings; folded, a chain
// over weights and a bias that were rounded once. Both miss the exact value by at
// most γ(n) times the sum of the magnitudes of all that is added up, which are
// f·W·x, f·b, f·mean and bias, where n is the longest way of roundings that a
// term goes: plain K+1 in the convolution and 4 in the normalisation (factor,
// difference, product, sum); folded 1 for the weight and K+1. So they differ from
// each other by γ(K+5) + γ(K+2) times that sum at most.
func TestFoldedBatchNormalisationIsWithinRounding(t *testing.T) {
	gamma := func(n int) float64 { u := float64(n) / (1 << 24); return u / (1 - u) }
	r := random(t)
	for i := range 100 {
		b := newBuilder(r)
		groups := 1 + r.IntN(2)
		c, m, size := 2*(1+r.IntN(10)), 2*(1+r.IntN(10)), 1+r.IntN(3)
		x := b.input(1, c, size, size)
		in := []string{x, b.weights(-1, m, c/groups, size, size)}
		if r.IntN(2) == 0 {
			in = append(in, b.weights(-1, m))
		}
		g := b.graph(t, b.norm(b.node("Conv", graph.Attrs{"group": int64(groups)}, in...), m))
		s := simplified(t, g)
		if len(s.Nodes) != 1 {
			t.Fatalf("graph %d: %d nodes are left", i, len(s.Nodes))
		}
		request := inputs(r, g)
		plain, folded := run(t, g, request)[0].F32(), run(t, s, request)[0].F32()
		norm := g.Nodes[1].Inputs
		value := func(name string, i int) float64 { return float64(g.Constants[name].F32()[i]) }
		k := c / groups * size * size
		for ch := range plain { // the filter covers the map: one output a channel
			sum := math.Abs(value(norm[3], ch))
			if len(in) > 2 {
				sum += math.Abs(value(in[2], ch))
			}
			from := ch / (m / groups) * k
			for p := range k {
				sum += math.Abs(value(in[1], ch*k+p) * float64(request[0].F32()[from+p]))
			}
			f := value(norm[1], ch) / math.Sqrt(value(norm[4], ch)+float64(float32(1e-5)))
			sum = math.Abs(f)*sum + math.Abs(value(norm[2], ch))
			if diff := math.Abs(float64(plain[ch]) - float64(folded[ch])); !(diff <= (gamma(k+5)+gamma(k+2))*sum) {
				t.Fatalf("graph %d, channel %d: %v folded, %v plain: differs by %g of %g", i, ch, folded[ch], plain[ch], diff, sum)
			}
		}
	}
}
