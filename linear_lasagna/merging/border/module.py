"""A stack of PyTorch's convolutions, merged with its border computed apart, as a module."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from linear_lasagna import calibration
from linear_lasagna.calibration import BATCHES, Costs, Images, images_of
from linear_lasagna.merging.border.assembly import compute, in_turn
from linear_lasagna.merging.border.kernels import block_kernels
from linear_lasagna.merging.border.plan import BorderPlan, plan, shapes
from linear_lasagna.merging.chain import Chain, joined
from linear_lasagna.merging.split import doubled, in_parts
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.methods import METHODS
from linear_lasagna.problems import Kernel


def _constant(method: Any) -> Any:
    """What `torch.compiler.assume_constant_result` does; that imports the compiler, which takes as long as torch."""
    method._dynamo_marked_constant = True
    return method


class BorderExact(nn.Module):
    """Equals the layers that it was merged from, up to rounding, for inputs ([batch,] in_channels, *size) of any size.

    One merged convolution computes all outputs, and merged kernels of their own those anew that need zeros between the
    layers; both are divided by powers of two where small weights had to be made larger (`scale`). Where that takes
    longer than the layers one after another, these run: on small images, and in stacks that merging makes dearer.
    `calibrate` times both at a few sizes, for the dtype and device of the parameters, and what it finds decides at all
    sizes; until then the layers run, and `settle` overrules it. They run, too, where the border would take too many
    kernels: over 2**24 numbers, or strides that leave more than 16 alignments.

    Parameters: `merged` (the merged kernel, where it is split both parts of it beside each other), `border` (the
    kernels of the outputs around the interior, in two dimensions of four sides and four corners) and `layers` (the
    given ones, copied). It is a transform for inference: gradients reach the input, and of the parameters those that
    computed an output. A step of training would so drive them apart; train the layers, then merge.
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
        self.border = nn.ModuleList(map(Numbers, block_kernels(kernels, chain, known, merge_dtype)))
        # Powers of two, one per output channel, or None; `fitting` sets them.
        self.scale: torch.Tensor | None
        self.register_buffer("scale", None)
        self._groups = joined(chain).layer.groups
        self._index = {shape: place for place, shape in enumerate(known)}
        self._costs: dict[tuple[torch.dtype, str, Images], Costs] = {}
        self._settled: dict[tuple[int, ...], int] = {}
        self._plans: dict[Any, BorderPlan | None] = {}
        self._decided = str(chain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A compiler that traces symbolic sizes has to settle on these: the blocks depend on them.
        rank = len(self.chain[0].after)
        size = tuple(operator.index(n) for n in x.shape[-rank:])
        batch = operator.index(x.shape[0]) if x.ndim == rank + 2 else 1
        border_plan = self._decide(self._decided, size, batch)
        if border_plan is None:
            return in_turn(x, list(self.layers))
        inner = METHODS["direct"].prepare_expanded(_kernel_of(self.merged), border_plan.inner)
        if self._split:
            inner = partial(in_turn, calls=[partial(doubled, groups=self._groups, rank=rank), inner])
        border = [_kernel_of(self.border[self._index[block.shape]]) for block in border_plan.blocks]
        y = compute(x, border_plan, inner, border)
        return y if self.scale is None else y * self.scale

    @property
    def _split(self) -> bool:
        """Whether the merged kernel has a high and a low part (`split`)."""
        return self.merged.weight.shape[1] * self._groups == 2 * self.in_channels

    def used(self) -> tuple[Kernel, ...]:
        """The merged kernel, as one or as two whose sum it is."""
        kernel = _kernel_of(self.merged)
        return in_parts(kernel) if self._split else (kernel,)

    def calibrate(self) -> bool:
        """Time the layers and the merged kernels on this machine, or recall their times. Returns whether it knows them.

        For the parameters' present dtype and device. It takes a second or so, once per machine (`calibration`).
        """
        place = (self.merged.weight.dtype, str(self.merged.weight.device))
        for images in BATCHES:
            costs = calibration.costs(self.chain, self.in_channels, *place, images)
            if costs is not None:
                self._costs[(*place, images)] = costs
        self._decided += f" {place}: {[self._costs.get((*place, images)) for images in BATCHES]}"
        self._plans.clear()
        return all((*place, images) in self._costs for images in BATCHES)

    def plan(self, size: tuple[int, ...], batch: int = 1) -> BorderPlan | None:
        """How inputs of this size are computed; None where the layers run one after another."""
        place = (self.merged.weight.dtype, str(self.merged.weight.device))
        key = (size, batch, *place)
        if key not in self._plans:
            self._plans[key] = self._planned(size, batch, self._costs.get((*place, images_of(batch))))
        return self._plans[key]

    def _planned(self, size: tuple[int, ...], batch: int, known: Costs | None) -> BorderPlan | None:
        border_plan = plan(self.chain, self.in_channels, size)
        if border_plan is None or batch >= self._settled.get(size, math.inf):
            return border_plan
        pays = known is not None and known.merging_pays(self.chain, self.in_channels, border_plan, size, batch)
        return border_plan if pays else None

    def settle(self, size: tuple[int, ...], batch: int = 1) -> bool:
        """Compute so many images of this size, or more, with the merged kernels, whatever the calibration says.

        For what was measured. Returns whether that is possible. Kept by a copy of the module, not by its state_dict.
        """
        self._settled[size] = min(batch, self._settled.get(size, batch))
        self._decided += f" {size}: {batch}"
        self._plans.clear()
        return plan(self.chain, self.in_channels, size) is not None

    @_constant
    def _decide(self, decided: str, size: tuple[int, ...], batch: int) -> BorderPlan | None:
        """`plan`, a constant for a compiler: it traces anew where `decided` is another, a string that tells all."""
        return self.plan(size, batch)

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
