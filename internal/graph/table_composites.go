package graph

// composites are the rows of operators that ONNX defines by others, or that can
// be, and that are written as these.
var composites = map[string]*operator{
	"AffineGrid": {minInputs: 2, maxInputs: 2, other: 1, expand: expandAffineGrid, attrs: map[string]attr{
		"align_corners": {kind: kindInt},
	}},
	"Attention": {minInputs: 3, maxInputs: 7, outputs: 4, types: floating, other: 3, expand: expandAttention, attrs: map[string]attr{
		"is_causal":             {kind: kindInt},
		"kv_num_heads":          {kind: kindInt},
		"left_window_size":      {kind: kindInt, from: 25},
		"q_num_heads":           {kind: kindInt},
		"qk_matmul_output_mode": {kind: kindInt},
		"right_window_size":     {kind: kindInt, from: 25},
		"scale":                 {kind: kindFloat},
		"softcap":               {kind: kindFloat},
		"softmax_precision":     {kind: kindInt},
	}},
	"CausalConvWithState": {minInputs: 2, maxInputs: 4, outputs: 2, expand: expandCausalConv, empty: true, attrs: map[string]attr{
		"activation": {kind: kindString},
	}},
	"CenterCropPad": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, expand: expandCenterCropPad, attrs: map[string]attr{
		"axes": {kind: kindInts},
	}},
	"Compress": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, expand: expandCompress, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"LpPool": {minInputs: 1, maxInputs: 1, expand: expandLpPool, attrs: map[string]attr{
		"auto_pad":     {kind: kindString},
		"ceil_mode":    {kind: kindInt, from: 18},
		"dilations":    {kind: kindInts, from: 18},
		"kernel_shape": {kind: kindInts, required: true},
		"p":            {kind: kindInt, from: 2},
		"pads":         {kind: kindInts},
		"strides":      {kind: kindInts},
	}},
	"MeanVarianceNormalization": {minInputs: 1, maxInputs: 1, expand: expandMeanVariance, attrs: map[string]attr{
		"axes": {kind: kindInts},
	}},
	"NegativeLogLikelihoodLoss": {minInputs: 2, maxInputs: 3, other: 1, expand: expandLikelihood, attrs: map[string]attr{
		"ignore_index": {kind: kindInt},
		"reduction":    {kind: kindString},
	}},
	"ReverseSequence": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, expand: expandReverseSequence, attrs: map[string]attr{
		"batch_axis": {kind: kindInt},
		"time_axis":  {kind: kindInt},
	}},
	"RotaryEmbedding": {minInputs: 3, maxInputs: 4, other: 3, expand: expandRotary, attrs: map[string]attr{
		"interleaved":          {kind: kindInt},
		"num_heads":            {kind: kindInt},
		"rotary_embedding_dim": {kind: kindInt},
	}},
	"SoftmaxCrossEntropyLoss": {minInputs: 2, maxInputs: 3, outputs: 2, other: 1, expand: expandCrossEntropy, attrs: map[string]attr{
		"ignore_index": {kind: kindInt},
		"reduction":    {kind: kindString},
	}},
	"SwiGLU": {minInputs: 2, maxInputs: 2, types: floating, expand: expandSwiGLU, attrs: map[string]attr{
		"alpha": {kind: kindFloat},
	}},
	"TensorScatter": {minInputs: 2, maxInputs: 3, types: anyType, other: 2, expand: expandTensorScatter, attrs: map[string]attr{
		"axis": {kind: kindInt},
		"mode": {kind: kindString},
	}},
}
