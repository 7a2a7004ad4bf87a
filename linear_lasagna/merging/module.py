"""A stack of PyTorch's convolutions, merged with its border computed apart, as a module."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from linear_lasagna.merging.assembly import compute, in_turn
from linear_lasagna.merging.border_plan import Plan, least_batch, plan, shapes
from linear_lasagna.merging.chain import Chain, joined
from linear_lasagna.merging.faces import face_kernels
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import Kernel


class BorderExact(nn.Module):
    """Equals the layers that it was merged from, up to rounding, for inputs ([batch,] in_channels, *size) of any size.

    One merged convolution computes all outputs, and merged kernels of their own those anew that need zeros between the
    layers; both are divided by powers of two where small weights had to be made larger (`scale`). Where that is
    estimated to save less over the layers one after another than the faces cost, the layers run: on small images, and
    in stacks that merging makes dearer; `settle` overrules the estimate. They run, too, where the border would take too
    many kernels: over 2**24 numbers, or strides that leave more than 16 alignments.

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
        known = shapes(chain, self.in_channels)
        # As matrices: a module's memory format holds for all its weights, and these have not the rank of the others.
        self.border = nn.ModuleList(map(Numbers, face_kernels(kernels, chain, known, merge_dtype)))
        # Powers of two, one per output channel, or None; `fitting` sets them.
        self.scale: torch.Tensor | None
        self.register_buffer("scale", None)
        self._index = {shape: place for place, shape in enumerate(known)}
        self._plans: dict[tuple[int, ...], tuple[Plan | None, float]] = {}
        self._decided = str(chain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A compiler that traces symbolic sizes has to settle on these: the faces depend on them.
        rank = len(self.chain[0].after)
        size = tuple(operator.index(n) for n in x.shape[-rank:])
        found = self._decide(self._decided, size, operator.index(x.shape[0]) if x.ndim == rank + 2 else 1)
        if found is None:
            return in_turn(x, list(self.layers))
        inner = METHODS["direct"].prepare_expanded(_kernel_of(self.merged), found.inner)
        border = [_kernel_of(self.border[self._index[face.shape]]) for face in found.faces]
        y = compute(x, found, inner, border)
        return y if self.scale is None else y * self.scale

    def plan(self, size: tuple[int, ...], batch: int = 1) -> Plan | None:
        """How inputs of this size are computed; None where the layers run one after another."""
        found, least = self._planned(size)
        return found if batch >= least else None

    def settle(self, size: tuple[int, ...], batch: int = 1) -> bool:
        """Compute so many images of this size, or more, with the merged kernels, whatever the estimate says.

        For what was measured. Returns whether that is possible. Kept by a copy of the module, not by its state_dict.
        """
        found, least = self._planned(size)
        self._plans[size] = (found, min(least, batch))
        self._decided += f" {size}: {batch}"
        return found is not None

    @torch.compiler.assume_constant_result
    def _decide(self, decided: str, size: tuple[int, ...], batch: int) -> Plan | None:
        """`plan`, a constant for a compiler: it traces anew where `decided` is another, a string that tells all."""
        return self.plan(size, batch)

    def _planned(self, size: tuple[int, ...]) -> tuple[Plan | None, float]:
        """The plan and the least batch for it."""
        if size not in self._plans:
            found = plan(self.chain, self.in_channels, size)
            least = math.inf if found is None else least_batch(found, self.chain, self.in_channels, size)
            self._plans[size] = (found, least)
        return self._plans[size]

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


def _kernel_of(numbers: Any) -> Kernel:
    return Kernel(numbers.weight, numbers.bias)
