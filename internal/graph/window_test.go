package graph

import (
	"fmt"
	"testing"
)

// Windows along one axis, worked out by hand from the formulas of ONNX Conv 11
// and MaxPool 12.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name  string
		op    string
		attrs Attrs
		in, k int    // k 0: a pool with the attribute kernel_shape
		want  string // begin, end, out; or the error
	}{
		{name: "plain", op: "Conv", in: 9, k: 3, want: "0 0 7"},
		{name: "strided", op: "Conv", attrs: Attrs{"strides": ints(2)}, in: 10, k: 3, want: "0 0 4"},
		{name: "padded", op: "Conv", attrs: Attrs{"pads": ints(1, 2)}, in: 9, k: 3, want: "1 2 10"},
		{name: "padding beyond the kernel", op: "Conv", attrs: Attrs{"pads": ints(0, 5), "strides": ints(3)}, in: 4, k: 1, want: "0 5 3"},
		{name: "dilated", op: "Conv", attrs: Attrs{"dilations": ints(3)}, in: 9, k: 3, want: "0 0 3"},
		// Extent 7, out ceil(9/2) = 5, total (5-1)·2 + 7 - 9 = 6.
		{name: "same, dilated", op: "Conv", attrs: Attrs{"auto_pad": "SAME_UPPER", "dilations": ints(3), "strides": ints(2)}, in: 9, k: 3, want: "3 3 5"},
		// Out ceil(10/2) = 5, total (5-1)·2 + 3 - 10 = 1.
		{name: "same upper", op: "Conv", attrs: Attrs{"auto_pad": "SAME_UPPER", "strides": ints(2)}, in: 10, k: 3, want: "0 1 5"},
		{name: "same lower", op: "Conv", attrs: Attrs{"auto_pad": "SAME_LOWER", "strides": ints(2)}, in: 10, k: 3, want: "1 0 5"},
		{name: "same, stride beyond the kernel", op: "Conv", attrs: Attrs{"auto_pad": "SAME_UPPER", "strides": ints(4)}, in: 10, k: 1, want: "0 0 3"},
		{name: "valid", op: "Conv", attrs: Attrs{"auto_pad": "VALID", "strides": ints(2)}, in: 10, k: 3, want: "0 0 4"},
		{name: "zero pads beside auto_pad", op: "Conv", attrs: Attrs{"auto_pad": "VALID", "pads": ints(0, 0)}, in: 9, k: 3, want: "0 0 7"},
		{name: "floor", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(3), "strides": ints(2)}, in: 10, want: "0 0 4"},
		{name: "ceil", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(3), "strides": ints(2), "ceil_mode": int64(1)}, in: 10, want: "0 0 5"},
		{name: "ceil, exact", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(3), "strides": ints(2), "ceil_mode": int64(1)}, in: 9, want: "0 0 4"},
		// ceil((4+2-2)/3) + 1 = 3, but window 2 would start at 6 - 1 = 5 > 3.
		{name: "ceil, last window in the padding", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(2), "strides": ints(3), "pads": ints(1, 1), "ceil_mode": int64(1)}, in: 4, want: "1 1 2"},
		{name: "ceil, window beyond the input", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(3), "strides": ints(2), "ceil_mode": int64(1)}, in: 2, want: "0 0 1"},
		// ceil((10-3+1)/2) = floor((10-3)/2) + 1 = 4
		{name: "ceil, valid", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(3), "strides": ints(2), "ceil_mode": int64(1), "auto_pad": "VALID"}, in: 10, want: "0 0 4"},
		{name: "too large", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(3)}, in: 2, want: "a window of 3 does not fit axis 0 of [2] with pads [0 0]"},
		{name: "pool padding", op: "MaxPool", attrs: Attrs{"kernel_shape": ints(2), "pads": ints(2, 0)}, in: 9, want: "pads [2 0] reach beyond kernel_shape [2]"},
		{name: "negative pads", op: "Conv", attrs: Attrs{"pads": ints(-1, 0)}, in: 9, k: 3, want: "pads [-1 0]: want 2 values of at least 0"},
		{name: "stride 0", op: "Conv", attrs: Attrs{"strides": ints(0)}, in: 9, k: 3, want: "strides [0]: want 1 values of at least 1"},
		{name: "ranks", op: "Conv", attrs: Attrs{"dilations": ints(1, 1)}, in: 9, k: 3, want: "dilations [1 1]: want 1 values of at least 1"},
		{name: "kernels differ", op: "Conv", attrs: Attrs{"kernel_shape": ints(5)}, in: 9, k: 3, want: "kernel_shape [5] does not match the weights [3]"},
		{name: "pads twice", op: "Conv", attrs: Attrs{"auto_pad": "SAME_UPPER", "pads": ints(1, 1)}, in: 9, k: 3, want: "auto_pad SAME_UPPER together with pads [1 1]"},
		{name: "auto_pad", op: "Conv", attrs: Attrs{"auto_pad": "SAME"}, in: 9, k: 3, want: `auto_pad "SAME", want NOTSET, VALID, SAME_UPPER or SAME_LOWER`},
		{name: "extent", op: "Conv", attrs: Attrs{"dilations": ints(1<<31 - 1)}, in: 9, k: 3, want: "kernel_shape [3] with dilations [2147483647] is too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var kernel []int
			if c.k > 0 {
				kernel = []int{c.k}
			}
			w, err := WindowOf(&Node{Op: c.op, Attrs: c.attrs}, []int{c.in}, kernel)
			got := fmt.Sprint(err)
			if err == nil {
				got = fmt.Sprint(w.PadBegin[0], w.PadEnd[0], w.Out[0])
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
