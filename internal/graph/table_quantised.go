package graph

// quantised are the rows of operators on quantised tensors.
var quantised = map[string]*operator{
	"ConvInteger": {minInputs: 2, maxInputs: 4, other: own, infer: inferConvInteger, attrs: convAttrs},
	"DequantizeLinear": {minInputs: 2, maxInputs: 3, other: own, finite: true, infer: inferDequantize, attrs: map[string]attr{
		"axis":         {kind: kindInt, from: 13},
		"block_size":   {kind: kindInt, from: 21},
		"output_dtype": {kind: kindInt, from: 23},
	}},
	"DynamicQuantizeLinear": {minInputs: 1, maxInputs: 1, outputs: 3, infer: inferDynamicQuantize},
	"MatMulInteger":         {minInputs: 2, maxInputs: 4, other: own, infer: inferMatMulInteger},
	"QLinearConv":           {minInputs: 8, maxInputs: 9, other: own, finite: true, infer: inferQLinearConv, attrs: convAttrs},
	"QLinearMatMul":         {minInputs: 8, maxInputs: 8, other: own, finite: true, infer: inferQLinearMatMul},
	"QuantizeLinear": {minInputs: 2, maxInputs: 3, other: own, finite: true, infer: inferQuantize, attrs: map[string]attr{
		"axis":         {kind: kindInt, from: 13},
		"block_size":   {kind: kindInt, from: 21},
		"output_dtype": {kind: kindInt, from: 21},
		"precision":    {kind: kindInt, from: 23},
		"saturate":     {kind: kindInt, from: 19},
	}},
}

var convAttrs = map[string]attr{
	"auto_pad":     {kind: kindString},
	"dilations":    {kind: kindInts},
	"group":        {kind: kindInt},
	"kernel_shape": {kind: kindInts},
	"pads":         {kind: kindInts},
	"strides":      {kind: kindInts},
}
