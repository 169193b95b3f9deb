package zoo

import "fmt"

// The epsilons of batch normalisation, as published with each network.
const (
	resnetEpsilon    = 1e-5
	mobilenetEpsilon = 1e-5
	inceptionEpsilon = 1e-3
)

// branchScale is around which the scales of a residual branch's last batch
// normalisation lie: small as in trained networks, so that sums over many
// blocks do not gr.
const branchScale = 0.25

func lenet5(b *builder, x layer) layer {
	x = b.conv(x, "conv1", 6, square(5, 1, 2))
	x = b.averagePool(x, "pool1", square(2, 2, 0))
	x = b.conv(x, "conv2", 16, square(5, 1, 0))
	x = b.averagePool(x, "pool2", square(2, 2, 0))
	x = b.flatten(x, 5*5)
	x = b.relu(b.dense(x, "fc3", 120))
	x = b.relu(b.dense(x, "fc4", 84))
	return b.dense(x, "fc5", 10)
}

func alexnet(b *builder, x layer) layer {
	pool := square(3, 2, 0)
	x = b.conv(x, "conv1", 64, square(11, 4, 2))
	x = b.maxPool(x, "pool1", pool)
	x = b.conv(x, "conv2", 192, square(5, 1, 2))
	x = b.maxPool(x, "pool2", pool)
	x = b.conv(x, "conv3", 384, square(3, 1, 1))
	x = b.conv(x, "conv4", 256, square(3, 1, 1))
	x = b.conv(x, "conv5", 256, square(3, 1, 1))
	x = b.maxPool(x, "pool5", pool)
	x = b.dropout(b.flatten(x, 6*6))
	x = b.dropout(b.relu(b.dense(x, "fc6", 4096)))
	x = b.relu(b.dense(x, "fc7", 4096))
	return b.dense(x, "fc8", 1000)
}

func vgg16(b *builder, x layer) layer {
	for i, stage := range []struct{ convs, channels int }{{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}} {
		for j := range stage.convs {
			x = b.conv(x, fmt.Sprintf("conv%d_%d", i+1, j+1), stage.channels, square(3, 1, 1))
		}
		x = b.maxPool(x, fmt.Sprintf("pool%d", i+1), square(2, 2, 0))
	}
	x = b.flatten(x, 7*7)
	x = b.dropout(b.relu(b.dense(x, "fc6", 4096)))
	x = b.dropout(b.relu(b.dense(x, "fc7", 4096)))
	return b.dense(x, "fc8", 1000)
}

func squeezenet(b *builder, x layer) layer {
	pool := square(3, 2, 0)
	x = b.conv(x, "conv1", 64, square(3, 2, 0))
	x = b.maxPool(x, "pool1", pool)
	for i, squeezed := range []int{16, 16, 32, 32, 48, 48, 64, 64} {
		name := fmt.Sprintf("fire%d", i+2)
		x = b.conv(x, name+".squeeze", squeezed, square(1, 1, 0))
		x = b.concat(name,
			b.conv(x, name+".expand1", 4*squeezed, square(1, 1, 0)),
			b.conv(x, name+".expand3", 4*squeezed, square(3, 1, 1)))
		if i == 1 || i == 3 {
			x = b.maxPool(x, fmt.Sprintf("pool%d", i+2), pool)
		}
	}
	x = b.conv(b.dropout(x), "conv10", 1000, square(1, 1, 0))
	return b.flatten(b.globalAveragePool(x), 1)
}

func mobilenetV2(b *builder, x layer) layer {
	norm := func(x layer, name string, channels, groups int, w window, scale float32) layer {
		return b.convNorm(x, name, channels, groups, w, scale, mobilenetEpsilon)
	}
	x = b.relu6(norm(x, "conv1", 32, 1, square(3, 2, 1), 1))
	block := 0
	// Table 2 of the paper: expansion t, channels c, repetitions n, stride s.
	for _, r := range []struct{ t, c, n, s int }{
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
	} {
		for i := range r.n {
			block++
			name := fmt.Sprintf("block%d", block)
			stride, scale := r.s, float32(1)
			if i > 0 {
				stride, scale = 1, branchScale
			}
			y := x
			if r.t > 1 {
				y = b.relu6(norm(y, name+".expand", r.t*x.channels, 1, square(1, 1, 0), 1))
			}
			y = b.relu6(norm(y, name+".depthwise", y.channels, y.channels, square(3, stride, 1), 1))
			y = norm(y, name+".project", r.c, 1, square(1, 1, 0), scale)
			if i > 0 {
				y = b.add(x, y, name)
			}
			x = y
		}
	}
	x = b.relu6(norm(x, "conv2", 1280, 1, square(1, 1, 0), 1))
	x = b.dropout(b.flatten(b.globalAveragePool(x), 1))
	return b.dense(x, "fc", 1000)
}

func resnet50(b *builder, x layer) layer {
	norm := func(x layer, name string, channels int, w window, scale float32) layer {
		return b.convNorm(x, name, channels, 1, w, scale, resnetEpsilon)
	}
	x = b.relu(norm(x, "conv1", 64, square(7, 2, 3), 1))
	x = b.maxPool(x, "pool1", square(3, 2, 1))
	for stage, blocks := range []int{3, 4, 6, 3} {
		width := 64 << stage
		for i := range blocks {
			name := fmt.Sprintf("stage%d.block%d", stage+1, i+1)
			stride, shortcut := 1, x
			if i == 0 {
				stride = min(stage+1, 2)
				shortcut = norm(x, name+".shortcut", 4*width, square(1, stride, 0), 1)
			}
			x = b.relu(norm(x, name+".conv1", width, square(1, 1, 0), 1))
			x = b.relu(norm(x, name+".conv2", width, square(3, stride, 1), 1))
			x = norm(x, name+".conv3", 4*width, square(1, 1, 0), branchScale)
			x = b.relu(b.add(shortcut, x, name))
		}
	}
	x = b.flatten(b.globalAveragePool(x), 1)
	return b.dense(x, "fc", 1000)
}
