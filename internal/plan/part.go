package plan

import (
	"errors"
	"fmt"

	"starling/internal/engine"
	"starling/internal/kernel"
)

// span is a range [begin,end) of one axis of a tensor seen as
// [outer, axis, inner]. It may reach beyond the axis, where there are pads.
type span struct {
	outer, axis, inner int
	begin, end         int
}

// all is the span that is a whole tensor of n elements.
func all(n int) span { return span{outer: 1, axis: 1, inner: n, end: 1} }

func (s span) whole() bool { return s.begin == 0 && s.end == s.axis }

// at is the part of x that the span covers at outer index o.
func (s span) at(x []byte, o int) []byte {
	base := o * s.axis
	return x[(base+s.begin)*s.inner : (base+s.end)*s.inner]
}

// of is the span of bytes that elements of that size are.
func (s span) of(size int) span {
	s.inner *= size
	return s
}

// take copies the span of x to dst, and pads to where it reaches beyond x.
func (s span) take(dst, x []byte, pad byte) {
	size := (s.end - s.begin) * s.inner
	begin, end := max(s.begin, 0), min(s.end, s.axis)
	for o := range s.outer {
		to := dst[o*size : (o+1)*size]
		before := (begin - s.begin) * s.inner
		fill(to[:before], pad)
		n := copy(to[before:], x[(o*s.axis+begin)*s.inner:(o*s.axis+end)*s.inner])
		fill(to[before+n:], pad)
	}
}

func fill(x []byte, v byte) {
	for i := range x {
		x[i] = v
	}
}

// part is what one data slice of a layer computes, and which part that is of
// the layer's input, output and weights.
type part struct {
	linear           engine.Linear
	in, out, weights span
}

// Units is how many pieces a split of that kind can cut a layer into. The
// error says why the layer cannot be split so.
func Units(l engine.Linear, kind string) (int, error) {
	if l.Op != "Conv" {
		switch kind {
		case Output:
			return l.Rows, nil
		case Input:
			return l.Cols, nil
		}
		return 0, errors.New("it is dense: use output or input")
	}
	switch {
	case kind == Channel && l.Conv.Groups > 1:
		return l.Conv.Groups, nil
	case kind == Channel:
		return l.Rows, nil
	case kind == Filter && l.Conv.Groups > 1:
		return 0, fmt.Errorf("it has %d groups, and a filter sees the channels of its group only: use channel or spatial", l.Conv.Groups)
	case kind == Filter:
		return l.Conv.C, nil
	case kind == Spatial && l.Conv.OD > 1:
		return l.Conv.OD, nil
	case kind == Spatial && l.Conv.OH > 1:
		return l.Conv.OH, nil
	case kind == Spatial:
		return l.Conv.OW, nil
	}
	return 0, errors.New("it is a convolution: use channel, filter or spatial")
}

// cut is the part of the units [begin,end). With padded, tiles of a map bring
// their pads as zeros, so that tiles of equal height are the same convolution.
func cut(l engine.Linear, kind string, begin, end int, padded bool) (part, error) {
	p := part{
		linear:  l,
		in:      all(l.InputLen()),
		out:     span{outer: l.Outer, axis: l.Rows, inner: l.Inner, end: l.Rows},
		weights: all(l.Rows * l.Cols),
	}
	g := l.Conv
	switch kind {
	case Output, Channel:
		if g.Groups > 1 {
			in, out := g.C/g.Groups, g.M/g.Groups // channels of a group
			p.in = span{outer: g.N, axis: g.C, inner: g.InputCells(), begin: begin * in, end: end * in}
			p.linear.Conv.Groups, p.linear.Conv.C = end-begin, (end-begin)*in
			begin, end = begin*out, end*out
		}
		p.linear = p.linear.OfRows(end - begin)
		p.out.begin, p.out.end = begin, end
		p.weights = span{outer: 1, axis: l.Rows, inner: l.Cols, begin: begin, end: end}
	case Input:
		p.linear.Cols = end - begin
		p.in = span{outer: l.Outer, axis: l.Cols, inner: 1, begin: begin, end: end}
		p.weights = span{outer: l.Rows, axis: l.Cols, inner: 1, begin: begin, end: end}
	case Filter:
		taps := g.Taps()
		p.linear.Cols, p.linear.Conv.C = (end-begin)*taps, end-begin
		p.in = span{outer: g.N, axis: g.C, inner: g.InputCells(), begin: begin, end: end}
		p.weights = span{outer: l.Rows, axis: g.C, inner: taps, begin: begin, end: end}
	case Spatial:
		if err := p.tile(g, begin, end, padded); err != nil {
			return p, err
		}
	}
	return p, p.linear.Validate()
}

// tile makes p the output cells [begin,end) along the first axis of a map that
// has more than one, its planes, rows or columns, with the input that they see.
func (p *part) tile(g kernel.Conv3D, begin, end int, padded bool) error {
	t := &p.linear.Conv
	var size, before, after, out *int
	var stride, reach int
	switch {
	case g.OD > 1:
		size, before, after, out = &t.D, &t.PadFront, &t.PadBack, &t.OD
		stride, reach = g.StrideD, (g.KD-1)*g.DilationD+1
		p.in = span{outer: g.N * g.C, axis: g.D, inner: g.H * g.W}
	case g.OH > 1:
		size, before, after, out = &t.H, &t.PadTop, &t.PadBottom, &t.OH
		stride, reach = g.StrideH, (g.KH-1)*g.DilationH+1
		p.in = span{outer: g.N * g.C * max(g.D, 1), axis: g.H, inner: g.W}
	default:
		size, before, after, out = &t.W, &t.PadLeft, &t.PadRight, &t.OW
		stride, reach = g.StrideW, (g.KW-1)*g.DilationW+1
		p.in = span{outer: g.N * g.C * max(g.D, 1) * g.H, axis: g.W, inner: 1}
	}
	p.out = span{outer: g.N * g.M, axis: *out, inner: g.OutputCells() / *out, begin: begin, end: end}
	*out = end - begin
	first := begin*stride - *before
	last := (end-1)*stride - *before + reach
	p.in.begin, p.in.end = max(first, 0), min(last, p.in.axis)
	if p.in.begin >= p.in.end {
		return fmt.Errorf("the tile of output cells %d to %d would see nothing but padding: use fewer workers or channel", begin, end-1)
	}
	if padded {
		p.in.begin, p.in.end = first, last
	}
	*before, *after = p.in.begin-first, last-p.in.end
	*size = p.in.end - p.in.begin
	p.linear.Inner = t.OutputCells()
	return nil
}
