"""The suite's names, their order, and a sentence about each that readers see. Needs no torch.

A registry of code and its sentences have equal keys: `methods.METHODS`, `runtimes.RUNTIMES`, `schedules.SCHEDULES`,
`metrics.METRICS`, `reproducibility.PERTURBATIONS` and `REMEDIES`, and their namesakes here. A method that has a
sentence is timed wherever all methods are, unless it is one of TRANSFORMS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

Signs: TypeAlias = Literal["random", "positive"]

# By dtype, from the narrowest to the widest: the significand's bits, the hidden one among them; u = 2**-bits.
SIGNIFICAND_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
DTYPES = tuple(SIGNIFICAND_BITS)
DEVICES = ("cpu", "cuda", "mps")
SIGNS: tuple[Signs, ...] = ("random", "positive")

BASELINE = "direct"  # what every way is compared with
CONTROL = "control"  # the baseline a second time
MERGED = "merged/direct"  # a stack merged beforehand, computed as the baseline is

METHODS: dict[str, str] = {
    "direct": "the library’s own convolution, the baseline.",
    "direct_channels_last": "the same, channels beside each other in memory.",
    "unfold_matmul": "unfold, then one matrix product.",
    "strided_matmul": "the same patches through strides.",
    "shifted_matmul": "one matrix product for each position of the kernel, summed.",
    "im2col_numpy": "the same as unfold and product, in NumPy.",
    "patch_matmul": "reshape instead of unfold, where kernel size equals stride.",
    "fft": "a product of Fourier transforms.",
    "winograd_f2": "Winograd’s F(2×2, 3×3), for 3×3 kernels: 16 products for 4 outputs.",
    "winograd_f4": "Winograd’s F(4×4, 3×3), for 3×3 kernels: 36 products for 16 outputs.",
    "compensated": "sums as if in twice the working precision, then rounded.",
}
# Of other libraries, and torch's compiler: `linear_lasagna.runtimes.RUNTIMES` has the code, `installed` what they need.
RUNTIMES: dict[str, str] = {
    "compiled_direct": "the library’s own convolution, by torch.compile.",
    "compiled_unfold_matmul": "unfold and product, by torch.compile.",
    "onnxruntime": "ONNX Runtime’s Conv, on its CPU provider.",
    "openvino": "OpenVINO’s convolution, on its CPU plugin.",
    "jax_direct": "JAX: lax.conv_general_dilated, compiled by XLA.",
    "jax_patches": "JAX: lax.conv_general_dilated_patches, then a product.",
    "tensorflow_patches": "TensorFlow: tf.image.extract_patches, then tf.matmul.",
    "scipy_correlate": "scipy.signal.correlate, by its definition, on one thread.",
    "scipy_fft": "a product of Fourier transforms by scipy.fft.",
}
SCHEDULES: dict[str, str] = {
    "stacked": "layer after layer; a bare method is computed so.",
    "merged": "one kernel, merged in float64 beforehand, then rounded.",
    "merged_working": "merged beforehand in the working dtype.",
    "merged_per_call": "merged anew in every call.",
    "border_exact": "one merged kernel, and others for the outputs that need zeros padded between the layers.",
    "merged_summed": (
        "one kernel with the sum of the paddings. It is wrong at the border; it is compared with the exact result "
        "inside only, and never counts as the fastest way."
    ),
    "planned": "cut into runs, each merged where that was measured to pay.",
    "planned_operations": "the same by operation count, with an estimate of what a border costs beside its operations.",
}

# Of an error against the exact result.
METRICS: dict[str, str] = {
    "relative_l2": "‖computed − exact‖₂ / ‖exact‖₂",
    "error_u": "relative L2 error against the exact result, in units of u",
    "relative_max": "largest |computed − exact| / largest |exact|",
    "relative_q50_u": "median over outputs of |computed − exact| / |exact|, in units of u",
    "relative_q90_u": "90 % quantile over outputs of |computed − exact| / |exact|, in units of u",
    "relative_q99_u": "99 % quantile over outputs of |computed − exact| / |exact|, in units of u",
    "relative_tail": "tail exponent (Hill), largest 1 % of |computed − exact| / |exact|; up to 1 there is no mean",
    "backward_u": "largest |computed − exact| / sum of the magnitudes of all products, in units of u",
    "ulps_q50": "median over outputs of |computed − exact| in units in the last place of the exact result",
    "ulps_max": "largest |computed − exact| in units in the last place of the exact result",
    "condition_q50": "median over outputs of the sum of the magnitudes of all products / |exact|",
    "mean_u": "mean of computed − exact, with its sign, / root mean square of the exact result, in units of u",
    "scale_u": "how much larger the result is on the whole, ⟨computed − exact, exact⟩ / ‖exact‖₂², in units of u",
    "pooled_u": "relative L2 error of the means over positions, in units of u",
    "correctly_rounded": "share of outputs that are the exact result rounded once",
}
COMMON_METRICS = ("relative_l2", "error_u")  # of all trials and experiments; of the others those that ask for them

# What is changed about a convolution that should give an image the same bits, and what may force that it does.
PERTURBATIONS: dict[str, str] = {
    "repeat": "nothing: the same call again",
    "batch": "the number of images in the batch, and the image's place among them",
    "threads": "the number of threads",
    "layout": "the order of the image's or the kernel's numbers in memory",
    "offset": "the address at which the image or the kernel begins",
    "crop": "how much of the image there is around what the outputs see",
    "stride": "how many of the outputs between these are computed",
    "channels": "how many of the other output channels are computed",
    "instructions": "the instruction set, emulated in a process of its own",
    "method": f"the method: {BASELINE} instead",
}
REMEDIES: dict[str, str] = {
    "one image": "the images of a batch one after another",
    "one thread": "one thread, whatever there are",
    "copy": "input and kernel copied first, in torch's own order",
    "float64": "computed in float64 and rounded once",
}

# What is no plain sum in the working precision: timed in a group of its own.
TRANSFORMS = ("fft", "winograd_f2", "winograd_f4", "compensated")
LAYER_WAYS = (BASELINE, CONTROL, *(method for method in METHODS if method not in (BASELINE, *TRANSFORMS)))
PLANNED_WAYS = ("planned/direct", "planned_operations/direct")
MERGED_WAYS = ("merged_working/direct", "merged_per_call/direct")


def merged_ways(methods: Iterable[str] = ()) -> tuple[str, ...]:
    """A stack merged beforehand, by the library's convolution, a product, and these methods."""
    return tuple(f"merged/{method}" for method in ("direct", "direct_channels_last", "unfold_matmul", *methods))


def way_order(way: str) -> tuple[bool, int, int, str]:
    """Sorts ways: by schedule, then by method; after them the control, and last, by name, what else is timed."""
    schedule, _, method = way.rpartition("/")
    schedules, methods = list(SCHEDULES), [*METHODS, *RUNTIMES]
    schedule = schedule or schedules[0]
    if schedule in SCHEDULES and method in methods:
        return False, schedules.index(schedule), methods.index(method), way
    return True, way != CONTROL, 0, way
