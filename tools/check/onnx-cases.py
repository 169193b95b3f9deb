"""Writes the test cases of the installed onnx package: node cases, which it
generates, and those converted from PyTorch, which it ships.
  onnx-cases.py FOLDER    a new folder; gets KIND/CASE/model.onnx, test_data_set_N/*.pb
The random values of node cases come from one seed, so every run writes the same.
"""

import os
import shutil
import sys

import onnx.backend.test.loader as loader
from onnx import TensorProto, numpy_helper


def proto(value, info):
    """The protobuf that the ONNX test format has for a value of that type."""
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(value, info.name)


def write(case, folder):
    os.makedirs(folder)
    assert (case.rtol, case.atol) == (1e-3, 1e-7), case.name  # what the runner takes
    with open(os.path.join(folder, "model.onnx"), "wb") as f:
        f.write(case.model.SerializeToString())
    graph = case.model.graph
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = os.path.join(folder, f"test_data_set_{i}")
        os.mkdir(data)
        for name, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for j, (value, info) in enumerate(zip(values, infos, strict=True)):
                with open(os.path.join(data, f"{name}_{j}.pb"), "wb") as f:
                    f.write(proto(value, info).SerializeToString())


def main(folder):
    for case in loader.load_model_tests(kind="node"):
        write(case, os.path.join(folder, "node", case.name))
    for kind in ("pytorch-converted", "pytorch-operator"):
        shutil.copytree(os.path.join(loader.DATA_DIR, kind), os.path.join(folder, kind))


main(sys.argv[1])
