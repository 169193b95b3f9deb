package engine

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"starling/internal/kernel"
	"starling/internal/tensor"
)

// integerSums computes the sums of a layer over integers. The kernels multiply bytes
// with bytes or int16 and add up in int32. What is wider is taken apart into bytes,
//
//	w = Σ 256^i · w_i,  y = Σ 256^i · y_i
//
// where the highest byte has the sign.
type integerSums struct {
	linear Linear
	planes []integerPlane // of the weights
	inputs int            // planes of the input

	mu   sync.Mutex // guards free
	free []*integerScratch
}

// integerPlane is a layer whose weights the kernels take.
type integerPlane struct {
	dense *kernel.QuantDense
	conv  *kernel.QuantConv
}

// integerScratch is what a layer of several planes needs while it is computed.
type integerScratch struct {
	sums []int32
	x    []byte
}

// take is scratch that nobody else uses, until give.
func (s *integerSums) take() *integerScratch {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free) - 1
	if last < 0 {
		return new(integerScratch)
	}
	scratch := s.free[last]
	s.free = s.free[:last]
	return scratch
}

func (s *integerSums) give(scratch *integerScratch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, scratch)
}

func newIntegerSums(l Linear, w []byte) *integerSums {
	s := &integerSums{linear: l, inputs: l.Integers.Input.Size()}
	t := l.Integers.Weights
	switch {
	case t.Size() == 1:
		s.add(kernel.Weights{Data: w, Signed: isSigned(t), Zeros: []int32{int32(l.Integers.Zero)}})
	case t == tensor.Int16 && l.Integers.Result == tensor.Int32:
		s.add(kernel.Weights{Wide: tensor.View[int16](w)})
	default:
		planes := t.Size()
		if t == tensor.Int32 {
			planes = bytesOf(tensor.View[int32](w))
		}
		for i := range planes {
			plane := make([]byte, len(w)/t.Size())
			takePlane(plane, w, i, t.Size())
			s.add(kernel.Weights{Data: plane, Signed: i == planes-1})
		}
	}
	return s
}

// bytesOf is how many bytes hold each of the numbers.
func bytesOf(v []int32) int {
	all := int32(0)
	for _, x := range v {
		all |= x ^ x>>31
	}
	return bits.Len32(uint32(all))/8 + 1
}

func (s *integerSums) add(w kernel.Weights) {
	l := &s.linear
	if l.Op == "Conv" {
		s.planes = append(s.planes, integerPlane{conv: kernel.NewQuantConv(l.Conv.Conv2D, w, l.Rows)})
	} else {
		s.planes = append(s.planes, integerPlane{dense: kernel.NewQuantDense(w, l.Rows, l.Cols, l.Outer)})
	}
}

func (p *integerPlane) run(pool *kernel.Pool, sums []int32, x kernel.Bytes, outer int, stop *atomic.Bool) bool {
	if p.conv != nil {
		return p.conv.Run(pool, kernel.Output{Sums: sums}, x, stop)
	}
	return p.dense.Run(pool, kernel.Output{Sums: sums}, x, outer, stop)
}

func (s *integerSums) run(p *kernel.Pool, dst, x []byte, stop *atomic.Bool) bool {
	l := &s.linear
	if s.inputs == 1 && len(s.planes) == 1 && l.Integers.Result == tensor.Int32 {
		return s.planes[0].run(p, tensor.View[int32](dst), operandOf(l, x), l.Outer, stop)
	}
	scratch := s.take()
	defer s.give(scratch)
	scratch.sums = sized(scratch.sums, l.OutputLen())
	clear(dst)
	for i := range s.inputs {
		in := kernel.Bytes{Signed: i == s.inputs-1}
		if s.inputs == 1 {
			in = operandOf(l, x)
		} else {
			scratch.x = sized(scratch.x, l.InputLen())
			in.Data = scratch.x
			takePlane(in.Data, x, i, s.inputs)
		}
		for j := range s.planes {
			if !s.planes[j].run(p, scratch.sums, in, l.Outer, stop) {
				return false
			}
			if l.Integers.Result == tensor.Int32 {
				addShifted(tensor.View[int32](dst), scratch.sums, 8*(i+j))
			} else {
				addShifted(tensor.View[int64](dst), scratch.sums, 8*(i+j))
			}
		}
	}
	return true
}

// operandOf is an input of bytes with its zero point behind.
func operandOf(l *Linear, x []byte) kernel.Bytes {
	n, t := l.InputLen(), l.Integers.Input
	return kernel.Bytes{Data: x[:n], Signed: isSigned(t), Zero: byteValue(x[n], t)}
}

// takePlane makes dst byte i of each of the little-endian numbers of size bytes.
func takePlane(dst, src []byte, i, size int) {
	for e := range dst {
		dst[e] = src[e*size+i]
	}
}

func addShifted[T int32 | int64](dst []T, src []int32, by int) {
	for i, v := range src {
		dst[i] += T(v) << by
	}
}

func sized[T any](x []T, n int) []T {
	if cap(x) < n {
		return make([]T, n)
	}
	return x[:n]
}
