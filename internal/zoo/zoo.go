// Package zoo builds classical networks by name, with seeded random weights:
// real topologies to measure and to break where no trained file is at hand.
// What they answer means nothing, and their metadata says so. The topologies
// and the numbers of parameters are the published ones.
//
// The weights depend on the seed and their own names only, and are equal bit
// for bit on every platform.
package zoo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// opset of the default ONNX domain that the networks are written in.
const opset = 13

// The names of a network's input and output.
const (
	inputName  = "image"
	outputName = "probability"
)

// network is a topology: the shape of its input and what follows.
type network struct {
	input tensor.Shape
	from  string // where the topology is described
	build func(b *builder, image layer) layer
}

var networks = map[string]network{
	"lenet5": {
		tensor.Shape{1, 1, 28, 28},
		"LeCun et al. 1998, with ReLU and average pooling", lenet5,
	},
	"alexnet": {
		tensor.Shape{1, 3, 224, 224},
		"Krizhevsky 2014, arXiv 1404.5997: one tower", alexnet,
	},
	"vgg16": {
		tensor.Shape{1, 3, 224, 224},
		"Simonyan and Zisserman 2014, arXiv 1409.1556, configuration D", vgg16,
	},
	"squeezenet1.1": {
		tensor.Shape{1, 3, 224, 224},
		"Iandola et al. 2016, arXiv 1602.07360, version 1.1", squeezenet,
	},
	"mobilenet_v2": {
		tensor.Shape{1, 3, 224, 224},
		"Sandler et al. 2018, arXiv 1801.04381", mobilenetV2,
	},
	"inception_v3": {
		tensor.Shape{1, 3, 299, 299},
		"Szegedy et al. 2015, arXiv 1512.00567", inceptionV3,
	},
	"resnet50": {
		tensor.Shape{1, 3, 224, 224},
		"He et al. 2015, arXiv 1512.03385, strides in the 3×3 convolutions", resnet50,
	},
}

// Names lists the networks, sorted.
func Names() []string { return slices.Sorted(maps.Keys(networks)) }

// Build returns the prepared graph of a network, which ends in Softmax. It
// takes four bytes of memory a parameter (vgg16: 553 MB).
func Build(name string, seed uint64) (*graph.Graph, error) {
	n, ok := networks[name]
	if !ok {
		return nil, fmt.Errorf("unknown network %q; choose one of %s", name, strings.Join(Names(), ", "))
	}
	info := graph.Info{Type: tensor.Float32, Shape: n.input}
	b := &builder{seed: seed, graph: &graph.Graph{
		Name: name, Opset: opset,
		Inputs:    []graph.Value{{Name: inputName, Info: info}},
		Outputs:   []string{outputName},
		Constants: map[string]*tensor.Tensor{},
		Metadata: map[string]string{
			"weights":  "random, not trained: the answers mean nothing",
			"seed":     strconv.FormatUint(seed, 10),
			"topology": n.from,
		},
	}}
	last := n.build(b, layer{name: inputName, channels: n.input[1]})
	b.node("Softmax", outputName, nil, last.name)
	if err := b.graph.Prepare(); err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	return b.graph, nil
}

// layer is a value in a graph under construction.
type layer struct {
	name     string
	channels int
	// rectified values have lost half their mean square to a ReLU, which the
	// weights after it make up for.
	rectified bool
}

// builder appends nodes to a graph. A node is named as its output.
type builder struct {
	graph *graph.Graph
	seed  uint64
}

func (b *builder) node(op, name string, attrs graph.Attrs, inputs ...string) {
	b.graph.Nodes = append(b.graph.Nodes, &graph.Node{
		Name: name, Op: op, Inputs: inputs, Outputs: []string{name}, Attrs: attrs,
	})
}

func (b *builder) constant(name string, t *tensor.Tensor) string {
	b.graph.Constants[name] = t
	return name
}

// window is a kernel of height h and width w, moved by stride over an input
// padded by padH and padW on both sides.
type window struct {
	h, w, stride, padH, padW int
}

func square(size, stride, pad int) window { return window{size, size, stride, pad, pad} }

func (w window) attrs() graph.Attrs {
	h, v := int64(w.padH), int64(w.padW)
	return graph.Attrs{
		"kernel_shape": []int64{int64(w.h), int64(w.w)},
		"strides":      []int64{int64(w.stride), int64(w.stride)},
		"pads":         []int64{h, v, h, v},
	}
}

// convolve appends a convolution without a bias.
func (b *builder) convolve(x layer, name string, channels, groups int, w window, more ...string) layer {
	perGroup := x.channels / groups
	weights := b.weights(name+".weight", x, perGroup*w.h*w.w, channels, perGroup, w.h, w.w)
	attrs := w.attrs()
	attrs["group"] = int64(groups)
	b.node("Conv", name, attrs, append([]string{x.name, weights}, more...)...)
	return layer{name: name, channels: channels}
}

// conv appends a convolution with a bias and a ReLU.
func (b *builder) conv(x layer, name string, channels int, w window) layer {
	bias := b.constant(name+".bias", b.bell(name+".bias", biasDeviation, channels))
	return b.relu(b.convolve(x, name, channels, 1, w, bias))
}

// convNorm appends a convolution and a batch normalisation whose scale is
// around the one given.
func (b *builder) convNorm(x layer, name string, channels, groups int, w window, scale, epsilon float32) layer {
	x = b.convolve(x, name, channels, groups, w)
	norm := name + ".norm"
	b.node("BatchNormalization", norm, graph.Attrs{"epsilon": epsilon}, x.name,
		b.constant(norm+".scale", b.around(norm+".scale", scale, channels)),
		b.constant(norm+".bias", b.bell(norm+".bias", biasDeviation, channels)),
		b.constant(norm+".mean", b.bell(norm+".mean", biasDeviation, channels)),
		b.constant(norm+".var", b.around(norm+".var", 1, channels)))
	x.name = norm
	return x
}

// dense appends a fully connected layer.
func (b *builder) dense(x layer, name string, outputs int) layer {
	weights := b.weights(name+".weight", x, x.channels, outputs, x.channels)
	bias := b.constant(name+".bias", b.bell(name+".bias", biasDeviation, outputs))
	b.node("Gemm", name, graph.Attrs{"transB": int64(1)}, x.name, weights, bias)
	return layer{name: name, channels: outputs}
}

func (b *builder) relu(x layer) layer {
	b.node("Relu", x.name+".relu", nil, x.name)
	return layer{name: x.name + ".relu", channels: x.channels, rectified: true}
}

// relu6 clips to 0…6.
func (b *builder) relu6(x layer) layer {
	low := b.constant("zero", tensor.FromSlice([]float32{0}))
	high := b.constant("six", tensor.FromSlice([]float32{6}))
	b.node("Clip", x.name+".relu6", nil, x.name, low, high)
	return layer{name: x.name + ".relu6", channels: x.channels, rectified: true}
}

func (b *builder) maxPool(x layer, name string, w window) layer {
	b.node("MaxPool", name, w.attrs(), x.name)
	x.name = name
	return x
}

func (b *builder) averagePool(x layer, name string, w window) layer {
	attrs := w.attrs()
	attrs["count_include_pad"] = int64(1)
	b.node("AveragePool", name, attrs, x.name)
	x.name = name
	return x
}

func (b *builder) globalAveragePool(x layer) layer {
	b.node("GlobalAveragePool", "pool", nil, x.name)
	x.name = "pool"
	return x
}

// flatten makes [1, C·H·W] of planes of the given number of pixels.
func (b *builder) flatten(x layer, pixels int) layer {
	b.node("Flatten", "flat", graph.Attrs{"axis": int64(1)}, x.name)
	return layer{name: "flat", channels: x.channels * pixels, rectified: x.rectified}
}

// dropout appends a Dropout, which does nothing when a network answers.
func (b *builder) dropout(x layer) layer {
	b.node("Dropout", x.name+".dropout", nil, x.name)
	x.name += ".dropout"
	return x
}

func (b *builder) add(x, y layer, name string) layer {
	b.node("Add", name, nil, x.name, y.name)
	return layer{name: name, channels: x.channels}
}

func (b *builder) concat(name string, xs ...layer) layer {
	out := layer{name: name, rectified: true}
	var inputs []string
	for _, x := range xs {
		inputs = append(inputs, x.name)
		out.channels += x.channels
		out.rectified = out.rectified && x.rectified
	}
	b.node("Concat", name, graph.Attrs{"axis": int64(1)}, inputs...)
	return out
}
