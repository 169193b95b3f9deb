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
	path string
	root *os.Root
	used int64 // bytes read
}

func (f *folder) close() {
	if f.root != nil {
		f.root.Close()
	}
}

// read returns the size bytes that TensorProto.external_data describes. The
// location cannot lead out of the folder, by symbolic links neither.
func (f *folder) read(entries []*onnxpb.StringStringEntryProto, size int64) ([]byte, error) {
	if f == nil {
		return nil, errors.New("its elements are in another file: read the model from its folder, by name")
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
			return nil, fmt.Errorf("external data: bad %s %.40q", e.GetKey(), e.GetValue())
		}
	}
	if location == "" || len(location) > maxNameBytes || !filepath.IsLocal(filepath.FromSlash(location)) {
		return nil, fmt.Errorf("external data: location %.80q is not a file in the model's folder", location)
	}
	data, err := f.readFile(filepath.FromSlash(location), offset, length, size)
	if err != nil {
		return nil, fmt.Errorf("external data %q: %w", location, bare(err))
	}
	return data, nil
}

func (f *folder) readFile(name string, offset, length, size int64) ([]byte, error) {
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
	if length < 0 {
		length = max(info.Size()-offset, 0)
	}
	if length != size {
		return nil, fmt.Errorf("%d bytes of elements, want %d", length, size)
	}
	if length > info.Size() || offset > info.Size()-length {
		return nil, fmt.Errorf("%d bytes at %d, but the file has %d", length, offset, info.Size())
	}
	if f.used += length; f.used > maxExternalBytes {
		return nil, fmt.Errorf("the model has more than %d bytes of external data", int64(maxExternalBytes))
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := tensor.Alloc(int(length))
	if _, err := file.ReadAt(data, offset); err != nil {
		return nil, err
	}
	return data, nil
}
