"""A stack into one convolution that equals it everywhere, the border included.

That is so where no layer but the first is padded: with any strides, dilations, groups and biases. It is so, too, where
what a later layer pads with zeros is zero anyway, because all layers before it are fully padded (padding = effective
kernel size - 1) and have no bias. Elsewhere zero padding between the layers makes the border of the merged convolution
wrong, and merging is refused; `border` computes that border apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.merging.chain import border_changes, chained
from linear_lasagna.merging.order import Order, composed_layer, merge_order
from linear_lasagna.merging.pairs import pair
from linear_lasagna.problems import ExpandedLayer, Kernel


def not_mergeable(layers: Sequence[ExpandedLayer]) -> str | None:
    """Why these layers cannot be merged into one convolution that is right everywhere, or None where they can."""
    reason = unlike(layers)
    if reason is not None:
        return reason
    first, *later = chained(layers)
    for index, link in enumerate(later, start=1):
        reason = border_changes(first, link)
        if reason is not None:
            return f"layer {index}: {reason}"
        first = first.followed_by(link)
    return None


def unlike(layers: Sequence[ExpandedLayer]) -> str | None:
    """Why these layers are no stack at all, or None where they are."""
    if not layers:
        return "there is no layer to merge"
    if len({len(layer.kernel_size) for layer in layers}) > 1:
        return "the layers differ in their number of spatial axes"
    return None


def merged_layer(layers: Sequence[ExpandedLayer]) -> ExpandedLayer:
    """The layer that the stack merges into. Raises ValueError with the reason where it cannot."""
    reason = not_mergeable(layers)
    if reason is not None:
        raise ValueError(reason)
    return composed_layer(layers)


def merge_stack(
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], merge_dtype: torch.dtype | None = None
) -> tuple[Kernel, ExpandedLayer]:
    """One kernel and layer that equal the stack everywhere, merged in the order that takes the fewest multiply-adds.

    The merge runs in `merge_dtype` (None: the kernels' own), its result is rounded to the kernels' dtype. The result
    has as many groups as the stack's structure has: the greatest common divisor of the layers' groups.
    Raises ValueError with the reason where the stack cannot be merged.
    """
    return summed_kernel(kernels, layers, merge_dtype), merged_layer(layers)


def summed_kernel(
    kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer], merge_dtype: torch.dtype | None = None
) -> Kernel:
    """The merged kernel, whatever the layers pad: right wherever no output needs a padded position between layers."""
    dtype, device = kernels[0].weight.dtype, kernels[0].weight.device
    place = device_named(device).home(merge_dtype or dtype)
    parts = [kernel.map(lambda numbers: numbers.to(place, merge_dtype or dtype)) for kernel in kernels]
    order = merge_order(tuple(layers), kernels[0].weight.shape[1] * layers[0].groups)
    return _merge(order, parts, layers)[0].map(lambda numbers: numbers.to(device, dtype))


def finite(kernel: Kernel) -> Kernel:
    """The merged kernel. Raises OverflowError where its dtype cannot hold it, so that it is never timed."""
    dtype = str(kernel.weight.dtype).removeprefix("torch.")
    for part, numbers in (("weight", kernel.weight), ("bias", kernel.bias)):
        if numbers is not None and not bool(numbers.isfinite().all()):
            raise OverflowError(f"a merged {part} is not finite in {dtype}")
    return kernel


def _merge(order: Order, kernels: Sequence[Kernel], layers: Sequence[ExpandedLayer]) -> tuple[Kernel, ExpandedLayer]:
    if isinstance(order, int):
        return kernels[order], layers[order]
    (first, early), (second, late) = (_merge(part, kernels, layers) for part in order)
    both = pair(early, late)
    return both.merge_biased(first, second), both.merged
