"""A stack of PyTorch's convolutions, merged with its border computed apart, as a module."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from linear_lasagna.merging.border import Plan, compute, in_turn, plan, run_kernels, stack_operations
from linear_lasagna.merging.chain import Chain, joined, runs
from linear_lasagna.merging.pairs import CONVOLUTIONS
from linear_lasagna.merging.regions import strips_of
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.methods import Call
from linear_lasagna.problems import ExpandedLayer, Kernel

# What a small convolution and the padding of its input cost beside their products, in multiply-accumulates: about
# 0.1 ms on two cores. An estimate that keeps small images from getting slower; a measurement decides better.
CALL_OPERATIONS = 2**21


class BorderExact(nn.Module):
    """Equals the layers that it was merged from, up to rounding, for inputs ([batch,] in_channels, *size) of any size.

    The outputs that need no zeros between the layers come from the merged kernel, the thin rest from the layers. Where
    that saves no operations over the layers one after another, or fewer than its many small convolutions cost
    (`CALL_OPERATIONS` each), these run: on small images, and in stacks that merging makes dearer.

    Parameters: `merged` (the merged kernel), `layers` (the given ones, copied) and `collapsed` (their runs that merge
    without changing a border, for the strips). It is a transform for inference: gradients reach the input, and each
    parameter for its own share of the outputs. A step of training would so drive them apart; train the layers, then
    merge.
    """

    def __init__(
        self, modules: Sequence[nn.Module], chain: Chain, kernels: Sequence[Kernel], merge_dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.chain, self.in_channels = chain, kernels[0].weight.shape[1] * chain[0].layer.groups
        self.layers = nn.ModuleList(copy.deepcopy(module) for module in modules)
        self.merged = Numbers(summed_kernel(kernels, [link.layer for link in chain], merge_dtype))
        grouping = runs(chain)
        starts = itertools.accumulate(map(len, grouping), initial=0)
        rows = zip(starts, grouping, run_kernels(kernels, grouping, merge_dtype), strict=False)
        self.collapsed = nn.ModuleDict({str(at): Numbers(kernel) for at, run, kernel in rows if len(run) > 1})
        self._plans: dict[tuple[tuple[int, ...], int], Plan | None] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A compiler that traces symbolic sizes has to settle on these: the regions depend on them.
        rank = len(self.chain[0].after)
        size = tuple(operator.index(n) for n in x.shape[-rank:])
        found = self.plan(size, operator.index(x.shape[0]) if x.ndim == rank + 2 else 1)
        if found is None:
            return in_turn(x, list(self.layers))
        starts = itertools.accumulate(map(len, found.runs), initial=0)
        numbers = [
            self.layers[at] if len(run) == 1 else self.collapsed[str(at)]
            for at, run in zip(starts, found.runs, strict=False)
        ]
        outer = [_call(*each) for each in zip(numbers, found.outer, strict=True)]
        return compute(x, found, _call(self.merged, found.inner), outer)

    @torch.compiler.assume_constant_result
    def plan(self, size: tuple[int, ...], batch: int = 1) -> Plan | None:
        """How inputs of this size are computed; None where the layers run one after another."""
        if (size, batch) not in self._plans:
            found = plan(self.chain, self.in_channels, size)
            self._plans[size, batch] = found if found is not None and self._pays(found, size, batch) else None
        return self._plans[size, batch]

    def _pays(self, found: Plan, size: tuple[int, ...], batch: int) -> bool:
        calls = 1 + len(found.outer) * sum(1 for _ in strips_of(found.regions))
        saved = stack_operations(self.chain, self.in_channels, size) - found.operations
        return saved > 0 and batch * saved > (calls - len(self.chain)) * CALL_OPERATIONS

    def extra_repr(self) -> str:
        layer = joined(self.chain).layer
        return f"{self.in_channels}, {layer.out_channels}, kernel_size={layer.kernel_size}, stride={layer.stride}"


class Numbers(nn.Module):
    """A kernel's weight and bias as parameters."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.weight = nn.Parameter(kernel.weight.clone())
        self.bias = None if kernel.bias is None else nn.Parameter(kernel.bias.clone())

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}, bias={self.bias is not None}"


def _call(numbers: Any, layer: ExpandedLayer) -> Call:
    """The layer's convolution with the weight and bias that a module holds."""
    convolution = CONVOLUTIONS[len(layer.kernel_size)]
    return lambda x: convolution(
        x, numbers.weight, numbers.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )
