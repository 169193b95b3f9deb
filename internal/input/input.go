// Package input turns what a person gives on the command line into the
// tensors of requests, and answers into files: NumPy arrays, ONNX TensorProto
// files, pictures, recordings and IDX data sets in; NumPy arrays out; and
// seeded random tensors where no file is given. It knows the type and shape
// that a model wants and says what does not fit; it runs nothing.
//
// Files are foreign bytes: every length in them is checked against a limit or
// the size of the file before memory is taken, and no content panics.
//
// A file may hold several inputs, which are run in turn. For a model input of
// shape W, an array of shape F is
//
//	F = W               one input
//	F = [N, W...]       N inputs
//	F = [N, W[1:]...]   N inputs, where W[0] is 1
//
// A range after the name, FILE:7 or FILE:0-99 (both ends included, counted
// from 0), takes some of them.
package input

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"starling/internal/graph"
	"starling/internal/onnx"
	"starling/internal/tensor"
)

// maxWholeBytes limits what is held in memory at once for one file. Arrays
// and recordings larger than that are read input by input.
const maxWholeBytes = 1 << 30

// Options say how pictures become numbers. The zero value is the default.
type Options struct {
	// Mean and Std, in 0–255 units, give (x − mean)/std; one value for all
	// channels or one per channel. They apply to pictures and IDX files only.
	// Where nil: ImageNet's 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375
	// for pictures in colour; 0 and 255 for grey ones and IDX.
	Mean, Std []float32
	// Resize says how a picture gets the model's size; "" is Crop.
	Resize Resize
}

// Resize is a way to give a picture the model's size.
type Resize string

const (
	// Crop takes the centre as ImageNet models are evaluated: the shorter
	// side is scaled to 8/7 of the model's (256 for 224) and the model's size
	// is cut from the middle. A picture of the model's size is left as it is.
	Crop Resize = "crop"
	// Stretch scales the whole picture, distorting it where the ratios differ.
	Stretch Resize = "stretch"
)

// Source is the inputs of one file. Its methods but Close may be called from
// several goroutines.
type Source struct {
	name     string
	want     graph.Value
	numbered bool // Name adds the index
	first    int  // index in the file of input 0
	count    int
	rest     string // what is left over behind the last input, "" for nothing

	data    io.ReaderAt
	offset  int64                              // of input 0 in data
	stride  int64                              // stored bytes of an input
	convert func(dst *tensor.Tensor, b []byte) // nil where dst.Data is stored as it is
	file    io.Closer                          // nil where data is in memory
}

// opener makes a Source of all inputs in a file; Open fills in its name. A
// Source that reads from r later has r as its data.
type opener func(r *io.SectionReader, want graph.Value, opt Options) (*Source, error)

var formats = []struct {
	suffix string
	open   opener
}{
	{".npy", openNPY},
	{".pb", openTensorProto},
	{".png", openPicture},
	{".jpg", openPicture},
	{".jpeg", openPicture},
	{".wav", openWAV},
	{"-ubyte", openIDXFile},
	{".gz", openIDXFile},
}

// Open opens the file that arg names, with its range if it has one, as inputs
// of type and shape want. The end of the name tells the format: .npy, .pb,
// .png, .jpg, .jpeg, .wav, and .gz or -ubyte for IDX. Files that hold one
// input are decoded here, so that their errors come before any work starts.
// The caller closes the Source. Errors are one line with file, cause and what
// to do; a missing file is fs.ErrNotExist.
func Open(arg string, want graph.Value, opt Options) (*Source, error) {
	path, win, err := splitRange(arg)
	if err != nil {
		return nil, err
	}
	open, err := openerFor(path)
	if err != nil {
		return nil, err
	}
	if err := check(want, opt); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	r := io.NewSectionReader(f, 0, size)
	s, err := open(r, want, opt)
	if err == nil {
		s.name, s.want = path, want
		err = s.take(win)
	}
	if err != nil {
		_ = f.Close() // it was only read
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.data == io.ReaderAt(r) {
		s.file = f
		return s, nil
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("close %s: %w", path, err)
	}
	return s, nil
}

// check finds what is wrong before any file is read.
func check(want graph.Value, opt Options) error {
	if err := want.Shape.Check(want.Type.Size(), maxWholeBytes); err != nil {
		return fmt.Errorf("input %q: %w; use another model", want.Name, err)
	}
	if want.Shape.Elements() == 0 {
		return fmt.Errorf("input %q takes an empty tensor %v; use another model", want.Name, want.Shape)
	}
	return opt.check()
}

func openerFor(path string) (opener, error) {
	lower := strings.ToLower(path)
	var known []string
	for _, f := range formats {
		if strings.HasSuffix(lower, f.suffix) {
			return f.open, nil
		}
		known = append(known, f.suffix)
	}
	return nil, fmt.Errorf("%s: unknown kind of input; a name ends in one of %s", path, strings.Join(known, " "))
}

// openRegular opens a file that has a size: opening a pipe would wait.
func openRegular(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: is not a regular file; name a file", path)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("%s: %w; check the path", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return nil, 0, fmt.Errorf("%s: %w; make it readable for you", path, fs.ErrPermission)
	case err != nil:
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// window is a range of inputs, both ends included.
type window struct {
	first, last int
	given       bool
}

// splitRange takes the range off arg. No known format's name ends in a colon
// and digits, so whatever does is a range.
func splitRange(arg string) (string, window, error) {
	colon := strings.LastIndexByte(arg, ':')
	if colon < 0 || strings.Trim(arg[colon+1:], "0123456789-") != "" {
		return arg, window{}, nil
	}
	from, to, two := strings.Cut(arg[colon+1:], "-")
	if !two {
		to = from
	}
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || last < first {
		return "", window{}, fmt.Errorf("%s: impossible range %q; write FILE:7 or FILE:0-99", arg, arg[colon+1:])
	}
	return arg[:colon], window{first: first, last: last, given: true}, nil
}

// take narrows a source of all inputs in the file to the window.
func (s *Source) take(win window) error {
	if s.count == 0 {
		return errors.New("holds no input; give another file")
	}
	if s.stride > maxWholeBytes {
		return fmt.Errorf("has %d bytes an input, limit %d; give another file", s.stride, maxWholeBytes)
	}
	if !win.given {
		if s.rest != "" {
			return errors.New(s.rest)
		}
		s.numbered = s.count > 1
		return nil
	}
	if win.last >= s.count {
		return fmt.Errorf("range %d-%d lies outside its %d inputs; take one within 0-%d",
			win.first, win.last, s.count, s.count-1)
	}
	s.numbered = true
	s.first = win.first
	s.offset += int64(win.first) * s.stride
	s.count = win.last - win.first + 1
	return nil
}

// Count is the number of inputs, at least 1.
func (s *Source) Count() int { return s.count }

// Name is the name of input i: the file's, with the input's place in the file
// where it holds several. Open takes it again.
func (s *Source) Name(i int) string {
	if !s.numbered {
		return s.name
	}
	return s.name + ":" + strconv.Itoa(s.first+i)
}

// Read puts input i, from 0 to Count-1, into dst, which has the type and
// shape that Open was asked for.
func (s *Source) Read(i int, dst *tensor.Tensor) error {
	if i < 0 || i >= s.count {
		panic(fmt.Sprintf("input: input %d of %d", i, s.count))
	}
	if dst.Type != s.want.Type || !dst.Shape.Equal(s.want.Shape) {
		panic(fmt.Sprintf("input: %v %v for %v %v", dst.Type, dst.Shape, s.want.Type, s.want.Shape))
	}
	b := dst.Data
	if s.convert != nil {
		b = tensor.Alloc(int(s.stride))
	}
	n, err := s.data.ReadAt(b, s.offset+int64(i)*s.stride)
	if n < len(b) {
		return fmt.Errorf("read %s: %w; the file changed since it was opened", s.Name(i), err)
	}
	if s.convert != nil {
		s.convert(dst, b)
	}
	return nil
}

// Tensor returns input i as a new tensor.
func (s *Source) Tensor(i int) (*tensor.Tensor, error) {
	t := tensor.New(s.want.Type, s.want.Shape...)
	if err := s.Read(i, t); err != nil {
		return nil, err
	}
	return t, nil
}

// Close closes the file. The Source cannot be read afterwards.
func (s *Source) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// array makes the source of an array of the given type and shape that starts
// at offset in data.
func array(t tensor.DType, shape tensor.Shape, data io.ReaderAt, offset int64, want graph.Value) (*Source, error) {
	convert, ok := conversion(t, want.Type)
	if !ok {
		return nil, fmt.Errorf("holds %v, but input %q takes %v; convert the array", t, want.Name, want.Type)
	}
	count, ok := batch(shape, want.Shape)
	if !ok {
		hint := ""
		if names := want.FreeNames(); names != "" {
			hint = "; or give other sizes by --dim: " + names
		}
		return nil, fmt.Errorf("has shape %v, but input %q takes %v; save that shape, or %s for N inputs%s",
			shape, want.Name, want.Shape, batchForm(want.Shape), hint)
	}
	return &Source{
		count: count, data: data, offset: offset, convert: convert,
		stride: int64(want.Shape.Elements()) * int64(t.Size()),
	}, nil
}

// conversion says how stored elements become wanted ones. The only change of
// type is float64 to float32, each rounded to nearest: NumPy makes float64
// where nothing else is asked for.
func conversion(stored, want tensor.DType) (convert func(*tensor.Tensor, []byte), ok bool) {
	switch {
	case stored == tensor.Float64 && want == tensor.Float32:
		return func(dst *tensor.Tensor, b []byte) {
			out := dst.F32()
			for i, x := range tensor.View[float64](b) {
				out[i] = float32(x)
			}
		}, true
	case stored != want:
		return nil, false
	case want == tensor.Bool:
		return func(dst *tensor.Tensor, b []byte) { copyBools(dst.Data, b) }, true
	}
	return nil, true
}

// copyBools makes each byte 0 or 1, the only ones that a Go bool may have.
func copyBools(dst, src []byte) {
	for i, b := range src {
		dst[i] = min(b, 1)
	}
}

// batch is the number of inputs of shape want in an array of shape f; see the
// package comment.
func batch(f, want tensor.Shape) (count int, ok bool) {
	switch {
	case f.Equal(want):
		return 1, true
	case len(f) == len(want)+1 && f[1:].Equal(want):
		return f[0], true
	case len(f) == len(want) && len(f) > 0 && want[0] == 1 && f[1:].Equal(want[1:]):
		return f[0], true
	}
	return 0, false
}

// batchForm is the shape of N inputs, as a person writes it.
func batchForm(want tensor.Shape) string {
	if len(want) > 0 && want[0] == 1 {
		want = want[1:]
	}
	if len(want) == 0 {
		return "[N]"
	}
	return "[N," + want.String()[1:]
}

// openTensorProto opens an ONNX TensorProto file, as ONNX test vectors are.
func openTensorProto(r *io.SectionReader, want graph.Value, _ Options) (*Source, error) {
	b, err := readWhole(r)
	if err != nil {
		return nil, err
	}
	t, err := onnx.DecodeTensor(b)
	if err != nil {
		return nil, err
	}
	return array(t.Type, t.Shape, bytes.NewReader(t.Data), 0, want)
}

func readWhole(r *io.SectionReader) ([]byte, error) {
	if r.Size() > maxWholeBytes {
		return nil, fmt.Errorf("has %d bytes, limit %d; give a smaller file", r.Size(), int64(maxWholeBytes))
	}
	return readN(r, r.Size())
}

// readN reads n bytes, taking memory only as they arrive.
func readN(r io.Reader, n int64) ([]byte, error) {
	var b bytes.Buffer
	got, err := io.CopyN(&b, r, n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("is cut short: %d of %d bytes of data; copy it again", got, n)
	}
	if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// squeeze leaves out dimensions of 1.
func squeeze(s tensor.Shape) tensor.Shape {
	var out tensor.Shape
	for _, d := range s {
		if d != 1 {
			out = append(out, d)
		}
	}
	return out
}
