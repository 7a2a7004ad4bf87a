"""The orders in which a stack's weights can be merged in pairs, their cost, and the exact merged weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from linear_lasagna.exact import Exact, convolve
from linear_lasagna.merging import merge_kernels
from linear_lasagna.problems import Kernel, Layer

Weights: TypeAlias = Sequence[torch.Tensor]
Merged: TypeAlias = tuple[torch.Tensor, int]


def left_to_right(weights: Weights) -> Merged:
    """((W1 W2) W3) W4. The weight, and the multiply-accumulates it took."""
    merged, macs = weights[0], 0
    for weight in weights[1:]:
        merged, macs = _pair((merged, macs), (weight, 0))
    return merged, macs


def right_to_left(weights: Weights) -> Merged:
    """W1 (W2 (W3 W4))."""
    merged, macs = weights[-1], 0
    for weight in reversed(weights[:-1]):
        merged, macs = _pair((weight, 0), (merged, macs))
    return merged, macs


def balanced(weights: Weights) -> Merged:
    """(W1 W2) (W3 W4): halves, each merged in the same way."""
    if len(weights) == 1:
        return weights[0], 0
    middle = len(weights) // 2
    return _pair(balanced(weights[:middle]), balanced(weights[middle:]))


ORDERS: dict[str, Callable[[Weights], Merged]] = {
    "left_to_right": left_to_right,
    "right_to_left": right_to_left,
    "balanced": balanced,
}


def _pair(first: Merged, second: Merged) -> Merged:
    """Two weights into one. Multiply-accumulates: every product of the full convolution, padding not counted."""
    (w1, macs1), (w2, macs2) = first, second
    taps = math.prod(w1.shape[2:]) * math.prod(w2.shape[2:])
    return merge_kernels(w1, w2), macs1 + macs2 + w2.shape[0] * w1.shape[0] * w1.shape[1] * taps


def exact_weight(weights: Weights) -> Exact:
    """The exact merged weight as (in, out, *k): the flipped later weights, fully padded, applied to the first one.

    weights: (out, in, *k) each, on the CPU, of layers without groups.
    """
    axes = tuple(range(2, weights[0].ndim))
    later = [(Kernel(w.flip(axes)), tuple(k - 1 for k in w.shape[2:])) for w in weights[1:]]
    layers = [Layer(k.weight.shape[0], tuple(k.weight.shape[2:]), padding=padding) for k, padding in later]
    return convolve(weights[0].transpose(0, 1), [kernel for kernel, _ in later], layers)
