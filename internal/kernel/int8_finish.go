package kernel

// multiply is c [rows,s.n] = A·Bᵀ for packed operands, where rows are as many as
// are packed. weightsA says that A holds weights, which are signed, and B
// activations; else it is the other way round.
func (s *scheme) multiply(c []int32, a, b []uint32, rows, lanes, cols int, weightsA bool) {
	if rows == 0 || lanes == 0 {
		clear(c[:rows*s.n])
		return
	}
	_, _, _ = c[rows*s.n-1], a[rows*lanes-1], b[lanes*s.n-1]
	multiplyTiles(s, c, a, b, rows, lanes, cols, weightsA || s.signedX, !weightsA || s.signedX)
}

// finishRows writes results of sums c [rows,cols] whose rows are those of the
// weights; Bias holds all that is added to them. Rows of the results are ldd apart.
func (o *Output) finishRows(ldd int, c []int32, ldc, rows, cols int) {
	if o.Sums != nil {
		sumRows(o.Sums, ldd, c, ldc, rows, cols, o.Bias)
		return
	}
	requantRows(o.Bytes, ldd, c, ldc, rows, cols, o.Bias, o.Scale, o.limits())
}

// finishCols is finishRows for columns that are the rows of the weights.
func (o *Output) finishCols(ldd int, c []int32, ldc, rows, cols int) {
	if o.Sums != nil {
		sumCols(o.Sums, ldd, c, ldc, rows, cols, o.Bias)
		return
	}
	requantCols(o.Bytes, ldd, c, ldc, rows, cols, o.Bias, o.Scale, o.limits())
}

// Finish makes results [outer,rows,inner] of the plain sums of a layer, as its Run
// would have: o.Bytes of sums that o.Sums were. The results must not alias sums.
func (o Output) Finish(sums []int32, outer, rows, inner int) {
	need("sums", len(sums), outer*rows*inner)
	o.need(outer*rows*inner, rows)
	if len(sums) == 0 {
		return
	}
	scratch := scratches8.get()
	defer scratches8.put(scratch)
	if o.Bias == nil {
		o.Bias = grown(&scratch.add, rows)
		clear(o.Bias)
	}
	if inner == 1 {
		o.finishCols(rows, sums, rows, outer, rows)
		return
	}
	for i := range outer {
		at := i * rows * inner
		out := o.cutRows(0, rows, at)
		out.finishRows(inner, sums[at:], inner, rows, inner)
	}
}

// AddScaledInt32 is dst += c·x modulo 2³², for as many elements as x has.
func AddScaledInt32(dst, x []int32, c int32) {
	need("dst", len(dst), len(x))
	if len(x) > 0 {
		addOuter(dst, len(x), []int32{c}, x)
	}
}
