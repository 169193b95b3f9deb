package coordinator

import (
	"fmt"
	"slices"
	"time"

	"starling/internal/parity"
	"starling/internal/plan"
)

// decoder is a call's scratch for decoding.
type decoder struct {
	solution  parity.Solution
	have, was []bool      // by result: of this block, and of the one that was solved last
	decoded   []bool      // by data slice
	dst, from [][]float32 // a piece of each operand
	tiles     [][]float32 // decoded blocks that do not go into the output as they are
}

// decode recovers the data that is not there, straight into dst, block by block:
// different ones may lack different workers. Where a sum of results overflows,
// which none of them need, the slices are computed here.
func (l *call) decode(number int, dst []float32) error {
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
			if err := l.c.codes[number].Solve(&d.solution, d.have); err != nil {
				return err // never: gather waited for k results
			}
			d.was = append(d.was[:0], d.have...)
		}
		if !l.recover(layer, b, dst) {
			return l.recompute(number, dst)
		}
		for _, j := range d.solution.Lost {
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
func (l *call) recover(layer *plan.Layer, b int, out []float32) bool {
	d := &l.decoder
	s := &d.solution
	// Tiles overlap: what follows from the others may not be written among them.
	apart := layer.Overlaps()
	for i, j := range s.Lost {
		if i == len(d.tiles) {
			d.tiles = append(d.tiles, nil)
		}
		if apart {
			d.tiles[i] = sized(d.tiles[i], layer.Block(j, b).OutputLen())
		}
	}
	pieces := layer.Pieces(b)
	for i := range pieces {
		d.dst, d.from = d.dst[:0], d.from[:0]
		for n, j := range s.Lost {
			if apart {
				d.dst = append(d.dst, piece(d.tiles[n], pieces, i))
			} else {
				d.dst = append(d.dst, layer.Piece(j, b, i, out))
			}
		}
		for _, u := range s.From {
			if u < layer.K() {
				d.from = append(d.from, layer.Piece(u, b, i, out))
			} else {
				d.from = append(d.from, piece(layer.Kept(u, b, l.aside[u]), pieces, i))
			}
		}
		if !s.Recover(d.dst, d.from) {
			return false
		}
	}
	if apart {
		for n, j := range s.Lost {
			layer.Place(j, b, out, d.tiles[n])
		}
	}
	return true
}

// recompute computes here the data slices of a settled layer that are not there.
func (l *call) recompute(number int, out []float32) error {
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
	input := l.inputs[j%len(l.inputs)].Bytes()
	if _, err := l.c.local.compute(l.c.pool, number, j, b, input, &l.scratch, nil); err != nil {
		return fmt.Errorf("compute slice %d of layer %s here: %w", j, l.c.plan.Layers[number].Node, err)
	}
	return nil
}
