package graph

// moves are the rows of operators that move elements, of any type, or make them
// from shapes.
var moves = map[string]*operator{
	"BitCast": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferBitCast, attrs: map[string]attr{
		"to": {kind: kindInt, required: true},
	}},
	"Concat": {minInputs: 1, maxInputs: -1, types: anyType, empty: true, infer: inferConcat, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"ConstantOfShape": {minInputs: 1, maxInputs: 1, types: anyType, other: own, infer: inferConstantOfShape, attrs: map[string]attr{
		"value": {kind: kindTensor},
	}},
	"DepthToSpace": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferDepthToSpace, attrs: map[string]attr{
		"blocksize": {kind: kindInt, required: true},
		"mode":      {kind: kindString, from: 11},
	}},
	"Dropout": {minInputs: 1, maxInputs: 3, outputs: 2, types: floating, other: 1, infer: inferDropout, attrs: map[string]attr{
		"consumed_inputs": {kind: kindInts, to: 5},
		"is_test":         {kind: kindInt, to: 6},
		"ratio":           {kind: kindFloat, to: 11},
		"seed":            {kind: kindInt, from: 12},
	}},
	"Expand": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, infer: inferExpand},
	"EyeLike": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferEyeLike, attrs: map[string]attr{
		"dtype": {kind: kindInt},
		"k":     {kind: kindInt},
	}},
	"Flatten": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferFlatten, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"Gather": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, infer: inferGather, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"GatherElements": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, infer: inferGatherElements, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"GatherND": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, infer: inferGatherND, attrs: map[string]attr{
		"batch_dims": {kind: kindInt, from: 12},
	}},
	"Identity": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferSame},
	"NonZero":  {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferNonZero},
	"OneHot": {minInputs: 3, maxInputs: 3, types: anyType, other: own, infer: inferOneHot, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"Pad": {minInputs: 1, maxInputs: 4, types: anyType, other: 1, empty: true, infer: inferPad, attrs: map[string]attr{
		"mode":     {kind: kindString},
		"paddings": {kind: kindInts, to: 1},
		"pads":     {kind: kindInts, from: 2, to: 10},
		"value":    {kind: kindFloat, to: 10},
	}},
	"Range": {minInputs: 3, maxInputs: 3, types: anyType, other: own, infer: inferRange},
	"Reshape": {minInputs: 1, maxInputs: 2, types: anyType, other: 1, infer: inferReshape, attrs: map[string]attr{
		"allowzero":       {kind: kindInt, from: 14},
		"consumed_inputs": {kind: kindInts, to: 4},
		"shape":           {kind: kindInts, to: 4},
	}},
	"Scatter": {minInputs: 3, maxInputs: 3, types: anyType, other: 1, infer: inferScatterElements, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"ScatterElements": {minInputs: 3, maxInputs: 3, types: anyType, other: 1, infer: inferScatterElements, attrs: map[string]attr{
		"axis":      {kind: kindInt},
		"reduction": {kind: kindString, from: 16},
	}},
	"ScatterND": {minInputs: 3, maxInputs: 3, types: anyType, other: 1, infer: inferScatterND, attrs: map[string]attr{
		"reduction": {kind: kindString, from: 16},
	}},
	"Shape": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferShape, attrs: map[string]attr{
		"end":   {kind: kindInt, from: 15},
		"start": {kind: kindInt, from: 15},
	}},
	"Size": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferSize},
	"Slice": {minInputs: 1, maxInputs: 5, types: anyType, other: 1, infer: inferSlice, attrs: map[string]attr{
		"axes":   {kind: kindInts, to: 9},
		"ends":   {kind: kindInts, to: 9},
		"starts": {kind: kindInts, to: 9},
	}},
	"SpaceToDepth": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferSpaceToDepth, attrs: map[string]attr{
		"mode":      {kind: kindString, from: 28},
		"blocksize": {kind: kindInt, required: true},
	}},
	"Split": {minInputs: 1, maxInputs: 2, outputs: -1, types: anyType, other: 1, infer: inferSplit, attrs: map[string]attr{
		"axis":        {kind: kindInt},
		"num_outputs": {kind: kindInt, from: 18},
		"split":       {kind: kindInts, to: 12},
	}},
	"Squeeze": {minInputs: 1, maxInputs: 2, types: anyType, other: 1, infer: inferSqueeze, attrs: map[string]attr{
		"axes": {kind: kindInts, to: 12},
	}},
	"Tile": {minInputs: 2, maxInputs: 2, types: anyType, other: 1, infer: inferTile},
	"Transpose": {minInputs: 1, maxInputs: 1, types: anyType, other: 1, infer: inferTranspose, attrs: map[string]attr{
		"perm": {kind: kindInts},
	}},
	"Trilu": {minInputs: 1, maxInputs: 2, types: anyType, other: 1, infer: inferTrilu, attrs: map[string]attr{
		"upper": {kind: kindInt},
	}},
	"Unsqueeze": {minInputs: 1, maxInputs: 2, types: anyType, other: 1, infer: inferUnsqueeze, attrs: map[string]attr{
		"axes": {kind: kindInts, to: 12},
	}},
}
