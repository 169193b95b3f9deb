package graph

import (
	"maps"

	"starling/internal/tensor"
)

// layers are the rows of layers with weights, of pools and normalisations.
// Attribute names, kinds and opsets are those of the ONNX operator schemas, here
// and in the other parts of the table.
var layers = map[string]*operator{
	"AveragePool": {minInputs: 1, maxInputs: 1, infer: inferPool, attrs: map[string]attr{
		"auto_pad":          {kind: kindString},
		"ceil_mode":         {kind: kindInt, from: 10},
		"count_include_pad": {kind: kindInt, from: 7},
		"dilations":         {kind: kindInts, from: 19},
		"kernel_shape":      {kind: kindInts, required: true},
		"pads":              {kind: kindInts},
		"strides":           {kind: kindInts},
	}},
	"BatchNormalization": {minInputs: 5, maxInputs: 5, finite: true, infer: inferBatchNorm, attrs: map[string]attr{
		"consumed_inputs": {kind: kindInts, to: 5},
		"epsilon":         {kind: kindFloat},
		"is_test":         {kind: kindInt, to: 6},
		"momentum":        {kind: kindFloat},
		"spatial":         {kind: kindInt, to: 8},
		"training_mode":   {kind: kindInt, from: 14},
	}},
	// Constant nodes are gone before nodes are validated.
	"Constant": {},
	"Conv":     {minInputs: 2, maxInputs: 3, finite: true, infer: inferConv, attrs: convAttrs},
	"Gemm": {minInputs: 2, maxInputs: 3, finite: true, infer: inferGemm, attrs: map[string]attr{
		"alpha":     {kind: kindFloat},
		"beta":      {kind: kindFloat},
		"broadcast": {kind: kindInt, to: 6},
		"transA":    {kind: kindInt},
		"transB":    {kind: kindInt},
	}},
	"GlobalAveragePool": {minInputs: 1, maxInputs: 1, infer: inferGlobalPool},
	"ConvTranspose": {minInputs: 2, maxInputs: 3, finite: true, infer: inferConvTranspose, attrs: map[string]attr{
		"auto_pad":       {kind: kindString},
		"dilations":      {kind: kindInts},
		"group":          {kind: kindInt},
		"kernel_shape":   {kind: kindInts},
		"output_padding": {kind: kindInts},
		"output_shape":   {kind: kindInts},
		"pads":           {kind: kindInts},
		"strides":        {kind: kindInts},
	}},
	"Einsum": {minInputs: 1, maxInputs: -1, types: floating, infer: inferEinsum, attrs: map[string]attr{
		"equation": {kind: kindString, required: true},
	}},
	"GRU": {minInputs: 3, maxInputs: 6, outputs: 2, other: 4, finite: true, infer: inferRecurrent, attrs: recurrent(map[string]attr{
		"linear_before_reset": {kind: kindInt, from: 3},
	})},
	"GridSample": {minInputs: 2, maxInputs: 2, infer: inferGridSample, attrs: map[string]attr{
		"align_corners": {kind: kindInt},
		"mode":          {kind: kindString},
		"padding_mode":  {kind: kindString},
	}},
	"NonMaxSuppression": {minInputs: 2, maxInputs: 5, other: 2, infer: inferNonMaxSuppression, attrs: map[string]attr{
		"center_point_box": {kind: kindInt},
	}},
	"GlobalMaxPool": {minInputs: 1, maxInputs: 1, infer: inferGlobalPool},
	"GroupNormalization": {minInputs: 3, maxInputs: 3, infer: inferGroupNorm, attrs: map[string]attr{
		"epsilon":    {kind: kindFloat},
		"num_groups": {kind: kindInt, required: true},
		"stash_type": {kind: kindInt, from: 21},
	}},
	"InstanceNormalization": {minInputs: 3, maxInputs: 3, infer: inferInstanceNorm, attrs: map[string]attr{
		"consumed_inputs": {kind: kindInts, to: 5},
		"epsilon":         {kind: kindFloat},
	}},
	"LSTM": {minInputs: 3, maxInputs: 8, outputs: 3, other: 4, finite: true, infer: inferRecurrent, attrs: recurrent(map[string]attr{
		"input_forget": {kind: kindInt},
	})},
	"LayerNormalization": {minInputs: 2, maxInputs: 3, outputs: 3, infer: inferLayerNorm, attrs: map[string]attr{
		"axis":       {kind: kindInt},
		"epsilon":    {kind: kindFloat},
		"stash_type": {kind: kindInt},
	}},
	"LpNormalization": {minInputs: 1, maxInputs: 1, infer: inferLpNorm, attrs: map[string]attr{
		"axis": {kind: kindInt},
		"p":    {kind: kindInt},
	}},
	"LRN": {minInputs: 1, maxInputs: 1, infer: inferLRN, attrs: map[string]attr{
		"alpha": {kind: kindFloat},
		"beta":  {kind: kindFloat},
		"bias":  {kind: kindFloat},
		"size":  {kind: kindInt, required: true},
	}},
	"MatMul": {minInputs: 2, maxInputs: 2, finite: true, infer: inferMatMul},
	"MaxPool": {minInputs: 1, maxInputs: 1, outputs: 2, types: setOf(tensor.Float32, tensor.Uint8, tensor.Int8), infer: inferPool, attrs: map[string]attr{
		"auto_pad":      {kind: kindString},
		"ceil_mode":     {kind: kindInt, from: 10},
		"dilations":     {kind: kindInts, from: 10},
		"kernel_shape":  {kind: kindInts, required: true},
		"pads":          {kind: kindInts},
		"storage_order": {kind: kindInt, from: 8},
		"strides":       {kind: kindInts},
	}},
	"RMSNormalization": {minInputs: 2, maxInputs: 2, infer: inferLayerNorm, attrs: map[string]attr{
		"axis":       {kind: kindInt},
		"epsilon":    {kind: kindFloat},
		"stash_type": {kind: kindInt},
	}},
	"RNN": {minInputs: 3, maxInputs: 6, outputs: 2, other: 4, finite: true, infer: inferRecurrent, attrs: recurrent(nil)},
	"Resize": {minInputs: 1, maxInputs: 4, other: 1, infer: inferResize, attrs: map[string]attr{
		"antialias":                      {kind: kindInt, from: 18},
		"axes":                           {kind: kindInts, from: 18},
		"coordinate_transformation_mode": {kind: kindString, from: 11},
		"cubic_coeff_a":                  {kind: kindFloat, from: 11},
		"exclude_outside":                {kind: kindInt, from: 11},
		"extrapolation_value":            {kind: kindFloat, from: 11},
		"keep_aspect_ratio_policy":       {kind: kindString, from: 18},
		"mode":                           {kind: kindString},
		"nearest_mode":                   {kind: kindString, from: 11},
	}},
	"RoiAlign": {minInputs: 3, maxInputs: 3, other: 2, infer: inferRoiAlign, attrs: map[string]attr{
		"coordinate_transformation_mode": {kind: kindString, from: 16},
		"mode":                           {kind: kindString},
		"output_height":                  {kind: kindInt},
		"output_width":                   {kind: kindInt},
		"sampling_ratio":                 {kind: kindInt},
		"spatial_scale":                  {kind: kindFloat},
	}},
	"Upsample": {minInputs: 1, maxInputs: 2, other: 1, infer: inferResize, attrs: map[string]attr{
		"mode":   {kind: kindString},
		"scales": {kind: kindFloats, to: 8},
	}},
}

// recurrent are the attributes of the recurrent layers, with those of one.
func recurrent(more map[string]attr) map[string]attr {
	all := map[string]attr{
		"activation_alpha": {kind: kindFloats},
		"activation_beta":  {kind: kindFloats},
		"activations":      {kind: kindStrings},
		"clip":             {kind: kindFloat},
		"direction":        {kind: kindString},
		"hidden_size":      {kind: kindInt},
		"layout":           {kind: kindInt, from: 14},
		"output_sequence":  {kind: kindInt, to: 6},
	}
	maps.Copy(all, more)
	return all
}

var legacyBroadcast = map[string]attr{
	"axis":            {kind: kindInt, to: 6},
	"broadcast":       {kind: kindInt, to: 6},
	"consumed_inputs": {kind: kindInts, to: 5},
}
