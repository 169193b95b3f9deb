"""Check a written digits.onnx in ONNX Runtime against the numpy network and against the recorded accuracy.

    python check.py digits.onnx                         the 1,000 held-out digits
    python check.py digits.onnx IMAGES.gz LABELS.gz     any IDX digits, for instance MNIST's own test set

Exits 1 if a logit differs by more than 1e-4 or an answer differs at all; without IDX files also if the
accuracy is not the one in the model's metadata.
"""

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import data
import lenet


def main():
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    path = sys.argv[1]
    pixels, labels = data.load()
    chosen, held_out, _ = data.split(labels)
    trained_on = {image.tobytes() for image in pixels[chosen]}
    if len(sys.argv) == 4:
        pixels, labels = data.read_idx(sys.argv[2]), data.read_idx(sys.argv[3])
    else:
        pixels, labels = pixels[held_out], labels[held_out]
    print(f"trained on {sum(image.tobytes() in trained_on for image in pixels)} of these {len(pixels)} images")
    x = data.network_input(pixels)

    model = onnx.load(path)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    expected = np.concatenate([lenet.forward(weights, x[i : i + 500])[0] for i in range(0, len(x), 500)])

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    got = np.concatenate([session.run(None, {"input": image[None]})[0] for image in x])

    apart = float(np.abs(got - expected).max())
    same = bool((got.argmax(1) == expected.argmax(1)).all())
    right = int((got.argmax(1) == labels).sum())
    recorded = {p.key: p.value for p in model.metadata_props}["accuracy"]
    print(f"right {right} of {len(labels)}; largest difference of a logit {apart:.2e}; same answers: {same}")
    print(f"recorded: {recorded}")
    agrees = len(sys.argv) == 4 or recorded.startswith(f"{right} of {len(labels)} held-out")
    sys.exit(0 if apart <= 1e-4 and same and agrees else 1)


if __name__ == "__main__":
    main()
