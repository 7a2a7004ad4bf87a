"""Merging that is right at the border too: one merged convolution, then the outputs that it gets wrong anew.

These are the `regions.blocks` around the interior. Each is computed from the input alone, by windows and one matrix
product with a merged kernel of its own (`kernels`). Every output equals the stack's up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from linear_lasagna.merging.border.assembly import compute, in_turn
from linear_lasagna.merging.border.kernels import block_kernels
from linear_lasagna.merging.border.plan import plan
from linear_lasagna.merging.chain import chained
from linear_lasagna.merging.stack import finite, not_mergeable, summed_kernel, unlike
from linear_lasagna.methods import METHODS, Call
from linear_lasagna.problems import ExpandedLayer, Kernel


def not_border_mergeable(layers: Sequence[ExpandedLayer]) -> str | None:
    """Why border-exact merging has nothing to do for these layers, or None where it has."""
    if not unlike(layers):
        if len(layers) == 1:
            return "a single layer has nothing to merge"
        if not_mergeable(layers) is None:
            return "no padding between the layers changes the border: it is the plain merged convolution"
    return unlike(layers)


def border_exact(
    kernels: Sequence[Kernel],
    layers: Sequence[ExpandedLayer],
    size: tuple[int, ...],
    method: str = "direct",
    merge_dtype: torch.dtype = torch.float64,
) -> Call:
    """call(x) -> y: every output of the stack up to rounding, from merged kernels.

    x: (batch, in, *size), of the kernels' dtype and of this very size. Kernels are merged in `merge_dtype` and rounded
    to their own dtype, beforehand. The merged convolution is computed with the method, the border by windows and matrix
    products; where no output is interior, the stack runs. Raises NotImplementedError with the reason where the method
    cannot compute a layer, ValueError where the layers are no stack or x has another size, OverflowError where a merged
    kernel overflows.
    """
    reason = unlike(layers)
    if reason is not None:
        raise ValueError(reason)
    chosen, chain = METHODS[method], chained(layers)
    border_plan = plan(chain, kernels[0].weight.shape[1] * layers[0].groups, size)
    if border_plan is None:
        calls = [chosen.build(kernel, layer) for kernel, layer in zip(kernels, layers, strict=True)]
        return lambda x: in_turn(x, calls)
    inner = chosen.build(finite(summed_kernel(kernels, layers, merge_dtype)), border_plan.inner)
    shapes = [block.shape for block in border_plan.blocks]
    around = [finite(each) for each in block_kernels(kernels, chain, shapes, merge_dtype)]

    def call(x: torch.Tensor) -> torch.Tensor:
        if x.shape[-len(size) :] != size:
            raise ValueError(f"x must be (batch, in, {', '.join(map(str, size))}), not {tuple(x.shape)}")
        return compute(x, border_plan, inner, around)

    return call
