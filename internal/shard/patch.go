package shard

import (
	"fmt"
	"slices"

	"starling/internal/engine"
	"starling/internal/parity"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// Patch is new weights for some rows of one slice of a shard.
type Patch struct {
	Layer, Nth int    // which slice; see Slice
	Begin      int    // the first row
	Rows       []byte // whole rows, one after the other
}

// Patches are what the slices of a layer, number i, must be given when its
// weights become w [Rows,Cols], which differ from what they were in the rows
// [begin,end): one for each slice, its Rows nil if nothing changes for it. A
// parity row changes with a row of any data slice. It is encoded anew and not
// by adding the difference, which would add a rounding error each time: so
// every slice is, bit by bit, that of a new deployment.
func Patches(layer *plan.Layer, i int, w []byte, begin, end int) ([]Patch, error) {
	patches := make([]Patch, layer.N())
	data := make([][]byte, layer.K())
	low, high := layer.Linear.Rows, 0 // of the rows of parity slices
	for j := range data {
		data[j] = layer.Weights(j, w)
		if from, to := layer.Held(j, begin, end); from < to {
			low, high = min(low, from), max(high, to)
		}
	}
	for s := range patches {
		patches[s].Layer, patches[s].Nth = i, layer.Nth(s)
		slice := layer.Slice(s)
		if s < layer.K() || layer.Cover != plan.Parity {
			from, to := begin, end
			weights := w
			if layer.Cover != plan.Inputs {
				j := s % layer.K()
				from, to = layer.Held(j, begin, end)
				weights = data[j]
			}
			if from < to {
				patches[s].Begin, patches[s].Rows = from, weights[from*slice.RowBytes():to*slice.RowBytes()]
			}
			continue
		}
		weights, err := encode(layer, s-layer.K(), data, low, high)
		if err != nil {
			return nil, err
		}
		patches[s].Begin, patches[s].Rows = low, weights
	}
	return patches, nil
}

// encode makes rows [low,high) of parity slice i from the data slices' weights.
func encode(layer *plan.Layer, i int, data [][]byte, low, high int) ([]byte, error) {
	slice := layer.Slice(layer.K() + i)
	if slice.Integers != (engine.Integers{}) {
		return encodeIntegers(layer, i, data, low, high)
	}
	code, err := parity.New(layer.K(), layer.R())
	if err != nil {
		return nil, err
	}
	rows := make([][]float32, len(data))
	for j, block := range data {
		rows[j] = tensor.View[float32](block[min(low*slice.RowBytes(), len(block)):min(high*slice.RowBytes(), len(block))])
	}
	weights := make([]float32, (high-low)*slice.Cols)
	code.Encode(weights, i, rows)
	if !parity.Finite(weights) {
		return nil, fmt.Errorf("layer %s: a combination of its slices' weights overflows float32, so parity cannot cover it: use --redundancy replicate or none", layer.Node)
	}
	return tensor.Bytes(weights), nil
}

// encodeIntegers is encode for a layer over integers, whose zero points are taken
// out.
func encodeIntegers(layer *plan.Layer, i int, data [][]byte, low, high int) ([]byte, error) {
	code, err := parity.NewIntegers(layer.K(), layer.R())
	if err != nil {
		return nil, err
	}
	slice, cols := layer.Slice(layer.K()+i), layer.Linear.Cols
	weights := tensor.Alloc((high - low) * slice.RowBytes())
	sum, values, rows := make([]int32, cols), make([]int32, cols*len(data)), make([][]int32, len(data))
	for row := low; row < high; row++ {
		for j := range data {
			rows[j] = nil
			if row < layer.Height(j) {
				rows[j] = values[j*cols : (j+1)*cols]
				layer.Linear.Integers.Values(rows[j], data[j], row*cols)
			}
		}
		code.Encode(sum, i, rows)
		at := (row - low) * cols
		if slice.Integers.Weights == tensor.Int32 {
			copy(tensor.View[int32](weights)[at:], sum)
			continue
		}
		for c, v := range sum {
			tensor.View[int16](weights)[at+c] = int16(v)
		}
	}
	return weights, nil
}

// Patch writes to the store what from becomes by the patches. The file is that
// which Build would write, so its name tells whether the patches were right. A
// patch that does not fit is an error.
func (s *Store) Patch(from *Shard, patches []Patch) (Info, error) {
	w, err := newWriter(s)
	if err != nil {
		return Info{}, err
	}
	defer w.abandon()
	used := 0
	for _, slice := range from.Slices {
		weights := slice.Weights
		own := false
		for _, p := range patches {
			if p.Layer != slice.Layer || p.Nth != slice.Nth {
				continue
			}
			used++
			if slice.Stage != nil {
				return Info{}, fmt.Errorf("patch of layer %d, which is a stage", p.Layer)
			}
			size := slice.Linear.RowBytes()
			at := int64(p.Begin) * int64(size)
			if p.Begin < 0 || len(p.Rows)%size != 0 || at > int64(len(weights)-len(p.Rows)) {
				return Info{}, fmt.Errorf("patch of %d bytes at row %d does not fit layer %d's [%d,%d]", len(p.Rows), p.Begin, p.Layer, slice.Linear.Rows, slice.Linear.Cols)
			}
			if !own {
				weights, own = slices.Clone(weights), true // the file is mapped read-only
			}
			copy(weights[at:], p.Rows)
		}
		if err := w.slice(slice, weights); err != nil {
			return Info{}, err
		}
	}
	if used != len(patches) {
		return Info{}, fmt.Errorf("%d of %d patches are for slices that the shard does not have", len(patches)-used, len(patches))
	}
	if err := w.finish(); err != nil {
		return Info{}, err
	}
	info := w.info()
	f := w.file
	w.file = nil
	info.Path, err = s.keep(f, info.SHA256)
	return info, err
}
