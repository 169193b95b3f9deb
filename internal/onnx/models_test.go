package onnx

import (
	"os"
	"path/filepath"
	"testing"

	"starling/internal/graph"
)

// modelFile is the path of a model kept beside the repository, in
// STARLING_MODELS; a test that lacks it is skipped.
func modelFile(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("STARLING_MODELS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "models")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no model %s", path)
	}
	return path
}

func TestDecodeRealModels(t *testing.T) {
	for _, c := range []struct {
		file, input, output string // types
		nodes               int
		flops               int64
	}{
		// FLOPs: 2·(784·6·25 + 100·16·150 + 400·120 + 120·84 + 84·10), the
		// first convolution padded by 2.
		{"lenet5_mnist.onnx", "float32[1,1,28,28]", "float32[1,10]", 13, 2 * (784*6*25 + 100*16*150 + 400*120 + 120*84 + 84*10)},
		// 2·(576·20·25 + 64·50·500 + 800·500 + 500·10)
		{"lenet_caffe_mnist.onnx", "float32[1,1,28,28]", "float32[1,10]", 9, 2 * (576*20*25 + 64*50*500 + 800*500 + 500*10)},
		{"squeezenet1.1.onnx", "float32[1,3,224,224]", "float32[1,1000]", 65, 0},
		{"mobilenet_v1_1.0_224_dq.onnx", "float32[1,3,224,224]", "float32[1,1001]", 86, 0},
		{"mobilenet_v2_1.0_224_dq.onnx", "float32[1,3,224,224]", "float32[1,1001]", 154, 0},
		{"inception_v3_5class_dq.onnx", "float32[1,3,299,299]", "float32[1,5]", 415, 0},
		{"resnet8_cifar10.onnx", "float32[1,3,32,32]", "float32[1,10]", 23, 0},
		{"kws_dscnn.onnx", "float32[1,1,49,10]", "float32[1,12]", 22, 0},
		{"vww_mobilenetv1_025.onnx", "float32[1,3,96,96]", "float32[1,2]", 58, 0},
		{"ad_autoencoder.onnx", "float32[1,640]", "float32[1,640]", 19, 0},
		{"silero_vad_16k_static.onnx", "float32[1,576]", "float32[1,1]", 43, 0},
		{"stories260K_s256.onnx", "int64[1,256]", "float32[1,256,512]", 243, 0},
	} {
		t.Run(c.file, func(t *testing.T) {
			g, err := Decode(modelFile(t, c.file), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := g.Inputs[0].Info.String(); got != c.input {
				t.Errorf("input %s, want %s", got, c.input)
			}
			if got := g.Infos[g.Outputs[0]].String(); got != c.output {
				t.Errorf("output %s, want %s", got, c.output)
			}
			if len(g.Nodes) != c.nodes {
				t.Errorf("%d nodes, want %d", len(g.Nodes), c.nodes)
			}
			var flops int64
			for _, n := range g.Nodes {
				flops += graph.FLOPs(g, n)
			}
			if c.flops != 0 && flops != c.flops {
				t.Errorf("%d FLOPs, want %d", flops, c.flops)
			}
		})
	}
}
