package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// randomGraph is a network of random operators over maps of one size and over
// vectors, with several readers for some values and one to three outputs.
func randomGraph(t testing.TB, r *rand.Rand) *graph.Graph {
	b := newBuilder(r)
	const height, width = 6, 5
	type value struct {
		name     string
		channels int
	}
	maps := []value{{b.input(1, 3, height, width), 3}, {b.input(1, 2, height, width), 2}}
	same := graph.Attrs{"pads": ints(1, 1, 1, 1)}
	window := graph.Attrs{"kernel_shape": ints(3, 3), "pads": ints(1, 1, 1, 1)}
	for range 4 + r.IntN(10) {
		x := maps[r.IntN(len(maps))]
		y := x
		switch r.IntN(12) {
		case 0, 1, 2:
			y.channels = 1 + r.IntN(9)
			in := []string{x.name, b.weights(y.channels, x.channels, 3, 3)}
			if r.IntN(2) == 0 {
				in = append(in, b.weights(y.channels))
			}
			y.name = b.node("Conv", same, in...)
		case 3:
			y.name = b.node("Relu", nil, x.name)
		case 4:
			y.name = b.node("Clip", nil, x.name, b.constant(scalar(-0.5)), b.constant(scalar(0.5)))
		case 5, 10:
			other := maps[r.IntN(len(maps))]
			y.name, y.channels = b.node("Concat", graph.Attrs{"axis": int64(1)}, x.name, other.name), x.channels+other.channels
		case 6:
			y.name = b.node("Add", nil, x.name, b.weights(x.channels, 1, 1))
		case 11:
			other := maps[r.IntN(len(maps))]
			conv := b.node("Conv", same, x.name, b.weights(other.channels, x.channels, 3, 3))
			y.name, y.channels = b.node("Add", nil, conv, other.name), other.channels
		case 7:
			y.name = b.node("MaxPool", window, x.name)
		case 8:
			y.name = b.node("Identity", nil, x.name)
		case 9:
			y.name = b.node("Conv", graph.Attrs{"group": int64(x.channels), "pads": ints(1, 1, 1, 1)}, x.name, b.weights(x.channels, 1, 3, 3))
		}
		maps = append(maps, y)
	}
	last := maps[len(maps)-1]
	outputs := []string{last.name}
	if r.IntN(2) == 0 {
		flat := b.node("Flatten", nil, last.name)
		hidden := b.node("Relu", nil, b.node("Gemm", nil, flat, b.weights(last.channels*height*width, 17), b.weights(17)))
		logits := b.node("MatMul", nil, hidden, b.weights(17, 4))
		outputs = append(outputs, b.node("Softmax", nil, logits), hidden)
	}
	return b.graph(t, outputs...)
}

func TestSplitLocalAndNodeByNodeAreEqual(t *testing.T) {
	r := random(t)
	pool := kernel.NewPool(2)
	defer pool.Close()
	for i := range 60 {
		g := randomGraph(t, r)
		in := inputs(r, g)
		want := run(t, g, engine.Options{}, nil, in)
		what := fmt.Sprint("graph ", i)
		same(t, what+" node by node", nodeByNode(t, g, in), want)
		same(t, what+" on two threads", run(t, g, engine.Options{Pool: pool}, nil, in), want)
		remote, split := newSliced(t, r, g)
		same(t, what+" split", run(t, g, engine.Options{Split: split}, remote, in), want)
		for name := range split {
			if r.IntN(2) == 0 {
				delete(split, name)
			}
		}
		same(t, what+" split in part", run(t, g, engine.Options{Split: split}, remote, in), want)
	}
}

func TestSessionsOfOneProgramRunInParallel(t *testing.T) {
	r := random(t)
	pool := kernel.NewPool(2)
	defer pool.Close()
	for range 5 {
		g := randomGraph(t, r)
		remote, split := newSliced(t, r, g)
		p := compile(t, g, engine.Options{Split: split, Pool: pool})
		requests := make([][]*tensor.Tensor, 6)
		want := make([][]*tensor.Tensor, len(requests))
		for i := range requests {
			requests[i] = inputs(r, g)
			want[i] = run(t, g, engine.Options{}, nil, requests[i])
		}
		var wg sync.WaitGroup
		got := make([][][]*tensor.Tensor, 4)
		errs := make([]error, len(got))
		for i := range got {
			wg.Go(func() {
				s := p.NewSession()
				for j := range requests {
					out, err := s.Run(context.Background(), remote, requests[(i+j)%len(requests)])
					if err != nil {
						errs[i] = err
						return
					}
					got[i] = append(got[i], clones(out))
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			for j := range requests {
				same(t, fmt.Sprintf("session %d, request %d", i, j), got[i][j], want[(i+j)%len(requests)])
			}
		}
	}
}

// preset is a Remote that allocates nothing.
type preset struct{ err error }

func (p preset) Linear(_ context.Context, _ int, dst, _ []byte, _ int32) error {
	clear(dst)
	return p.err
}

// allocatesNothing runs a session until it is warm, and then counts.
func allocatesNothing(t *testing.T, p *engine.Program, remote engine.Remote, in []*tensor.Tensor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := p.NewSession()
	if n := testing.AllocsPerRun(5, func() {
		if _, err := s.Run(ctx, remote, in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each run", n)
	}
}

func TestWarmSessionAllocatesNothing(t *testing.T) {
	r := random(t)
	pool := kernel.NewPool(2)
	defer pool.Close()
	check := func(t *testing.T, g *graph.Graph, opt engine.Options, remote engine.Remote) {
		t.Helper()
		allocatesNothing(t, compile(t, g, opt), remote, inputs(r, g))
	}
	for _, c := range ones {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(r)
			g := b.graph(t, c.build(b))
			check(t, g, engine.Options{}, nil)
			check(t, g, engine.Options{Pool: pool}, nil)
		})
	}
	t.Run("split", func(t *testing.T) {
		g := randomGraph(t, r)
		_, split := newSliced(t, r, g)
		check(t, g, engine.Options{Split: split}, preset{})
	})
}

func TestOutputsThatNothingComputes(t *testing.T) {
	r := random(t)
	b := newBuilder(r)
	x := b.input(2, 3)
	view := b.node("Flatten", graph.Attrs{"axis": int64(0)}, x)
	c := b.weights(4)
	computed := b.node("Add", nil, c, b.weights(4))
	g := b.graph(t, x, view, c, computed, b.node("Identity", nil, x))
	in := inputs(r, g)
	p := compile(t, g, engine.Options{})
	out, err := p.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		t.Fatal(err)
	}
	kept := clones(out)
	if !kept[1].Shape.Equal(tensor.Shape{1, 6}) || string(kept[0].Data) != string(in[0].Data) || string(kept[2].Data) != string(g.Constants[c].Data) {
		t.Errorf("outputs %v", kept)
	}
	for i := range out {
		clear(out[i].Data) // they are the session's: nothing else may change
	}
	if string(in[0].Data) != string(kept[0].Data) || string(g.Constants[c].Data) != string(kept[2].Data) {
		t.Error("an output shares memory with an input or a constant")
	}
	again, err := p.NewSession().Run(context.Background(), nil, in)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "another session", again, kept)
}

func TestWrongInputs(t *testing.T) {
	b := newBuilder(random(t))
	g := b.graph(t, b.node("Add", nil, b.input(2, 3), b.input(3)))
	good := []*tensor.Tensor{tensor.New(tensor.Float32, 2, 3), tensor.New(tensor.Float32, 3)}
	short := tensor.New(tensor.Float32, 3)
	short.Data = short.Data[:8]
	s := compile(t, g, engine.Options{}).NewSession()
	for _, c := range []struct {
		name      string
		inputs    []*tensor.Tensor
		input     string
		want, got string
	}{
		{"one missing", good[:1], "", "2", "1"},
		{"none", nil, "", "2", "0"},
		{"nil", []*tensor.Tensor{good[0], nil}, "in1", "float32 [3]", "nothing"},
		{"shape", []*tensor.Tensor{good[1], good[1]}, "in0", "float32 [2,3]", "float32 [3]"},
		{"type", []*tensor.Tensor{good[0], tensor.New(tensor.Int32, 3)}, "in1", "float32 [3]", "int32 [3]"},
		{"bytes missing", []*tensor.Tensor{good[0], short}, "in1", "float32 [3]", "8 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := s.Run(context.Background(), nil, c.inputs)
			var wrong *engine.InputError
			if !errors.As(err, &wrong) || out != nil {
				t.Fatalf("outputs %v, error %v", out, err)
			}
			if wrong.Name != c.input || wrong.Want != c.want || wrong.Got != c.got {
				t.Errorf("%+v", wrong)
			}
			if text := err.Error(); !strings.Contains(text, c.want) || !strings.Contains(text, c.got) || !strings.Contains(text, c.input) {
				t.Errorf("message %q", text)
			}
		})
	}
	if _, err := s.Run(context.Background(), nil, good); err != nil {
		t.Errorf("good inputs after wrong ones: %v", err)
	}
}

func TestErrorsDuringARun(t *testing.T) {
	r := random(t)
	b := newBuilder(r)
	g := b.graph(t, b.node("Relu", nil, b.node("MatMul", nil, b.input(2, 3), b.weights(3, 4))))
	in := inputs(r, g)
	s := compile(t, g, engine.Options{Split: map[string]int{"MatMul0": 7}}).NewSession()
	failure := errors.New("nobody there")
	if _, err := s.Run(context.Background(), preset{failure}, in); !errors.Is(err, failure) || !strings.Contains(err.Error(), `MatMul node "MatMul0"`) {
		t.Errorf("remote failed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Run(ctx, preset{}, in); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `MatMul node "MatMul0"`) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := s.Run(context.Background(), preset{}, in); err != nil {
		t.Errorf("after errors: %v", err)
	}
	picked := func(op string, attrs graph.Attrs, shape ...int) *graph.Graph {
		g := &graph.Graph{
			Opset:  16,
			Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{3}}}, {Name: "i", Info: graph.Info{Type: tensor.Int64, Shape: shape}}},
			Nodes:  []*graph.Node{{Name: "n", Op: op, Inputs: []string{"x", "i"}, Outputs: []string{"y"}, Attrs: attrs}}, Outputs: []string{"y"},
		}
		if err := g.Prepare(); err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, g := range []*graph.Graph{picked("Gather", nil, 1), picked("GatherElements", nil, 1), picked("GatherND", nil, 1, 1)} {
		s := compile(t, g, engine.Options{}).NewSession()
		i := tensor.New(tensor.Int64, g.Inputs[1].Shape...)
		for _, index := range []int64{-4, 3, math.MinInt64, math.MaxInt64, 1 << 32} {
			tensor.Of[int64](i)[0] = index
			_, err := s.Run(context.Background(), nil, []*tensor.Tensor{tensor.New(tensor.Float32, 3), i})
			if want := fmt.Sprintf("%s node \"n\": index 0 is %d, outside an axis of 3", g.Nodes[0].Op, index); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("index %d: error %v, want one with %q", index, err, want)
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	r := random(t)
	for _, c := range []struct {
		name  string
		build func(b *builder) string
		split map[string]int
		want  string
	}{
		{"split of filters from the request", plain("Conv", nil, []int{1, 2, 5, 5}, []int{3, 2, 3, 3}), map[string]int{"Conv0": 1}, `Conv node "Conv0"`},
		{"split of no node", plain("Relu", nil, []int{3}), map[string]int{"fc9": 1}, "fc9"},
		{"split of a node without weights", plain("Relu", nil, []int{3}), map[string]int{"Relu0": 1}, `Relu node "Relu0"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(r)
			g := b.graph(t, c.build(b))
			if _, err := engine.Compile(g, engine.Options{Split: c.split}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	unknown := &graph.Graph{
		Opset: 13, Nodes: []*graph.Node{{Name: "n", Op: "Frobnicate", Inputs: []string{"x"}, Outputs: []string{"y"}}}, Outputs: []string{"y"},
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1}}}},
	}
	if _, err := engine.Compile(unknown, engine.Options{}); err == nil || !strings.Contains(err.Error(), `Frobnicate node "n"`) {
		t.Errorf("unknown operator: %v", err)
	}
}
