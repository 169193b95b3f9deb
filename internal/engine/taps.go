package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Windows of any rank, forward and transposed, computed plainly: for what the
// kernels do not know, which are convolutions of four and more dimensions or
// with weights that are computed, ConvTranspose, pools of three and more
// dimensions and the indices of a MaxPool.

// A tap is an element of the input that an output reads, and the element of the
// kernel that stands over it.
type tap struct{ in, kernel int }

// axisTaps lists the taps of each output index along each axis of a window.
func axisTaps(w graph.Window, spatial []int, transposed bool) [][][]tap {
	all := make([][][]tap, len(spatial))
	for d, size := range spatial {
		all[d] = make([][]tap, w.Out[d])
		for o := range all[d] {
			for k := range w.Kernel[d] {
				in := o*w.Strides[d] - w.PadBegin[d] + k*w.Dilations[d]
				if transposed {
					in = o + w.PadBegin[d] - k*w.Dilations[d]
					if in%w.Strides[d] != 0 {
						continue
					}
					in /= w.Strides[d]
				}
				if in >= 0 && in < size {
					all[d][o] = append(all[d][o], tap{in, k})
				}
			}
		}
	}
	return all
}

// taps are a window over x [N,C,spatial…] with the place for one output's taps.
type taps struct {
	axes        [][][]tap
	spatial     []int
	kernel, out []int
	scratch     int // slot of int32 pairs: offsets of inputs and of kernel elements
}

func (c *compiler) newTaps(w graph.Window, spatial []int, transposed bool) taps {
	return taps{
		axes: axisTaps(w, spatial, transposed), spatial: spatial, kernel: w.Kernel, out: w.Out,
		scratch: c.buffer(8 * tensor.Shape(w.Kernel).Elements()),
	}
}

// at lists the taps of an output, pairs of offsets.
func (t *taps) at(s *Session, output int) []int32 {
	list := view[int32](s, t.scratch)
	list[0], list[1] = 0, 0
	count := 1
	stride := tensor.Shape(t.out).Elements()
	for d, axis := range t.axes {
		stride /= t.out[d]
		own := axis[output/stride%t.out[d]]
		// From the back, so that what is read is not yet written over.
		for i := count - 1; i >= 0; i-- {
			in, kernel := list[2*i]*int32(t.spatial[d]), list[2*i+1]*int32(t.kernel[d])
			for j := len(own) - 1; j >= 0; j-- {
				to := 2 * (i*len(own) + j)
				list[to], list[to+1] = in+int32(own[j].in), kernel+int32(own[j].kernel)
			}
		}
		count *= len(own)
	}
	return list[:2*count]
}

// windowed emits a Conv (opset 11) or ConvTranspose (opset 11) without its bias.
func (c *compiler) windowed(n *graph.Node, dst int) error {
	in, err := c.floats(n.Inputs[0], n.Inputs[1])
	if err != nil {
		return err
	}
	x, w, groups := c.shape(n.Inputs[0]), c.shape(n.Inputs[1]), n.Attrs.Int("group", 1)
	transposed := n.Op == "ConvTranspose"
	of := graph.WindowOf
	if transposed {
		of = graph.TransposedWindowOf
	}
	win, err := of(n, x[2:], w[2:])
	if err != nil {
		return err
	}
	o := &windowOp{
		taps: c.newTaps(win, x[2:], transposed), dst: dst, x: in[0], w: in[1],
		n: x[0], groups: groups, c: x[1] / groups, m: w[0] / groups,
	}
	k := w[2:].Elements()
	o.mStep, o.cStep = w[1]*k, k
	if transposed {
		o.m, o.mStep, o.cStep = w[1], k, w[1]*k
	}
	c.emit(o, dst, in[0], in[1], o.scratch)
	return nil
}

// windowOp is y[n,m,o] = Σ x[n,c,tap.in]·w[m,c,tap.kernel], by groups, summed in
// float64, where products of float32 are exact, and rounded once.
type windowOp struct {
	taps
	dst, x, w       int
	n, groups, c, m int // c and m of one group
	mStep, cStep    int // elements of w from one m or c to the next
}

func (o *windowOp) run(s *Session) {
	dst, x, w := s.f32(o.dst), s.f32(o.x), s.f32(o.w)
	size, outputs, kernel := tensor.Shape(o.spatial).Elements(), tensor.Shape(o.out).Elements(), tensor.Shape(o.kernel).Elements()
	group := max(o.mStep*o.m, o.cStep*o.c) // of w; for a transposed one w [C,M/group]
	for output := range outputs {
		list := o.at(s, output)
		for image := range o.n * o.groups {
			g := image % o.groups
			for m := range o.m {
				weights := w[g*group+m*o.mStep:]
				sum := 0.0
				for c := range o.c {
					from, row := x[(image*o.c+c)*size:], weights[c*o.cStep:c*o.cStep+kernel]
					for i := 0; i < len(list); i += 2 {
						sum += float64(from[list[i]]) * float64(row[list[i+1]])
					}
				}
				dst[(image*o.m+m)*outputs+output] = float32(sum)
			}
		}
	}
}

// wholePool emits a MaxPool of bytes (opset 12), as quantised models have it.
func (c *compiler) wholePool(n *graph.Node) error {
	x, err := c.value(n.Inputs[0])
	if err != nil {
		return err
	}
	info := c.info(n.Inputs[0])
	if len(n.Outputs) > 1 {
		return fmt.Errorf("indices are not supported for %v", info.Type)
	}
	win, err := graph.WindowOf(n, info.Shape[2:], nil)
	if err != nil {
		return err
	}
	o := wholePool{taps: c.newTaps(win, info.Shape[2:], false), x: x, nc: info.Shape[:2].Elements(), dst: c.define(n.Outputs[0])}
	var op operator = &wholePoolOp[uint8]{o}
	if info.Type == tensor.Int8 {
		op = &wholePoolOp[int8]{o}
	}
	c.emit(op, o.dst, x, o.scratch)
	return nil
}

type wholePool struct {
	taps
	dst, x, nc int
}

type wholePoolOp[T int8 | uint8] struct{ wholePool }

func (o *wholePoolOp[T]) run(s *Session) {
	dst, x := view[T](s, o.dst), view[T](s, o.x)
	size, outputs := tensor.Shape(o.spatial).Elements(), tensor.Shape(o.out).Elements()
	for output := range outputs {
		list := o.at(s, output)
		for i := range o.nc {
			best := least[T]()
			for k := 0; k < len(list); k += 2 {
				best = max(best, x[i*size+int(list[k])])
			}
			dst[i*outputs+output] = best
		}
	}
}

// plainPool emits a MaxPool (opset 12) or AveragePool (opset 19) of any rank.
func (c *compiler) plainPool(n *graph.Node) error {
	x, err := c.float(n.Inputs[0])
	if err != nil {
		return err
	}
	shape := c.shape(n.Inputs[0])
	win, err := graph.WindowOf(n, shape[2:], nil)
	if err != nil {
		return err
	}
	o := &tapPoolOp{
		taps: c.newTaps(win, shape[2:], false), dst: -1, x: x, indices: -1,
		nc: shape[:2].Elements(), max: n.Op == "MaxPool", columns: n.Attrs.Int("storage_order", 0) != 0,
	}
	if n.Attrs.Int("count_include_pad", 0) != 0 {
		// Cells that count: those inside the input and its padding.
		padded := win
		padded.PadBegin = make([]int, len(shape)-2)
		wide := make([]int, len(shape)-2)
		for d := range wide {
			wide[d] = shape[2+d] + win.PadBegin[d] + win.PadEnd[d]
		}
		o.counts = axisTaps(padded, wide, false)
	}
	slots := []int{x, o.scratch}
	if n.Outputs[0] != "" {
		o.dst = c.define(n.Outputs[0])
		slots = append(slots, o.dst)
	}
	if len(n.Outputs) > 1 && n.Outputs[1] != "" {
		o.indices = c.define(n.Outputs[1])
		slots = append(slots, o.indices)
	}
	c.emit(o, slots...)
	return nil
}

type tapPoolOp struct {
	taps
	dst, x, indices int // dst and indices are -1 where left out
	nc              int
	max             bool
	columns         bool      // indices count along columns
	counts          [][][]tap // cells an average divides by; nil for those of the input
}

func (o *tapPoolOp) run(s *Session) {
	x := s.f32(o.x)
	size, outputs := tensor.Shape(o.spatial).Elements(), tensor.Shape(o.out).Elements()
	for output := range outputs {
		list := o.at(s, output)
		count := len(list) / 2
		if o.counts != nil {
			count = 1
			stride := outputs
			for d, axis := range o.counts {
				stride /= o.out[d]
				count *= len(axis[output/stride%o.out[d]])
			}
		}
		for i := range o.nc {
			from := x[i*size : (i+1)*size]
			best, where, sum := float32(math.Inf(-1)), 0, float32(0)
			for k := 0; k < len(list); k += 2 {
				v := from[list[k]]
				if k == 0 || v > best || v != v {
					best, where = v, int(list[k])
				}
				sum += v
			}
			if !o.max {
				best = sum / float32(count)
			}
			if o.dst >= 0 {
				s.f32(o.dst)[i*outputs+output] = best
			}
			if o.indices >= 0 {
				view[int64](s, o.indices)[i*outputs+output] = int64(i*size + o.place(where))
			}
		}
	}
}

// place is the index of an element of a map in the order that is asked for.
func (o *tapPoolOp) place(at int) int {
	if !o.columns {
		return at
	}
	place, weight, stride := 0, 1, tensor.Shape(o.spatial).Elements()
	for _, size := range o.spatial {
		stride /= size
		place += at / stride * weight
		at %= stride
		weight *= size
	}
	return place
}
