package engine_test

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/tensor"
)

// The number of right keywords is ONNX Runtime's, over all 1,000 samples: bytes q
// stand for (q − 83)·0.5847029, twelve labels.
func TestKeywords(t *testing.T) {
	_, g := model(t, "kws_dscnn.onnx")
	samples, err := os.ReadFile(modelFile(t, "data", "kws01", "kws01_1000x49x10_int8.bin"))
	if err != nil {
		t.Fatal(err)
	}
	labels, err := os.ReadFile(modelFile(t, "data", "kws01", "kws01_labels_u8.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		labels = labels[:5]
	}
	s := compile(t, g, engine.Options{}).NewSession()
	x := tensor.New(tensor.Float32, 1, 1, 49, 10)
	right := 0
	for i, label := range labels {
		for j, q := range samples[i*490 : (i+1)*490] {
			x.F32()[j] = (float32(int8(q)) - 83) * 0.5847029
		}
		out, err := s.Run(context.Background(), nil, []*tensor.Tensor{x})
		if err != nil {
			t.Fatal(err)
		}
		if argmax(out[0].F32()) == int(label) {
			right++
		}
	}
	if right != 902 && !testing.Short() {
		t.Errorf("%d of %d keywords right, want 902", right, len(labels))
	}
}

// vocabulary is the text of each of 512 tokens, of a file of llama2.c: the length
// of the longest, then for each token a score, a length and bytes.
func vocabulary(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(modelFile(t, "data", "stories260K_tok512.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for b = b[4:]; len(b) > 0; {
		n := int(binary.LittleEndian.Uint32(b[4:]))
		words, b = append(words, string(b[8:8+n])), b[8+n:]
	}
	return words
}

// The text is what llama2.c writes greedily from the beginning-of-sequence token;
// the model sees 256 tokens at most.
func TestGreedyStory(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes minutes without assembly")
	}
	_, g := model(t, "stories260K_s256.onnx")
	words := vocabulary(t)
	want, err := os.ReadFile(modelFile(t, "data", "stories260K_greedy_expected.txt"))
	if err != nil {
		t.Fatal(err)
	}
	s := compile(t, g, engine.Options{}).NewSession()
	tokens := tensor.New(tensor.Int64, 1, 256)
	list := tensor.Of[int64](tokens)
	list[0] = 1
	text := ""
	for i := range min(storySteps, len(list)-1) {
		out, err := s.Run(context.Background(), nil, []*tensor.Tensor{tokens})
		if err != nil {
			t.Fatal(err)
		}
		next := argmax(out[0].F32()[i*len(words) : (i+1)*len(words)])
		list[i+1] = int64(next)
		piece := words[next]
		if i == 0 {
			piece = strings.TrimPrefix(piece, " ")
		}
		text += strings.ReplaceAll(piece, "<0x0A>", "\n")
	}
	if len(text) < 2*storySteps || !strings.HasPrefix(string(want), text) {
		t.Errorf("the story is\n%s\nwant\n%s", text, want)
	}
	list[5] = 512
	if _, err := s.Run(context.Background(), nil, []*tensor.Tensor{tokens}); err == nil || !strings.Contains(err.Error(), `Gather node "emb": index 5 is 512, outside`) {
		t.Errorf("a token outside the vocabulary: error %v", err)
	}
}

// windows are the voice detector's inputs over a recording of 16 kHz: 512 samples
// each, after the 64 before them.
func windows(t *testing.T, name string) []*tensor.Tensor {
	t.Helper()
	b, err := os.ReadFile(modelFile(t, "data", "speech", name))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "data")
	b = b[at+8:]
	samples := append(make([]float32, 0, 64+len(b)/2), make([]float32, 64)...)
	for ; len(b) > 1; b = b[2:] {
		samples = append(samples, float32(int16(binary.LittleEndian.Uint16(b)))/32768)
	}
	var list []*tensor.Tensor
	for ; len(samples) >= 576; samples = samples[512:] {
		list = append(list, tensor.FromSlice(append([]float32{}, samples[:576]...), 1, 576))
	}
	return list
}

// Voice is found where somebody speaks and not in silence; the state goes round.
// ONNX Runtime's probabilities are compared by the longer checks.
func TestVoiceDetector(t *testing.T) {
	plain, simple := model(t, "silero_vad_16k_static.onnx")
	s := compile(t, simple, engine.Options{}).NewSession()
	p := compile(t, plain, engine.Options{}).NewSession()
	state := tensor.New(tensor.Float32, 2, 1, 128)
	most, voiced := float32(0), 0
	list := windows(t, "silero_test_16k.wav")
	if testing.Short() {
		list = list[:3]
	}
	for i, x := range list {
		in := []*tensor.Tensor{x, state}
		want, err := p.Run(context.Background(), nil, in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(context.Background(), nil, in)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			same(t, "not simplified", want, out)
		}
		v := out[0].F32()[0]
		if most = max(most, v); v > 0.5 {
			voiced++
		}
		if !(v >= 0 && v <= 1) || math.IsNaN(float64(v)) {
			t.Fatalf("window %d: probability %v", i, v)
		}
		copy(state.Data, out[1].Data)
	}
	if !testing.Short() && (most < 0.9 || voiced < len(list)/10 || voiced == len(list)) {
		t.Errorf("%d of %d windows have voice, the surest %v", voiced, len(list), most)
	}
}
