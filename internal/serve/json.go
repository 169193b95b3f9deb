package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"starling/internal/tensor"
)

// maxDepth is how deep values that are passed over may be nested.
const maxDepth = 64

// scanner reads JSON (RFC 8259) from a buffer in one pass. It exists beside
// encoding/json because numbers go straight to where a tensor has them.
type scanner struct {
	b []byte
	i int // of what comes next
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("JSON, byte %d: %w", s.i, fmt.Errorf(format, args...))
}

// next passes over white space and returns the byte behind it, or 0 at the end.
func (s *scanner) next() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// expect takes c.
func (s *scanner) expect(c byte) error {
	if got := s.next(); got != c || s.i == len(s.b) {
		return s.unexpected(strconv.QuoteRune(rune(c)))
	}
	s.i++
	return nil
}

func (s *scanner) unexpected(want string) error {
	if s.i == len(s.b) {
		return s.errorf("want %s, it ends", want)
	}
	return s.errorf("want %s, got %q", want, s.b[s.i])
}

// end demands that nothing follows.
func (s *scanner) end() error {
	if s.next(); s.i < len(s.b) {
		return s.unexpected("the end")
	}
	return nil
}

// sequence reads what stands between two brackets, separated by commas.
func (s *scanner) sequence(begin, end byte, element func(i int) error) error {
	if err := s.expect(begin); err != nil {
		return err
	}
	if s.next() == end {
		s.i++
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.i++
		case end:
			s.i++
			return nil
		default:
			return s.unexpected(fmt.Sprintf("',' or %q", end))
		}
	}
}

// array calls element for each, which must take it.
func (s *scanner) array(element func(i int) error) error { return s.sequence('[', ']', element) }

// object calls field for each, which must take its value. One that is null is as if
// it were not there, as some clients say so.
func (s *scanner) object(field func(key string) error) error {
	return s.sequence('{', '}', func(int) error {
		key, err := s.text()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if s.next() == 'n' {
			return s.skip(0)
		}
		return field(key)
	})
}

// text takes a string.
func (s *scanner) text() (string, error) {
	if err := s.expect('"'); err != nil {
		return "", err
	}
	begin, escaped := s.i, false
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			raw := s.b[begin:s.i]
			if !utf8.Valid(raw) {
				return "", s.errorf("a string is not UTF-8")
			}
			s.i++
			if !escaped {
				return string(raw), nil
			}
			var text string
			if err := json.Unmarshal(s.b[begin-1:s.i], &text); err != nil {
				return "", s.errorf("%w", err)
			}
			return text, nil
		case c == '\\':
			escaped = true
			s.i++ // whatever is escaped, it does not end the string
		case c < ' ':
			return "", s.unexpected("no control character")
		}
	}
	s.i = len(s.b)
	return "", s.errorf("a string has no end")
}

// token takes a number or a name: all up to what must follow one.
func (s *scanner) token() ([]byte, error) {
	s.next()
	begin := s.i
	for s.i < len(s.b) && !ends(s.b[s.i]) {
		s.i++
	}
	if s.i == begin {
		return nil, s.unexpected("a number or a name")
	}
	return s.b[begin:s.i], nil
}

// ends reports whether a token ends before c.
func ends(c byte) bool {
	switch c {
	case ',', ']', '}', ':', ' ', '\t', '\n', '\r', '[', '{', '"':
		return true
	}
	return false
}

// skip takes any value.
func (s *scanner) skip(depth int) error {
	if depth == maxDepth {
		return s.errorf("nested more than %d deep", maxDepth)
	}
	switch s.next() {
	case '{':
		return s.object(func(string) error { return s.skip(depth + 1) })
	case '[':
		return s.array(func(int) error { return s.skip(depth + 1) })
	case '"':
		_, err := s.text()
		return err
	}
	t, err := s.token()
	if err != nil {
		return err
	}
	switch string(t) {
	case "true", "false", "null":
		return nil
	}
	if !number(t) {
		return s.errorf("%w", notA(t, "value"))
	}
	return nil
}

// brackets passes over an array of numbers, or of arrays of them, without a look at
// them: they are read when it is known what they are.
func (s *scanner) brackets() error {
	if s.next() != '[' {
		return s.unexpected("'['")
	}
	for open := 0; ; {
		n := bytes.IndexByte(s.b[s.i:], ']')
		if n < 0 {
			return s.errorf("an array has no end")
		}
		open += bytes.Count(s.b[s.i:s.i+n], []byte("[")) - 1
		if s.i += n + 1; open == 0 {
			return nil
		}
	}
}

// boolean takes true or false.
func (s *scanner) boolean() (bool, error) {
	v, err := take(s, parseBool)
	return v != 0, err
}

// count takes an integer that is not negative.
func (s *scanner) count() (int, error) {
	return take(s, func(t []byte) (int, error) {
		n, err := strconv.ParseUint(string(t), 10, 63)
		if err != nil || !number(t) || n > math.MaxInt {
			return 0, notA(t, "whole number from 0 on")
		}
		return int(n), nil
	})
}

// by is what takes a token that parse understands.
func by[T any](parse func([]byte) (T, error)) func(*scanner) (T, error) {
	return func(s *scanner) (T, error) { return take(s, parse) }
}

// take takes a token that parse understands.
func take[T any](s *scanner, parse func([]byte) (T, error)) (v T, err error) {
	t, err := s.token()
	if err != nil {
		return v, err
	}
	if v, err = parse(t); err != nil {
		return v, s.errorf("%w", err)
	}
	return v, nil
}

// number reports whether t is one by JSON's grammar, which is narrower than
// strconv's.
func number(t []byte) bool {
	t = bytes.TrimPrefix(t, []byte("-"))
	whole := digitsOf(t)
	if whole == 0 || whole > 1 && t[0] == '0' {
		return false
	}
	t = t[whole:]
	if len(t) > 0 && t[0] == '.' {
		n := digitsOf(t[1:])
		if n == 0 {
			return false
		}
		t = t[1+n:]
	}
	if len(t) > 0 && (t[0] == 'e' || t[0] == 'E') {
		t = t[1:]
		if len(t) > 0 && (t[0] == '+' || t[0] == '-') {
			t = t[1:]
		}
		n := digitsOf(t)
		if n == 0 {
			return false
		}
		t = t[n:]
	}
	return len(t) == 0
}

// digitsOf counts those at the beginning of t.
func digitsOf(t []byte) int {
	n := 0
	for n < len(t) && '0' <= t[n] && t[n] <= '9' {
		n++
	}
	return n
}

// notA says that t is not what is wanted, without all of a long one.
func notA(t []byte, what string) error {
	const most = 40
	if len(t) > most {
		return fmt.Errorf("%q… is not a %s", t[:most], what)
	}
	return fmt.Errorf("%q is not a %s", t, what)
}

// fill takes an array of the tensor's elements, flat or nested as its shape.
func (s *scanner) fill(t *tensor.Tensor) error {
	switch t.Type {
	case tensor.Bool:
		return elements(s, t, by(parseBool))
	case tensor.Uint8:
		return elements(s, t, by(parseUint[uint8]))
	case tensor.Uint16:
		return elements(s, t, by(parseUint[uint16]))
	case tensor.Uint32:
		return elements(s, t, by(parseUint[uint32]))
	case tensor.Uint64:
		return elements(s, t, by(parseUint[uint64]))
	case tensor.Int8:
		return elements(s, t, by(parseInt[int8]))
	case tensor.Int16:
		return elements(s, t, by(parseInt[int16]))
	case tensor.Int32:
		return elements(s, t, by(parseInt[int32]))
	case tensor.Int64:
		return elements(s, t, by(parseInt[int64]))
	case tensor.Float16:
		return elements(s, t, by(parseFloat16))
	case tensor.BFloat16:
		return elements(s, t, by(parseBFloat16))
	case tensor.Float32:
		return elements(s, t, (*scanner).float32)
	case tensor.Float64:
		return elements(s, t, by(parseFloat64))
	}
	return fmt.Errorf("%v cannot be given in JSON", t.Type)
}

// elements fills a tensor whose elements are seen as T.
func elements[T tensor.Element](s *scanner, t *tensor.Tensor, element func(*scanner) (T, error)) error {
	dst := tensor.View[T](t.Data)
	begin := s.i
	if err := s.expect('['); err != nil {
		return err
	}
	nested := s.next() == '[' && len(t.Shape) > 1
	s.i = begin
	if nested {
		return rows(s, t.Shape, dst, element)
	}
	return row(s, dst, element)
}

// rows takes the arrays of the first dimension.
func rows[T tensor.Element](s *scanner, shape tensor.Shape, dst []T, element func(*scanner) (T, error)) error {
	if len(shape) == 1 {
		return row(s, dst, element)
	}
	n, stride := 0, shape[1:].Elements()
	err := s.array(func(i int) error {
		if n++; n > shape[0] {
			return s.errorf("more than %d rows where there must be so many", shape[0])
		}
		return rows(s, shape[1:], dst[i*stride:(i+1)*stride], element)
	})
	if err == nil && n < shape[0] {
		return s.errorf("%d rows where there must be %d", n, shape[0])
	}
	return err
}

// row takes an array of exactly as many values as dst has.
func row[T tensor.Element](s *scanner, dst []T, element func(*scanner) (T, error)) error {
	n := 0
	err := s.array(func(i int) (err error) {
		if i == len(dst) {
			return s.errorf("more than %d values where there must be so many", len(dst))
		}
		n++
		dst[i], err = element(s)
		return err
	})
	if err == nil && n < len(dst) {
		return s.errorf("%d values where there must be %d", n, len(dst))
	}
	return err
}

func parseBool(t []byte) (uint8, error) {
	switch string(t) {
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	}
	return 0, notA(t, "BOOL")
}

func parseUint[T uint8 | uint16 | uint32 | uint64](t []byte) (T, error) {
	v, err := strconv.ParseUint(string(t), 10, 64)
	if err != nil || !number(t) || uint64(T(v)) != v {
		return 0, notA(t, fmt.Sprintf("UINT%d", 8*unsafe.Sizeof(T(0))))
	}
	return T(v), nil
}

func parseInt[T int8 | int16 | int32 | int64](t []byte) (T, error) {
	v, err := strconv.ParseInt(string(t), 10, 64)
	if err != nil || !number(t) || int64(T(v)) != v {
		return 0, notA(t, fmt.Sprintf("INT%d", 8*unsafe.Sizeof(T(0))))
	}
	return T(v), nil
}

// parseFloat64 rounds to the nearest; what is too large is an error.
func parseFloat64(t []byte) (float64, error) { return parseFloat(t, 64, "FP64") }

// float32 takes a number, rounded likewise.
func (s *scanner) float32() (float32, error) {
	s.next()
	if v, n := quickFloat32(s.b[s.i:]); n > 0 {
		s.i += n
		return v, nil
	}
	return take(s, func(t []byte) (float32, error) {
		v, err := parseFloat(t, 32, "FP32")
		return float32(v), err
	})
}

// powers are those of ten, which float64 has exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// quickFloat32 gives the float32 nearest to the number at the beginning of b, and how
// many bytes that has: 0 if it has an exponent, more than 19 digits, or is none.
func quickFloat32(b []byte) (v float32, n int) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		n = 1
	}
	var digits uint64 // as if there were no point
	whole := n
	for ; n < len(b) && b[n]-'0' <= 9; n++ {
		digits = 10*digits + uint64(b[n]-'0')
	}
	count, places := n-whole, 0
	if count == 0 || count > 1 && b[whole] == '0' {
		return 0, 0
	}
	if n < len(b) && b[n] == '.' {
		n++
		point := n
		for ; n < len(b) && b[n]-'0' <= 9; n++ {
			digits = 10*digits + uint64(b[n]-'0')
		}
		if places = n - point; places == 0 {
			return 0, 0
		}
	}
	if count+places > 19 || n < len(b) && !ends(b[n]) {
		return 0, 0
	}
	// Both of these round, so d is within two units of its last place of the number.
	// The float32 nearest to d is nearest to the number too, unless a value halfway
	// between two float32s, which ends in a 1 and 28 zeros, is about as near.
	d := float64(digits) / powers[places]
	if math.Float64bits(d)&(1<<29-1)-(1<<28-3) <= 6 {
		return 0, 0
	}
	if negative {
		d = -d
	}
	return float32(d), n
}

func parseFloat16(t []byte) (uint16, error) {
	v, err := parseFloat(t, 64, "FP16")
	h := tensor.ToFloat16(v)
	if err == nil && math.IsInf(float64(tensor.FromFloat16(h)), 0) {
		err = notA(t, "FP16")
	}
	return h, err
}

func parseBFloat16(t []byte) (uint16, error) {
	v, err := parseFloat(t, 32, "BF16")
	h := tensor.ToBFloat16(float32(v))
	if err == nil && math.IsInf(float64(tensor.FromBFloat16(h)), 0) {
		err = notA(t, "BF16")
	}
	return h, err
}

func parseFloat(t []byte, bits int, datatype string) (float64, error) {
	if !number(t) {
		return 0, notA(t, datatype)
	}
	v, err := strconv.ParseFloat(string(t), bits)
	if err != nil {
		return 0, notA(t, datatype)
	}
	return v, nil
}

// errInfinite refuses what JSON has no word for.
var errInfinite = errors.New("it has values that are infinite or no number, which JSON cannot say: ask for it as binary data")

// appendElements writes a tensor's elements as a flat array.
func appendElements(b []byte, t *tensor.Tensor) ([]byte, error) {
	switch t.Type {
	case tensor.Bool:
		return appendAll(b, t, func(b []byte, v uint8) []byte { return strconv.AppendBool(b, v != 0) }), nil
	case tensor.Uint8:
		return appendAll(b, t, appendUint[uint8]), nil
	case tensor.Uint16:
		return appendAll(b, t, appendUint[uint16]), nil
	case tensor.Uint32:
		return appendAll(b, t, appendUint[uint32]), nil
	case tensor.Uint64:
		return appendAll(b, t, appendUint[uint64]), nil
	case tensor.Int8:
		return appendAll(b, t, appendInt[int8]), nil
	case tensor.Int16:
		return appendAll(b, t, appendInt[int16]), nil
	case tensor.Int32:
		return appendAll(b, t, appendInt[int32]), nil
	case tensor.Int64:
		return appendAll(b, t, appendInt[int64]), nil
	}
	finite := true
	float := func(b []byte, v float64, bits int) []byte {
		finite = finite && !math.IsInf(v, 0) && v == v
		return strconv.AppendFloat(b, v, 'g', -1, bits)
	}
	switch t.Type {
	case tensor.Float16:
		b = appendAll(b, t, func(b []byte, v uint16) []byte { return float(b, float64(tensor.FromFloat16(v)), 32) })
	case tensor.BFloat16:
		b = appendAll(b, t, func(b []byte, v uint16) []byte { return float(b, float64(tensor.FromBFloat16(v)), 32) })
	case tensor.Float32:
		b = appendAll(b, t, func(b []byte, v float32) []byte { return float(b, float64(v), 32) })
	case tensor.Float64:
		b = appendAll(b, t, func(b []byte, v float64) []byte { return float(b, v, 64) })
	}
	if !finite {
		return b, errInfinite
	}
	return b, nil
}

func appendAll[T tensor.Element](b []byte, t *tensor.Tensor, add func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range tensor.View[T](t.Data) {
		if i > 0 {
			b = append(b, ',')
		}
		b = add(b, v)
	}
	return append(b, ']')
}

func appendUint[T uint8 | uint16 | uint32 | uint64](b []byte, v T) []byte {
	return strconv.AppendUint(b, uint64(v), 10)
}

func appendInt[T int8 | int16 | int32 | int64](b []byte, v T) []byte {
	return strconv.AppendInt(b, int64(v), 10)
}
