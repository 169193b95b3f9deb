package zoo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/tensor"
)

// parameters counts what training would learn: not the running means and
// variances of batch normalisation, nor Clip's bounds.
func parameters(g *graph.Graph) int {
	n := 0
	for name, t := range g.Constants {
		switch {
		case strings.HasSuffix(name, ".mean"), strings.HasSuffix(name, ".var"), len(t.Shape) == 0:
		default:
			n += t.Shape.Elements()
		}
	}
	return n
}

func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		name       string
		parameters int // published: the papers' and torchvision's
		classes    int
		shapes     map[string]tensor.Shape
		ops        []string
	}{
		{
			"lenet5", 61_706, 10,
			map[string]tensor.Shape{"conv1": {1, 6, 28, 28}, "pool2": {1, 16, 5, 5}, "flat": {1, 400}},
			[]string{"AveragePool", "Conv", "Flatten", "Gemm", "Relu", "Softmax"},
		},
		{
			"alexnet", 61_100_840, 1000,
			map[string]tensor.Shape{"conv1": {1, 64, 55, 55}, "conv2": {1, 192, 27, 27}, "conv5": {1, 256, 13, 13}, "flat": {1, 9216}},
			[]string{"Conv", "Dropout", "Flatten", "Gemm", "MaxPool", "Relu", "Softmax"},
		},
		{
			"vgg16", 138_357_544, 1000,
			map[string]tensor.Shape{"conv3_1": {1, 256, 56, 56}, "conv5_3": {1, 512, 14, 14}, "flat": {1, 25088}},
			[]string{"Conv", "Dropout", "Flatten", "Gemm", "MaxPool", "Relu", "Softmax"},
		},
		{
			"squeezenet1.1", 1_235_496, 1000,
			map[string]tensor.Shape{"conv1": {1, 64, 111, 111}, "fire3": {1, 128, 55, 55}, "fire5": {1, 256, 27, 27}, "conv10": {1, 1000, 13, 13}},
			[]string{"Concat", "Conv", "Dropout", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Softmax"},
		},
		{
			"mobilenet_v2", 3_504_872, 1000,
			map[string]tensor.Shape{"conv1": {1, 32, 112, 112}, "block3": {1, 24, 56, 56}, "block17.project": {1, 320, 7, 7}},
			[]string{"Add", "BatchNormalization", "Clip", "Conv", "Dropout", "Flatten", "Gemm", "GlobalAveragePool", "Softmax"},
		},
		{
			// Without the auxiliary classifier of 3,326,696.
			"inception_v3", 23_834_568, 1000,
			map[string]tensor.Shape{"pool2": {1, 192, 35, 35}, "mixed3": {1, 288, 35, 35}, "mixed4": {1, 768, 17, 17}, "mixed8": {1, 768, 17, 17}, "mixed9": {1, 1280, 8, 8}, "mixed11": {1, 2048, 8, 8}},
			[]string{"AveragePool", "BatchNormalization", "Concat", "Conv", "Dropout", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Relu", "Softmax"},
		},
		{
			"resnet50", 25_557_032, 1000,
			map[string]tensor.Shape{"pool1": {1, 64, 56, 56}, "stage1.block3": {1, 256, 56, 56}, "stage3.block1": {1, 1024, 14, 14}, "stage4.block3": {1, 2048, 7, 7}},
			[]string{"Add", "BatchNormalization", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Relu", "Softmax"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := Build(c.name, 1)
			if err != nil {
				t.Fatal(err)
			}
			if n := parameters(g); n != c.parameters {
				t.Errorf("%d parameters, want %d", n, c.parameters)
			}
			c.shapes[outputName] = tensor.Shape{1, c.classes}
			for name, want := range c.shapes {
				if got := g.Infos[name].Shape; !got.Equal(want) {
					t.Errorf("%s has shape %v, want %v", name, got, want)
				}
			}
			ops := map[string]bool{}
			for _, n := range g.Nodes {
				ops[n.Op] = true
			}
			if got := slices.Sorted(maps.Keys(ops)); !slices.Equal(got, c.ops) {
				t.Errorf("operators %v, want %v", got, c.ops)
			}
			if !strings.Contains(g.Metadata["weights"], "not trained") || g.Metadata["seed"] != "1" {
				t.Errorf("metadata %v", g.Metadata)
			}
			answers(t, g)
		})
	}
	if len(Names()) != 7 {
		t.Errorf("networks without a test: %v", Names())
	}
}

// answers runs a network on a picture. Its probabilities must be usable in
// comparisons: finite, a sum of 1, and no class so certain that rounding hides
// all others (float32 has 24 bits: 1 − 2^-24 is the last below 1).
func answers(t *testing.T, g *graph.Graph) {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := tensor.New(tensor.Float32, g.Inputs[0].Shape...)
	for i := range x.F32() {
		x.F32()[i] = float32(i%37)/18 - 1
	}
	out, err := p.NewSession().Run(context.Background(), nil, []*tensor.Tensor{x})
	if err != nil {
		t.Fatal(err)
	}
	sum, top := 0.0, float32(0)
	for _, v := range out[0].F32() {
		sum += float64(v)
		top = max(top, v)
	}
	t.Logf("top probability %v", top)
	// A thousand terms, each rounded to 2^-24 of at most 1 in all, and the
	// division's rounding.
	if math.IsNaN(sum) || math.Abs(sum-1) > 1000.0/(1<<24) || top > 0.999 {
		t.Errorf("probabilities sum to %v, the highest is %v", sum, top)
	}
}

func TestUnknownName(t *testing.T) {
	_, err := Build("alexnt", 1)
	want := `unknown network "alexnt"; choose one of alexnet, inception_v3, lenet5, mobilenet_v2, resnet50, squeezenet1.1, vgg16`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// digest is over the constants' bytes, ordered by name.
func digest(g *graph.Graph) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(g.Constants)) {
		h.Write(g.Constants[name].Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestSameSeedSameBytes(t *testing.T) {
	build := func(name string, seed uint64) *graph.Graph {
		g, err := Build(name, seed)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	// Also worked out from the comments of bell and source in another language.
	const pinned = "4ad3b99f3bd90c21e373ba64d0d3c3410652a4d06351b043bcc7fcb18ad0af4c"
	if got := digest(build("lenet5", 1)); got != pinned {
		t.Errorf("lenet5 with seed 1 is %s, want %s", got, pinned)
	}
	if digest(build("lenet5", 2)) == pinned {
		t.Error("another seed gives the same weights")
	}
	a, b := build("mobilenet_v2", 3).Constants, build("mobilenet_v2", 3).Constants
	for name := range a {
		if !bytes.Equal(a[name].Data, b[name].Data) {
			t.Errorf("%s differs", name)
		}
	}
}

// A network survives being written as the file that it is for.
func TestEncode(t *testing.T) {
	g, err := Build("lenet5", 1)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := onnx.Encode(&file, g); err != nil {
		t.Fatal(err)
	}
	read, err := onnx.DecodeBytes(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if digest(read) != digest(g) || !maps.Equal(read.Metadata, g.Metadata) {
		t.Errorf("other weights or metadata: %v", read.Metadata)
	}
}

// The weights have the mean and deviation that they are scaled to, in a
// million draws: the mean's standard deviation is 0.001, that of the deviation
// below 0.001; the seed is fixed.
func TestBell(t *testing.T) {
	b := &builder{seed: 5}
	sum, squares := 0.0, 0.0
	x := b.bell("x", 1, 1000, 1000).F32()
	for _, v := range x {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	mean, deviation := sum/1e6, math.Sqrt(squares/1e6)
	if math.Abs(mean) > 0.005 || math.Abs(deviation-1) > 0.005 {
		t.Errorf("mean %v, deviation %v", mean, deviation)
	}
	low, high := float32(9), float32(0)
	for _, v := range b.around("x", 2, 10000).F32() {
		low, high = min(low, v), max(high, v)
	}
	if low < 1 || low > 1.01 || high >= 3 || high < 2.99 {
		t.Errorf("from %v to %v, want [1, 3)", low, high)
	}
}

func BenchmarkBuildAlexNet(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build("alexnet", 1); err != nil {
			b.Fatal(err)
		}
	}
}
