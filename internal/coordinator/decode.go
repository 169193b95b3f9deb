package coordinator

import (
	"time"

	"starling/internal/parity"
	"starling/internal/plan"
)

// decoder is a call's scratch for decoding.
type decoder struct {
	solution  parity.Solution
	have      []bool      // by result
	dst, from [][]float32 // a block of each operand
	tiles     [][]float32 // decoded slices that do not go into the output as they are
}

// decode recovers the data slices that are not there, straight into dst. Where
// a sum of results overflows, which none of them need, they are computed here
// from the layer's input x.
func (l *call) decode(layer int, dst, x []float32) error {
	pl := &l.c.plan.Layers[layer]
	d := &l.decoder
	d.have = d.have[:0]
	missing := false
	for u := range pl.Results() {
		there := l.state(pl, u) == arrived
		d.have = append(d.have, there)
		missing = missing || !there && u < pl.K()
	}
	if !missing {
		return nil
	}
	begin := time.Now()
	if err := l.c.codes[layer].Solve(&d.solution, d.have); err != nil {
		return err // never: gather waited for k results
	}
	missed := d.solution.Lost
	if !l.recover(pl, dst) {
		for _, j := range missed {
			l.slices[j].state = lost
		}
		for range missed {
			if err := l.recompute(layer, x); err != nil {
				return err
			}
		}
		return nil
	}
	for _, j := range missed {
		w := l.slices[j].worker
		w.decoded.Add(1)
		l.answer.Decoded = append(l.answer.Decoded, Recovered{Layer: layer, Slice: j, Worker: w.number})
	}
	l.answer.Decoding += time.Since(begin)
	return nil
}

// recover carries out the solution, block by block of the results. It is false
// if a value overflows; out is then undefined where data slices are lost.
func (l *call) recover(pl *plan.Layer, out []float32) bool {
	d := &l.decoder
	s := &d.solution
	// Tiles overlap: what follows from the others may not be written among them.
	apart := pl.Overlaps()
	for i, j := range s.Lost {
		if i == len(d.tiles) {
			d.tiles = append(d.tiles, nil)
		}
		if apart {
			d.tiles[i] = sized(d.tiles[i], pl.Slice(j).OutputLen())
		}
	}
	for o := range pl.Blocks() {
		d.dst, d.from = d.dst[:0], d.from[:0]
		for i, j := range s.Lost {
			if apart {
				d.dst = append(d.dst, block(d.tiles[i], pl, o))
			} else {
				d.dst = append(d.dst, pl.Block(j, out, o))
			}
		}
		for _, u := range s.From {
			if u < pl.K() {
				d.from = append(d.from, pl.Block(u, out, o))
			} else {
				d.from = append(d.from, block(l.aside[u], pl, o))
			}
		}
		if !s.Recover(d.dst, d.from) {
			return false
		}
	}
	if apart {
		for i, j := range s.Lost {
			pl.Place(j, out, d.tiles[i])
		}
	}
	return true
}

// block is block o of a result that lies by itself.
func block(result []float32, pl *plan.Layer, o int) []float32 {
	size := len(result) / pl.Blocks()
	return result[o*size : (o+1)*size]
}
