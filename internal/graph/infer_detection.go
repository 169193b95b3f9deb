package graph

import (
	"fmt"
	"math"

	"starling/internal/tensor"
)

// inferGridSample: x [N,C,spatial…] and grid [N,out…,rank] → [N,C,out…].
func inferGridSample(c *call) (Info, error) {
	x, grid := c.shape(0), c.shape(1)
	if err := featuresOf(x, 1); err != nil {
		return Info{}, err
	}
	if len(grid) != len(x) || grid[0] != x[0] || grid[len(grid)-1] != len(x)-2 {
		return Info{}, fmt.Errorf("grid of shape %v for %v", grid, x)
	}
	return float32Of(append([]int{x[0], x[1]}, grid[1:len(grid)-1]...)...), nil
}

// inferNonMaxSuppression: boxes [batch,boxes,4] and scores [batch,classes,boxes] →
// rows of batch, class and box: as many as there can be.
func inferNonMaxSuppression(c *call) (Info, error) {
	boxes, scores := c.shape(0), c.shape(1)
	if len(boxes) != 3 || len(scores) != 3 || boxes[2] != 4 || scores[0] != boxes[0] || scores[2] != boxes[1] {
		return Info{}, fmt.Errorf("boxes of shape %v and scores of shape %v, want [N,B,4] and [N,C,B]", boxes, scores)
	}
	for i := 3; i < len(c.in); i++ {
		if c.has(i) && (c.in[i].Type != tensor.Float32 || c.shape(i).Elements() != 1) {
			return Info{}, fmt.Errorf("threshold %q is %v%v, want one float32", c.node.Inputs[i], c.in[i].Type, c.shape(i))
		}
	}
	most, err := c.graph.Ints(c.node, 2, "max_output_boxes_per_class")
	if err != nil {
		return Info{}, err
	}
	if len(most) > 1 {
		return Info{}, fmt.Errorf("max_output_boxes_per_class has %d elements, want 1", len(most))
	}
	rows := int64(0)
	if len(most) == 1 {
		rows = int64(boxes[0]) * int64(scores[1]) // within the scores' size
		each := int64(max(0, min(most[0], boxes[1])))
		if each > math.MaxInt32/max(rows, 1) {
			return Info{}, fmt.Errorf("up to %d boxes of %d lists", each, rows)
		}
		rows *= each
	}
	return Info{tensor.Int64, tensor.Shape{int(rows), 3}}, nil
}

// inferRoiAlign: x [N,C,H,W], regions [R,4] and the index of each one's map [R] →
// [R,C,height,width].
func inferRoiAlign(c *call) (Info, error) {
	x, regions, a := c.shape(0), c.shape(1), c.node.Attrs
	if len(x) != 4 || len(regions) != 2 || regions[1] != 4 || c.in[2].Type != tensor.Int64 || !c.shape(2).Equal(regions[:1]) {
		return Info{}, fmt.Errorf("input of shape %v, regions of shape %v and indices %v%v, want [N,C,H,W], [R,4] and int64[R]",
			x, regions, c.in[2].Type, c.shape(2))
	}
	const most = 1 << 7 // samples of a cell along each side
	h, w := a.Int("output_height", 1), a.Int("output_width", 1)
	if samples := a.Int("sampling_ratio", 0); h < 1 || w < 1 || samples < 0 || samples > most {
		return Info{}, fmt.Errorf("output of %d by %d, %d samples", h, w, samples)
	}
	if mode := a.String("mode", "avg"); mode != "avg" && mode != "max" {
		return Info{}, fmt.Errorf("mode %q, want avg or max", mode)
	}
	return float32Of(regions[0], x[1], h, w), nil
}
