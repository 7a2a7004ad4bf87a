"""Whether kernels fit layers, and an input a problem: asked before anything is built or called.

Needs no torch: what is looked at are shapes, dtypes and devices.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

from linear_lasagna.problems import ExpandedLayer, Kernel, Problem

if TYPE_CHECKING:
    import torch


def check_kernels(problem: Problem, kernels: Sequence[Kernel], like: torch.Tensor | None = None) -> None:
    """Raises ValueError, in one sentence, where these are not the kernels of the problem's layers.

    like: has the dtype and device that all must have; by default the first weight.
    """
    if len(kernels) != problem.depth:
        raise ValueError(f"{problem.name}: {len(kernels)} kernels do not fit {problem.depth} layers")
    like = kernels[0].weight if like is None else like
    for index, (kernel, layer) in enumerate(zip(kernels, problem.expanded, strict=True)):
        name = f"kernel {index}"
        check_tensor(f"{name}'s weight", kernel.weight, layer.weight_shape(problem.channels[index]), like)
        if layer.bias != (kernel.bias is not None):
            raise ValueError(f"{name} has {'no' if layer.bias else 'a'} bias, other than its layer")
        if kernel.bias is not None:
            check_tensor(f"{name}'s bias", kernel.bias, (layer.out_channels,), like)


def check_tensor(name: str, tensor: torch.Tensor, shape: tuple[int, ...], like: torch.Tensor) -> None:
    """Raises ValueError where the tensor has another shape, or another dtype or device than `like`."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, its layer needs {shape}")
    if (tensor.dtype, tensor.device) != (like.dtype, like.device):
        raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, not {like.dtype} on {like.device}")


def check_kernel(kernel: Kernel, layer: ExpandedLayer) -> None:
    """Raises ValueError where the kernel has another shape than its layer, or a bias that the layer has not.

    A kernel without bias is computed without, whatever the layer says.
    """
    weight, bias = kernel
    check_tensor("the weight", weight, layer.weight_shape(weight.shape[1] * layer.groups), weight)
    if bias is not None:
        if not layer.bias:
            raise ValueError("the kernel has a bias, its layer has none")
        check_tensor("the bias", bias, (layer.out_channels,), weight)


def check_image(x: torch.Tensor, in_channels: int, least: tuple[int, ...]) -> None:
    """Raises ValueError where x is not (batch, in_channels, *size) with a size of `least` or more."""
    shape = x.shape
    if len(shape) != len(least) + 2 or shape[1] != in_channels or any(map(operator.lt, shape[2:], least)):
        raise ValueError(f"x must be (batch, {in_channels}, *size) with a size of at least {least}, not {tuple(shape)}")


def check_input(x: torch.Tensor, problem: Problem, dtype: torch.dtype) -> None:
    """Raises ValueError where x is no batch of the problem's inputs in this dtype."""
    needed = problem.shapes[0][1:]
    if tuple(x.shape[1:]) != needed or x.ndim != len(needed) + 1:
        raise ValueError(f"{problem.name}: x must be (batch, {', '.join(map(str, needed))}), not {tuple(x.shape)}")
    if x.dtype is not dtype:
        raise ValueError(f"{problem.name}: x is {x.dtype}, the kernels are {dtype}")
