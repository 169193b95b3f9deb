//go:build check

package coordinator_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"starling/internal/coordinator"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/plan"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// However a model is split and whoever of the workers is dead, each and each two
// where there are two parities, not one answer changes: of all of MNIST, all
// keywords and all photos; where inputs are combined, of a tenth of them. Several
// inputs go through at once, as a batch.
func TestAnswersStay(t *testing.T) {
	digits := modelFile(t, "data", "mnist", "t10k-images-idx3-ubyte.gz")
	lenet := input.Options{Mean: []float32{33.3285}, Std: []float32{78.5655}}
	coral := input.Options{Mean: []float32{127.5}, Std: []float32{127.5}}
	var photos []string
	for _, name := range []string{"bird", "cat", "parrot", "hot_dog", "dragonfly", "sunflower"} {
		photos = append(photos, modelFile(t, "data", "photos", name+".jpg"))
	}
	for _, c := range []struct {
		model  string
		inputs func(t *testing.T, g *graph.Graph) [][]float32
		batch  int
		labels []byte // nil where there are none
		right  int
	}{
		{"lenet5_mnist.onnx", files(lenet, digits), 100, mnistLabels(t), 9913},
		{"kws_dscnn.onnx", keywords, 50, readFile(t, "data", "kws01", "kws01_labels_u8.bin"), 902},
		{"squeezenet1.1.onnx", files(input.Options{}, photos...), 6, nil, 0},
		{"mobilenet_v1_1.0_224_dq.onnx", files(coral, photos...), 6, nil, 0},
		{"mobilenet_v2_1.0_224_dq.onnx", files(coral, photos...), 6, nil, 0},
	} {
		t.Run(c.model, func(t *testing.T) {
			t.Parallel()
			g := simplified(t, modelFile(t, c.model))
			x := c.inputs(t, g)
			g = batched(t, g, c.batch)
			var batches []*tensor.Tensor
			for some := range slices.Chunk(x, c.batch) {
				batches = append(batches, tensor.FromSlice(slices.Concat(some...), g.Inputs[0].Shape...))
			}
			var want []int
			for _, in := range batches {
				want = append(want, classes((&prepared{g: g}).local(t, []*tensor.Tensor{in})[0])...)
			}
			if right := count(want, c.labels); right != c.right {
				t.Fatalf("one process gets %d right, want %d", right, c.right)
			}
			for _, opt := range []plan.Options{{Data: 4, Parity: 1}, {Data: 4, Parity: 2}, {Data: 4, Parity: 2, Split: plan.Spatial}} {
				p, batches, want := prepareBy(t, g, opt), batches, want
				if opt.Split == plan.Spatial {
					batches = batches[:(len(batches)+9)/10]
				}
				t.Run(fmt.Sprintf("4+%d %s", opt.Parity, opt.Split), func(t *testing.T) {
					inLab(t, p, coordinator.Config{}, func(t *testing.T, l *lab) {
						l.start()
						l.answersStay(batches, want, opt.Parity)
					})
				})
			}
		})
	}
}

// answersStay runs all batches without every set of workers up to most.
func (l *lab) answersStay(batches []*tensor.Tensor, want []int, most int) {
	l.t.Helper()
	decoded := 0
	var a coordinator.Answer
	all := sets(len(l.machines), most)
	for _, dead := range all {
		for w := range l.machines {
			l.c.Leave(w, slices.Contains(dead, w))
		}
		at := 0
		for _, in := range batches {
			if err := l.c.Infer(context.Background(), []*tensor.Tensor{in}, &a); err != nil || len(a.Recomputed) > 0 {
				l.t.Fatalf("%v dead: recomputed %v, %v", dead, a.Recomputed, err)
			}
			synctest.Wait() // no result of this request is late in the next
			decoded += len(a.Decoded)
			for _, class := range classes(a.Outputs[0]) {
				if class != want[at] {
					l.t.Errorf("%v dead: input %d is class %d, in one process %d", dead, at, class, want[at])
				}
				at++
			}
		}
	}
	l.t.Logf("%d sets of dead workers, %d batches each, %d slices decoded", len(all), len(batches), decoded)
}

// classes is the class of each row of scores.
func classes(scores *tensor.Tensor) (all []int) {
	for row := range slices.Chunk(scores.F32(), scores.Shape[1]) {
		best := 0
		for i, v := range row {
			if v > row[best] {
				best = i
			}
		}
		all = append(all, best)
	}
	return all
}

func count(classes []int, labels []byte) (right int) {
	for i, label := range labels {
		if classes[i] == int(label) {
			right++
		}
	}
	return right
}

// modelFile is a file of the folder STARLING_MODELS, by default the one beside
// the repository; a test that lacks it is skipped.
func modelFile(t *testing.T, name ...string) string {
	t.Helper()
	dir := os.Getenv("STARLING_MODELS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "models")
	}
	path := filepath.Join(append([]string{dir}, name...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no file %s", path)
	}
	return path
}

func readFile(t *testing.T, name ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(modelFile(t, name...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func mnistLabels(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(modelFile(t, "data", "mnist", "t10k-labels-idx1-ubyte.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	labels, err := input.ReadIDXLabels(f)
	if err != nil {
		t.Fatal(err)
	}
	return labels
}

func simplified(t *testing.T, file string) *graph.Graph {
	t.Helper()
	g, err := onnx.Decode(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := rewrite.Simplify(g); err != nil {
		t.Fatal(err)
	}
	return g
}

// batched is a model of one input for several at once.
func batched(t *testing.T, g *graph.Graph, n int) *graph.Graph {
	t.Helper()
	more := *g
	more.Inputs = slices.Clone(g.Inputs)
	more.Inputs[0].Shape = slices.Clone(g.Inputs[0].Shape)
	more.Inputs[0].Shape[0] = n
	if err := more.Prepare(); err != nil {
		t.Fatal(err)
	}
	return &more
}

// files are inputs as starling run reads them.
func files(opt input.Options, paths ...string) func(t *testing.T, g *graph.Graph) [][]float32 {
	return func(t *testing.T, g *graph.Graph) (all [][]float32) {
		t.Helper()
		r, err := input.OpenRequests(paths, g.Inputs, opt, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for i := range r.Count() {
			in, err := r.Tensors(i)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, slices.Clone(in[0].F32()))
		}
		return all
	}
}

// keywords are 1,000 quantised spectrograms; float = (q − 83) · 0.5847029.
func keywords(t *testing.T, g *graph.Graph) (all [][]float32) {
	t.Helper()
	for raw := range slices.Chunk(readFile(t, "data", "kws01", "kws01_1000x49x10_int8.bin"), g.Inputs[0].Shape.Elements()) {
		x := make([]float32, len(raw))
		for i, q := range raw {
			x[i] = (float32(int8(q)) - 83) * 0.5847029
		}
		all = append(all, x)
	}
	return all
}
