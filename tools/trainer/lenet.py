"""A LeNet-5-class network in numpy: forward, backward, and Adam.

conv1 5x5x6 pad 2, relu, max pool 2 | conv2 5x5x16, relu, max pool 2 | flatten 400 | fc1 120, relu |
fc2 84, relu | fc3 10. All arrays are float32; images are [N,C,H,W]. After LeCun, Bottou, Bengio, Haffner,
"Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998, with max pooling and relu.
"""

import numpy as np

KERNEL = 5
CONV_PAD = {"conv1": 2, "conv2": 0}
SHAPES = {  # conv weights [out,in,5,5], dense weights [out,in]
    "conv1": (6, 1, KERNEL, KERNEL),
    "conv2": (16, 6, KERNEL, KERNEL),
    "fc1": (120, 400),
    "fc2": (84, 120),
    "fc3": (10, 84),
}


def new_weights(rng):
    """Weights by He's rule (normal, variance 2 / fan-in), biases zero: {"conv1.weight": ..., ...}."""
    weights = {}
    for name, shape in SHAPES.items():
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}.weight"] = (rng.standard_normal(shape) * deviation).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return weights


def patches(x, pad):
    """im2col: x [N,C,H,W] to [N*OH*OW, C*25], one row for each output position."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (KERNEL, KERNEL), axis=(2, 3))
    n, c, oh, ow = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, c * KERNEL * KERNEL), oh, ow


def conv(x, weight, bias, pad):
    """The convolution y [N,O,OH,OW] (stride 1), and the rows that backward needs."""
    rows, oh, ow = patches(x, pad)
    y = rows @ weight.reshape(len(weight), -1).T + bias
    return np.ascontiguousarray(y.reshape(len(x), oh, ow, -1).transpose(0, 3, 1, 2)), rows


def conv_grad(dy, rows, weight):
    """The gradients of conv by its weight and its bias."""
    flat = dy.transpose(0, 2, 3, 1).reshape(-1, dy.shape[1])
    return (flat.T @ rows).reshape(weight.shape), flat.sum(0)


def conv_input_grad(dy, weight):
    """The gradient of conv with pad 0 by its input [N,C,H,W] (col2im)."""
    n, out, oh, ow = dy.shape
    flat = dy.transpose(0, 2, 3, 1).reshape(-1, out)
    back = (flat @ weight.reshape(out, -1)).reshape(n, oh, ow, weight.shape[1], KERNEL, KERNEL)
    dx = np.zeros((n, weight.shape[1], oh + KERNEL - 1, ow + KERNEL - 1), np.float32)
    for i in range(KERNEL):
        for j in range(KERNEL):
            dx[:, :, i : i + oh, j : j + ow] += back[..., i, j].transpose(0, 3, 1, 2)
    return dx


def pool(x):
    """Max pooling 2x2, stride 2: y, and which of its four inputs each output is (the first at a tie)."""
    n, c, h, w = x.shape
    quads = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    winner = quads.argmax(-1)[..., None]
    return np.take_along_axis(quads, winner, -1)[..., 0], winner


def pool_grad(dy, winner):
    """The gradient of pool by its input."""
    n, c, h, w = dy.shape
    quads = np.zeros((n, c, h, w, 4), np.float32)
    np.put_along_axis(quads, winner, dy[..., None], -1)
    return quads.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


def forward(weights, x):
    """Logits [N,10] of x [N,1,28,28], and what backward needs."""
    kept = {}
    for name, pad in CONV_PAD.items():
        y, rows = conv(x, weights[f"{name}.weight"], weights[f"{name}.bias"], pad)
        y = np.maximum(y, 0)
        x, winner = pool(y)
        kept[name] = rows, y > 0, winner
    kept["shape"] = x.shape
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2", "fc3"):
        kept[name] = x
        x = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        if name != "fc3":
            x = np.maximum(x, 0)
    return x, kept


def loss_and_grads(weights, x, labels):
    """Mean cross-entropy of softmax over the batch, and its gradient by every weight."""
    logits, kept = forward(weights, x)
    shifted = logits - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    at = np.arange(len(x)), labels
    loss = -log_probability[at].mean()

    grads = {}
    dy = np.exp(log_probability)
    dy[at] -= 1
    dy /= np.float32(len(x))
    for name in ("fc3", "fc2", "fc1"):
        grads[f"{name}.weight"] = dy.T @ kept[name]
        grads[f"{name}.bias"] = dy.sum(0)
        dy = dy @ weights[f"{name}.weight"]
        if name != "fc1":
            dy *= kept[name] > 0  # a kept input is a relu's output
    dy = dy.reshape(kept["shape"])
    for name in ("conv2", "conv1"):
        rows, positive, winner = kept[name]
        dy = pool_grad(dy, winner) * positive
        weight = weights[f"{name}.weight"]
        grads[f"{name}.weight"], grads[f"{name}.bias"] = conv_grad(dy, rows, weight)
        if name != "conv1":
            dy = conv_input_grad(dy, weight)
    return loss, grads


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) with its published constants."""

    def __init__(self, weights):
        self.mean = {k: np.zeros_like(w) for k, w in weights.items()}
        self.square = {k: np.zeros_like(w) for k, w in weights.items()}
        self.steps = 0

    def step(self, weights, grads, rate):
        """Move weights, in place, one step against grads."""
        self.steps += 1
        scale = np.float32(rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps))
        for k, g in grads.items():
            self.mean[k] += np.float32(0.1) * (g - self.mean[k])
            self.square[k] += np.float32(0.001) * (g * g - self.square[k])
            weights[k] -= scale * self.mean[k] / (np.sqrt(self.square[k]) + np.float32(1e-8))
