package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// maxSampled is how many spatial dimensions a GridSample may have.
const maxSampled = 3

// gridSample emits a GridSample (opset 22) of x [N,C,spatial…] at the places of
// grid [N,out…,rank], whose coordinates run from −1 to 1, the last axis first.
func (c *compiler) gridSample(n *graph.Node) error {
	in, err := c.floats(n.Inputs[0], n.Inputs[1])
	if err != nil {
		return err
	}
	x, out := c.shape(n.Inputs[0]), c.shape(n.Outputs[0])
	o := &gridSampleOp{
		x: in[0], grid: in[1], n: x[0], c: x[1], spatial: x[2:], outputs: out[2:].Elements(),
		padding: n.Attrs.String("padding_mode", "zeros"), corners: n.Attrs.Int("align_corners", 0) != 0,
	}
	if len(o.spatial) > maxSampled {
		return fmt.Errorf("%d spatial dimensions, at most %d are supported", len(o.spatial), maxSampled)
	}
	switch mode := n.Attrs.String("mode", "linear"); mode {
	case "nearest":
		o.taps = 1
	case "linear", "bilinear": // bilinear and bicubic are opset 16's names
		o.taps = 2
	case "cubic", "bicubic":
		o.taps = 4
	default:
		return fmt.Errorf("mode %q, want nearest, linear or cubic", mode)
	}
	if o.padding != "zeros" && o.padding != "border" && o.padding != "reflection" {
		return fmt.Errorf("padding_mode %q, want zeros, border or reflection", o.padding)
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, o.x, o.grid)
	return nil
}

type gridSampleOp struct {
	dst, x, grid  int
	n, c, outputs int
	spatial       tensor.Shape
	taps          int // elements along an axis that a result is made of
	padding       string
	corners       bool
}

// places are, for each axis, elements and their weights.
type places struct {
	index  [maxSampled][4]int // -1: outside, worth 0
	weight [maxSampled][4]float64
}

func (o *gridSampleOp) run(s *Session) {
	dst, x, grid := s.f32(o.dst), s.f32(o.x), s.f32(o.grid)
	rank, size := len(o.spatial), o.spatial.Elements()
	var p places
	for image := range o.n {
		for i := range o.outputs {
			at := grid[(image*o.outputs+i)*rank : (image*o.outputs+i+1)*rank]
			for d, length := range o.spatial {
				o.place(&p, d, float64(at[rank-1-d]), length)
			}
			for c := range o.c {
				from := x[(image*o.c+c)*size : (image*o.c+c+1)*size]
				dst[(image*o.c+c)*o.outputs+i] = float32(o.sum(&p, from, 0, 0))
			}
		}
	}
}

// sum adds up axes d and those inside, from element at of those outside.
func (o *gridSampleOp) sum(p *places, x []float32, d, at int) float64 {
	if d == len(o.spatial) {
		return float64(x[at])
	}
	sum := 0.0
	for k := range o.taps {
		if i := p.index[d][k]; i >= 0 {
			sum += float64(p.weight[d][k] * o.sum(p, x, d+1, at*o.spatial[d]+i))
		}
	}
	return sum
}

// place finds the elements along axis d for a coordinate.
func (o *gridSampleOp) place(p *places, d int, v float64, length int) {
	low, high := -0.5, float64(length)-0.5
	at := (float64((v+1)*float64(length)) - 1) / 2
	if o.corners {
		low, high = 0, float64(length-1)
		at = float64((v+1)/2) * float64(length-1)
	}
	if !(math.Abs(at) < 1<<30) { // far outside, or NaN
		at = -1 << 30
	}
	if o.taps == 1 {
		at = math.RoundToEven(at)
	}
	if o.taps < 4 {
		switch o.padding {
		case "border":
			at = min(max(at, 0), float64(length-1))
		case "reflection":
			at = reflected(at, low, high)
		}
	}
	first := math.Floor(at)
	t := at - first
	switch o.taps {
	case 1:
		p.weight[d][0] = 1
	case 2:
		p.weight[d] = [4]float64{1 - t, t}
	case 4:
		first--
		k := resampling{a: -0.75}
		p.weight[d] = [4]float64{k.cubic(t + 1), k.cubic(t), k.cubic(1 - t), k.cubic(2 - t)}
	}
	for k := range o.taps {
		i := first + float64(k)
		switch o.padding {
		case "border":
			i = min(max(i, 0), float64(length-1))
		case "reflection":
			i = min(max(math.Trunc(reflected(i, low, high)), 0), float64(length-1))
		}
		if p.index[d][k] = int(i); i < 0 || i >= float64(length) {
			p.index[d][k] = -1
		}
	}
}

// reflected throws v back at both ends as often as it takes.
func reflected(v, low, high float64) float64 {
	size := high - low
	if size == 0 {
		return low
	}
	off := math.Abs(v - low)
	turns, rest := math.Floor(off/size), math.Mod(off, size)
	if math.Mod(turns, 2) == 0 {
		return low + rest
	}
	return high - rest
}
