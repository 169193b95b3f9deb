package engine_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/onnx"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// modelFile is a file kept beside the repository, in STARLING_MODELS; a test
// that lacks it is skipped.
func modelFile(t testing.TB, name ...string) string {
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

// model decodes a model and simplifies it.
func model(t testing.TB, name string) (plain, simple *graph.Graph) {
	t.Helper()
	var graphs [2]*graph.Graph
	for i := range graphs {
		g, err := onnx.Decode(modelFile(t, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		graphs[i] = g
	}
	if err := rewrite.Simplify(graphs[1]); err != nil {
		t.Fatal(err)
	}
	return graphs[0], graphs[1]
}

// idx reads the bytes of a gzipped IDX file after its header.
func idx(t testing.TB, header int, name string) []byte {
	t.Helper()
	f, err := os.Open(modelFile(t, "data", "mnist", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b[header:]
}

// npy reads the float32 elements of a file.
func npy(t testing.TB, path string, shape ...int) *tensor.Tensor {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x := tensor.New(tensor.Float32, shape...)
	copy(x.Data, b[len(b)-len(x.Data):])
	return x
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// The number of right digits is ONNX Runtime's, over the whole test set.
func TestDigitsOfMNIST(t *testing.T) {
	for _, c := range []struct {
		file      string
		mean, std float32
		right     int
	}{
		{"lenet5_mnist.onnx", 33.3285, 78.5655, 9913},
		{"lenet_caffe_mnist.onnx", 0, 255, 9895},
	} {
		t.Run(c.file, func(t *testing.T) {
			_, g := model(t, c.file)
			images, labels := idx(t, 16, "t10k-images-idx3-ubyte.gz"), idx(t, 8, "t10k-labels-idx1-ubyte.gz")
			remote, split := newSliced(t, random(t), g)
			local := compile(t, g, engine.Options{}).NewSession()
			parts := compile(t, g, engine.Options{Split: split}).NewSession()
			if testing.Short() {
				labels = labels[:5]
			}
			x := tensor.New(tensor.Float32, 1, 1, 28, 28)
			right := 0
			for i, label := range labels {
				for j, v := range images[i*784 : (i+1)*784] {
					x.F32()[j] = (float32(v) - c.mean) / c.std
				}
				out, err := local.Run(context.Background(), nil, []*tensor.Tensor{x})
				if err != nil {
					t.Fatal(err)
				}
				if argmax(out[0].F32()) == int(label) {
					right++
				}
				if i < 100 {
					divided, err := parts.Run(context.Background(), remote, []*tensor.Tensor{x})
					if err != nil {
						t.Fatal(err)
					}
					same(t, "digit "+strconv.Itoa(i)+" split", divided, out)
				}
			}
			if right != c.right && !testing.Short() {
				t.Errorf("%d of %d digits right, want %d", right, len(labels), c.right)
			}
		})
	}
}

// ONNX Runtime is within 1.1e-4 of the vector, which another runtime made; the
// project promises 2e-4.
func TestSqueezeNetVector(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes minutes without assembly")
	}
	pool := kernel.NewPool(2)
	defer pool.Close()
	plain, simple := model(t, "squeezenet1.1.onnx")
	in := []*tensor.Tensor{npy(t, modelFile(t, "data", "squeezenet1.1_test_vector", "input_0.npy"), 1, 3, 224, 224)}
	want := npy(t, modelFile(t, "data", "squeezenet1.1_test_vector", "output_0.npy"), 1, 1000)
	got := run(t, simple, engine.Options{}, nil, in)
	worst := 0.0
	for i, v := range want.F32() {
		worst = max(worst, math.Abs(float64(v)-float64(got[0].F32()[i])))
	}
	t.Logf("differs by %g at most", worst)
	if !(worst <= 2e-4) {
		t.Errorf("differs from the vector by %g, bound 2e-4", worst)
	}
	same(t, "not simplified", run(t, plain, engine.Options{}, nil, in), got)
	same(t, "two threads", run(t, simple, engine.Options{Pool: pool}, nil, in), got)
	remote, split := newSliced(t, random(t), simple)
	same(t, "split", run(t, simple, engine.Options{Split: split}, remote, in), got)
}

func TestPhotos(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes minutes without assembly")
	}
	pool := kernel.NewPool(2)
	defer pool.Close()
	text, err := os.ReadFile(modelFile(t, "data", "photos", "expected_ort1.30.json"))
	if err != nil {
		t.Fatal(err)
	}
	var models map[string]struct {
		Mean, Std string
		Classes   int
		Results   map[string]struct {
			Class int `json:"expected_index"`
		}
	}
	if err := json.Unmarshal(text, &models); err != nil {
		t.Fatal(err)
	}
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			_, g := model(t, name+".onnx")
			s := compile(t, g, engine.Options{Pool: pool}).NewSession()
			mean, std := numbers(t, m.Mean), numbers(t, m.Std)
			for photo, want := range m.Results {
				f, err := os.Open(modelFile(t, "data", "photos", "crop224", photo+".png"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				picture, err := png.Decode(f)
				if err != nil {
					t.Fatal(err)
				}
				x := tensor.New(tensor.Float32, 1, 3, 224, 224)
				for i := range 224 * 224 {
					r, g, b, _ := picture.At(i%224, i/224).RGBA()
					for c, v := range []uint32{r, g, b} {
						x.F32()[c*224*224+i] = (float32(v>>8) - mean[c]) / std[c]
					}
				}
				out, err := s.Run(context.Background(), nil, []*tensor.Tensor{x})
				if err != nil {
					t.Fatal(err)
				}
				// Classes are numbered as in ImageNet; models of 1001 have a
				// background before them. Sunflower is no class and counts as daisy.
				if got := argmax(out[0].F32()) - (m.Classes - 1000); got != want.Class {
					t.Errorf("%s is class %d, want %d", photo, got, want.Class)
				}
			}
		})
	}
}

func numbers(t *testing.T, list string) []float32 {
	t.Helper()
	var out []float32
	for _, s := range strings.Split(list, ",") {
		v, err := strconv.ParseFloat(s, 32)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, float32(v))
	}
	return out
}

// A warm session of any model takes no memory, on one thread or two.
func TestWarmModelsAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes minutes without assembly")
	}
	pool := kernel.NewPool(2)
	defer pool.Close()
	files, err := filepath.Glob(filepath.Join(modelFile(t), "*.onnx"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no models: %v", err)
	}
	for _, file := range files {
		plain, simple := model(t, filepath.Base(file))
		in := inputs(random(t), simple)
		for name, g := range map[string]*graph.Graph{"as it is": plain, "simplified": simple} {
			for threads, p := range map[int]*kernel.Pool{1: nil, 2: pool} {
				t.Run(fmt.Sprintf("%s/%s/%d threads", filepath.Base(file), name, threads), func(t *testing.T) {
					allocatesNothing(t, compile(t, g, engine.Options{Pool: p}), nil, in)
				})
			}
		}
	}
}

func BenchmarkRun(b *testing.B) {
	for _, file := range []string{
		"lenet5_mnist.onnx", "lenet_caffe_mnist.onnx", "squeezenet1.1.onnx",
		"mobilenet_v1_1.0_224_dq.onnx", "mobilenet_v2_1.0_224_dq.onnx", "inception_v3_5class_dq.onnx",
	} {
		b.Run(file, func(b *testing.B) {
			_, g := model(b, file)
			s := compile(b, g, engine.Options{}).NewSession()
			in := inputs(rand.New(rand.NewPCG(1, 1)), g)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Run(context.Background(), nil, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
