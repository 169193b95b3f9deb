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
	"BlackmanWindow": window,
	"Col2Im": {minInputs: 3, maxInputs: 3, other: 1, expand: expandCol2Im, attrs: map[string]attr{
		"dilations": {kind: kindInts},
		"pads":      {kind: kindInts},
		"strides":   {kind: kindInts},
	}},
	"DFT": {minInputs: 1, maxInputs: 3, other: 1, expand: expandDFT, attrs: map[string]attr{
		"axis":     {kind: kindInt, to: 19},
		"inverse":  {kind: kindInt},
		"onesided": {kind: kindInt},
	}},
	"HammingWindow": window,
	"HannWindow":    window,
	"If": {minInputs: 1, maxInputs: 1, outputs: -1, types: anyType, other: own, expand: expandIf, attrs: map[string]attr{
		"else_branch": {kind: kindGraph, required: true},
		"then_branch": {kind: kindGraph, required: true},
	}},
	"LinearAttention": {minInputs: 3, maxInputs: 6, outputs: 2, expand: expandLinearAttention, attrs: map[string]attr{
		"chunk_size":   {kind: kindInt},
		"kv_num_heads": {kind: kindInt, required: true},
		"q_num_heads":  {kind: kindInt, required: true},
		"scale":        {kind: kindFloat},
		"update_rule":  {kind: kindString},
	}},
	"Loop": {minInputs: 0, maxInputs: -1, outputs: -1, types: anyType, other: own, expand: expandLoop, attrs: map[string]attr{
		"body": {kind: kindGraph, required: true},
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
	"Scan": {minInputs: 1, maxInputs: -1, outputs: -1, types: anyType, other: own, expand: expandScan, attrs: map[string]attr{
		"body":                   {kind: kindGraph, required: true},
		"num_scan_inputs":        {kind: kindInt, required: true},
		"scan_input_axes":        {kind: kindInts, from: 9},
		"scan_input_directions":  {kind: kindInts, from: 9},
		"scan_output_axes":       {kind: kindInts, from: 9},
		"scan_output_directions": {kind: kindInts, from: 9},
	}},
	"STFT": {minInputs: 2, maxInputs: 4, other: 1, expand: expandSTFT, attrs: map[string]attr{
		"onesided": {kind: kindInt},
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

// window is the row of all window functions.
var window = &operator{minInputs: 1, maxInputs: 1, types: anyType, other: own, expand: expandWindow, attrs: map[string]attr{
	"output_datatype": {kind: kindInt},
	"periodic":        {kind: kindInt},
}}
