package coordinator

import (
	"bytes"
	"math"
	"slices"

	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// auditor is a call's scratch for checking results by parity.
type auditor struct {
	check     parity.Check
	data      [][]float32
	syndromes [parity.MaxParity][]float32
	whole     [][]int32 // data over the integers
	exact     [parity.MaxParity][]int64
}

// sampled says whether a request is one of the share rate that are audited:
// they come at even distances.
func sampled(request uint64, rate float64) bool {
	return math.Floor(float64(request)*rate) != math.Floor(float64(request-1)*rate)
}

// audit checks the results of a settled layer: by a code if all of them are there,
// copies of a data slice against each other. Whose result is wrong is quarantined.
// A wrong data slice that is found by its syndromes counts as lost, so that decode
// recovers it; else what may be wrong is computed here, and has the same bits if
// it was right.
func (l *call) audit(layer int, out, x []byte) error {
	pl := &l.c.plan.Layers[layer]
	if pl.Cover == plan.Replicate {
		return l.compareCopies(layer, out)
	}
	if pl.R() == 0 {
		return nil
	}
	for u := range pl.Results() {
		if !l.there(pl, u) {
			markVain.Pass()
			return nil
		}
	}
	a := &l.auditor
	if err := l.examine(layer, out, x); err != nil || !a.check.Wrong() {
		return err
	}
	// A slice that was computed here is right: several others are wrong alike.
	if u, ok := a.check.Suspect(); ok && (u >= pl.K() || !l.recomputed(u)) {
		markSuspect.Pass()
		l.blame(layer, l.giver(pl, u))
		if u < pl.K() {
			l.disown(pl, u, out)
		}
		return nil
	}
	for j := range pl.K() {
		wrong := false
		for b := range pl.Blocks(j) {
			if err := l.compute(layer, j, b); err != nil {
				return err
			}
			pieces := pl.Pieces(b)
			for i := range pieces {
				wrong = wrong || !sameResult(pl, l.data(pl, j, b, i, out), piece(l.scratch, pieces, i))
			}
			pl.Place(j, b, out, l.scratch)
			if pl.Overlaps() {
				copy(pl.Kept(j, b, l.copies[j]), l.scratch)
			}
		}
		if a := l.giver(pl, j); wrong && a != none {
			markChecked.Pass()
			l.blame(layer, a)
		}
	}
	if err := l.examine(layer, out, x); err != nil { // the data is right now: whose parity is not?
		return err
	}
	for p := range pl.R() {
		if a.check.Over[p] {
			markParity.Pass()
			l.blame(layer, l.giver(pl, pl.K()+p))
		}
	}
	return nil
}

// disown makes all that came of data slice j lost. Where tiles overlap, it may have
// been written over others.
func (l *call) disown(layer *plan.Layer, j int, out []byte) {
	for b := range layer.Blocks(j) {
		*l.cell(j, b) = lost
		l.missing++
		for other := range layer.K() {
			if layer.Overlaps() && other != j {
				layer.Place(other, b, out, layer.Kept(other, b, l.copies[other]))
			}
		}
	}
}

// keepsCopies says whether what the slices of a layer give is kept by itself,
// because it is compared with others or others are written over it.
func (l *call) keepsCopies(layer *plan.Layer) bool {
	return l.audited && (layer.Cover == plan.Replicate || layer.Overlaps())
}

// keepCopies makes room for them.
func (l *call) keepCopies(layer *plan.Layer) {
	for s := range layer.N() {
		if s == len(l.copies) {
			l.copies = append(l.copies, nil)
		}
		l.copies[s] = sized(l.copies[s], layer.Work(s).OutputBytes)
	}
}

// data is piece i of block b of what data slice j gave.
func (l *call) data(layer *plan.Layer, j, b, i int, out []byte) []byte {
	if layer.Overlaps() {
		return piece(layer.Kept(j, b, l.copies[j]), layer.Pieces(b), i)
	}
	return layer.Piece(j, b, i, out)
}

// comparable says whether a copy is still to come of a data slice of which
// another is there or to come; mu is held.
func (l *call) comparable(layer *plan.Layer) bool {
	for j := range layer.K() {
		may, open := 0, false
		for s := j; s < layer.N(); s += layer.K() {
			gone := false
			for b := range layer.Blocks(j) {
				c := *l.cell(s, b)
				gone = gone || c == lost
				open = open || c == pending || c == filling
			}
			if !gone {
				may++
			}
		}
		if may > 1 && open {
			return true
		}
	}
	return false
}

// compareCopies compares the copies of each data slice that are there. Where they
// differ, the slice is computed here.
func (l *call) compareCopies(number int, out []byte) error {
	layer := &l.c.plan.Layers[number]
	for j := range layer.K() {
		first, same := none, true
		for s := j; s < layer.N(); s += layer.K() {
			switch {
			case !l.gave(layer, s):
			case first == none:
				first = s
			default:
				same = same && sameResult(layer, l.copies[s], l.copies[first])
			}
		}
		if same {
			continue
		}
		wrong := make([]bool, layer.N())
		for b := range layer.Blocks(j) {
			if err := l.compute(number, j, b); err != nil {
				return err
			}
			for s := j; s < layer.N(); s += layer.K() {
				wrong[s] = wrong[s] || l.gave(layer, s) && !sameResult(layer, layer.Kept(j, b, l.copies[s]), l.scratch)
			}
			l.place(layer, j, b, out, result{wire.F32, l.scratch})
		}
		for s, is := range wrong {
			if is {
				l.blame(number, s)
			}
		}
	}
	return nil
}

// gave says whether all of slice s has come; the layer is settled.
func (l *call) gave(layer *plan.Layer, s int) bool {
	for b := range layer.Blocks(s) {
		if *l.cell(s, b) != arrived {
			return false
		}
	}
	return true
}

// examine has the check see every element of the results. Over float32, T, the
// absolute products of a row, is at most the sum of the row's absolute weights times
// the largest |x|.
func (l *call) examine(layer int, out, x []byte) error {
	pl := &l.c.plan.Layers[layer]
	if isInteger(pl) {
		l.examineIntegers(layer, out)
		return nil
	}
	norms, err := l.c.local.norms(layer)
	if err != nil {
		return err
	}
	code := l.c.codes[layer].floats
	a := &l.auditor
	a.check.Begin(code)
	most := 0.0
	for _, v := range tensor.View[float32](x) {
		most = max(most, math.Abs(float64(v)))
	}
	for b := range pl.MostBlocks() {
		pieces := pl.Pieces(b)
		for i := range pieces {
			a.data = a.data[:0]
			for j := range pl.K() {
				a.data = append(a.data, tensor.View[float32](l.data(pl, j, b, i, out)))
			}
			for p := range code.R() {
				result := tensor.View[float32](piece(pl.Kept(pl.K()+p, b, l.aside[pl.K()+p]), pieces, i))
				a.syndromes[p] = slices.Grow(a.syndromes[p][:0], len(result))[:len(result)]
				code.Syndrome(a.syndromes[p], result, p, a.data)
			}
			inner, first := pl.Linear.Inner, b*pl.BlockHeight()
			if pl.Kind == plan.Spatial { // a piece is of one row
				inner = len(a.syndromes[0])
				first += i % (pieces / pl.Linear.Outer)
			}
			a.see(code, pl.Linear.Cols, inner, first, norms, most)
		}
	}
	return nil
}

// examineIntegers is examine over the integers, where nothing is tolerated.
func (l *call) examineIntegers(layer int, out []byte) {
	pl := &l.c.plan.Layers[layer]
	code := &l.c.codes[layer]
	a := &l.auditor
	a.check.BeginIntegers(code.integers)
	for b := range pl.MostBlocks() {
		pieces := pl.Pieces(b)
		for i := range pieces {
			a.whole = a.whole[:0]
			for j := range pl.K() {
				a.whole = append(a.whole, tensor.View[int32](l.data(pl, j, b, i, out)))
			}
			size := 0
			for p := range pl.R() {
				result := piece(pl.Kept(pl.K()+p, b, l.aside[pl.K()+p]), pieces, i)
				size = len(result) / pl.Slice(pl.K()).OutputSize()
				a.exact[p] = slices.Grow(a.exact[p][:0], size)[:size]
				code.integers.Syndrome(a.exact[p], sumsOf(result, code.wide), p, a.whole)
			}
			for e := range size {
				var values [parity.MaxParity]int64
				for p := range pl.R() {
					values[p] = a.exact[p][e]
				}
				if values != ([parity.MaxParity]int64{}) {
					a.check.SeeIntegers(&values, !code.wide, func(j int) bool { return e < len(a.whole[j]) })
				}
			}
		}
	}
}

// see has the check see what syndromes there are; first is the row that they
// begin with, of weights cols long.
func (a *auditor) see(code parity.Code, cols, inner, first int, norms [][]float64, most float64) {
	factor := code.Tolerance(cols) * most
	for row := range len(a.syndromes[0]) / inner {
		var values, tolerance [parity.MaxParity]float64
		overflow, suspicious := false, false
		for p := range code.R() {
			norm := norms[p][first+row]
			tolerance[p] = factor*norm + code.Underflow(cols, float64(cols)*most+norms[0][first+row])
			// Neither result nor syndrome is beyond twice this.
			overflow = overflow || !(4*most*norm < math.MaxFloat32)
			suspicious = suspicious || beyond(a.syndromes[p][row*inner:(row+1)*inner], tolerance[p])
		}
		if overflow || !suspicious {
			continue
		}
		for e := row * inner; e < (row+1)*inner; e++ {
			for p := range code.R() {
				values[p] = float64(a.syndromes[p][e])
			}
			a.check.See(&values, &tolerance, func(i int) bool { return e < len(a.data[i]) })
		}
	}
}

// beyond says whether a magnitude is above limit, or not a number; it may also
// say so of one that is less than a rounding below.
func beyond(x []float32, limit float64) bool {
	most := float32(limit * (1 - 1.0/(1<<23)))
	for _, v := range x {
		if !(v <= most && -v <= most) {
			return true
		}
	}
	return false
}

// sameResult says whether results have the same bits; one NaN is as another.
func sameResult(layer *plan.Layer, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if isInteger(layer) || layer.Run != nil && layer.Run.Output.Type != tensor.Float32 {
		return false
	}
	x, y := tensor.View[float32](a), tensor.View[float32](b)
	for i, v := range x {
		if math.Float32bits(v) != math.Float32bits(y[i]) && (v == v || y[i] == y[i]) {
			return false
		}
	}
	return true
}

// giver is the ask of a worker that gave result u or some of it; none if it was
// computed here.
func (l *call) giver(layer *plan.Layer, u int) int {
	for a := range l.asks {
		if p := &l.asks[a]; p.slice%layer.Results() == u && p.gave > 0 && p.worker != nil {
			return a
		}
	}
	return none
}

// blame counts a wrong result, that of ask a, and sends its worker no more work.
func (l *call) blame(layer, a int) {
	w, slice := l.asks[a].worker, l.asks[a].slice
	w.wrong.Add(1)
	w.quarantined.Store(true)
	l.c.mu.Lock()
	l.c.announce()
	l.c.mu.Unlock()
	l.answer.Wrong = append(l.answer.Wrong, Recovered{Layer: layer, Slice: slice, Worker: w.number})
	l.c.log.Warn("worker gave a wrong result and gets no more work", "worker", w.name,
		"request", l.request, "layer", l.c.plan.Layers[layer].Node, "slice", slice)
}

// rowNorms is, by parity and row of a slice, Σ_i |G[p,i]|·Σ|W_i[row]|; where
// inputs are combined, all W_i are the layer's weights.
func rowNorms(code parity.Code, pl *plan.Layer, w []float32) [][]float64 {
	norms := make([][]float64, code.R())
	for p := range norms {
		norms[p] = make([]float64, pl.Height(pl.K()+p))
	}
	for j := range pl.K() {
		begin, end := 0, pl.Linear.Rows
		if pl.Cover == plan.Parity {
			begin, end = pl.Rows(j)
		}
		for row := begin; row < end; row++ {
			sum := 0.0
			for _, v := range w[row*pl.Linear.Cols : (row+1)*pl.Linear.Cols] {
				sum += math.Abs(float64(v))
			}
			for p := range norms {
				norms[p][row-begin] += math.Abs(float64(code.Coefficient(p, j))) * sum * (1 + 1e-9) // covers its rounding
			}
		}
	}
	return norms
}
