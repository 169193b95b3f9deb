//go:build check

package coordinator_test

import (
	"os"
	"path/filepath"
	"testing"

	"starling/internal/onnx"
	"starling/internal/tensor"
)

// Every trained model, quantised: no loss of a worker or of two changes any bit of
// an answer.
func TestQuantisedModels(t *testing.T) {
	dir := os.Getenv("STARLING_MODELS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "models")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
	if err != nil || len(files) == 0 {
		t.Skipf("no models in %s", dir)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			g, err := onnx.Decode(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			simplify(t, g)
			r := random(t)
			var in []*tensor.Tensor
			for _, v := range g.Inputs {
				if v.Type == tensor.Float32 {
					in = append(in, normal(r, v.Shape...))
				} else {
					in = append(in, tensor.New(v.Type, v.Shape...))
				}
			}
			everyLoss(t, quantise(t, g, in), [][]*tensor.Tensor{in})
		})
	}
}
