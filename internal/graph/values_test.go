package graph_test

import (
	"math"
	"slices"
	"testing"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Steps at the ends of what fits, which overflowed an int of 32 bits.
func TestSliceOfLargeSteps(t *testing.T) {
	for _, c := range []struct {
		start, end, step  int64
		first, by, number int
	}{
		{0, 10, math.MaxInt64, 0, 1, 1},
		{-1, math.MinInt64, math.MinInt64, 9, 1, 1},
		{9, -11, -9, 9, -9, 2},
		{0, 10, 9, 0, 9, 2},
		{1, 10, 9, 1, 1, 1},
		{0, math.MaxInt64, 3, 0, 3, 4},
		{5, 5, 1, 5, 1, 0},
		{7, 2, 1, 7, 1, 0},
		{2, 7, -1, 2, 1, 0},
	} {
		g := &graph.Graph{Opset: 13, Constants: map[string]*tensor.Tensor{
			"from": tensor.FromSlice([]int64{c.start}, 1), "to": tensor.FromSlice([]int64{c.end}, 1),
			"axes": tensor.FromSlice([]int64{0}, 1), "steps": tensor.FromSlice([]int64{c.step}, 1),
		}}
		n := &graph.Node{Name: "n", Op: "Slice", Inputs: []string{"x", "from", "to", "axes", "steps"}, Outputs: []string{"y"}}
		from, step, count, err := g.SliceOf(n, tensor.Shape{10})
		if err != nil || !slices.Equal(from, []int{c.first}) || !slices.Equal(step, []int{c.by}) || !slices.Equal(count, []int{c.number}) {
			t.Errorf("%+v: from %v, step %v, %v of them, %v", c, from, step, count, err)
		}
	}
}
