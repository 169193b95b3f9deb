package engine

import (
	"fmt"
	"sync/atomic"

	"starling/internal/kernel"
)

// Slice computes some rows of a layer's linear part. Its results have the bits
// of the same rows of the whole layer, whichever rows they are: which kernel
// runs depends on the layer and the batch alone. A Slice is never written after
// NewSlice, so it is safe for concurrent use.
type Slice struct {
	linear Linear
	rows   int

	// Exactly one of these is set.
	weights []float32      // [rows,Cols], dense and a batch of one
	packed  *kernel.Packed // dense, larger batches
	conv    *kernel.Conv
}

// NewSlice returns a slice of the layer whose weights are w, f32 [rows,Cols]
// row-major. w is kept and read in place where the batch is 1 (it may be a
// read-only mapping of a file); else it is copied in the kernels' own order and
// not kept. A grouped convolution has one slice only, of all rows.
func NewSlice(l Linear, w []float32, rows int) (*Slice, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	if rows < 1 || rows > l.Rows {
		return nil, fmt.Errorf("slice of %d rows of a layer that has %d", rows, l.Rows)
	}
	if len(w) != rows*l.Cols {
		return nil, fmt.Errorf("slice of shape [%d,%d] has %d weights", rows, l.Cols, len(w))
	}
	s := &Slice{linear: l, rows: rows}
	switch {
	case l.Op == "Conv" && l.Conv.Groups > 1 && rows != l.Rows:
		return nil, fmt.Errorf("%w: Conv has %d groups", ErrNotLinear, l.Conv.Groups)
	case l.Op == "Conv":
		s.conv = kernel.NewConv(l.Conv, w, rows)
	case l.Outer == 1:
		s.weights = w
	default:
		s.packed = kernel.Pack(w, rows, l.Cols)
	}
	return s, nil
}

// Run computes dst [Outer,rows,Inner] from x, the layer's whole input, both f32
// row-major and not overlapping. Their lengths must be exact: a wrong one is a
// bug of the caller and panics. If stop is not nil and becomes true, Run
// returns false soon and dst is undefined. p may be nil for one thread. Nothing
// is allocated once the kernels' scratch is warm.
func (s *Slice) Run(p *kernel.Pool, dst, x []float32, stop *atomic.Bool) bool {
	if len(x) != s.linear.InputLen() || len(dst) != s.linear.OutputLen(s.rows) {
		panic(fmt.Sprintf("engine: slice of %d rows of %+v run with %d inputs and %d outputs", s.rows, s.linear, len(x), len(dst)))
	}
	switch {
	case s.conv != nil:
		return s.conv.Run(p, dst, x, stop)
	case s.packed != nil:
		return s.packed.Gemm(p, dst, x, s.linear.Outer, stop)
	}
	cols := s.linear.Cols
	step := max(1, gemvBlock/cols)
	for r := 0; r < s.rows; r += step {
		if stop != nil && stop.Load() {
			return false
		}
		end := min(r+step, s.rows)
		kernel.Gemv(p, dst[r:end], s.weights[r*cols:end*cols], x, end-r, cols)
	}
	return true
}

// gemvBlock is the number of weights between two looks at stop: 16 MiB of them
// are some milliseconds on a small device.
const gemvBlock = 1 << 22
