package zoo

import "fmt"

// Kernels that keep the size of the map, and one that halves it.
var (
	one   = square(1, 1, 0)
	three = square(3, 1, 1)
	halve = square(3, 2, 0)
)

// row and column are kernels of one row and one column of n, an odd number,
// that keep the size of the map.
func row(n int) window    { return window{1, n, 1, 0, n / 2} }
func column(n int) window { return window{n, 1, 1, n / 2, 0} }

// step is one convolution of a branch.
type step struct {
	channels int
	window   window
}

// inception builds Inception v3, whose convolutions all have batch
// normalisation and ReLU.
type inception struct{ *builder }

// inceptionV3 leaves out the auxiliary classifier, which is for training. Its
// modules are those of figures 5, 6 and 7 of the paper, in the widths of the
// published weights.
func inceptionV3(b *builder, x layer) layer {
	n := inception{b}
	x = n.branch(x, "stem1", step{32, halve}, step{32, square(3, 1, 0)}, step{64, three})
	x = n.maxPool(x, "pool1", halve)
	x = n.branch(x, "stem2", step{80, one}, step{192, square(3, 1, 0)})
	x = n.maxPool(x, "pool2", halve)
	for i, pooled := range []int{32, 64, 64} {
		name := fmt.Sprintf("mixed%d", i+1)
		x = n.concat(name,
			n.branch(x, name+".one", step{64, one}),
			n.branch(x, name+".five", step{48, one}, step{64, square(5, 1, 2)}),
			n.branch(x, name+".double", step{64, one}, step{96, three}, step{96, three}),
			n.pooled(x, name+".pool", pooled))
	}
	x = n.concat("mixed4",
		n.branch(x, "mixed4.three", step{384, halve}),
		n.branch(x, "mixed4.double", step{64, one}, step{96, three}, step{96, halve}),
		n.maxPool(x, "mixed4.pool", halve))
	for i, w := range []int{128, 160, 160, 192} {
		name := fmt.Sprintf("mixed%d", i+5)
		x = n.concat(name,
			n.branch(x, name+".one", step{192, one}),
			n.branch(x, name+".seven", step{w, one}, step{w, row(7)}, step{192, column(7)}),
			n.branch(x, name+".double", step{w, one}, step{w, column(7)}, step{w, row(7)}, step{w, column(7)}, step{192, row(7)}),
			n.pooled(x, name+".pool", 192))
	}
	x = n.concat("mixed9",
		n.branch(x, "mixed9.three", step{192, one}, step{320, halve}),
		n.branch(x, "mixed9.seven", step{192, one}, step{192, row(7)}, step{192, column(7)}, step{192, halve}),
		n.maxPool(x, "mixed9.pool", halve))
	for i := range 2 {
		name := fmt.Sprintf("mixed%d", i+10)
		x = n.concat(name,
			n.branch(x, name+".one", step{320, one}),
			n.fork(n.branch(x, name+".three", step{384, one}), name+".three"),
			n.fork(n.branch(x, name+".double", step{448, one}, step{384, three}), name+".double"),
			n.pooled(x, name+".pool", 192))
	}
	x = n.dropout(n.flatten(n.globalAveragePool(x), 1))
	return n.dense(x, "fc", 1000)
}

// branch is a chain of convolutions, named name.1, name.2 and so on.
func (n inception) branch(x layer, name string, steps ...step) layer {
	for i, s := range steps {
		x = n.relu(n.convNorm(x, fmt.Sprintf("%s.%d", name, i+1), s.channels, 1, s.window, 1, inceptionEpsilon))
	}
	return x
}

// fork is a 1×3 and a 3×1 convolution side by side.
func (n inception) fork(x layer, name string) layer {
	return n.concat(name,
		n.branch(x, name+".row", step{384, row(3)}),
		n.branch(x, name+".column", step{384, column(3)}))
}

// pooled is an average over 3×3, the zeros around the map included, and a 1×1
// convolution.
func (n inception) pooled(x layer, name string, channels int) layer {
	return n.branch(n.averagePool(x, name, three), name, step{channels, one})
}
