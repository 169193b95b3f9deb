package graph

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"starling/internal/tensor"
)

// kind is the kind of an attribute, named for messages.
type kind string

const (
	kindInt     kind = "int"
	kindFloat   kind = "float"
	kindString  kind = "string"
	kindInts    kind = "ints"
	kindFloats  kind = "floats"
	kindStrings kind = "strings"
	kindTensor  kind = "tensor"
)

func kindOf(v any) kind {
	switch v := v.(type) {
	case int64:
		return kindInt
	case float32:
		return kindFloat
	case string:
		return kindString
	case []int64:
		return kindInts
	case []float32:
		return kindFloats
	case []string:
		return kindStrings
	case *tensor.Tensor:
		return kindTensor
	case Opaque:
		return kind(v)
	default:
		return kind(fmt.Sprintf("%T", v))
	}
}

// attr is what an operator takes as one attribute.
type attr struct {
	kind     kind
	required bool
	from, to int // opsets that have it; 0 means no bound
}

// operator is a row of the table: all that validation knows of an operator.
type operator struct {
	minInputs, maxInputs int // maxInputs -1: any number
	other                int // from this input on, infer checks the types itself; 0: all are float32
	finite               bool
	attrs                map[string]attr
	infer                func(*call) (Info, error)
}

// call is one node at hand with the types of its inputs.
type call struct {
	graph *Graph
	node  *Node
	in    []Info // parallel to node.Inputs; zero where left out
}

// shape is the shape of input i.
func (c *call) shape(i int) tensor.Shape { return c.in[i].Shape }

// axis resolves the attribute of that name, with a default, against rank; a
// negative axis counts from the end. limit is rank or, where one past the last
// axis is allowed, rank+1.
func (c *call) axis(def, rank, limit int) (int, error) {
	a := c.node.Attrs.Int("axis", def)
	if a < -rank || a >= limit {
		return 0, fmt.Errorf("axis %d is outside rank %d", a, rank)
	}
	if a < 0 {
		a += rank
	}
	return a, nil
}

func (op *operator) arity() string {
	switch {
	case op.maxInputs < 0:
		return fmt.Sprintf("at least %d", op.minInputs)
	case op.minInputs == op.maxInputs:
		return fmt.Sprint(op.minInputs)
	default:
		return fmt.Sprintf("%d to %d", op.minInputs, op.maxInputs)
	}
}

// computes reports whether input i is a float32 operand.
func (op *operator) computes(i int) bool { return op.other == 0 || i < op.other }

// own marks that infer checks the types of all inputs itself.
const own = -1

func (op *operator) checkAttrs(n *Node, opset int) error {
	for _, name := range slices.Sorted(maps.Keys(n.Attrs)) {
		value := n.Attrs[name]
		a, ok := op.attrs[name]
		if !ok || opset < a.from || (a.to > 0 && opset > a.to) {
			return fmt.Errorf("attribute %q is unknown to %s in opset %d", name, n.Op, opset)
		}
		if k := kindOf(value); k != a.kind {
			return fmt.Errorf("attribute %q is of kind %s, want %s", name, k, a.kind)
		}
		var ints []int64
		switch v := value.(type) {
		case int64:
			ints = []int64{v}
		case []int64:
			ints = v
		}
		for _, x := range ints {
			if x < math.MinInt32 || x > math.MaxInt32 {
				return fmt.Errorf("attribute %q: %d does not fit 32 bits", name, x)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(op.attrs)) {
		if _, ok := n.Attrs[name]; !ok && op.attrs[name].required {
			return fmt.Errorf("attribute %q is missing", name)
		}
	}
	return nil
}

// operators is the table. Attribute names, kinds and opsets are those of the
// ONNX operator schemas.
var operators = map[string]*operator{
	"Add": {minInputs: 2, maxInputs: 2, attrs: legacyBroadcast, infer: inferBroadcast},
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
	"Clip": {minInputs: 1, maxInputs: 3, infer: inferClip, attrs: map[string]attr{
		"consumed_inputs": {kind: kindInts, to: 5},
		"max":             {kind: kindFloat, to: 10},
		"min":             {kind: kindFloat, to: 10},
	}},
	"Concat": {minInputs: 1, maxInputs: -1, infer: inferConcat, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	// Constant nodes are gone before nodes are validated.
	"Constant": {},
	"Conv": {minInputs: 2, maxInputs: 3, finite: true, infer: inferConv, attrs: map[string]attr{
		"auto_pad":     {kind: kindString},
		"dilations":    {kind: kindInts},
		"group":        {kind: kindInt},
		"kernel_shape": {kind: kindInts},
		"pads":         {kind: kindInts},
		"strides":      {kind: kindInts},
	}},
	"DequantizeLinear": {minInputs: 2, maxInputs: 3, other: own, finite: true, infer: inferDequantize, attrs: map[string]attr{
		"axis":         {kind: kindInt, from: 13},
		"block_size":   {kind: kindInt, from: 21},
		"output_dtype": {kind: kindInt, from: 23},
	}},
	"Dropout": {minInputs: 1, maxInputs: 3, other: 1, infer: inferDropout, attrs: map[string]attr{
		"consumed_inputs": {kind: kindInts, to: 5},
		"is_test":         {kind: kindInt, to: 6},
		"ratio":           {kind: kindFloat, to: 11},
		"seed":            {kind: kindInt, from: 12},
	}},
	"Flatten": {minInputs: 1, maxInputs: 1, infer: inferFlatten, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"Gemm": {minInputs: 2, maxInputs: 3, finite: true, infer: inferGemm, attrs: map[string]attr{
		"alpha":     {kind: kindFloat},
		"beta":      {kind: kindFloat},
		"broadcast": {kind: kindInt, to: 6},
		"transA":    {kind: kindInt},
		"transB":    {kind: kindInt},
	}},
	"GlobalAveragePool": {minInputs: 1, maxInputs: 1, infer: inferGlobalPool},
	"Identity":          {minInputs: 1, maxInputs: 1, infer: inferSame},
	"LRN": {minInputs: 1, maxInputs: 1, infer: inferLRN, attrs: map[string]attr{
		"alpha": {kind: kindFloat},
		"beta":  {kind: kindFloat},
		"bias":  {kind: kindFloat},
		"size":  {kind: kindInt, required: true},
	}},
	"MatMul": {minInputs: 2, maxInputs: 2, finite: true, infer: inferMatMul},
	"MaxPool": {minInputs: 1, maxInputs: 1, infer: inferPool, attrs: map[string]attr{
		"auto_pad":      {kind: kindString},
		"ceil_mode":     {kind: kindInt, from: 10},
		"dilations":     {kind: kindInts, from: 10},
		"kernel_shape":  {kind: kindInts, required: true},
		"pads":          {kind: kindInts},
		"storage_order": {kind: kindInt, from: 8},
		"strides":       {kind: kindInts},
	}},
	"Mul": {minInputs: 2, maxInputs: 2, attrs: legacyBroadcast, infer: inferBroadcast},
	"Relu": {minInputs: 1, maxInputs: 1, infer: inferSame, attrs: map[string]attr{
		"consumed_inputs": {kind: kindInts, to: 5},
	}},
	"Reshape": {minInputs: 1, maxInputs: 2, other: 1, infer: inferReshape, attrs: map[string]attr{
		"allowzero":       {kind: kindInt, from: 14},
		"consumed_inputs": {kind: kindInts, to: 4},
		"shape":           {kind: kindInts, to: 4},
	}},
	"Softmax": {minInputs: 1, maxInputs: 1, infer: inferSoftmax, attrs: map[string]attr{
		"axis": {kind: kindInt},
	}},
	"Transpose": {minInputs: 1, maxInputs: 1, infer: inferTranspose, attrs: map[string]attr{
		"perm": {kind: kindInts},
	}},
}

var legacyBroadcast = map[string]attr{
	"axis":            {kind: kindInt, to: 6},
	"broadcast":       {kind: kindInt, to: 6},
	"consumed_inputs": {kind: kindInts, to: 5},
}
