package coordinator

import (
	"starling/internal/engine"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// code is that of one layer, of float32 or over the integers.
type code struct {
	floats   parity.Code
	integers parity.Integers
	exact    bool // it is over the integers,
	wide     bool // and parity results have 64 bits
}

func isInteger(layer *plan.Layer) bool { return layer.Linear.Integers != (engine.Integers{}) }

// weightType is that of a layer's weights.
func weightType(layer *plan.Layer) tensor.DType {
	if isInteger(layer) {
		return layer.Linear.Integers.Weights
	}
	return tensor.Float32
}

func newCode(layer *plan.Layer) (c code, err error) {
	if layer.R() == 0 {
		return c, nil
	}
	if c.exact = isInteger(layer); !c.exact {
		c.floats, err = parity.New(layer.K(), layer.R())
		return c, err
	}
	c.wide = layer.Slice(layer.K()).Integers.Result == tensor.Int64
	c.integers, err = parity.NewIntegers(layer.K(), layer.R())
	return c, err
}

// solution says how lost results of one layer follow from others, and holds a
// piece of each operand while they are recovered.
type solution struct {
	lost, from []int // as in parity.Solution

	exact, wide bool // as in code
	floats      parity.Solution
	integers    parity.IntegerSolution
	dst, source [][]float32
	whole       [][]int32
	sums        []parity.Sums
}

// solve makes s recover every data result that is not there.
func (c *code) solve(s *solution, have []bool) error {
	s.exact, s.wide = c.exact, c.wide
	if c.exact {
		err := c.integers.Solve(&s.integers, have)
		s.lost, s.from = s.integers.Lost, s.integers.From
		return err
	}
	err := c.floats.Solve(&s.floats, have)
	s.lost, s.from = s.floats.Lost, s.floats.From
	return err
}

// begin is before the operands of a piece are named, in the order of lost and from.
func (s *solution) begin() {
	s.dst, s.source, s.whole, s.sums = s.dst[:0], s.source[:0], s.whole[:0], s.sums[:0]
}

func (s *solution) to(y []byte) {
	if s.exact {
		s.whole = append(s.whole, tensor.View[int32](y))
	} else {
		s.dst = append(s.dst, tensor.View[float32](y))
	}
}

func (s *solution) data(y []byte) {
	if s.exact {
		s.sums = append(s.sums, parity.Sums{Narrow: tensor.View[int32](y)})
	} else {
		s.source = append(s.source, tensor.View[float32](y))
	}
}

func (s *solution) parity(y []byte) {
	if s.exact {
		s.sums = append(s.sums, sumsOf(y, s.wide))
	} else {
		s.source = append(s.source, tensor.View[float32](y))
	}
}

// sumsOf views a parity result over the integers.
func sumsOf(y []byte, wide bool) parity.Sums {
	if wide {
		return parity.Sums{Wide: tensor.View[int64](y)}
	}
	return parity.Sums{Narrow: tensor.View[int32](y)}
}

// recover is false if a value overflows float32.
func (s *solution) recover() bool {
	if s.exact {
		s.integers.Recover(s.whole, s.sums)
		return true
	}
	return s.floats.Recover(s.dst, s.source)
}

// encoded is how many numbers of each input are combined at a time.
const encoded = 1024

// encode makes the input of parity p of those of the data slices.
func (c *code) encode(d *decoder, layer *plan.Layer, dst []byte, p int, data []input) {
	s := &d.solution
	s.begin()
	if !c.exact {
		for _, in := range data {
			s.source = append(s.source, in.values.Float32s())
		}
		c.floats.Encode(tensor.View[float32](dst), p, s.source)
		return
	}
	numbers, combined := layer.Linear.Integers, layer.Slice(layer.K()).Integers.Input
	d.numbers = sized(d.numbers, 4*encoded*(len(data)+1))
	all := tensor.View[int32](d.numbers)
	n := len(dst) / combined.Size()
	for lo := 0; lo < n; lo += encoded {
		size := min(encoded, n-lo)
		s.whole = s.whole[:0]
		for j, in := range data {
			values := all[(j+1)*encoded:][:size]
			numbers.Inputs(values, in.values.Bytes(), lo)
			s.whole = append(s.whole, values)
		}
		c.integers.Encode(all[:size], p, s.whole)
		if combined == tensor.Int32 {
			copy(tensor.View[int32](dst)[lo:], all[:size])
			continue
		}
		to := tensor.View[int16](dst)[lo:]
		for i, v := range all[:size] {
			to[i] = int16(v)
		}
	}
}
