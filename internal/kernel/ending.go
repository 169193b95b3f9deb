package kernel

import "math"

// After is what follows the sum of each output element of a layer: y =
// clamp(sum + Bias[row] + Add[element], Lo, Hi), where every + rounds and NaN
// stays NaN. A nil Bias or Add adds nothing, and only Clamp clamps. Add has the
// shape of the output and must not overlap it.
type After struct {
	Bias, Add []float32
	Clamp     bool
	Lo, Hi    float32
}

// need panics unless what a has is there for rows rows of an output of that many
// elements.
func (a *After) need(rows, elements int) {
	if a.Bias != nil {
		need("bias", len(a.Bias), rows)
	}
	if a.Add != nil {
		need("add", len(a.Add), elements)
	}
}

// along makes y of the sums of m outputs from the one at b0 on, and of their n rows
// from r0 on, in dst [outputs,rows]: the rows lie side by side.
func (a *After) along(dst []float32, rows, b0, r0, m, n int) {
	for b := b0; b < b0+m; b++ {
		at := b*rows + r0
		y := dst[at : at+n]
		if a.Bias != nil {
			vecAdd(y, y, a.Bias[r0:])
		}
		if a.Add != nil {
			vecAdd(y, y, a.Add[at:])
		}
		if a.Clamp {
			vecClamp(y, y, a.Lo, a.Hi)
		}
	}
}

// An ending is After for a part of the output: bias is that of the rows from the
// first one on, add begins at the first element and has rows as far apart as the
// output's. Without bias it does nothing. The assembly knows the layout.
type ending struct {
	bias, add []float32
	lo, hi    float32
}

// negativeZeros is a bias that changes nothing, as adding +0 would make of -0.
func negativeZeros(n int) []float32 {
	zeros := make([]float32, n)
	for i := range zeros {
		zeros[i] = float32(math.Copysign(0, -1))
	}
	return zeros
}

// ending is a for the whole output, zeros being a bias in place of none.
func (a *After) ending(zeros []float32) ending {
	if a.Bias == nil && a.Add == nil && !a.Clamp {
		return ending{}
	}
	end := ending{}.orNone(zeros)
	end.add = a.Add
	if a.Bias != nil {
		end.bias = a.Bias
	}
	if a.Clamp {
		end.lo, end.hi = a.Lo, a.Hi
	}
	return end
}

// orNone is e, or an ending that changes nothing, zeros being its bias.
func (e ending) orNone(zeros []float32) ending {
	if e.bias == nil {
		e = ending{bias: zeros, lo: float32(math.Inf(-1)), hi: float32(math.Inf(1))}
	}
	return e
}

// from is the ending of the part of the output that begins row rows and at
// elements further on.
func (e ending) from(row, at int) ending {
	if e.bias != nil {
		e.bias = e.bias[row:]
	}
	if e.add != nil {
		e.add = e.add[at:]
	}
	return e
}

// of is e for the assembly, if it does anything, once it is known to be there for
// c [rows,cols], rows ldc apart.
func (e *ending) of(ldc, rows, cols int) *ending {
	if e.bias == nil {
		return nil
	}
	_ = e.bias[rows-1]
	if e.add != nil {
		_ = e.add[(rows-1)*ldc+cols-1]
	}
	return e
}

// apply makes y of the sums in c [rows,cols], rows ldc apart.
func (e ending) apply(c []float32, ldc, rows, cols int) {
	if e.bias == nil {
		return
	}
	for r := range rows {
		row := c[r*ldc:][:cols]
		if e.add == nil {
			vecBiasClamp(row, e.bias[r], e.lo, e.hi)
			continue
		}
		vecBiasClamp(row, e.bias[r], float32(math.Inf(-1)), float32(math.Inf(1)))
		vecAdd(row, row, e.add[r*ldc:])
		vecClamp(row, row, e.lo, e.hi)
	}
}
