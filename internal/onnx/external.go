package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"starling/internal/onnx/onnxpb"
	"starling/internal/tensor"
)

// folder is where a model's external data may lie: the model's own. It is
// opened when first needed.
type folder struct {
	path  string
	root  *os.Root
	files map[string]*tensor.Mapping
	used  int64 // bytes of elements
}

func (f *folder) close() {
	if f.root != nil {
		f.root.Close()
	}
}

// read returns the size bytes that TensorProto.external_data describes. The
// location cannot lead out of the folder, by symbolic links neither.
func (f *folder) read(entries []*onnxpb.StringStringEntryProto, size int64) ([]byte, *tensor.Mapping, error) {
	if f == nil {
		return nil, nil, errors.New("its elements are in another file: read the model from its folder, by name")
	}
	location := ""
	var offset int64
	length := int64(-1) // to the file's end
	for _, e := range entries {
		var err error
		switch e.GetKey() {
		case "location":
			location = e.GetValue()
		case "offset":
			offset, err = strconv.ParseInt(e.GetValue(), 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.GetValue(), 10, 64)
			if length < 0 {
				err = strconv.ErrRange
			}
		}
		if err != nil || offset < 0 {
			return nil, nil, fmt.Errorf("external data: bad %s %.40q", e.GetKey(), e.GetValue())
		}
	}
	if location == "" || len(location) > maxNameBytes || !filepath.IsLocal(filepath.FromSlash(location)) {
		return nil, nil, fmt.Errorf("external data: location %.80q is not a file in the model's folder", location)
	}
	m, err := f.open(filepath.FromSlash(location))
	if err != nil {
		return nil, nil, fmt.Errorf("external data %q: %w", location, bare(err))
	}
	have := int64(len(m.Bytes()))
	if length < 0 {
		length = max(have-offset, 0)
	}
	switch {
	case length != size:
		err = fmt.Errorf("%d bytes of elements, want %d", length, size)
	case length > have || offset > have-length:
		err = fmt.Errorf("%d bytes at %d, but the file has %d", length, offset, have)
	default:
		if f.used += length; f.used > maxExternalBytes {
			err = fmt.Errorf("the model has more than %d bytes of it", int64(maxExternalBytes))
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("external data %q: %w", location, err)
	}
	data, m := keep(m.Bytes()[offset:offset+length:offset+length], m)
	return data, m, nil
}

// open maps a file, once.
func (f *folder) open(name string) (*tensor.Mapping, error) {
	if m := f.files[name]; m != nil {
		return m, nil
	}
	if f.root == nil {
		root, err := os.OpenRoot(f.path)
		if err != nil {
			return nil, err
		}
		f.root = root
	}
	// Asked before opening: opening a pipe would wait for its writer.
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Looked at again: it may be another file by now.
	if info, err = file.Stat(); err != nil {
		return nil, err
	}
	m, err := tensor.Map(file, info.Size())
	if err != nil {
		return nil, err
	}
	if f.files == nil {
		f.files = map[string]*tensor.Mapping{}
	}
	f.files[name] = m
	return m, nil
}
