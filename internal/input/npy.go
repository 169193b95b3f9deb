package input

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// The .npy format, versions 1.0, 2.0 and 3.0 (numpy.lib.format):
//
//	0   "\x93NUMPY"
//	6   major, minor version
//	8   header length, uint16 (1.0) or uint32 (2.0, 3.0), little-endian
//	..  a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
//	..  the elements
const (
	npyMagic = "\x93NUMPY"
	// maxNPYHeader is far above NumPy's own default limit of 10,000.
	maxNPYHeader = 1 << 16
	// maxDims is NumPy's limit.
	maxDims = 64
)

var npyTypes = map[string]tensor.DType{
	"<f4": tensor.Float32, "<f8": tensor.Float64, "<f2": tensor.Float16,
	"|i1": tensor.Int8, "<i2": tensor.Int16, "<i4": tensor.Int32, "<i8": tensor.Int64,
	"|u1": tensor.Uint8, "<u2": tensor.Uint16, "<u4": tensor.Uint32, "<u8": tensor.Uint64,
	"|b1": tensor.Bool,
}

// ReadNPY reads one array in .npy format, converting Fortran order to
// row-major. Type and shape are the file's. It is an error if the elements
// take more than limit bytes. It reads no further than the last element.
func ReadNPY(r io.Reader, limit int64) (*tensor.Tensor, error) {
	h, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	if err := h.shape.Check(h.dtype.Size(), min(limit, math.MaxInt)); err != nil {
		return nil, fmt.Errorf("%w; give a smaller array", err)
	}
	b, err := readN(r, int64(h.shape.Elements())*int64(h.dtype.Size()))
	if err != nil {
		return nil, err
	}
	t := tensor.New(h.dtype, h.shape...)
	if h.fortran {
		copyFortran(t.Data, b, h.shape, h.dtype.Size())
	} else {
		copy(t.Data, b)
	}
	if t.Type == tensor.Bool {
		copyBools(t.Data, t.Data)
	}
	return t, nil
}

// openNPY opens an array that is read input by input; one in Fortran order,
// where an input's elements lie apart, is read whole.
func openNPY(r *io.SectionReader, want graph.Value, _ Options) (*Source, error) {
	h, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	if err := h.shape.Check(h.dtype.Size(), math.MaxInt64); err != nil {
		return nil, err
	}
	size := int64(h.dtype.Size())
	for _, d := range h.shape {
		size *= int64(d)
	}
	offset, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	switch held := r.Size() - offset; {
	case held < size:
		return nil, fmt.Errorf("is cut short: %d of %d bytes of data; copy it again", held, size)
	case held > size:
		return nil, fmt.Errorf("has %d bytes behind its array; save one array a file", held-size)
	}
	if !h.fortran {
		return array(h.dtype, h.shape, r, offset, want)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	t, err := ReadNPY(r, maxWholeBytes)
	if err != nil {
		return nil, err
	}
	return array(t.Type, t.Shape, bytes.NewReader(t.Data), 0, want)
}

// copyFortran copies src, whose first index runs fastest, to dst, whose last
// one does.
func copyFortran(dst, src []byte, shape tensor.Shape, size int) {
	stride := make([]int, len(shape)) // of src, in bytes
	step := size
	for i, d := range shape {
		stride[i] = step
		step *= d
	}
	index := make([]int, len(shape))
	from := 0
	for to := 0; to < len(dst); to += size {
		copy(dst[to:to+size], src[from:from+size])
		for axis := len(shape) - 1; axis >= 0; axis-- {
			index[axis]++
			from += stride[axis]
			if index[axis] < shape[axis] {
				break
			}
			from -= index[axis] * stride[axis]
			index[axis] = 0
		}
	}
}

type npyHeader struct {
	dtype   tensor.DType
	fortran bool
	shape   tensor.Shape
}

func readNPYHeader(r io.Reader) (npyHeader, error) {
	var start [8]byte
	if _, err := io.ReadFull(r, start[:]); err != nil || string(start[:6]) != npyMagic {
		return npyHeader{}, errors.New("is no .npy file; write it with numpy.save")
	}
	var length [4]byte
	lengthBytes := 4
	switch start[6] {
	case 1:
		lengthBytes = 2
	case 2, 3:
	default:
		return npyHeader{}, fmt.Errorf("has .npy version %d.%d, known are 1 to 3; write it with numpy.save", start[6], start[7])
	}
	if _, err := io.ReadFull(r, length[:lengthBytes]); err != nil {
		return npyHeader{}, errors.New("is cut short in its header; copy it again")
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxNPYHeader {
		return npyHeader{}, fmt.Errorf("has a header of %d bytes, limit %d; save a plain array", n, maxNPYHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return npyHeader{}, errors.New("is cut short in its header; copy it again")
	}
	return parseNPYHeader(string(text))
}

// parseNPYHeader reads the dict: three keys, each once, in any order.
func parseNPYHeader(text string) (npyHeader, error) {
	var h npyHeader
	seen := map[string]bool{}
	p := &literal{rest: text}
	p.expect("{")
	for p.err == nil && !p.accept("}") {
		key := p.str()
		p.expect(":")
		if p.err == nil && seen[key] {
			p.fail("key " + strconv.Quote(key) + " stands twice")
		}
		seen[key] = true
		switch key {
		case "descr":
			h.dtype = p.dtype()
		case "fortran_order":
			h.fortran = p.boolean()
		case "shape":
			h.shape = p.tuple()
		default:
			p.fail("unknown key " + strconv.Quote(key))
		}
		if !p.accept(",") {
			p.expect("}")
			break
		}
	}
	p.space()
	if p.err == nil && p.rest != "" {
		p.fail("text behind the dict")
	}
	if p.err == nil && len(seen) != 3 {
		p.fail("descr, fortran_order or shape is missing")
	}
	if p.err != nil {
		return npyHeader{}, p.err
	}
	return h, nil
}

// literal reads the few Python literals of a header. After the first error
// nothing matches.
type literal struct {
	rest string
	err  error
}

func (p *literal) fail(cause string) {
	if p.err == nil {
		p.err = fmt.Errorf("has a bad .npy header: %s; write it with numpy.save", cause)
	}
}

func (p *literal) space() {
	for p.rest != "" && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\t') {
		p.rest = p.rest[1:]
	}
}

func (p *literal) accept(token string) bool {
	p.space()
	if p.err != nil || len(p.rest) < len(token) || p.rest[:len(token)] != token {
		return false
	}
	p.rest = p.rest[len(token):]
	return true
}

func (p *literal) expect(token string) {
	if !p.accept(token) {
		p.fail("no " + strconv.Quote(token) + " at " + strconv.Quote(p.rest[:min(len(p.rest), 16)]))
	}
}

// str reads a quoted string; none that has a meaning here holds an escape.
func (p *literal) str() string {
	quote := "'"
	if !p.accept(quote) {
		quote = `"`
		p.expect(quote)
	}
	for i := range len(p.rest) {
		if p.err == nil && p.rest[i] == quote[0] {
			s := p.rest[:i]
			p.rest = p.rest[i+1:]
			return s
		}
	}
	p.fail("a string does not end")
	return ""
}

func (p *literal) boolean() bool {
	if p.accept("True") {
		return true
	}
	p.expect("False")
	return false
}

func (p *literal) dtype() tensor.DType {
	p.space()
	if p.err == nil && p.rest != "" && p.rest[0] == '[' {
		p.err = errors.New("holds records; save a plain array")
		return tensor.Invalid
	}
	s := p.str()
	t, ok := npyTypes[s]
	if !ok && p.err == nil {
		p.err = fmt.Errorf("holds elements of type %q, which cannot be read; convert with .astype('<f4')", s)
	}
	return t
}

// tuple reads (), (1,), (1, 2).
func (p *literal) tuple() tensor.Shape {
	shape := tensor.Shape{}
	p.expect("(")
	for p.err == nil && !p.accept(")") {
		p.space()
		n := 0
		for n < len(p.rest) && '0' <= p.rest[n] && p.rest[n] <= '9' {
			n++
		}
		d, err := strconv.Atoi(p.rest[:n])
		if err != nil {
			p.fail("a dimension is no number that fits")
			break
		}
		p.rest = p.rest[n:]
		if shape = append(shape, d); len(shape) > maxDims {
			p.fail("more than " + strconv.Itoa(maxDims) + " dimensions")
		}
		if !p.accept(",") {
			p.expect(")")
			break
		}
	}
	return shape
}
