"""Writes layers of real sizes as ONNX models of one node, for tools/check/against-ort.

    python layer-models.py DIR

In DIR/float: dense-K-N, a dense layer of one row; gemm-MxKxN, products as of the convolutions of
AlexNet and VGG (cells × products × filters). In DIR/int8, with u8 activations and s8 weights per
channel unless the name ends in -u8: mm-MxKxN, conv-CHANNELS-SIZE-FILTERS-KERNEL-STRIDE, dw,
which is depthwise; -int ends in int32 sums.
"""
import os
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

directory = sys.argv[1]
for kind in ("float", "int8"):
    os.makedirs(f"{directory}/{kind}")
rng = np.random.default_rng(1)


def write(path, op, attrs, inputs, constants, x, y):
    """x and y are (type, shape)"""
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], **attrs)],
        os.path.basename(path),
        [helper.make_tensor_value_info("x", *x)],
        [helper.make_tensor_value_info("y", *y)],
        [numpy_helper.from_array(np.asarray(constants[i]), i) for i in inputs if i != "x"],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), f"{directory}/{path}.onnx")


def product(name, m, k, n):
    constants = {"w": rng.uniform(-0.1, 0.1, (k, n)).astype(np.float32), "b": np.zeros(n, np.float32)}
    write(f"float/{name}", "Gemm", {}, ["x", "w", "b"], constants, (TensorProto.FLOAT, [m, k]), (TensorProto.FLOAT, [m, n]))


def quantised(name, op, attrs, x_shape, y_shape, w, rows, bias=True):
    signed = w.dtype == np.int8
    sums = name.endswith("-int")
    constants = {
        "w": w,
        "xz": np.uint8(117),
        "wz": w.dtype.type(0 if signed else 131),
        "xs": np.float32(0.02),
        "ws": rng.uniform(0.001, 0.004, rows).astype(np.float32),
        "ys": np.float32(0.3),
        "yz": np.uint8(128),
        "b": rng.integers(-3000, 3000, rows).astype(np.int32),
    }
    if signed and not sums:
        constants["wz"] = np.zeros(rows, np.int8)
    elif not sums:
        constants["ws"] = constants["ws"][:1].reshape(())
    inputs = ["x", "w", "xz", "wz"] if sums else ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias and not sums:
        inputs.append("b")
    y = TensorProto.INT32 if sums else TensorProto.UINT8
    write(f"int8/{name}", op, attrs, inputs, constants, (TensorProto.UINT8, x_shape), (y, y_shape))


def weights(shape, dtype=np.int8):
    info = np.iinfo(dtype)
    return rng.integers(info.min + 1, info.max + 1, shape).astype(dtype)


for k, n in [(9216, 4096), (4096, 4096), (4096, 1000), (2048, 1000), (512, 256)]:
    product(f"dense-{k}-{n}", 1, k, n)

for m, k, n in [(729, 1600, 192), (169, 1728, 384), (3136, 1152, 256), (3136, 64, 256)]:
    product(f"gemm-{m}x{k}x{n}", m, k, n)

for m, k, n in [(729, 1600, 192), (169, 1728, 384), (3136, 1152, 256), (3136, 64, 256), (1, 9216, 4096)]:
    for end, op in [("", "QLinearMatMul"), ("-int", "MatMulInteger")]:
        quantised(f"mm-{m}x{k}x{n}{end}", op, {}, [m, k], [m, n], weights((k, n)), n, bias=False)
quantised("mm-3136x1152x256-u8", "QLinearMatMul", {}, [3136, 1152], [3136, 256], weights((1152, 256), np.uint8), 256, bias=False)


def conv(name, c, size, m, kernel, stride, pad, group=1, dtype=np.int8):
    out = (size + 2 * pad - kernel) // stride + 1
    attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": group}
    op = "ConvInteger" if name.endswith("-int") else "QLinearConv"
    quantised(name, op, attrs, [1, c, size, size], [1, m, out, out], weights((m, c // group, kernel, kernel), dtype), m)


for c, size, m, kernel, stride, pad in [
    (64, 27, 192, 5, 1, 2),
    (192, 13, 384, 3, 1, 1),
    (128, 56, 256, 3, 1, 1),
    (64, 56, 256, 1, 1, 0),
    (3, 224, 64, 7, 2, 3),
    (256, 28, 512, 3, 2, 1),
    (512, 7, 512, 3, 1, 1),
]:
    conv(f"conv-{c}-{size}-{m}-{kernel}-{stride}", c, size, m, kernel, stride, pad)
conv("conv-128-56-256-3-1-u8", 128, 56, 256, 3, 1, 1, dtype=np.uint8)
conv("conv-128-56-256-3-1-int", 128, 56, 256, 3, 1, 1)
for c, size, stride in [(32, 112, 1), (96, 112, 2), (512, 14, 1), (960, 7, 1)]:
    conv(f"dw-{c}-{size}-{stride}", c, size, c, 3, stride, 1, group=c)
