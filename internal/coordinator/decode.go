package coordinator

import (
	"fmt"
	"slices"
	"time"

	"starling/internal/plan"
)

// decoder is a call's scratch for decoding.
type decoder struct {
	solution  solution
	have, was []bool   // by result: of this block, and of the one that was solved last
	decoded   []bool   // by data slice
	tiles     [][]byte // decoded blocks that do not go into the output as they are
	numbers   []byte   // of code.encode
}

// decode recovers the data that is not there, straight into dst, block by block:
// different ones may lack different workers. Where a sum of results overflows,
// which none of them need, the slices are computed here.
func (l *call) decode(number int, dst []byte) error {
	if l.missing == 0 {
		return nil
	}
	begin := time.Now()
	layer := &l.c.plan.Layers[number]
	d := &l.decoder
	d.was, d.decoded = d.was[:0], d.decoded[:0]
	for range layer.K() {
		d.decoded = append(d.decoded, false)
	}
	for b := range l.blocks {
		d.have = d.have[:0]
		missing := false
		for u := range layer.Results() {
			there := l.state(layer, u, b) == arrived
			d.have = append(d.have, there)
			missing = missing || !there && u < layer.K()
		}
		if !missing {
			continue
		}
		if !slices.Equal(d.have, d.was) {
			if err := l.c.codes[number].solve(&d.solution, d.have); err != nil {
				return err // never: gather waited for k results
			}
			d.was = append(d.was[:0], d.have...)
		}
		if !l.recover(layer, b, dst) {
			return l.recompute(number, dst)
		}
		for _, j := range d.solution.lost {
			d.decoded[j] = true
		}
	}
	for j, decoded := range d.decoded {
		if decoded {
			w := l.asks[j].worker
			w.decoded.Add(1)
			l.answer.Decoded = append(l.answer.Decoded, Recovered{Layer: number, Slice: j, Worker: w.number})
		}
	}
	l.answer.Decoding += time.Since(begin)
	return nil
}

// recover carries out the solution for block b. It is false if a value
// overflows; out is then undefined where data slices are lost.
func (l *call) recover(layer *plan.Layer, b int, out []byte) bool {
	d := &l.decoder
	s := &d.solution
	// Tiles overlap: what follows from the others may not be written among them.
	apart := layer.Overlaps()
	switch {
	case apart:
		markTile.Pass()
	case len(s.lost) == 1 && slices.Contains(s.from, layer.K()):
		markSubtracted.Pass()
	default:
		markSolved.Pass()
	}
	for i, j := range s.lost {
		if i == len(d.tiles) {
			d.tiles = append(d.tiles, nil)
		}
		if apart {
			d.tiles[i] = sized(d.tiles[i], layer.Block(j, b).OutputBytes())
		}
	}
	pieces := layer.Pieces(b)
	for i := range pieces {
		s.begin()
		for n, j := range s.lost {
			if apart {
				s.to(piece(d.tiles[n], pieces, i))
			} else {
				s.to(layer.Piece(j, b, i, out))
			}
		}
		for _, u := range s.from {
			if u < layer.K() {
				s.data(layer.Piece(u, b, i, out))
			} else {
				s.parity(piece(layer.Kept(u, b, l.aside[u]), pieces, i))
			}
		}
		if !s.recover() {
			return false
		}
	}
	if apart {
		for n, j := range s.lost {
			layer.Place(j, b, out, d.tiles[n])
		}
	}
	return true
}

// recompute computes here the data slices of a settled layer that are not there.
func (l *call) recompute(number int, out []byte) error {
	layer := &l.c.plan.Layers[number]
	for j := range layer.K() {
		if l.there(layer, j) {
			continue
		}
		for b := range layer.Blocks(j) {
			if err := l.compute(number, j, b); err != nil {
				return err
			}
			layer.Place(j, b, out, l.scratch)
		}
		if !l.recomputed(j) {
			l.answer.Recomputed = append(l.answer.Recomputed, Recovered{Layer: number, Slice: j, Worker: l.holders[j].number})
		}
	}
	return nil
}

// compute leaves block b of data slice j of a settled layer in scratch.
func (l *call) compute(number, j, b int) error {
	input := l.inputs[j%len(l.inputs)].values.Bytes()
	if _, err := l.c.local.compute(l.c.pool, number, j, b, input, &l.scratch, nil); err != nil {
		return fmt.Errorf("compute slice %d of layer %s here: %w", j, l.c.plan.Layers[number].Node, err)
	}
	return nil
}
