package kernel

import "unsafe"

// The products of quantised layers. Weights and activations are bytes, signed or
// not, with zero points; a sum is Σ (w − zw)·(x − zx), exact modulo 2³² whatever
// the order, the cut, the number of threads and the level. What comes out is the
// sum itself, or a byte: see [Output].
//
// The instructions want operands of one kind, so bytes of the other have their
// top bit flipped on the way: b ^ 0x80, read as the other kind, is b ∓ 128, and so
// is its zero point, which leaves every difference as it was. Weights are packed
// as signed bytes; activations as unsigned ones, or signed where the scheme says
// so. Pads are zero points. Zero points are then taken out of the plain sum:
//
//	Σ (w − zw)·(x − zx) = Σ w·x − zx·(Σ w − K·zw) − zw·Σ x

// A scheme is how a level multiplies integers: tiles of m rows of A by n columns
// of B, both packed in lanes of 32 bits, of four bytes or of two int16 that
// belong to neighbouring k. B is [n panels][k lanes][n]; A is [row tiles][k
// lanes][height], where the last tile may be lower than m, or, if rowMajor,
// [rows][k lanes]. Lanes of k past the last are zero in A, anything in B.
type scheme struct {
	name     string
	m, n     int
	unit     int  // heights of tiles are multiples of it
	per      int  // values in a lane: four bytes, or two int16
	step     int  // the number of lanes of k is a multiple of it
	rowMajor bool // of A
	signedX  bool // activations are packed as signed bytes
}

// Bounds of all schemes.
const (
	maxSchemeN = 32
	maxSchemeM = 12 // of those that are not rowMajor
)

// pairs6x16 is the scheme of AVX2 and of portable code.
var pairs6x16 = scheme{name: "pairs6x16", m: 6, n: 16, unit: 6, per: 2, step: 1}

// lanes is the number of lanes of k values.
func (s *scheme) lanes(k int) int { return ceilDiv(ceilDiv(k, s.per), s.step) * s.step }

// high is the number of rows of A that are packed for rows of them.
func (s *scheme) high(rows int) int { return ceilDiv(rows, s.unit) * s.unit }

// wide rounds columns up to whole panels.
func (s *scheme) wide(cols int) int { return ceilDiv(cols, s.n) * s.n }

// flip says how activations of that sign are packed: the mask of their bytes and
// what it adds to their zero point.
func (s *scheme) flip(signed bool) (mask byte, shift int32) {
	switch {
	case signed == s.signedX:
		return 0, 0
	case signed:
		return 0x80, 128
	}
	return 0x80, -128
}

// Bytes are integers: int8 if Signed, else uint8. Zero is their zero point.
type Bytes struct {
	Data   []byte
	Signed bool
	Zero   int32
}

// Weights are the integers of a layer, row-major [rows,k], int8 if Signed, else
// uint8; Zeros holds a zero point, or one for each row, and may be nil for 0. If
// Wide is not nil, the weights are these int16 instead, with zero points of 0, as
// sums of several layers' rows have them.
type Weights struct {
	Data   []byte
	Signed bool
	Zeros  []int32
	Wide   []int16
}

// Output says what becomes of the sums of a layer with rows weight rows. If Sums
// is not nil, they are written there. Else Bytes is written:
//
//	y = saturate(roundHalfToEven(float32(sum + Bias[row]) · Scale[row]) + Zero)
//
// (ONNX QLinearConv 10 and QLinearMatMul 21, in float32 as ONNX Runtime does it),
// int8 if Signed, else uint8. Scale has an element for each row; so has Bias, which
// may be nil and is added to Sums too. A product that is NaN becomes the least byte.
type Output struct {
	Sums   []int32
	Bytes  []byte
	Signed bool
	Zero   int32
	Scale  []float32
	Bias   []int32
}

// limits are the bounds of a byte before its zero point is added.
type limits struct {
	lo, hi float32
	zero   int32
}

func (o *Output) limits() limits {
	if o.Signed {
		return limits{float32(-128 - o.Zero), float32(127 - o.Zero), o.Zero}
	}
	return limits{float32(-o.Zero), float32(255 - o.Zero), o.Zero}
}

// cutRows returns the output of rows from row on of a layer, before whose first
// result at elements are skipped.
func (o *Output) cutRows(row, rows, at int) Output {
	c := *o
	if o.Sums != nil {
		c.Sums = o.Sums[at:]
	} else {
		c.Bytes, c.Scale = o.Bytes[at:], o.Scale[row:row+rows]
	}
	if o.Bias != nil {
		c.Bias = o.Bias[row : row+rows]
	}
	return c
}

// need panics unless o holds that many results of rows rows.
func (o *Output) need(results, rows int) {
	if o.Sums != nil {
		need("sums", len(o.Sums), results)
	} else {
		need("bytes", len(o.Bytes), results)
		need("scale", len(o.Scale), rows)
	}
	if o.Bias != nil {
		need("bias", len(o.Bias), rows)
	}
}

// rowTerms are what the rows of packed weights add to sums.
type rowTerms struct {
	sums   []int32 // Σ (w − zw) of each row
	zeros  []int32 // zw as packed
	zeroed bool    // all of them are 0
}

func newRowTerms(rows int) rowTerms {
	return rowTerms{sums: make([]int32, rows), zeros: make([]int32, rows), zeroed: true}
}

// set computes the terms of rows from first on, w [rows,k]; shift is added to their
// zero points.
func (t *rowTerms) set(first int, w *Weights, rows, k int, shift int32) {
	for r := range rows {
		sum, zero := int32(0), int32(0)
		if w.Wide != nil {
			for _, v := range w.Wide[r*k : (r+1)*k] {
				sum += int32(v)
			}
			t.sums[first+r] = sum
			continue
		}
		for _, b := range w.Data[r*k : (r+1)*k] {
			sum += intOf(b, w.Signed)
		}
		if len(w.Zeros) > 0 {
			zero = w.Zeros[min(r, len(w.Zeros)-1)]
		}
		t.sums[first+r], t.zeros[first+r] = sum-int32(k)*zero, zero+shift
		t.zeroed = t.zeroed && zero+shift == 0
	}
}

// add fills dst with what is added to the plain sums of each row: the bias and
// the term of the zero point of x as packed.
func (t *rowTerms) add(dst, bias []int32, zero int32) {
	for r, sum := range t.sums {
		dst[r] = -zero * sum
	}
	if bias != nil {
		for r, b := range bias[:len(t.sums)] {
			dst[r] += b
		}
	}
}

// packWeights packs rows [rows,k] as A or, if columns, as B into packed, which is
// zero where no weight comes, and sets their terms, from first on.
func (s *scheme) packWeights(packed []uint32, t *rowTerms, first int, w *Weights, rows, k int, columns bool) {
	lanes, flip, shift := s.lanes(k), byte(0), int32(0)
	if w.Wide == nil && !w.Signed {
		flip, shift = 0x80, -128
	}
	for r := range rows {
		at, step := s.place(r, rows, lanes)
		if columns {
			at, step = r/s.n*s.n*lanes+r%s.n, s.n
		}
		for l := range ceilDiv(k, s.per) {
			lane := uint32(0)
			for i := l * s.per; i < min(k, (l+1)*s.per); i++ {
				v := uint32(0)
				if w.Wide != nil {
					v = uint32(uint16(w.Wide[r*k+i]))
				} else {
					v = uint32(int32(int8(w.Data[r*k+i] ^ flip)))
				}
				lane |= v & s.mask() << (i % s.per * 32 / s.per)
			}
			packed[at+l*step] = lane
		}
	}
	t.set(first, w, rows, k, shift)
}

// mask has the bits of one value of a lane.
func (s *scheme) mask() uint32 { return 1<<(32/s.per) - 1 }

// place says where the lanes of row r of A begin and how far apart they are.
func (s *scheme) place(r, rows, lanes int) (at, step int) {
	if s.rowMajor {
		return r * lanes, 1
	}
	tile := r / s.m * s.m
	return tile*lanes + r - tile, min(s.m, s.high(rows)-tile)
}

// ones are the lanes of one row or column of k ones.
func (s *scheme) ones(l, k int) uint32 {
	lane := uint32(0)
	for i := l * s.per; i < min(k, (l+1)*s.per); i++ {
		lane |= 1 << (i % s.per * 32 / s.per)
	}
	return lane
}

// scratch8 is the scratch memory of integer products.
type scratch8 struct {
	a, b []uint32
	c    []int32
	x    []byte
	add  []int32
}

var scratches8 freeList[scratch8]

// grown returns n elements of v, with anything in them.
func grown[T any](v *[]T, n int) []T {
	if cap(*v) < n {
		*v = make([]T, n)
	}
	return (*v)[:n]
}

// asBytes views lanes as bytes.
func asBytes(v []uint32) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
}

// schemeFor returns the scheme of the level for weights of bytes or of int16.
func schemeFor(wide bool) *scheme {
	s := forced[0]
	if wide {
		s = forced[1]
	}
	if s != nil {
		return s
	}
	return schemesOf(wide)[0]
}

// forced are the schemes that tests choose for bytes and for int16.
var forced [2]*scheme
