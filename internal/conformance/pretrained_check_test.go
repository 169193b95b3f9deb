//go:build check

package conformance_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/input"
	"starling/internal/onnx"
	"starling/internal/rewrite"
	"starling/internal/tensor"
)

// session runs the simplified model of a file, which takes these inputs.
func session(t *testing.T, file string) (*engine.Session, []graph.Value) {
	t.Helper()
	g, err := onnx.Decode(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := rewrite.Simplify(g); err != nil {
		t.Fatal(err)
	}
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.NewSession(), g.Inputs
}

// TestPhotosOfEfficientNet: the exported networks find what the photos show, all
// six of them, of 1,000 classes. Their scale is (x − 127)/128.
func TestPhotosOfEfficientNet(t *testing.T) {
	photos, dir := models(t, "STARLING_MODELS"), models(t, "STARLING_PRETRAINED")
	right := map[string]int{"cat": 285, "bird": 19, "hot_dog": 934, "parrot": 88, "dragonfly": 319, "sunflower": 985}
	for _, name := range []string{"efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"} {
		t.Run(name, func(t *testing.T) {
			s, inputs := session(t, filepath.Join(dir, name+".onnx"))
			for photo, class := range right {
				source, err := input.Open(filepath.Join(photos, "data", "photos", photo+".jpg"), inputs[0],
					input.Options{Mean: []float32{127}, Std: []float32{128}})
				if err != nil {
					t.Fatal(err)
				}
				defer source.Close()
				x, err := source.Tensor(0)
				if err != nil {
					t.Fatal(err)
				}
				out, err := s.Run(context.Background(), nil, []*tensor.Tensor{x})
				if err != nil {
					t.Fatal(err)
				}
				if got := input.Top(out[0].F32(), nil, 1)[0]; got.Class != class {
					t.Errorf("%s is class %d, want %d", photo, got.Class, class)
				}
			}
		})
	}
}

// TestSentencesThatBelongTogether: of eight sentences, pairs of the same meaning in
// other words, each is nearest to its neighbour.
func TestSentencesThatBelongTogether(t *testing.T) {
	dir := models(t, "STARLING_PRETRAINED")
	text, err := os.ReadFile(filepath.Join(dir, "minilm.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sentences []struct {
		Sentence string
		Tokens   []int64
	}
	if err := json.Unmarshal(text, &sentences); err != nil {
		t.Fatal(err)
	}
	s, inputs := session(t, filepath.Join(dir, "minilm.onnx"))
	var embeddings [][]float32
	for _, one := range sentences {
		in := make([]*tensor.Tensor, len(inputs))
		for i, v := range inputs {
			in[i] = tensor.New(v.Type, v.Shape...)
			for k, token := range one.Tokens {
				switch v.Name {
				case "input_ids":
					tensor.Of[int64](in[i])[k] = token
				case "attention_mask":
					tensor.Of[int64](in[i])[k] = 1
				}
			}
		}
		out, err := s.Run(context.Background(), nil, in)
		if err != nil {
			t.Fatal(err)
		}
		embeddings = append(embeddings, out[0].Clone().F32())
	}
	for i, a := range embeddings {
		nearest, most := 0, float32(-1)
		for j, b := range embeddings {
			cosine := float32(0) // both have norm 1
			for k := range a {
				cosine += a[k] * b[k]
			}
			if j != i && cosine > most {
				nearest, most = j, cosine
			}
		}
		t.Logf("%-42q is nearest to %-42q %.3f", sentences[i].Sentence, sentences[nearest].Sentence, most)
		if nearest != i^1 {
			t.Errorf("%q is nearest to %q", sentences[i].Sentence, sentences[nearest].Sentence)
		}
	}
}
