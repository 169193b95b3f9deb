package graph

import (
	"fmt"

	"starling/internal/tensor"
)

// evaluateMove computes the operators that move elements or make them of shapes;
// not ok if the operator is none of those that shapes need.
func (g *Graph) evaluateMove(n *Node, in, out []*tensor.Tensor) (ok bool, err error) {
	y := out[0]
	switch n.Op {
	case "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout":
		copy(y.Data, in[0].Data)
	case "Concat":
		axis, err := Axis(n, 1, len(y.Shape))
		if err != nil {
			return false, err
		}
		data := y.Data
		for o := range y.Shape[:axis].Elements() {
			for _, t := range in {
				piece := t.Shape[axis:].Elements() * t.Type.Size()
				data = data[copy(data, t.Data[o*piece:(o+1)*piece]):]
			}
		}
	case "Split":
		axis, sizes, err := g.SplitOf(n, in[0].Shape)
		if err != nil {
			return false, err
		}
		from := 0
		for i, t := range out {
			if t != nil {
				pick(t, in[0], func(at []int) { at[axis] += from })
			}
			from += sizes[i]
		}
	case "Slice":
		from, step, _, err := g.SliceOf(n, in[0].Shape)
		if err != nil {
			return false, err
		}
		pick(y, in[0], func(at []int) {
			for d := range at {
				at[d] = from[d] + at[d]*step[d]
			}
		})
	case "Transpose":
		perm := n.Attrs.Ints("perm", nil)
		from := make([]int, len(y.Shape))
		pick(y, in[0], func(at []int) {
			for d := range at {
				if perm != nil {
					from[perm[d]] = at[d]
				} else {
					from[len(at)-1-d] = at[d]
				}
			}
			copy(at, from)
		})
	case "Expand":
		move(y, in[0], spread(in[0].Shape, y.Shape))
	case "Tile":
		pick(y, in[0], func(at []int) {
			for d := range at {
				at[d] %= in[0].Shape[d]
			}
		})
	case "Where":
		lists := [][]int{spread(in[0].Shape, y.Shape), spread(in[1].Shape, y.Shape), spread(in[2].Shape, y.Shape)}
		size := y.Type.Size()
		for i := range lists[0] {
			from, at := in[2], lists[2][i]
			if in[0].Data[lists[0][i]] != 0 {
				from, at = in[1], lists[1][i]
			}
			copy(y.Data[i*size:], from.Data[at*size:(at+1)*size])
		}
	case "Gather":
		return true, evaluateGather(n, in, y)
	case "Range":
		for i := range y.Shape.Elements() {
			if isFloat(y.Type) {
				setNumber(y, i, numberOf(in[0], 0)+float64(float64(i)*numberOf(in[2], 0)))
			} else {
				setInteger(y, i, integerOf(in[0], 0)+int64(i)*integerOf(in[2], 0))
			}
		}
	case "ConstantOfShape":
		if t := n.Attrs.Tensor("value"); t != nil {
			for at := 0; at < len(y.Data); at += len(t.Data) {
				copy(y.Data[at:], t.Data)
			}
		}
	case "NonZero":
		list := nonZero(in[0])
		for i, at := range list {
			for d := len(in[0].Shape) - 1; d >= 0; d-- {
				setInteger(y, d*len(list)+i, int64(at%in[0].Shape[d]))
				at /= in[0].Shape[d]
			}
		}
	default:
		return false, nil
	}
	return true, nil
}

func evaluateGather(n *Node, in []*tensor.Tensor, y *tensor.Tensor) error {
	x, at := in[0], in[1]
	axis, err := Axis(n, 0, len(x.Shape))
	if err != nil {
		return err
	}
	inner := x.Shape[axis+1:].Elements() * x.Type.Size()
	data := y.Data
	for o := range x.Shape[:axis].Elements() {
		for i := range at.Shape.Elements() {
			k := integerOf(at, i)
			if k < 0 {
				k += int64(x.Shape[axis])
			}
			if k < 0 || k >= int64(x.Shape[axis]) {
				return fmt.Errorf("index %d is outside axis %d of %v", integerOf(at, i), axis, x.Shape)
			}
			from := (o*x.Shape[axis] + int(k)) * inner
			data = data[copy(data, x.Data[from:from+inner]):]
		}
	}
	return nil
}

// pick fills y from x; where turns an element's coordinates in y into those in x.
func pick(y, x *tensor.Tensor, where func(at []int)) {
	list := make([]int, y.Shape.Elements())
	at := make([]int, len(y.Shape))
	for i := range list {
		rest := i
		for d := len(at) - 1; d >= 0; d-- {
			at[d], rest = rest%y.Shape[d], rest/y.Shape[d]
		}
		where(at)
		for d, v := range at {
			list[i] = list[i]*x.Shape[d] + v
		}
	}
	move(y, x, list)
}

// move fills y with the elements of x of that list.
func move(y, x *tensor.Tensor, list []int) {
	size := y.Type.Size()
	for i, at := range list {
		copy(y.Data[i*size:], x.Data[at*size:(at+1)*size])
	}
}
