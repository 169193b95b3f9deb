package engine

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// resize emits a Resize (opset 19) or Upsample (opset 9): nearest as a pick,
// linear and cubic axis by axis.
func (c *compiler) resize(n *graph.Node) error {
	x, info, index, err := c.source(n)
	if err != nil {
		return err
	}
	axes, err := c.g.ResizeOf(n, info.Shape)
	if err != nil {
		return err
	}
	mode := n.Attrs.String("mode", "nearest")
	if mode == "bilinear" || mode == "trilinear" { // opset 1's names
		mode = "linear"
	}
	if mode != "nearest" && mode != "linear" && mode != "cubic" {
		return fmt.Errorf("mode %q, want nearest, linear or cubic", mode)
	}
	r := &resampling{
		mode:       mode,
		coordinate: n.Attrs.String("coordinate_transformation_mode", "half_pixel"),
		nearest:    n.Attrs.String("nearest_mode", "round_prefer_floor"),
		a:          float64(n.Attrs.Float("cubic_coeff_a", -0.75)),
		exclude:    n.Attrs.Int("exclude_outside", 0) != 0,
		antialias:  n.Attrs.Int("antialias", 0) != 0,
	}
	if n.Op == "Upsample" || c.g.Opset < 11 {
		r.coordinate, r.nearest = "asymmetric", "floor"
	}
	switch r.coordinate {
	case "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize":
	default:
		return fmt.Errorf("coordinate_transformation_mode %q is not supported", r.coordinate)
	}
	if mode == "nearest" {
		fill := -1
		for d, axis := range axes {
			if index[d], err = r.nearestIndices(axis, info.Shape[d]); err != nil {
				return err
			}
		}
		if value := n.Attrs.Float("extrapolation_value", 0); value != 0 && info.Type == tensor.Float32 {
			fill = c.addSlot(slot{input: -1, constant: tensor.Bytes([]float32{value})})
		}
		c.pick(n.Outputs[0], x, info.Type.Size(), info.Shape, index, fill)
		return nil
	}
	if info.Type != tensor.Float32 {
		return fmt.Errorf("mode %q is not supported for %v", mode, info.Type)
	}
	shape := slices.Clone(info.Shape)
	var changed []int
	for d, axis := range axes {
		if axis.Out != shape[d] || axis.Scale != 1 || axis.Start != 0 || axis.End != 1 {
			changed = append(changed, d)
		}
	}
	if len(changed) == 0 {
		return c.view(n)
	}
	for i, d := range changed {
		o := &resampleOp{x: x, outside: n.Attrs.Float("extrapolation_value", 0)}
		o.outer, o.size, o.inner = lanes(shape, d)
		o.out = axes[d].Out
		o.index, o.weights, o.taps = r.weightsOf(axes[d], shape[d])
		shape[d] = o.out
		if i == len(changed)-1 {
			o.dst = c.define(n.Outputs[0])
		} else {
			o.dst = c.buffer(4 * shape.Elements())
		}
		c.emit(o, o.dst, x)
		x = o.dst
	}
	return nil
}

type resampling struct {
	mode, coordinate, nearest string
	a                         float64 // of the cubic
	exclude, antialias        bool
}

// original is where output i stands on the input axis (ONNX Resize 19).
func (r *resampling) original(i int, axis graph.Resized, size int) float64 {
	at, out := float64(i), float64(axis.Out)
	switch r.coordinate {
	case "align_corners":
		if axis.Out == 1 {
			return 0
		}
		return float64(at*float64(size-1)) / (float64(axis.Scale*float64(size)) - 1)
	case "asymmetric":
		return at / axis.Scale
	case "pytorch_half_pixel":
		if axis.Out == 1 {
			return 0
		}
	case "tf_half_pixel_for_nn":
		return (at + 0.5) / axis.Scale
	case "half_pixel_symmetric":
		exact := axis.Scale * float64(size)
		centre := float64(size) / 2
		return float64(centre*(1-out/exact)) + (at+0.5)/axis.Scale - 0.5
	case "tf_crop_and_resize":
		if axis.Out == 1 {
			return 0.5 * (axis.Start + axis.End) * float64(size-1)
		}
		return float64(axis.Start*float64(size-1)) + float64(at*(axis.End-axis.Start)*float64(size-1))/(out-1)
	}
	return (at+0.5)/axis.Scale - 0.5
}

// outside reports whether nothing but the extrapolation value is there.
func (r *resampling) outside(at float64, size int) bool {
	return r.coordinate == "tf_crop_and_resize" && (at < 0 || at > float64(size-1))
}

func (r *resampling) nearestIndices(axis graph.Resized, size int) ([]int, error) {
	list := make([]int, axis.Out)
	for i := range list {
		at := r.original(i, axis, size)
		if r.outside(at, size) {
			list[i] = -1
			continue
		}
		switch r.nearest {
		case "floor":
			at = math.Floor(at)
		case "ceil":
			at = math.Ceil(at)
		case "round_prefer_floor":
			at = math.Ceil(at - 0.5)
		case "round_prefer_ceil":
			at = math.Floor(at + 0.5)
		default:
			return nil, fmt.Errorf("nearest_mode %q is not supported", r.nearest)
		}
		list[i] = int(min(max(at, 0), float64(size-1)))
	}
	return list, nil
}

// weightsOf lists for each output the inputs it is made of and their weights, the
// same number for each; an input of -1 means the extrapolation value.
func (r *resampling) weightsOf(axis graph.Resized, size int) (index []int, weights []float64, count int) {
	reach, kernel := 1.0, func(t float64) float64 { return max(0, 1-t) }
	if r.mode == "cubic" {
		reach, kernel = 2, r.cubic
	}
	stretch := 1.0
	if r.antialias && axis.Scale < 1 {
		stretch = 1 / axis.Scale // the kernel covers as many inputs as make an output
	}
	count = 2 * int(math.Ceil(reach*stretch))
	for i := range axis.Out {
		at := r.original(i, axis, size)
		first := int(math.Floor(at)) - count/2 + 1
		sum := 0.0
		start := len(weights)
		for k := first; k < first+count; k++ {
			w := kernel(math.Abs(at-float64(k)) / stretch)
			if r.exclude && (k < 0 || k >= size) {
				w = 0
			}
			sum += w
			weights = append(weights, w)
			index = append(index, min(max(k, 0), size-1))
		}
		for k := start; k < len(weights); k++ {
			if r.outside(at, size) {
				index[k] = -1
			}
			weights[k] /= sum
		}
	}
	return index, weights, count
}

// cubic is Keys' kernel (IEEE ASSP 29(6), 1981, equation 4, with a free a).
func (r *resampling) cubic(t float64) float64 {
	a := r.a
	switch {
	case t <= 1:
		return float64((float64((a+2)*t)-(a+3))*t*t) + 1
	case t < 2:
		return float64((float64((float64(a*t)-float64(5*a))*t)+float64(8*a))*t) - float64(4*a)
	}
	return 0
}

// resampleOp is dst [outer,out,inner], each a weighted sum of elements of x
// [outer,size,inner], in float64.
type resampleOp struct {
	dst, x                  int
	outer, size, out, inner int
	taps                    int
	index                   []int
	weights                 []float64
	outside                 float32
}

func (o *resampleOp) run(s *Session) {
	dst, x := s.f32(o.dst), s.f32(o.x)
	for outer := range o.outer {
		from := x[outer*o.size*o.inner:]
		for i := range o.out {
			index, weights := o.index[i*o.taps:(i+1)*o.taps], o.weights[i*o.taps:(i+1)*o.taps]
			row := dst[:o.inner]
			dst = dst[o.inner:]
			if index[0] < 0 {
				for j := range row {
					row[j] = o.outside
				}
				continue
			}
			for j := range row {
				sum := 0.0
				for k, at := range index {
					sum += float64(weights[k] * float64(from[at*o.inner+j]))
				}
				row[j] = float32(sum)
			}
		}
	}
}
