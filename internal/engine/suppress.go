package engine

import (
	"cmp"
	"slices"

	"starling/internal/graph"
)

// suppress emits a NonMaxSuppression (opset 11). How many boxes are left depends
// on the request and shapes do not: the rows after the last box are −1.
func (c *compiler) suppress(n *graph.Node) error {
	in, err := c.floats(n.Inputs[0], n.Inputs[1])
	if err != nil {
		return err
	}
	boxes, scores := c.shape(n.Inputs[0]), c.shape(n.Inputs[1])
	most, err := c.g.Ints(n, 2, "max_output_boxes_per_class")
	if err != nil {
		return err
	}
	o := &suppressOp{
		boxes: in[0], scores: in[1], overlap: -1, least: -1,
		batch: boxes[0], count: boxes[1], classes: scores[1], most: min(most[0], boxes[1]),
		centred: n.Attrs.Int("center_point_box", 0) != 0,
	}
	slots := in
	for i, at := range []*int{&o.overlap, &o.least} {
		if name := n.Input(3 + i); name != "" {
			if *at, err = c.float(name); err != nil {
				return err
			}
			slots = append(slots, *at)
		}
	}
	o.order = c.buffer(8 * o.count)
	o.dst = c.define(n.Outputs[0])
	c.emit(o, append(slots, o.order, o.dst)...)
	return nil
}

type suppressOp struct {
	dst, boxes, scores, order int
	overlap, least            int // slots of thresholds; -1 for 0 and none
	batch, count, classes     int
	most                      int // boxes of a class
	centred                   bool
}

func (o *suppressOp) run(s *Session) {
	dst, boxes, scores, order := view[int64](s, o.dst), s.f32(o.boxes), s.f32(o.scores), view[int64](s, o.order)
	overlap := float32(0)
	if o.overlap >= 0 {
		overlap = s.f32(o.overlap)[0]
	}
	rows := 0
	for b := range o.batch {
		own := boxes[b*o.count*4 : (b+1)*o.count*4]
		for class := range o.classes {
			score := scores[(b*o.classes+class)*o.count : (b*o.classes+class+1)*o.count]
			list := order[:0]
			for i, v := range score {
				if o.least < 0 || v > s.f32(o.least)[0] {
					list = append(list, int64(i))
				}
			}
			slices.SortFunc(list, func(i, j int64) int {
				return cmp.Or(cmp.Compare(score[j], score[i]), cmp.Compare(i, j))
			})
			first := rows
			for _, i := range list {
				if rows-first == o.most {
					break
				}
				alone := true
				for r := first; r < rows && alone; r++ {
					j := dst[3*r+2]
					alone = !o.overlapping(own[4*i:4*i+4], own[4*j:4*j+4], overlap)
				}
				if alone {
					dst[3*rows], dst[3*rows+1], dst[3*rows+2] = int64(b), int64(class), i
					rows++
				}
			}
		}
	}
	for i := 3 * rows; i < len(dst); i++ {
		dst[i] = -1
	}
}

// overlapping reports whether the boxes' intersection is more than that part of
// their union.
func (o *suppressOp) overlapping(a, b []float32, part float32) bool {
	a0, a1, a2, a3 := o.corners(a)
	b0, b1, b2, b3 := o.corners(b)
	height, width := min(a2, b2)-max(a0, b0), min(a3, b3)-max(a1, b1)
	if !(height > 0 && width > 0) {
		return false
	}
	both := height * width
	areaA, areaB := float32((a2-a0)*(a3-a1)), float32((b2-b0)*(b3-b1))
	all := areaA + areaB - both
	return areaA > 0 && areaB > 0 && all > 0 && both/all > part
}

// corners are a box's lower and upper ends along both axes.
func (o *suppressOp) corners(box []float32) (y0, x0, y1, x1 float32) {
	if o.centred { // x, y, width, height
		w, h := box[2]/2, box[3]/2
		return box[1] - h, box[0] - w, box[1] + h, box[0] + w
	}
	return min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
}
