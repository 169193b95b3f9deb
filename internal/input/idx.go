package input

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// The IDX format of the MNIST data set, plain or compressed by gzip:
//
//	0   0, 0, type of the elements (8: unsigned bytes), number of dimensions
//	4   the dimensions, uint32 big-endian, the number of items first
//	..  the elements, row-major
const (
	idxBytes    = 8
	maxIDXDims  = 4
	maxIDXBytes = 1 << 30
)

// OpenIDX is Open for an IDX file in memory, compressed by gzip or not. name
// is used in messages and by Name. The items [N, rows, cols] fit a model input
// that has the same dimensions but for ones, as [1,1,rows,cols], or is flat,
// as [1, rows·cols]; its type is float32, or uint8 for bytes as they are.
func OpenIDX(name string, data []byte, want graph.Value, opt Options) (*Source, error) {
	err := check(want, opt)
	var s *Source
	if err == nil {
		s, err = openIDX(bytes.NewReader(data), want, opt)
	}
	if err == nil {
		s.name, s.want = name, want
		err = s.take(window{})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func openIDXFile(r *io.SectionReader, want graph.Value, opt Options) (*Source, error) {
	return openIDX(r, want, opt)
}

func openIDX(r io.Reader, want graph.Value, opt Options) (*Source, error) {
	r, shape, err := readIDXHeader(r)
	if err != nil {
		return nil, err
	}
	if len(shape) < 2 {
		return nil, fmt.Errorf("has shape %v, which is labels; give the file of the pictures", shape)
	}
	item := shape[1:]
	flat := squeeze(want.Shape)
	if !flat.Equal(squeeze(item)) && !flat.Equal(tensor.Shape{item.Elements()}) {
		return nil, fmt.Errorf("has items of shape %v, but input %q takes %v; give a data set of that size", item, want.Name, want.Shape)
	}
	s := &Source{count: shape[0], stride: int64(item.Elements())}
	switch want.Type {
	case tensor.Uint8:
	case tensor.Float32:
		mean, std, err := opt.normal(1)
		if err != nil {
			return nil, err
		}
		var value [256]float32
		for x := range value {
			value[x] = (float32(x) - mean[0]) / std[0]
		}
		s.convert = func(dst *tensor.Tensor, b []byte) {
			out := dst.F32()
			for i, x := range b {
				out[i] = value[x]
			}
		}
	default:
		return nil, fmt.Errorf("holds bytes, but input %q takes %v; give an .npy file of that type", want.Name, want.Type)
	}
	// Only now: a few compressed bytes may become very many.
	data, err := readIDXData(r, shape)
	if err != nil {
		return nil, err
	}
	s.data = bytes.NewReader(data)
	return s, nil
}

// ReadIDXLabels reads an IDX file of labels, [N] unsigned bytes, compressed by
// gzip or not.
func ReadIDXLabels(r io.Reader) ([]byte, error) {
	r, shape, err := readIDXHeader(r)
	if err != nil {
		return nil, err
	}
	if len(shape) != 1 {
		return nil, fmt.Errorf("has shape %v, but labels are [N]; give the file of the labels", shape)
	}
	return readIDXData(r, shape)
}

// readIDXHeader returns the shape of an IDX file, and its elements to be read.
func readIDXHeader(r io.Reader) (elements io.Reader, shape tensor.Shape, err error) {
	buffered := bufio.NewReader(r)
	r = buffered
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot be decompressed: %w; copy it again", err)
		}
		r = z
	}
	var start [4]byte
	if _, err := io.ReadFull(r, start[:]); err != nil || start[0] != 0 || start[1] != 0 {
		return nil, nil, errors.New("is no IDX file; give one like t10k-images-idx3-ubyte.gz")
	}
	if start[2] != idxBytes {
		return nil, nil, fmt.Errorf("has IDX elements of type %#02x, known is %#02x (unsigned bytes); convert it", start[2], idxBytes)
	}
	if n := start[3]; n == 0 || n > maxIDXDims {
		return nil, nil, fmt.Errorf("has %d IDX dimensions, known are 1 to %d; convert it", n, maxIDXDims)
	}
	shape = make(tensor.Shape, start[3])
	for i := range shape {
		var d [4]byte
		if _, err := io.ReadFull(r, d[:]); err != nil {
			return nil, nil, errors.New("is cut short in its header; copy it again")
		}
		n := binary.BigEndian.Uint32(d[:])
		if n > maxIDXBytes {
			return nil, nil, fmt.Errorf("has an IDX dimension of %d, limit %d; give a smaller file", n, maxIDXBytes)
		}
		shape[i] = int(n)
	}
	if err := shape.Check(1, maxIDXBytes); err != nil {
		return nil, nil, fmt.Errorf("%w; give a smaller file", err)
	}
	for _, d := range shape[1:] {
		if d == 0 {
			return nil, nil, fmt.Errorf("has empty items: shape %v; give another file", shape)
		}
	}
	return r, shape, nil
}

// readIDXData reads the elements, and demands that nothing is behind them.
func readIDXData(r io.Reader, shape tensor.Shape) ([]byte, error) {
	data, err := readN(r, int64(shape.Elements()))
	if err != nil {
		return nil, err
	}
	var behind [1]byte
	// Reading on to the end also verifies the checksum of gzip.
	switch n, err := io.ReadFull(r, behind[:]); {
	case n > 0:
		return nil, fmt.Errorf("is longer than its IDX header says: shape %v; copy it again", shape)
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("is damaged: %w; copy it again", err)
	}
	return data, nil
}
