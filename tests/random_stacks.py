"""Random stacks of convolutions in narrow formats, merged: are they finite, certified, predicted?

`python tests/random_stacks.py 10000` tries so many, and prints how many were finite, within their certificates and as
far off as predicted. All numbers come from the seed.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import NamedTuple

import torch
from torch import nn

from linear_lasagna.exact import convolve
from linear_lasagna.formats import ulp
from linear_lasagna.merging import certify, merge
from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.merging.certifying import used_numbers
from linear_lasagna.merging.fitting import Scaled
from linear_lasagna.merging.stack import merge_stack
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models.predicting import predicted
from linear_lasagna.modules import CONVOLUTIONS, kernel_of, link_of
from linear_lasagna.problems import Kernel

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CLOSE = 0.1  # of the measured error: what is called a right prediction
INDEPENDENT = 200  # errors, from which on one is asked for


class Tried(NamedTuple):
    """What became of a stack.

    finite: None where the stack itself is not. excess, wide_excess: the largest error as a part of its bound, for any
    accumulator and for float32. independent: errors. ratio: measured by predicted error, 1 inside of the predicted
    range; None where none is predicted.
    """

    dtype: torch.dtype
    module: str
    finite: bool | None
    excess: float
    wide_excess: float
    independent: float
    ratio: float | None


class Draw:
    """Random choices from a seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def between(self, least: int, most: int) -> int:
        """Both among them."""
        return int(torch.randint(least, most + 1, (), generator=self.generator))

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)


def stack_of(draw: Draw, dtype: torch.dtype) -> nn.Sequential:
    """1 to 6 layers of 1 to 16 channels and kernels of 1 to 5, each with a scale of 2**-12 to 2**6 of its own."""
    rank, padded, even = draw.between(1, 2), draw.between(0, 3) == 0, draw.between(0, 1)
    channels, layers, scale = draw.between(1, 16), [], draw.between(-12, 6)
    for _ in range(draw.between(1, 6)):
        out, size = draw.between(1, 16), draw.between(1, 5 if rank == 1 else 3 + 2 * draw.between(0, 1))
        groups = channels if out % channels == 0 and draw.between(0, 3) == 0 else 1
        padding, bias = (draw.between(0, size // 2) if padded else 0), draw.between(0, 2) == 0
        layer = CONVOLUTIONS[rank](channels, out, size, padding=padding, groups=groups, bias=bias)
        power = 2.0 ** (scale if even else draw.between(-12, 6))
        fan_in = layer.weight[0].numel()
        layer.weight.data = (draw.normal(layer.weight.shape) * power / fan_in**0.5).to(dtype)
        if bias:
            layer.bias.data = (draw.normal((out,)) * power * 2.0 ** draw.between(-8, 2)).to(dtype)
        layers.append(layer)
        channels = out
    return nn.Sequential(*layers).requires_grad_(False)


def image_for(draw: Draw, stack: nn.Sequential, dtype: torch.dtype) -> torch.Tensor:
    """Some 8 x 8 or 60 outputs: numbers of both signs, of one, or the same everywhere."""
    rank, span = len(stack[0].kernel_size), 1
    for layer in stack:
        span += layer.kernel_size[0] - 1 - 2 * layer.padding[0]
    size = (max(1, span) + draw.between(3, 7 if rank == 2 else 60),) * rank
    x = draw.normal((1, stack[0].in_channels, *size))
    kind = draw.between(0, 5)
    x = x.abs() if kind == 0 else x.clamp(min=0) if kind == 1 else torch.ones_like(x) if kind == 2 else x
    return (x * 2.0 ** draw.between(-10, 8)).to(dtype)


def worst_for(draw: Draw, merged: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """x, its numbers as large as the largest, with the signs that one output's weights have at one window."""
    kernels = used_numbers(merged)
    assert kernels is not None
    weight = sum(kernel.weight.double() for kernel in kernels)
    channel = draw.between(0, len(weight) - 1)
    taps, per_group = weight.shape[2:], weight.shape[1]
    groups = x.shape[1] // per_group
    start = channel * groups // len(weight) * per_group
    if any(a > b for a, b in zip(taps, x.shape[2:], strict=True)):
        return x
    x = x.clone()
    largest = x.abs().max()
    x[(0, slice(start, start + per_group), *(slice(0, k) for k in taps))] = (
        torch.where(weight[channel] < 0, -1.0, 1.0).to(x) * largest
    )
    return x


@torch.no_grad()
def tried(seed: int) -> Tried | None:
    """One random stack; None where `merge` refuses it in one sentence."""
    draw = Draw(seed)
    dtype = DTYPES[draw.between(0, 2)]
    stack = stack_of(draw, dtype)
    x = image_for(draw, stack, dtype)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "merging changes what", RuntimeWarning)  # scales are drawn so
            merged = merge(stack)
    except ValueError:
        return None
    if isinstance(merged, BorderExact):
        merged.settle(tuple(x.shape[2:]))
    if draw.between(0, 3) == 0:
        x = worst_for(draw, merged, x)
    given, y = stack(x), merged(x)
    finite = bool(y.isfinite().all()) if bool(given.isfinite().all()) else None
    kernels = [kernel_of(layer) for layer in stack]
    exact = convolve(x, kernels, [link_of(layer).layer for layer in stack])
    error, certificate = exact.error(y), certify(merged, stack, float(x.abs().max()))
    known = error.isfinite()
    size = torch.where(known, error.abs(), 0.0).transpose(0, 1).flatten(1).amax(1)
    excess, wide_excess = (_part(size, bounds) for bounds in (certificate.bounds, certificate.wide_bounds))
    if certificate.finite and not bool(known.all()):
        excess = wide_excess = float("inf")
    values = exact.to(torch.float64)
    variance = ulp(values, dtype).square()
    independent = float(variance.sum().square() / variance.square().sum()) if bool(variance.square().sum()) else 0.0
    ratio = _ratio(stack, merged, x, relative_l2(error, values)) if bool(known.all()) else None
    name = type(merged).__name__
    return Tried(dtype, name, finite, excess, wide_excess, independent, ratio)


def _part(size: torch.Tensor, bounds: tuple[float, ...]) -> float:
    limits = torch.tensor(bounds, dtype=torch.float64)
    return float(torch.where(size > 0, size / limits, 0.0).max())


def _ratio(stack: nn.Sequential, merged: nn.Module, x: torch.Tensor, measured: float) -> float | None:
    """The measured error by the nearest number of the predicted range."""
    if isinstance(merged, BorderExact):
        return None
    layers = [link_of(layer).layer for layer in stack]
    kernel, layer = merge_stack([kernel_of(each).map(torch.Tensor.double) for each in stack], layers, torch.float64)
    scale = merged.scale.double().flatten() if isinstance(merged, Scaled) else None
    if scale is not None:
        weight = kernel.weight / scale.view(-1, *(1,) * (kernel.weight.ndim - 1))
        kernel = Kernel(weight, None if kernel.bias is None else kernel.bias / scale)
    least, most = predicted(x, kernel, layer, scale, used_numbers(merged))
    nearest = min(max(measured, least), most)
    return measured / nearest if nearest else 1.0 if measured == 0 else float("inf")


def main(number: int, first: int = 0) -> int:
    """Print what became of so many stacks. Exit code 1 where one was made non-finite or left its bounds."""
    kinds, wrong, close, asked = Counter[str](), 0, Counter[str](), Counter[str]()
    worst = dict.fromkeys(("excess", "wide_excess"), 0.0)
    for seed in range(first, first + number):
        case = tried(seed)
        kinds["refused" if case is None else case.module] += 1
        if case is None:
            continue
        kinds["not finite as given"] += case.finite is None
        if case.finite is False or case.excess > 1 or case.wide_excess > 1:
            wrong += 1
            print(f"seed {seed}: {case}")
        for name in worst:
            worst[name] = max(worst[name], getattr(case, name))
        if case.ratio is not None and case.independent >= INDEPENDENT:
            name = str(case.dtype).removeprefix("torch.")
            asked[name] += 1
            close[name] += 1 / (1 + CLOSE) <= case.ratio <= 1 + CLOSE
    print(dict(kinds), f"{wrong} wrong", worst)
    for name in asked:
        print(f"{name}: {close[name]} of {asked[name]} within {CLOSE:.0%} ({close[name] / asked[name]:.1%})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
