"""The numbers of layers that were made on the way to the merged model, as they were before they were rounded."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from linear_lasagna.devices import wide
from linear_lasagna.modules import convolution, kernel_of
from linear_lasagna.problems import ExpandedLayer, Kernel

EXACT: WeakKeyDictionary[nn.Module, Kernel] = WeakKeyDictionary()


def exact_kernel(module: Any) -> Kernel:
    """The layer's numbers in float64, so that what is merged with others later is rounded once."""
    return EXACT.get(module) or kernel_of(module).map(wide)


def forget(model: nn.Module) -> None:
    """Keep the numbers of the model's layers no longer than merging needs them."""
    for module in model.modules():
        EXACT.pop(module, None)


def with_numbers(module: Any, kernel: Kernel) -> Any | None:
    """A copy of the layer with these numbers, rounded; None where its dtype cannot hold them.

    kernel: in float64, with as many rows and columns as the copy is to have; (out, in / groups, *k).
    """
    like = module.weight
    rounded = kernel.map(lambda numbers: numbers.to(like.device, like.dtype))
    if not all(bool(numbers.isfinite().all()) for numbers in rounded if numbers is not None):
        return None
    made = copy.deepcopy(module)
    made.weight, made.bias = rounded.map(lambda numbers: nn.Parameter(numbers, requires_grad=like.requires_grad))
    if isinstance(made, nn.Linear):
        made.out_features, made.in_features = made.weight.shape
    elif not made.transposed:
        made.out_channels, made.in_channels = len(kernel.weight), kernel.weight.shape[1] * made.groups
    EXACT[made] = kernel
    return made


def moved(module: Any, kernel: Kernel, layer: ExpandedLayer) -> Any:
    """The layer's module with the numbers of another one in another place, so that nothing is rounded."""
    like = module.weight
    made = convolution(
        kernel.map(lambda numbers: numbers.to(like.device, like.dtype)), layer, kernel.weight.shape[1] * layer.groups
    )
    EXACT[made] = kernel
    return made.requires_grad_(like.requires_grad).eval()


def bias_of(kernel: Kernel) -> torch.Tensor:
    """The bias, zeros where there is none."""
    return kernel.weight.new_zeros(len(kernel.weight)) if kernel.bias is None else kernel.bias
