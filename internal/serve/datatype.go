package serve

import (
	"fmt"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// datatypes are the protocol's names of element types.
var datatypes = map[tensor.DType]string{
	tensor.Bool:  "BOOL",
	tensor.Uint8: "UINT8", tensor.Uint16: "UINT16", tensor.Uint32: "UINT32", tensor.Uint64: "UINT64",
	tensor.Int8: "INT8", tensor.Int16: "INT16", tensor.Int32: "INT32", tensor.Int64: "INT64",
	tensor.Float16: "FP16", tensor.BFloat16: "BF16", tensor.Float32: "FP32", tensor.Float64: "FP64",
}

// describe is a tensor's type and shape in the protocol's words.
func describe(info graph.Info) string {
	return datatypes[info.Type] + " " + info.Shape.String()
}

// checkBools refuses bytes that are neither 0 nor 1, which the engine takes for
// granted of a boolean.
func checkBools(t *tensor.Tensor) error {
	if t.Type != tensor.Bool {
		return nil
	}
	for i, v := range t.Data {
		if v > 1 {
			return fmt.Errorf("element %d is %d, not 0 or 1", i, v)
		}
	}
	return nil
}
