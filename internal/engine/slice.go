package engine

import (
	"fmt"
	"sync/atomic"

	"starling/internal/kernel"
	"starling/internal/tensor"
)

// Slice computes a layer's linear part, or a part of it. Its results have the
// bits of the same elements of the whole layer, wherever rows or output cells
// are cut: which kernel runs depends on the operator and the batch, and kernels
// sum in one order. A Slice is never written after NewSlice, so it is safe for
// concurrent use.
type Slice struct {
	linear Linear

	// Exactly one of these is set.
	weights  []float32      // [Rows,Cols], dense and a batch of one
	sparse   *kernel.Sparse // the same, many weights being zero
	packed   *kernel.Packed // dense, larger batches
	conv     *kernel.Conv
	deep     *kernel.DeepConv // three dimensions
	integers *integerSums
}

// NewSlice returns the slice of weights w, [Rows,Cols] row-major, of WeightBytes
// and aligned for their type. w is copied in the kernels' own order, without zeros
// if there are many, or kept and read in place (it may be a read-only mapping of a
// file); it must not be written.
func NewSlice(l Linear, w []byte) (*Slice, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	if len(w) != l.WeightBytes() {
		return nil, fmt.Errorf("slice of shape [%d,%d] has %d bytes of weights, not %d", l.Rows, l.Cols, len(w), l.WeightBytes())
	}
	s := &Slice{linear: l}
	if l.Integers != (Integers{}) {
		s.integers = newIntegerSums(l, w)
		return s, nil
	}
	floats := tensor.View[float32](w)
	switch {
	case l.Conv.Deep():
		s.deep = kernel.NewDeepConv(l.Conv, floats, l.Rows)
	case l.Op == "Conv":
		s.conv = kernel.NewConv(l.Conv.Conv2D, floats, l.Rows)
	case l.Outer == 1:
		if s.sparse = kernel.NewSparse(floats, l.Rows, l.Cols); s.sparse == nil {
			s.weights = floats
		}
	default:
		s.packed = kernel.Pack(floats, l.Rows, l.Cols)
	}
	return s, nil
}

// Run computes dst [Outer,Rows,Inner] from x, the part's input, both row-major and
// not overlapping, of OutputBytes and InputBytes and aligned for their types. A
// wrong length is a bug of the caller and panics. If stop is not nil and becomes
// true, Run returns false soon and dst is undefined. p may be nil for one thread.
// Nothing is allocated once the kernels' scratch is warm.
func (s *Slice) Run(p *kernel.Pool, dst, x []byte, stop *atomic.Bool) bool {
	if len(x) != s.linear.InputBytes() || len(dst) != s.linear.OutputBytes() {
		panic(fmt.Sprintf("engine: slice of %+v run with %d bytes of input and %d of output", s.linear, len(x), len(dst)))
	}
	if s.integers != nil {
		return s.integers.run(p, dst, x, stop)
	}
	return s.run(p, tensor.View[float32](dst), tensor.View[float32](x), kernel.After{}, stop)
}

// finished says whether the kernel of a layer of float32 does what follows the sums too.
func (l Linear) finished() bool {
	if l.Op == "Conv" {
		return !l.Conv.Deep()
	}
	return l.Outer > 1
}

// run is Run of float32 and what follows the sums, of a layer that is finished only.
func (s *Slice) run(p *kernel.Pool, dst, x []float32, after kernel.After, stop *atomic.Bool) bool {
	switch {
	case s.conv != nil:
		return s.conv.Run(p, dst, x, after, stop)
	case s.deep != nil:
		return s.deep.Run(p, dst, x, stop)
	case s.packed != nil:
		return s.packed.Gemm(p, dst, x, s.linear.Outer, after, stop)
	}
	rows, cols := s.linear.Rows, s.linear.Cols
	step := max(1, gemvBlock/cols)
	for r := 0; r < rows; r += step {
		if stop != nil && stop.Load() {
			return false
		}
		end := min(r+step, rows)
		if s.sparse != nil {
			s.sparse.Gemv(p, dst[r:end], x, r, end)
			continue
		}
		kernel.Gemv(p, dst[r:end], s.weights[r*cols:end*cols], x, end-r, cols)
	}
	return true
}

// gemvBlock is the number of weights between two looks at stop: 16 MiB of them
// are some milliseconds on a small device.
const gemvBlock = 1 << 22
