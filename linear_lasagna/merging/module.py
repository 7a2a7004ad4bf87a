"""A stack of PyTorch's convolutions, merged with its border computed apart, as a module."""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from linear_lasagna.merging.assembly import compute, in_turn
from linear_lasagna.merging.border_plan import Plan, pays, plan
from linear_lasagna.merging.chain import Chain, joined
from linear_lasagna.merging.faces import face_kernels
from linear_lasagna.merging.regions import Shape
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import Kernel

# Sizes modulo the strides for which a module holds the kernels of the border; with more of them the layers run.
MOST_ALIGNMENTS = 16


class BorderExact(nn.Module):
    """Equals the layers that it was merged from, up to rounding, for inputs ([batch,] in_channels, *size) of any size.

    One merged convolution computes all outputs, and merged kernels of their own those anew that need zeros between the
    layers. Where that saves fewer operations over the layers one after another than the faces cost beside theirs, the
    layers run: on small images, and in stacks that merging makes dearer. They run, too, where the border would take too
    many kernels: over 2**24 numbers (`border_plan.LARGEST`), or strides that leave more than 16 alignments.

    Parameters: `merged` (the merged kernel), `border` (the kernels of the outputs around the interior, in two
    dimensions of four sides and four corners) and `layers` (the given ones, copied). It is a transform for inference:
    gradients reach the input, and of the parameters those that computed an output. A step of training would so drive
    them apart; train the layers, then merge.
    """

    def __init__(
        self, modules: Sequence[nn.Module], chain: Chain, kernels: Sequence[Kernel], merge_dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.chain, self.in_channels = chain, kernels[0].weight.shape[1] * chain[0].layer.groups
        self.layers = nn.ModuleList(copy.deepcopy(module) for module in modules)
        self.merged = Numbers(summed_kernel(kernels, [link.layer for link in chain], merge_dtype))
        shapes = shapes_of(chain, self.in_channels)
        # As matrices: a module's memory format holds for all its weights, and these have not the rank of the others.
        self.border = nn.ModuleList(map(Numbers, face_kernels(kernels, chain, shapes, merge_dtype)))
        self._index = {shape: place for place, shape in enumerate(shapes)}
        self._plans: dict[tuple[tuple[int, ...], int], Plan | None] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A compiler that traces symbolic sizes has to settle on these: the faces depend on them.
        rank = len(self.chain[0].after)
        size = tuple(operator.index(n) for n in x.shape[-rank:])
        found = self.plan(size, operator.index(x.shape[0]) if x.ndim == rank + 2 else 1)
        if found is None:
            return in_turn(x, list(self.layers))
        inner = METHODS["direct"].prepare_expanded(_kernel_of(self.merged), found.inner)
        return compute(x, found, inner, [_kernel_of(self.border[self._index[face.shape]]) for face in found.faces])

    @torch.compiler.assume_constant_result
    def plan(self, size: tuple[int, ...], batch: int = 1) -> Plan | None:
        """How inputs of this size are computed; None where the layers run one after another."""
        if (size, batch) not in self._plans:
            found = self.exact_plan(size)
            worthwhile = found is not None and pays(found, self.chain, self.in_channels, size, batch)
            self._plans[size, batch] = found if worthwhile else None
        return self._plans[size, batch]

    def settle(self, size: tuple[int, ...], batch: int = 1) -> None:
        """Compute inputs of this size with the merged kernels, if they can be, whatever the estimate says."""
        self._plans[size, batch] = self.exact_plan(size)

    def exact_plan(self, size: tuple[int, ...]) -> Plan | None:
        """How inputs of this size can be computed, whether it pays or not; None where only the layers can."""
        found = plan(self.chain, self.in_channels, size)
        known = found is not None and all(face.shape in self._index for face in found.faces)
        return found if known else None

    def extra_repr(self) -> str:
        layer = joined(self.chain).layer
        return f"{self.in_channels}, {layer.out_channels}, kernel_size={layer.kernel_size}, stride={layer.stride}"


def shapes_of(chain: Chain, in_channels: int) -> tuple[Shape, ...]:
    """The shapes of all faces of images that are no smaller than what one output sees.

    Which ones an image has, depends on its size modulo the strides; there are none where these allow too many.
    """
    merged = joined(chain)
    if math.prod(merged.layer.stride) > MOST_ALIGNMENTS:
        return ()
    axes = []
    for reach, before, after, stride in zip(
        merged.layer.reach, merged.layer.padding, merged.after, merged.layer.stride, strict=True
    ):
        large = 4 * (reach + before + after)
        axes.append(range(large, large + stride))
    plans = (plan(chain, in_channels, size) for size in itertools.product(*axes))
    return tuple(dict.fromkeys(face.shape for found in plans if found is not None for face in found.faces))


class Numbers(nn.Module):
    """A kernel's weight and bias as parameters."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.weight = nn.Parameter(kernel.weight.clone())
        self.bias = None if kernel.bias is None else nn.Parameter(kernel.bias.clone())

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}, bias={self.bias is not None}"


def _kernel_of(numbers: Any) -> Kernel:
    return Kernel(numbers.weight, numbers.bias)
