package graph

// reductions are the rows of operators that compute along axes.
var reductions = map[string]*operator{
	"ArgMax": {minInputs: 1, maxInputs: 1, types: numeric, other: 1, infer: inferArg, attrs: map[string]attr{
		"axis":              {kind: kindInt},
		"keepdims":          {kind: kindInt},
		"select_last_index": {kind: kindInt, from: 12},
	}},
	"ArgMin": {minInputs: 1, maxInputs: 1, types: numeric, other: 1, infer: inferArg, attrs: map[string]attr{
		"axis":              {kind: kindInt},
		"keepdims":          {kind: kindInt},
		"select_last_index": {kind: kindInt, from: 12},
	}},
	"CumProd": {minInputs: 2, maxInputs: 2, types: numeric, other: 1, infer: inferCumSum, attrs: map[string]attr{
		"exclusive": {kind: kindInt},
		"reverse":   {kind: kindInt},
	}},
	"CumSum": {minInputs: 2, maxInputs: 2, types: numeric, other: 1, infer: inferCumSum, attrs: map[string]attr{
		"exclusive": {kind: kindInt},
		"reverse":   {kind: kindInt},
	}},
	"Hardmax": {minInputs: 1, maxInputs: 1, infer: inferSoftmax, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"LogSoftmax": {minInputs: 1, maxInputs: 1, infer: inferSoftmax, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"ReduceL1": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceL2": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceLogSum": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceLogSumExp": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceMax": {minInputs: 1, maxInputs: 2, types: numeric | logical, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceMean": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceMin": {minInputs: 1, maxInputs: 2, types: numeric | logical, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceProd": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"ReduceSum": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 12},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 13},
	}},
	"ReduceSumSquare": {minInputs: 1, maxInputs: 2, types: numeric, other: 1, empty: true, infer: inferReduce, attrs: map[string]attr{
		"axes":                 {kind: kindInts, to: 17},
		"keepdims":             {kind: kindInt},
		"noop_with_empty_axes": {kind: kindInt, from: 18},
	}},
	"Softmax": {minInputs: 1, maxInputs: 1, infer: inferSoftmax, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"TopK": {minInputs: 1, maxInputs: 2, outputs: 2, types: numeric, other: 1, infer: inferTopK, attrs: map[string]attr{
		"axis":    {kind: kindInt},
		"k":       {kind: kindInt, to: 9},
		"largest": {kind: kindInt, from: 11},
		"sorted":  {kind: kindInt, from: 11},
	}},
}
