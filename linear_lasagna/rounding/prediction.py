"""The error that rounding will make in a convolution, a stack or a merged stack, predicted before it is computed.

What is rounded is known before it is rounded, but for what earlier roundings made of it. So sums are formed again,
rounding by rounding, in the order and to the bits that the method was found to use (`accumulation`); of large layers
some outputs' sums. Errors b that are known are carried on as they are, and variances V of those that are not add up:

    b_l = W_l * b_{l-1} + mean of R_l,    V_l = (W_l o W_l) * V_{l-1} + variance of R_l
    predicted error = sqrt(sum b_L**2 + V_L) / ||y||_2

R_l is what layer l's own roundings add to an output. How far a measured error may lie from that tell error vectors that
are drawn and carried on likewise (`scatter`). Nothing is fitted. Overflow is not predicted, and in float64, in
which the exact values are computed too, later layers' roundings are like those that are predicted, not the same.

Sources: variances of rounding errors, Fang and Chen, arXiv 2405.07537, Higham and Mary, SIAM J. Sci. Comput. 41 (2019),
A2815; the order of summation, FPRev, arXiv 2411.00442; the recursion over layers is this suite's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from linear_lasagna.devices import wide
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.merging.order import composed_layer
from linear_lasagna.methods import method_named
from linear_lasagna.methods.direct import direct
from linear_lasagna.partitions import apart
from linear_lasagna.preconditions import check_kernels
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem
from linear_lasagna.rounding.merged import merged_kernel
from linear_lasagna.rounding.propagation import ErrorMoments, Setting, exactly, propagate, propagate_layer
from linear_lasagna.rounding.scatter import draws, parts_of, scatter
from linear_lasagna.rounding.summation_tree import ORDERS
from linear_lasagna.schedules import SCHEDULES, everywhere, inside
from linear_lasagna.switches import operands_rounded

CONVOLVING = ("direct", "direct_channels_last")  # the methods that call the library's convolution


class Prediction(float):
    """A relative L2 error, a number as any other, that says how well it is known.

    independent: parts of the error; the measured one scatters as the root of the mean of so many squares of normal
    numbers, so by about 1 / sqrt(2 independent) of itself; inf where it is known. interval: (lower, upper), in which
    the measured error lies with 95 %.
    """

    independent: float
    interval: tuple[float, float]

    def __new__(cls, error: float, independent: float, interval: tuple[float, float]) -> Prediction:
        prediction = super().__new__(cls, error)
        prediction.independent, prediction.interval = independent, interval
        return prediction

    def __getnewargs__(self) -> tuple[float, float, tuple[float, float]]:
        return float(self), self.independent, self.interval


def predict_error(
    x: torch.Tensor,
    kernels: Sequence[Kernel],
    layers: Sequence[Layer],
    method: str = "direct",
    schedule: str = "stacked",
) -> Prediction:
    """The relative L2 error to expect of the layers applied to x, dimensionless.

    x: (batch, channels, *size) in float16, bfloat16, float32 or float64, the kernels likewise: their dtype and device
    are what is computed in. It is the root of the expected square, with an interval for the measured error. For small
    layers, and in 16 bits, the measured error hardly differs; else it scatters around it, widely where few outputs make
    up the norm, as with heavy-tailed inputs, and where errors have few independent parts, as in deep narrow stacks,
    however many outputs there are. Where the way of adding up cannot be found, sums are taken to run one after another
    from the bias on, rounded to nearest, and the interval spans the usual orders, as `predict_error_range` does.
    Raises ValueError for an unknown schedule, method or dtype, a method that is no sum in some order, kernels that do
    not fit, a stack that cannot be merged, and float32 where a switch of torch lets it be rounded first (TF32),
    NotImplementedError where the method cannot compute a layer.
    """
    setting = Setting(x.dtype, str(x.device), method)
    given = (x, kernels, layers)
    moments = _spread(*given, setting, schedule)
    said = _predicted(moments, x.dtype)
    if not moments.ground.assumed:
        return said
    ends = [_predicted(_spread(*given, end, schedule), x.dtype).interval for end in _orders(setting)]
    lowers, uppers = zip(said.interval, *ends, strict=True)
    lower, upper = min(lowers), max(uppers)
    return Prediction(said, min(said.independent, parts_of(lower, upper)), (lower, upper))


def predict_error_range(
    x: torch.Tensor,
    kernels: Sequence[Kernel],
    layers: Sequence[Layer],
    method: str = "direct",
    schedule: str = "stacked",
) -> tuple[float, float]:
    """(least, most): `predict_error` for the best and the worst order of those sums whose order cannot be found.

    The orders are pairwise, blocked and sequential, from the bias on or up to it; both ends are equal where all orders
    were found. An adder that was not understood, as one that compensates, may leave the range. Raises as it does.
    """
    setting = Setting(x.dtype, str(x.device), method)
    errors = [_spread(x, kernels, layers, end, schedule).relative_l2() for end in _orders(setting)]
    return min(errors), max(errors)


def _orders(setting: Setting) -> list[Setting]:
    """With each order that may be assumed where none is found; each draws the same."""
    return [Setting(setting.dtype, setting.device, setting.method, order) for order in ORDERS.values()]


def most_draws(given: tuple[torch.Tensor, Sequence[Kernel], Sequence[Layer]]) -> int:
    """How many error vectors to draw, by the layer with the most outputs."""
    x, _, layers = given
    size, most = tuple(x.shape[2:]), 1
    for layer in (layer.expand(len(size)) for layer in layers):
        size = layer.output_size(size)
        most = max(most, x.shape[0] * layer.out_channels * math.prod(size))
    return draws(most)


def _predicted(moments: ErrorMoments, dtype: torch.dtype) -> Prediction:
    """The error with its interval, wider where float64, in which its size is known, is not enough."""
    error, found = moments.relative_l2(), scatter(moments)
    doubt = error * 2.0 ** (SIGNIFICAND_BITS[dtype] - SIGNIFICAND_BITS[torch.float64])
    if not doubt < 1:
        return Prediction(error, 0.0, (0.0, math.inf))
    return Prediction(error, found.independent, (found.lower * error / (1 + doubt), found.upper * error / (1 - doubt)))


@torch.no_grad()
def _spread(
    x: torch.Tensor,
    kernels: Sequence[Kernel],
    layers: Sequence[Layer],
    setting: Setting,
    schedule: str,
) -> ErrorMoments:
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    if not method_named(setting.method).summed:
        raise ValueError(f"no error is predicted for {setting.method}: it does not add up products in some order")
    if x.dtype not in SIGNIFICAND_BITS:
        raise ValueError(f"no error is predicted in {x.dtype}; known: {', '.join(map(str, SIGNIFICAND_BITS))}")
    operation = "conv" if setting.method in CONVOLVING else "matmul"
    if x.dtype is torch.float32 and (reason := operands_rounded(x.device.type, operation)):
        raise ValueError(f"no error is predicted in float32, as {reason}")
    expanded = [layer.expand(x.ndim - 2) for layer in layers]
    number = most_draws((x, kernels, layers))
    start, exact = exactly(wide(x), number), [kernel.map(wide) for kernel in kernels]
    batch, channels, *size = x.shape
    problem = Problem("predicted", batch, channels, tuple(size), tuple(layers))
    check_kernels(problem, kernels, x)
    if SCHEDULES[schedule].valid_region(problem) != everywhere(problem):
        raise ValueError(f"the schedule {schedule!r} is wrong at the border, where no error can be predicted")
    if SCHEDULES[schedule].plans:
        raise ValueError(f"the schedule {schedule!r} merges what a plan says; predict the error of its runs")
    merges = SCHEDULES[schedule].merges
    SCHEDULES[schedule].layers(problem)
    (partition,) = SCHEDULES[schedule].partitions(problem)
    if merges is None or partition == apart(problem):
        return propagate(start, exact, expanded, setting)
    merge_dtype = torch.float64 if merges == "float64" else x.dtype
    whole, errors = merged_kernel(exact, expanded, setting, merge_dtype, number)
    moments = propagate_layer(start, whole, composed_layer(expanded), setting, errors)
    if inside(problem) == everywhere(problem):
        return moments
    return moments._replace(value=_in_turn(start, exact, expanded))


def _in_turn(x: ErrorMoments, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer]) -> torch.Tensor:
    """The stack's values, where padding between layers makes the merged ones differ at the border.

    The kernels of that border sum fewer products than the merged one; its errors stand for theirs.
    """
    y = x.value
    for kernel, layer in zip(kernels, layers, strict=True):
        y = direct(y, kernel, layer)
    return y
