"""TensorFlow's im2col: `tf.image.extract_patches` + `tf.matmul`, traced to a graph by `tf.function`.

It knows images (batch, height, width, channels) alone: transposing the input there and the result back is part of the
call, and of its time. Padding is `tf.pad`. Input and result pass by DLPack, without further copies. The number of
threads is that which torch has when TensorFlow starts in a process. On processors without bfloat16 version 2.21.0
truncates products to it, with oneDNN and without: an error of up to 2 u, and trials fail it.

Source: one of the two articles ("The unfold function") names it as TensorFlow's unfold.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from typing import Any

import torch
from torch.utils import dlpack

from linear_lasagna.methods.method import Call, Method, columns
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.runtimes.runtime import PerForm, library, refusing

RANK = "tf.image.extract_patches has 2 spatial axes"


@cache
def _started() -> int:
    """Start TensorFlow with as many threads as torch has now; their number."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tensorflow = library("tensorflow")

    threads = torch.get_num_threads()
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    tensorflow.config.set_visible_devices([], "GPU")
    return threads


@lru_cache(maxsize=64)
def _graph(layer: ExpandedLayer) -> Any:
    """compute(x, rows[, bias]): rows are weights (groups, taps * in / groups, out / groups)."""
    tf = library("tensorflow")

    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = layer.kernel_size, layer.stride, layer.dilation, layer.padding

    def compute(x: Any, rows: Any, *bias: Any) -> Any:
        image = tf.transpose(x, (0, 2, 3, 1))
        if ph or pw:
            image = tf.pad(image, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
        patches = tf.image.extract_patches(image, (1, kh, kw, 1), (1, sh, sw, 1), (1, dh, dw, 1), "VALID")
        batch, oh, ow, _ = patches.shape
        if layer.groups == 1:
            y = tf.matmul(tf.reshape(patches, (batch * oh * ow, -1)), rows[0])
        else:
            parts = tf.reshape(patches, (batch * oh * ow, kh * kw, layer.groups, -1))
            parts = tf.reshape(tf.transpose(parts, (2, 0, 1, 3)), (layer.groups, batch * oh * ow, -1))
            y = tf.reshape(tf.transpose(tf.matmul(parts, rows), (1, 0, 2)), (batch * oh * ow, -1))
        y = y + bias[0] if bias else y
        return tf.transpose(tf.reshape(y, (batch, oh, ow, layer.out_channels)), (0, 3, 1, 2))

    return tf.function(compute, autograph=False)


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    threads = _started()
    theirs = library("tensorflow").experimental.dlpack

    def given(numbers: torch.Tensor) -> Any:
        return theirs.from_dlpack(numbers.__dlpack__())

    rows = kernel.weight.detach().flatten(2).unflatten(0, (layer.groups, -1)).permute(0, 3, 2, 1).flatten(1, 2)
    numbers = [given(each.detach().clone().contiguous()) for each in (rows, kernel.bias) if each is not None]

    def make(x: torch.Tensor) -> Call:
        if torch.get_num_threads() != threads:
            raise RuntimeError(f"TensorFlow has started with {threads} threads in this process, and cannot take others")
        compute = _graph(layer).get_concrete_function(given(x), *numbers)
        return lambda x: dlpack.from_dlpack(theirs.to_dlpack(compute(given(x), *numbers)))

    return PerForm(layer, make)


tensorflow_patches = Method(
    "tensorflow_patches", prepare, refusing("tensorflow", "TensorFlow", rank=RANK), buffer=columns
)
