"""Other runtimes as ways to compute one convolution, a file for each. None is imported before a kernel is prepared.

`METHODS` finds them by their names, but they are not among those that it lists: each is behind an extra, and may not be
installed (`linear_lasagna.installed`). They are judged as all methods are.
"""

from linear_lasagna.methods.method import Method
from linear_lasagna.runtimes.compiled import compiled_direct, compiled_unfold_matmul
from linear_lasagna.runtimes.jax import jax_direct, jax_patches
from linear_lasagna.runtimes.onnx_runtime import onnxruntime
from linear_lasagna.runtimes.openvino import openvino
from linear_lasagna.runtimes.scipy import scipy_correlate, scipy_fft
from linear_lasagna.runtimes.tensorflow import tensorflow_patches

RUNTIMES: dict[str, Method] = {
    "compiled_direct": compiled_direct,
    "compiled_unfold_matmul": compiled_unfold_matmul,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "jax_direct": jax_direct,
    "jax_patches": jax_patches,
    "tensorflow_patches": tensorflow_patches,
    "scipy_correlate": scipy_correlate,
    "scipy_fft": scipy_fft,
}
