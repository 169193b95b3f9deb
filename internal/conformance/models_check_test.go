//go:build check

package conformance_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/onnx"
	"starling/internal/rewrite"
	"starling/internal/tensor"
	"starling/internal/zoo"
)

// models is the folder of an environment variable; a test that lacks it is skipped.
func models(t *testing.T, variable string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Skipf("%s is not set (tools/check/all sets it)", variable)
	}
	return dir
}

// TestModelsAgreeWithONNXRuntime compares the first output of every model, as it
// is and simplified, with ONNX Runtime's on random inputs. A Softmax at the end is
// taken off, because it hides what is before it.
func TestModelsAgreeWithONNXRuntime(t *testing.T) {
	var files []string
	for _, variable := range []string{"STARLING_MODELS", "STARLING_PRETRAINED"} {
		list, err := filepath.Glob(filepath.Join(models(t, variable), "*.onnx"))
		if err != nil || len(list) == 0 {
			t.Fatalf("no models in %s: %v", variable, err)
		}
		files = append(files, list...)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".onnx"), func(t *testing.T) {
			agree(t, func() *graph.Graph {
				g, err := onnx.Decode(file, nil)
				if err != nil {
					t.Fatal(err)
				}
				return g
			})
		})
	}
	for _, name := range zoo.Names() {
		t.Run("zoo "+name, func(t *testing.T) {
			agree(t, func() *graph.Graph {
				g, err := zoo.Build(name, 1)
				if err == nil {
					err = g.Prepare()
				}
				if err != nil {
					t.Fatal(err)
				}
				return g
			})
		})
	}
}

func agree(t *testing.T, load func() *graph.Graph) {
	t.Helper()
	pool := kernel.NewPool(2)
	defer pool.Close()
	g := withoutSoftmax(t, load())
	r := rand.New(rand.NewPCG(1, 1))
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		in[i] = random(r, v)
	}
	want := reference(t, written(t, g), in)
	limit := bound(g, want)
	simple := withoutSoftmax(t, load())
	if err := rewrite.Simplify(simple); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		g    *graph.Graph
	}{{"plain", g}, {"simplified", simple}} {
		p, err := engine.Compile(c.g, engine.Options{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.NewSession().Run(context.Background(), nil, in)
		if err != nil {
			t.Fatal(err)
		}
		worst := difference(t, out[0], want)
		t.Logf("%s: differs by %.3g at most, bound %.3g", c.name, worst, limit)
		if !(worst <= limit) {
			t.Errorf("%s: differs by %g, bound %g", c.name, worst, limit)
		}
	}
}

func random(r *rand.Rand, v graph.Value) *tensor.Tensor {
	x := tensor.New(v.Type, v.Shape...)
	for i := range x.Shape.Elements() {
		if v.Type == tensor.Float32 {
			x.F32()[i] = 2*r.Float32() - 1
			continue
		}
		n := int64(1) // a mask's; of all the models' other integers any is allowed up to 511
		if strings.Contains(v.Name, "id") || strings.Contains(v.Name, "token") {
			n = r.Int64N(512)
		}
		if strings.Contains(v.Name, "type") {
			n = 0
		}
		tensor.Of[int64](x)[i] = n
	}
	return x
}

func difference(t *testing.T, got, want *tensor.Tensor) float64 {
	t.Helper()
	if !got.Shape.Equal(want.Shape) {
		t.Fatalf("shape %v, want %v", got.Shape, want.Shape)
	}
	worst := 0.0
	for i, v := range want.F32() {
		if d := math.Abs(float64(got.F32()[i]) - float64(v)); !(d <= worst) {
			worst = d
		}
	}
	return worst
}

// withoutSoftmax takes a Softmax off the end of a prepared graph.
func withoutSoftmax(t *testing.T, g *graph.Graph) *graph.Graph {
	t.Helper()
	for i, n := range g.Nodes {
		if n.Op == "Softmax" && n.Outputs[0] == g.Outputs[0] {
			g.Outputs[0] = n.Inputs[0]
			g.Nodes = append(g.Nodes[:i:i], g.Nodes[i+1:]...)
			if err := g.Prepare(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	return g
}

// TestVoiceDetectorFedBack runs the voice detector over a whole recording, its
// state fed back, beside ONNX Runtime. Each window's roundings stay in the state,
// which the forget gates let decay and never grow: the bound of one window times
// their number.
func TestVoiceDetectorFedBack(t *testing.T) {
	dir := models(t, "STARLING_MODELS")
	file := filepath.Join(dir, "silero_vad_16k_static.onnx")
	g, err := onnx.Decode(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	wav, err := os.ReadFile(filepath.Join(dir, "data", "speech", "silero_test_16k.wav"))
	if err != nil {
		t.Fatal(err)
	}
	const context64, window = 64, 512 // samples before each window, and of it
	samples := slices.Repeat([]float32{0}, context64)
	for b := wav[strings.Index(string(wav), "data")+8:]; len(b) > 1; b = b[2:] {
		samples = append(samples, float32(int16(binary.LittleEndian.Uint16(b)))/32768)
	}
	count := (len(samples) - context64) / window
	batch := tensor.New(tensor.Float32, count, 1, context64+window)
	for i := range count {
		copy(batch.F32()[i*(context64+window):], samples[i*window:i*window+context64+window])
	}
	state := tensor.New(tensor.Float32, 2, 1, 128)
	want := reference(t, file, []*tensor.Tensor{batch, state}, "--feed", g.Outputs[1]+"="+g.Inputs[1].Name)
	one := bound(g, want)
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	worst := 0.0
	for i := range count {
		size := context64 + window
		x := tensor.FromSlice(batch.F32()[i*size:(i+1)*size:(i+1)*size], 1, size)
		out, err := s.Run(context.Background(), nil, []*tensor.Tensor{x, state})
		if err != nil {
			t.Fatal(err)
		}
		d := math.Abs(float64(out[0].F32()[0]) - float64(want.F32()[i]))
		worst = max(worst, d)
		if limit := one * float64(i+1); !(d <= limit) {
			t.Errorf("window %d: differs by %g, bound %g", i, d, limit)
		}
		copy(state.Data, out[1].Data)
	}
	t.Logf("%d windows differ by %.3g at most; bound of the first %.3g", count, worst, one)
}
