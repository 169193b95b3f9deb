package engine

import (
	"fmt"
	"math"

	"starling/internal/graph"
)

// roiAlign emits a RoiAlign (opset 22) of x [N,C,H,W]: for each region [x0,y0,x1,y1]
// of one of the maps, averages or maxima of places that are interpolated linearly.
func (c *compiler) roiAlign(n *graph.Node) error {
	in, err := c.floats(n.Inputs[0], n.Inputs[1])
	if err != nil {
		return err
	}
	batch, err := c.value(n.Inputs[2])
	if err != nil {
		return err
	}
	x, out := c.shape(n.Inputs[0]), c.shape(n.Outputs[0])
	coordinates := n.Attrs.String("coordinate_transformation_mode", "half_pixel")
	if c.g.Opset < 16 {
		coordinates = "output_half_pixel"
	}
	o := &roiAlignOp{
		x: in[0], regions: in[1], batch: batch, n: x[0], c: x[1], h: x[2], w: x[3], count: out[0], oh: out[2], ow: out[3],
		most: n.Attrs.String("mode", "avg") == "max", half: coordinates == "half_pixel",
		samples: n.Attrs.Int("sampling_ratio", 0), scale: float64(n.Attrs.Float("spatial_scale", 1)),
	}
	if coordinates != "half_pixel" && coordinates != "output_half_pixel" {
		return fmt.Errorf("coordinate_transformation_mode %q, want half_pixel or output_half_pixel", coordinates)
	}
	o.dst = c.define(n.Outputs[0])
	c.emit(o, o.dst, o.x, o.regions, o.batch)
	return nil
}

type roiAlignOp struct {
	dst, x, regions, batch int
	n, c, h, w             int
	count, oh, ow          int
	most, half             bool
	samples                int // along each side of a cell; 0: one a pixel
	scale                  float64
}

// maxRoiSamples limits those along each side of a cell, of regions that a request
// brings.
const maxRoiSamples = 1 << 7

func (o *roiAlignOp) run(s *Session) {
	dst, x, regions := s.f32(o.dst), s.f32(o.x), s.f32(o.regions)
	offset, least := 0.0, 1.0
	if o.half {
		offset, least = 0.5, math.Inf(-1)
	}
	size := o.h * o.w
	for r := range o.count {
		image := view[int64](s, o.batch)[r]
		if image < 0 || image >= int64(o.n) {
			s.err = fmt.Errorf("batch index %d is %d, outside a batch of %d", r, image, o.n)
			return
		}
		var from, cell [2]float64 // along x and y
		var samples [2]int
		for d, cells := range []int{o.ow, o.oh} {
			from[d] = float64(float64(regions[4*r+d])*o.scale) - offset
			extent := max(float64(float64(regions[4*r+2+d])*o.scale)-offset-from[d], least)
			cell[d] = extent / float64(cells)
			if samples[d] = o.samples; o.samples < 1 {
				samples[d] = int(min(max(math.Ceil(cell[d]), 0), maxRoiSamples))
			}
		}
		for ch := range o.c {
			one := x[(int(image)*o.c+ch)*size : (int(image)*o.c+ch+1)*size]
			for i := range o.oh * o.ow {
				dst[(r*o.c+ch)*o.oh*o.ow+i] = float32(o.cell(one, from[0]+float64(float64(i%o.ow)*cell[0]), from[1]+float64(float64(i/o.ow)*cell[1]), cell, samples))
			}
		}
	}
}

// cell is the average or maximum of samples over a cell that begins at x, y.
func (o *roiAlignOp) cell(one []float32, x, y float64, cell [2]float64, samples [2]int) float64 {
	sum, most := 0.0, math.Inf(-1)
	for i := range samples[0] * samples[1] {
		v, w := o.at(one, x+(float64(i%samples[0])+0.5)*cell[0]/float64(samples[0]), y+(float64(i/samples[0])+0.5)*cell[1]/float64(samples[1]))
		for k := range v {
			term := float64(v[k] * w[k])
			sum, most = sum+term, max(most, term)
		}
	}
	if o.most && samples[0]*samples[1] > 0 {
		return most
	}
	return sum / float64(max(samples[0]*samples[1], 1))
}

// at are the four elements around a place and their weights; outside the map, by
// more than one, the weights are 0.
func (o *roiAlignOp) at(one []float32, x, y float64) (v, w [4]float64) {
	if !(x >= -1 && y >= -1 && x <= float64(o.w) && y <= float64(o.h)) {
		return v, w
	}
	x0, x1, tx := between(x, o.w)
	y0, y1, ty := between(y, o.h)
	for k, place := range [4]int{y0*o.w + x0, y0*o.w + x1, y1*o.w + x0, y1*o.w + x1} {
		v[k] = float64(one[place])
	}
	return v, [4]float64{(1 - ty) * (1 - tx), (1 - ty) * tx, ty * (1 - tx), ty * tx}
}

// between are the elements on both sides of a place, and how far it is from the
// first.
func between(at float64, size int) (low, high int, t float64) {
	at = max(at, 0)
	if low = int(at); low >= size-1 {
		return size - 1, size - 1, 0
	}
	return low, low + 1, at - float64(low)
}
