package plan

import (
	"fmt"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/tensor"
	"starling/internal/wire"
)

// Layer is one split layer, or a stage: k data slices, numbered from 0, then what
// covers their loss. It is immutable.
type Layer struct {
	Node    string        // its name: that of the first of its nodes, or as Run says
	Nodes   []string      // of the graph: one, dense ones that read the same input, or those of the stage
	Linear  engine.Linear // the whole layer; zero of a stage
	Run     *Run          // of a stage; nil of a layer that is split
	Kind    string        // Output, Channel, Input, Filter, Spatial or Stage
	Cover   string        // None, Parity, Replicate or Inputs
	Workers []int         // who holds slice s; see K and N
	Wire    wire.Encoding // of its inputs and results on the link

	parts []part
	coded engine.Linear // of a parity slice
	nth   []int         // see Nth
	block int           // see BlockHeight
}

// K is the number of data slices.
func (l *Layer) K() int { return len(l.parts) }

// N is the number of slices: with Parity and Inputs K data and then R parity
// slices; with Replicate the data slices and then copies of all of them, once
// or several times: slice s is the data slice s mod K.
func (l *Layer) N() int { return len(l.Workers) }

// R is the number of parity slices.
func (l *Layer) R() int {
	if l.Cover == Parity || l.Cover == Inputs {
		return l.N() - l.K()
	}
	return 0
}

// Results is the number of different results: K data, then R parities. Slice s
// gives result s mod Results.
func (l *Layer) Results() int { return l.K() + l.R() }

// Nth says which of its worker's slices of this layer slice s is, from 0.
func (l *Layer) Nth(s int) int { return l.nth[s] }

// Slice is what slice s of a layer that is split computes.
func (l *Layer) Slice(s int) engine.Linear {
	if s %= l.Results(); s < l.K() {
		return l.parts[s].linear
	}
	return l.coded
}

// Weights is the weights of data slice j, cut from the layer's w [Rows,Cols]:
// a view where they lie together, else a copy.
func (l *Layer) Weights(j int, w []byte) []byte {
	span := l.parts[j].weights.of(l.Linear.WeightSize())
	if span.outer == 1 {
		return w[span.begin*span.inner : span.end*span.inner]
	}
	own := tensor.Alloc(l.parts[j].linear.WeightBytes())
	span.take(own, w, 0)
	return own
}

// Held is which of the weights of data slice j are those of the layer's rows
// [begin,end): its rows [from,to).
func (l *Layer) Held(j, begin, end int) (from, to int) {
	if l.Kind != Output && l.Kind != Channel {
		return begin, end
	}
	first, last := l.Rows(j)
	from, to = max(begin, first), min(end, last)
	return from - first, to - first
}

// SharesInput says whether every slice takes the layer's whole input. A combination
// of tiles is another, also where there is one tile: it has numbers of its own type.
func (l *Layer) SharesInput() bool {
	return l.Run != nil || l.Cover != Inputs && l.parts[0].in.whole() && l.parts[l.K()-1].in.whole()
}

// Input copies the part of the layer's input x that data slice j takes to dst, of
// length Work(j).InputBytes. zero is the zero point of x, if that is of bytes.
func (l *Layer) Input(j int, dst, x []byte, zero int32) {
	if l.Run != nil {
		copy(dst, x)
		return
	}
	p := &l.parts[j]
	size := p.linear.InputSize()
	p.in.of(size).take(dst, x, byte(zero))
	if size == 1 {
		dst[len(dst)-1] = byte(zero)
	}
}

// Sums says whether the layer's output is the sum of the results of its data
// slices, not these side by side.
func (l *Layer) Sums() bool { return l.Kind == Input || l.Kind == Filter }

// Overlaps says whether data slices that lie beside each other give some of the
// output twice, as tiles of equal height do where they do not divide a map.
func (l *Layer) Overlaps() bool { return l.Cover == Inputs }

// Rows is the range of the layer's rows that data slice j of an Output or
// Channel split holds, end excluded.
func (l *Layer) Rows(j int) (begin, end int) { return l.parts[j].out.begin, l.parts[j].out.end }

// Height is the number of rows of slice s. A parity slice is as high as the
// highest data slice.
func (l *Layer) Height(s int) int { return l.Slice(s).Rows }

// fill cuts the layer among its holders. Who would have nothing has no slice.
func (l *Layer) fill(h holders, block int) error {
	if l.Run != nil {
		l.whole(h)
	} else if err := l.cut(h, block); err != nil {
		return err
	}
	held := map[int]int{}
	for s, w := range l.Workers {
		l.nth = append(l.nth, held[w])
		held[w]++
		if most := max(int64(l.Work(s).InputBytes), int64(l.BlockWork(s, 0).OutputBytes)); most > frame.DefaultMaxPayload {
			return fmt.Errorf("a slice is sent or returns %d bytes, a frame carries at most %d: use another --split, or --workers 0", most, frame.DefaultMaxPayload)
		}
	}
	return nil
}

// cut divides a layer that is split.
func (l *Layer) cut(h holders, block int) error {
	data, extra := h.data, h.extra
	n, err := Units(l.Linear, l.Kind)
	if err != nil {
		return err
	}
	var ranges [][2]int
	if l.Cover == Inputs {
		ranges = tiles(n, len(data))
	} else {
		ranges = divide(n, h.shares)
	}
	var kept []int
	for j, r := range ranges {
		if r[0] == r[1] {
			continue
		}
		p, err := cut(l.Linear, l.Kind, r[0], r[1], l.Cover == Inputs)
		if err != nil {
			return err
		}
		kept, l.parts, l.Workers = append(kept, j), append(l.parts, p), append(l.Workers, data[j])
		if p.linear.Rows >= l.coded.Rows {
			l.coded = p.linear // as high as the highest
		}
	}
	if l.Cover == Replicate {
		for ; len(extra) > 0; extra = extra[len(data):] {
			for _, j := range kept {
				l.Workers = append(l.Workers, extra[j])
			}
		}
	} else {
		l.Workers = append(l.Workers, extra...)
	}
	if err := l.combine(); err != nil {
		return err
	}
	l.block = l.blockHeight(block)
	return nil
}

// divide cuts n units in proportion to shares; a range may be empty.
func divide(n int, shares []float64) [][2]int {
	var total, sum float64
	for _, s := range shares {
		total += s
	}
	ranges := make([][2]int, len(shares))
	end := 0
	for j, s := range shares {
		sum += s
		begin := end
		end = int(float64(n) * sum / total)
		if j == len(shares)-1 {
			end = n
		}
		ranges[j] = [2]int{begin, end}
	}
	return ranges
}

// tiles cuts n units into k ranges of one length, at most n of them, which
// overlap by as little as that needs.
func tiles(n, k int) [][2]int {
	k = min(n, k)
	size := (n + k - 1) / k
	ranges := make([][2]int, k)
	for j := range ranges {
		begin := j * (n - size) / max(k-1, 1)
		ranges[j] = [2]int{begin, begin + size}
	}
	return ranges
}
