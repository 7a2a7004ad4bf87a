"""What is asked whether its bits change: a method, a layer with its numbers, and an image among others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from linear_lasagna.methods import METHODS, Method, method_named
from linear_lasagna.preconditions import check_image, check_kernel
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem
from linear_lasagna.vocabulary import BASELINE, Signs


@dataclass(frozen=True)
class Subject:
    """images: (batch, in_channels, *size), at least two of one dtype and device, the kernel's; the first is looked at,
    the others stand beside it in a batch. baseline: the method that this one is compared with. Raises ValueError where
    these do not fit, or the method cannot compute them.
    """

    method: Method
    layer: ExpandedLayer
    kernel: Kernel
    images: torch.Tensor
    baseline: Method = METHODS[BASELINE]

    def __post_init__(self) -> None:
        check_kernel(self.kernel, self.layer)
        weight, (rank, channels) = self.kernel.weight, (len(self.layer.kernel_size), self.kernel.weight.shape[1])
        check_image(self.images, channels * self.layer.groups, self.layer.input_size((1,) * rank))
        if len(self.images) < 2:
            raise ValueError("at least two images are needed: one to look at, and others beside it in a batch")
        if (self.images.dtype, self.images.device) != (weight.dtype, weight.device):
            theirs = f"{self.images.dtype} on {self.images.device}"
            raise ValueError(f"the images are {theirs}, the weight is {weight.dtype} on {weight.device}")
        if reason := self.lacks(self.method):
            raise ValueError(f"{self.method.name}: {reason}")

    @classmethod
    def of(
        cls,
        problem: Problem,
        method: Method | str = BASELINE,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        seed: int = 0,
        signs: Signs = "random",
    ) -> Subject:
        """Of a problem of one layer and at least two images, drawn from a seed. Raises ValueError for others."""
        if problem.depth != 1:
            raise ValueError(f"{problem.name} has {problem.depth} layers: bits are compared of one layer at a time")
        computing = method_named(method) if isinstance(method, str) else method
        x, (kernel,) = problem.draw(dtype, device, seed, signs)
        return cls(computing, problem.expanded[0], kernel, x)

    @property
    def image(self) -> torch.Tensor:
        """(1, in_channels, *size)."""
        return self.images[:1]

    def lacks(self, method: Method, layer: ExpandedLayer | None = None) -> str | None:
        """Why a method cannot compute the layer, or another one, for images of this dtype and device; None: it can."""
        return method.unsupported(layer or self.layer, self.images.dtype, self.images.device.type)

    def compute(
        self, x: torch.Tensor, layer: ExpandedLayer | None = None, kernel: Kernel | None = None
    ) -> torch.Tensor:
        """The method's result for x, with the subject's own layer and kernel where no others are given."""
        return self.method(x, kernel or self.kernel, layer or self.layer)
