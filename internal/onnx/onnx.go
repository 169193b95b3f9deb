// Package onnx reads and writes ONNX files: .onnx ↔ graph.Graph, and single
// tensors in TensorProto files. It knows the file format only; operators are
// package graph's.
//
// A file is mapped, and its bulk, the raw_data of initializers, stays where it
// is: tensors view it, read-only, and it takes memory only as it is touched. The
// rest is small and parsed as protobuf. Weights that the file keeps elsewhere
// (external data) are read only from regular files in the model's own folder. Every length is checked against the bytes that are
// really there, and against the limits below, before memory is taken for it.
package onnx

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Limits of what is read. A model past one of them is an error.
const (
	maxFileBytes      = math.MaxInt32 // protobuf's own limit; larger models use external data
	maxStructureBytes = 1 << 28       // a model or a graph without its initializers
	maxFields         = 1 << 19       // messages and strings in a file; some 20 a node, 700 bytes each at worst
	maxDepth          = 64            // messages within messages
	maxNameBytes      = 1 << 10
	maxRank           = 32
	maxExternalBytes  = 1 << 36 // external data of one model
)

// Decode reads the model in the file at path and prepares it: Parse and then
// graph.Graph.Prepare. Free dimensions of inputs have the sizes that dims gives by
// name, or 1. If Prepare fails the graph is returned with the error, so that it can
// be shown; an operator that Starling does not know is a *graph.UnsupportedError.
func Decode(path string, dims map[string]int) (*graph.Graph, error) {
	g, err := Parse(path)
	if err != nil {
		return nil, err
	}
	if err = g.SetDims(dims); err == nil {
		err = g.Prepare()
	}
	if err != nil {
		return g, fmt.Errorf("model %s: %w", path, err)
	}
	return g, nil
}

// DecodeBytes is Decode for a model in memory, without external data. The
// graph does not refer to b.
func DecodeBytes(b []byte) (*graph.Graph, error) {
	g, err := ParseBytes(b)
	if err != nil {
		return nil, err
	}
	if err := g.Prepare(); err != nil {
		return g, fmt.Errorf("model: %w", err)
	}
	return g, nil
}

// Parse reads the model in the file at path as it stands: neither names nor
// operators are checked, and Infos is empty.
func Parse(path string) (*graph.Graph, error) {
	g, err := parseFile(path)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", path, bare(err))
	}
	return g, nil
}

// ParseBytes is Parse for a model in memory, without external data. The graph
// does not refer to b.
func ParseBytes(b []byte) (*graph.Graph, error) {
	g, err := parse(b, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	return g, nil
}

// DecodeTensor reads one TensorProto, the form of ONNX test vectors (.pb). The
// tensor does not refer to b.
func DecodeTensor(b []byte) (*tensor.Tensor, error) {
	d := newDecoder(b, nil, nil)
	_, t, err := d.tensor(int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("read tensor: %w", err)
	}
	return t, nil
}

func parseFile(path string) (*graph.Graph, error) {
	// Asked before opening: opening a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ext := &folder{path: filepath.Dir(path)}
	defer ext.close()
	// Looked at again: it may be another file by now.
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	m, err := tensor.Map(f, info.Size())
	if err != nil {
		return nil, err
	}
	return parse(m.Bytes(), m, ext)
}

// bare takes the operation and path off an error of package os: the caller
// names the path.
func bare(err error) error {
	var e *os.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func parse(b []byte, m *tensor.Mapping, ext *folder) (*graph.Graph, error) {
	size := int64(len(b))
	if size > maxFileBytes {
		return nil, fmt.Errorf("%d bytes, limit %d: keep the weights in external data files", size, maxFileBytes)
	}
	return newDecoder(b, m, ext).model(size)
}
