package shard_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
)

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0 picks one")

// random returns a generator whose seed is printed if the test fails.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat with -seed %d", seed, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// model is a convolution of 7 channels, a Gemm of 11 rows and a MatMul of 5, so
// that few k divide the rows. W of the Gemm lies as rows, that of the MatMul as
// columns.
func model(t testing.TB, r *rand.Rand) *graph.Graph {
	t.Helper()
	fill := func(shape ...int) *tensor.Tensor {
		w := tensor.New(tensor.Float32, shape...)
		for i := range w.F32() {
			w.F32()[i] = float32(r.NormFloat64())
		}
		return w
	}
	g := &graph.Graph{
		Opset:  13,
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{2, 3, 5, 5}}}},
		Constants: map[string]*tensor.Tensor{
			"filters": fill(7, 3, 3, 3), "gemm": fill(11, 7*9), "matmul": fill(11, 5),
		},
		Nodes: []*graph.Node{
			{Name: "conv", Op: "Conv", Inputs: []string{"x", "filters"}, Outputs: []string{"a"}},
			{Name: "flat", Op: "Flatten", Inputs: []string{"a"}, Outputs: []string{"b"}},
			{Name: "gemm", Op: "Gemm", Inputs: []string{"b", "gemm"}, Outputs: []string{"c"}, Attrs: graph.Attrs{"transB": int64(1)}},
			{Name: "matmul", Op: "MatMul", Inputs: []string{"c", "matmul"}, Outputs: []string{"y"}},
		},
		Outputs: []string{"y"},
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return g
}

func planOf(t testing.TB, g *graph.Graph, k, r int) *plan.Plan {
	t.Helper()
	p, err := plan.New(g, plan.Options{Data: k, Parity: r})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newStore(t testing.TB) (*shard.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shards")
	s, err := shard.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// build makes shards of a model that changes with r.
func build(t testing.TB, store *shard.Store, r *rand.Rand, k, parity int) ([]shard.Info, *graph.Graph, *plan.Plan) {
	t.Helper()
	g := model(t, r)
	p := planOf(t, g, k, parity)
	infos, err := shard.Build(store, g, p)
	if err != nil {
		t.Fatal(err)
	}
	return infos, g, p
}

// files lists a folder's entries.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Data slices are rows of W; a parity row is the sum of the rows of that number
// of every data slice, added in float64 and rounded once. With k ≤ 5 summands
// of 24 bits each, whose exponents differ by less than 20, the sum in float64
// is exact, so its order does not matter.
func TestBuildAndOpen(t *testing.T) {
	r := random(t)
	for k := 1; k <= 5; k++ {
		for parity := 0; parity <= 1; parity++ {
			t.Run(fmt.Sprintf("k=%d r=%d", k, parity), func(t *testing.T) {
				store, dir := newStore(t)
				infos, g, p := build(t, store, r, k, parity)
				wantFiles := k + parity
				if k == 1 {
					wantFiles = 1 // the sum of one slice is that slice: the same file
				}
				if len(infos) != k+parity || len(files(t, dir)) != wantFiles {
					t.Fatalf("%d shards, files %v", len(infos), files(t, dir))
				}
				for worker, info := range infos {
					checkShard(t, g, p, worker, info, store)
				}
			})
		}
	}
}

func checkShard(t *testing.T, g *graph.Graph, p *plan.Plan, worker int, info shard.Info, store *shard.Store) {
	t.Helper()
	st, err := os.Stat(info.Path)
	if err != nil || st.Size() != info.Size || info.Path != store.Path(info.SHA256) {
		t.Fatalf("worker %d: %+v, file of %d bytes, %v", worker, info, st.Size(), err)
	}
	s, err := shard.Open(info.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Slices) != len(p.Layers) {
		t.Fatalf("worker %d has %d slices of %d layers", worker, len(s.Slices), len(p.Layers))
	}
	for i, got := range s.Slices {
		layer := &p.Layers[i]
		l, w, err := engine.LinearOf(g, nodeOf(g, layer.Node))
		if err != nil {
			t.Fatal(err)
		}
		number := p.SliceOf(i, worker)
		if got.Layer != i || got.Linear != l.OfRows(layer.Height(number)) {
			t.Errorf("worker %d: slice %+v of layer %d, want %d rows of %+v", worker, got, i, layer.Height(number), l)
		}
		if want := wanted(p, layer, tensor.View[float32](w), number); !slices.EqualFunc(tensor.View[float32](got.Weights), want, sameBits) {
			t.Errorf("worker %d layer %d slice %d: wrong weights", worker, i, number)
		}
	}
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

func nodeOf(g *graph.Graph, name string) *graph.Node {
	return g.Nodes[slices.IndexFunc(g.Nodes, func(n *graph.Node) bool { return n.Name == name })]
}

// wanted computes a slice's weights from those of the whole layer.
func wanted(p *plan.Plan, layer *plan.Layer, w []float32, slice int) []float32 {
	cols := layer.Linear.Cols
	if slice < p.Data {
		begin, end := layer.Rows(slice)
		return w[begin*cols : end*cols]
	}
	sum := make([]float32, layer.Height(slice)*cols)
	for i := range sum {
		var exact float64
		for j := range p.Data {
			if begin, end := layer.Rows(j); begin*cols+i < end*cols {
				exact += float64(w[begin*cols+i])
			}
		}
		sum[i] = float32(exact)
	}
	return sum
}

// A worker must not be able to tell what its slices are: the words of the code
// do not occur, and slices of equal rows have equal descriptions.
func TestFileSaysNothingOfParity(t *testing.T) {
	store, _ := newStore(t)
	infos, _, _ := build(t, store, random(t), 1, 1)
	var descriptions []string
	for _, info := range infos {
		raw, err := os.ReadFile(info.Path)
		if err != nil {
			t.Fatal(err)
		}
		_, text, found := strings.Cut(string(raw), `{"slices"`)
		if !found {
			t.Fatal("no description")
		}
		for _, word := range []string{"parity", "data", "code", "slice\"", "worker"} {
			if strings.Contains(text, word) {
				t.Errorf("the description holds %q: %s", word, text)
			}
		}
		descriptions = append(descriptions, text)
	}
	// With k = 1 the parity slice is the data slice, so even the bytes agree.
	if descriptions[0] != descriptions[1] || infos[0] != infos[1] {
		t.Errorf("shards of data and parity differ: %+v", infos)
	}
}

func TestBuildIsDeterministicAndShared(t *testing.T) {
	r := random(t)
	g := model(t, r)
	p := planOf(t, g, 3, 1)
	dir := t.TempDir()
	var builders sync.WaitGroup
	got := make([][]shard.Info, 4)
	for i := range got {
		builders.Go(func() {
			store, err := shard.OpenStore(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if got[i], err = shard.Build(store, g, p); err != nil {
					t.Error(err)
				}
				for _, info := range got[i] {
					s, err := shard.Open(info.Path)
					if err != nil {
						t.Error(err)
						continue
					}
					s.Close()
				}
			}
		})
	}
	builders.Wait()
	for i := range got {
		if !slices.Equal(got[i], got[0]) {
			t.Errorf("builder %d made %v, builder 0 %v", i, got[i], got[0])
		}
	}
	if names := files(t, dir); len(names) != 4 {
		t.Errorf("left in the folder: %v", names)
	}
}

// After a failure nothing is left but what was there before.
func TestFailedBuildLeavesNothing(t *testing.T) {
	r := random(t)
	g := model(t, r)
	p := planOf(t, g, 2, 1)
	good, _ := newStore(t)
	infos, err := shard.Build(good, g, p)
	if err != nil {
		t.Fatal(err)
	}
	last := infos[2].SHA256 + ".shard"
	other := model(t, r)
	other.Constants["matmul"] = tensor.New(tensor.Float32, 11, 6)
	if err := other.Prepare(); err != nil {
		t.Fatal(err)
	}
	renamed := *g
	renamed.Nodes = slices.Clone(g.Nodes)
	renamed.Nodes[3] = &graph.Node{Name: "another", Op: "MatMul", Inputs: g.Nodes[3].Inputs, Outputs: g.Nodes[3].Outputs}
	for _, c := range []struct {
		name    string
		g       *graph.Graph
		prepare func(t *testing.T, dir string)
		left    []string
	}{
		{"last layer of another size", other, func(*testing.T, string) {}, nil},
		{"last layer of another name", &renamed, func(*testing.T, string) {}, nil},
		{"last file cannot get its name", g, func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, last, "taken"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{last}},
		{"last file cannot get its name, the first was there", g, func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, last, "taken"), 0o700); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(infos[0].Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, infos[0].SHA256+".shard"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{infos[0].SHA256 + ".shard", last}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, dir := newStore(t)
			c.prepare(t, dir)
			if infos, err := shard.Build(store, c.g, p); err == nil || infos != nil {
				t.Fatalf("built %v", infos)
			}
			slices.Sort(c.left)
			if got := files(t, dir); !slices.Equal(got, c.left) {
				t.Errorf("left %v, want %v", got, c.left)
			}
		})
	}
	t.Run("folder is gone", func(t *testing.T) {
		store, dir := newStore(t)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := shard.Build(store, g, p); err == nil {
			t.Error("built into a folder that is gone")
		}
	})
	t.Run("folder cannot be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := shard.OpenStore(filepath.Join(file, "shards")); err == nil {
			t.Error("opened a store below a file")
		}
	})
}
