package graph

import (
	"fmt"
	"math"
	"slices"

	"starling/internal/tensor"
)

// Window is the sliding window of a Conv, MaxPool or AveragePool with
// auto_pad and ceil_mode resolved; all slices have one entry per spatial
// axis. Output o reads the inputs o·Stride - PadBegin + i·Dilation for i in
// [0, Kernel); those below 0 or beyond the input are padding. In ceil mode the
// last window may reach beyond PadEnd: positions at or past input + PadEnd
// never count, count_include_pad or not. Every output's window starts before
// the input's end; with dilations above 1 it may still meet padding only.
type Window struct {
	Kernel, Strides, Dilations, PadBegin, PadEnd, Out []int
}

// WindowOf resolves the window of n over the input's spatial sizes. kernel is
// the weights' spatial sizes for a Conv, nil for a pool. It checks all that it
// reads but expects attributes within 32 bits, as Prepare does. Formulas: ONNX
// Conv 11, MaxPool 12, AveragePool 19.
func WindowOf(n *Node, spatial, kernel []int) (Window, error) {
	rank := len(spatial)
	pool := kernel == nil
	shape := n.Attrs.Ints("kernel_shape", kernel)
	if !pool && !slices.Equal(shape, kernel) {
		return Window{}, fmt.Errorf("kernel_shape %v does not match the weights %v", shape, kernel)
	}
	ones := slices.Repeat([]int{1}, rank)
	w := Window{
		Kernel:    slices.Clone(shape),
		Strides:   n.Attrs.Ints("strides", ones),
		Dilations: n.Attrs.Ints("dilations", ones),
		PadBegin:  make([]int, rank),
		PadEnd:    make([]int, rank),
		Out:       make([]int, rank),
	}
	pads := n.Attrs.Ints("pads", make([]int, 2*rank))
	for _, list := range []struct {
		name   string
		values []int
		length int
		lowest int
	}{
		{"kernel_shape", w.Kernel, rank, 1},
		{"strides", w.Strides, rank, 1},
		{"dilations", w.Dilations, rank, 1},
		{"pads", pads, 2 * rank, 0},
	} {
		if len(list.values) != list.length || slices.Min(list.values) < list.lowest {
			return Window{}, fmt.Errorf("%s %v: want %d values of at least %d", list.name, list.values, list.length, list.lowest)
		}
	}
	if err := tensor.Shape(w.Kernel).Check(tensor.Float32.Size(), MaxTensorBytes); err != nil {
		return Window{}, fmt.Errorf("kernel_shape: %w", err)
	}
	auto := n.Attrs.String("auto_pad", "NOTSET")
	if auto != "NOTSET" && slices.Max(pads) > 0 {
		return Window{}, fmt.Errorf("auto_pad %s together with pads %v", auto, pads)
	}
	ceil := n.Attrs.Int("ceil_mode", 0) != 0
	for i := range rank {
		in, k, s := int64(spatial[i]), int64(w.Kernel[i]), int64(w.Strides[i])
		extent := (k-1)*int64(w.Dilations[i]) + 1
		if extent > math.MaxInt32 {
			return Window{}, fmt.Errorf("kernel_shape %v with dilations %v is too large", w.Kernel, w.Dilations)
		}
		var out int64
		begin, end := int64(pads[i]), int64(pads[rank+i])
		switch auto {
		case "SAME_UPPER", "SAME_LOWER":
			out = (in + s - 1) / s
			total := max((out-1)*s+extent-in, 0)
			begin, end = total/2, total-total/2
			if auto == "SAME_LOWER" {
				begin, end = end, begin
			}
		case "VALID", "NOTSET":
			// A pool's padding below its kernel keeps each window on the
			// input (ONNX Runtime demands it too).
			if pool && max(begin, end) >= k {
				return Window{}, fmt.Errorf("pads %v reach beyond kernel_shape %v", pads, w.Kernel)
			}
			room := in + begin + end - extent
			// For VALID, ONNX defines the same size in both modes.
			if ceil && auto == "NOTSET" {
				room += s - 1
			}
			if room < 0 {
				return Window{}, fmt.Errorf("a window of %d does not fit axis %d of %v with pads %v", extent, i, spatial, pads)
			}
			out = room/s + 1
			if ceil && (out-1)*s >= in+begin { // the last window would start in the padding
				out--
			}
		default:
			return Window{}, fmt.Errorf("auto_pad %q, want NOTSET, VALID, SAME_UPPER or SAME_LOWER", auto)
		}
		if out > math.MaxInt32 {
			return Window{}, fmt.Errorf("pads %v make axis %d too large", pads, i)
		}
		w.PadBegin[i], w.PadEnd[i], w.Out[i] = int(begin), int(end), int(out)
	}
	return w, nil
}

// TransposedWindowOf resolves the window of a ConvTranspose: input i adds to the
// outputs i·Stride - PadBegin + k·Dilation that exist (ONNX ConvTranspose 11).
// kernel is the weights' spatial sizes.
func TransposedWindowOf(n *Node, spatial, kernel []int) (Window, error) {
	rank := len(spatial)
	shape, auto := n.Attrs.Ints("kernel_shape", kernel), n.Attrs.String("auto_pad", "NOTSET")
	if !slices.Equal(shape, kernel) {
		return Window{}, fmt.Errorf("kernel_shape %v does not match the weights %v", shape, kernel)
	}
	ones := slices.Repeat([]int{1}, rank)
	w := Window{
		Kernel: slices.Clone(kernel), Strides: n.Attrs.Ints("strides", ones), Dilations: n.Attrs.Ints("dilations", ones),
		PadBegin: make([]int, rank), PadEnd: make([]int, rank), Out: make([]int, rank),
	}
	pads, more := n.Attrs.Ints("pads", make([]int, 2*rank)), n.Attrs.Ints("output_padding", make([]int, rank))
	want := n.Attrs.Ints("output_shape", nil)
	if len(want) == rank+2 { // opset 1 examples give the whole shape
		want = want[2:]
	}
	for _, list := range []struct {
		name   string
		values []int
		length int
		lowest int
	}{{"strides", w.Strides, rank, 1}, {"dilations", w.Dilations, rank, 1}, {"pads", pads, 2 * rank, 0}, {"output_padding", more, rank, 0}} {
		if len(list.values) != list.length || slices.Min(list.values) < list.lowest {
			return Window{}, fmt.Errorf("%s %v: want %d values of at least %d", list.name, list.values, list.length, list.lowest)
		}
	}
	if want != nil && (len(want) != rank || slices.Min(want) < 1) {
		return Window{}, fmt.Errorf("output_shape %v for %d axes", want, rank)
	}
	for i := range rank {
		begin, end, stride := int64(pads[i]), int64(pads[rank+i]), int64(w.Strides[i])
		full := stride*int64(spatial[i]-1) + int64(more[i]) + (int64(kernel[i])-1)*int64(w.Dilations[i]) + 1
		out := full - begin - end
		same := auto == "SAME_UPPER" || auto == "SAME_LOWER"
		if !same && auto != "NOTSET" && auto != "VALID" {
			return Window{}, fmt.Errorf("auto_pad %q, want NOTSET, VALID, SAME_UPPER or SAME_LOWER", auto)
		}
		if want != nil || same {
			out = int64(spatial[i]) * stride
			if want != nil {
				out = int64(want[i])
			}
			total := max(full-out, 0)
			begin, end = total-total/2, total/2
			if auto == "SAME_UPPER" {
				begin, end = end, begin
			}
		}
		if out < 1 || out > math.MaxInt32 || full > math.MaxInt32 {
			return Window{}, fmt.Errorf("axis %d would have %d elements", i, out)
		}
		w.PadBegin[i], w.PadEnd[i], w.Out[i] = int(begin), int(end), int(out)
	}
	return w, nil
}
