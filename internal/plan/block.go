package plan

import "starling/internal/engine"

// A slice is computed and returned in blocks of rows, each as soon as it is
// there. A block costs a frame at either end and, where the input is packed for
// the kernel, one packing more, so it must be worth that:
//
//   - of a dense layer without a batch it fills a packet (blockBytes) and takes
//     a small device a few milliseconds (blockFLOPs);
//   - of all others it has blockRows rows: packing the input again costs 5 % of
//     192 of them, and 14 % of 96.
//
// A layer whose slices are given parts of the channels only (groups) has one
// block: its rows do not share an input. So has a stage.
const (
	blockBytes = 1400
	blockFLOPs = 4 << 20
	blockRows  = 192
)

// MaxBlocks is the most blocks of a slice.
const MaxBlocks = 64

// blockHeight is how many rows a block of the layer's slices has, of which the
// highest is l.coded; asked is what the plan's Options want, 0 for the cheapest.
func (l *Layer) blockHeight(asked int) int {
	high := l.coded.Rows
	switch {
	case l.Linear.Conv.Groups > 1:
		return high
	case asked > 0:
		return max(min(asked, high), ceilDiv(high, MaxBlocks))
	}
	least := blockRows
	if l.Linear.Op != "Conv" && l.Linear.Outer == 1 {
		least = max(ceilDiv(blockBytes, 4), ceilDiv(blockFLOPs, 2*l.coded.Cols))
	}
	blocks := min(max(high/least, 1), MaxBlocks)
	const even = 16 // rows that kernels take together
	return min(ceilDiv(ceilDiv(high, blocks), even)*even, high)
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// BlockHeight is the number of rows of a block, the same for all slices of the
// layer; a slice's last one may have fewer.
func (l *Layer) BlockHeight() int { return l.block }

// Blocks is the number of blocks of slice s.
func (l *Layer) Blocks(s int) int { return ceilDiv(l.Height(s), l.block) }

// MostBlocks is the number of blocks of the highest slices, parities among them.
// Lower ones lack the last: they are zeros to the code.
func (l *Layer) MostBlocks() int { return ceilDiv(l.coded.Rows, l.block) }

// rows are those of block b of slice s: none if it has no such block.
func (l *Layer) rows(s, b int) (begin, end int) {
	high := l.Height(s)
	return min(b*l.block, high), min((b+1)*l.block, high)
}

// Block is what block b of slice s of a layer that is split computes:
// [Outer,rows,Inner].
func (l *Layer) Block(s, b int) engine.Linear {
	begin, end := l.rows(s, b)
	if begin == 0 && end == l.Height(s) {
		return l.Slice(s)
	}
	return l.Slice(s).OfRows(end - begin)
}

// BlockWeights is the weights of block b of data slice j, cut from all of them.
func (l *Layer) BlockWeights(j, b int, weights []byte) []byte {
	begin, end := l.rows(j, b)
	size := l.Slice(j).RowBytes()
	return weights[begin*size : end*size]
}

// Kept is where block b of result u lies in a copy of the result that is kept by
// itself, block after block.
func (l *Layer) Kept(u, b int, result []byte) []byte {
	if l.Run != nil {
		return result
	}
	begin, end := l.rows(u, b)
	part := l.Slice(u)
	size := part.Outer * part.Inner * part.OutputSize()
	return result[begin*size : end*size]
}

// Pieces is how many pieces block b of a result consists of that lie apart in the
// output. All are of one length.
func (l *Layer) Pieces(b int) int {
	switch {
	case l.Run != nil:
		return 1
	case l.Kind != Spatial:
		return l.Linear.Outer
	}
	begin, end := l.rows(0, b)
	return l.Linear.Outer * (end - begin)
}

// Piece is where piece i of block b of data slice j's result lies in the output;
// it is empty if the slice has no such block.
func (l *Layer) Piece(j, b, i int, out []byte) []byte {
	if l.Run != nil {
		return out
	}
	p := l.parts[j].out.of(l.Linear.OutputSize())
	begin, end := l.rows(j, b)
	if l.Kind == Spatial {
		rows := end - begin
		return p.at(out, i/rows*l.Linear.Rows+begin+i%rows)
	}
	base := i*p.axis + p.begin
	return out[(base+begin)*p.inner : (base+end)*p.inner]
}

// Place copies y, block b of the result of data slice j, to where it belongs in
// the layer's output. It must not be used for a layer that Sums.
func (l *Layer) Place(j, b int, out, y []byte) {
	for i := range l.Pieces(b) {
		y = y[copy(l.Piece(j, b, i, out), y):]
	}
}
