"""Exact gradients of sum(grad * stack(x)): with respect to the input, and to every layer's weights and bias.

The input's gradient is a stack of transposed convolutions. One of stride s is a convolution of its input with s - 1
zeros between the numbers; since K after spreading by s is spreading by s after K with its taps s apart, all zeros are
put between the numbers of grad, at once, and what is left is a stack of stride 1 for `convolve`. A layer's weights have
the correlation of its input with its output's gradient for theirs, its bias the sum of that (Dumoulin and Visin, arXiv
1603.07285; Rumelhart, Hinton, Williams, Nature 323 (1986), 533). Spread numbers take memory and time as dense ones
would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.exact.reference import Exact, convolve
from linear_lasagna.methods.views import windows
from linear_lasagna.preconditions import check_kernels
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem

Size: TypeAlias = tuple[int, ...]


class Parts(NamedTuple):
    """Numbers sum(values) * 2**exponent: values (parts, samples, channels, *size), float64."""

    values: torch.Tensor
    exponent: int = 0


class Gradient(NamedTuple):
    """Of a layer's weights, (out, in / groups, *kernel_size), and of its bias, (out, 1, 1 per axis)."""

    weight: Exact
    bias: Exact


@torch.no_grad()
def input_gradient(grad: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer], size: Size) -> Exact:
    """The exact gradient of sum(grad * stack(x)) with respect to x: (samples, in_channels, *size). Biases have no part.

    grad: (samples, out_channels, *output_size), of the kernels' dtype; size: that of x, which strides do not tell.
    Raises ValueError for shapes or dtypes that do not fit, and as `convolve` does.
    """
    problem = _problem(grad.shape[0], kernels, layers, size)
    check_kernels(problem, kernels)
    _check_grad(grad, problem, kernels)
    steps, spread = [], (1,) * problem.rank
    for layer, kernel, length in zip(problem.expanded, kernels, problem.sizes, strict=False):
        steps.append(_transposed(layer, kernel.weight, length, spread))
        spread = tuple(a * b for a, b in zip(spread, layer.stride, strict=True))
    transposed, adjoint = zip(*reversed(steps), strict=True)
    return convolve(_spread(grad, spread), transposed, adjoint)


def weight_gradients(
    x: torch.Tensor, grad: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer]
) -> tuple[Exact, ...]:
    """The weights' part of `layer_gradients`, of all layers."""
    return tuple(each.weight for each in layer_gradients(x, grad, kernels, layers))


@torch.no_grad()
def layer_gradients(
    x: torch.Tensor,
    grad: torch.Tensor,
    kernels: Sequence[Kernel],
    layers: Sequence[Layer],
    places: Sequence[int] | None = None,
) -> tuple[Gradient, ...]:
    """The exact gradients of sum(grad * stack(x)) by the weights and the bias of each layer, which may lack one.

    x: (samples, channels, *size); grad: (samples, out_channels, *output_size); both of the kernels' dtype. places: of
    which layers, from 0; None: of all. Raises ValueError for shapes or dtypes that do not fit, and as `convolve` does.
    """
    problem = _problem(x.shape[0], kernels, layers, tuple(x.shape[2:]))
    check_kernels(problem, kernels, x)
    _check_grad(grad, problem, kernels)
    gradients = []
    for place in range(len(layers)) if places is None else places:
        layer, back = problem.expanded[place], _back(grad, kernels, problem, place + 1)
        given = _parts(convolve(x, kernels[:place], layers[:place])) if place else Parts(x[None].double())
        ones = torch.ones_like(back.values[:1, :, :1])
        point = Layer(layer.out_channels, 1).expand(problem.rank)
        gradients.append(Gradient(_correlation(given, back, layer), _correlation(Parts(ones), back, point)))
    return tuple(gradients)


def _back(grad: torch.Tensor, kernels: Sequence[Kernel], problem: Problem, later: int) -> Parts:
    """The gradient of the input of the layer at this place, which of the last one's output is grad itself."""
    if later == len(kernels):
        return Parts(grad[None].double())
    return _parts(input_gradient(grad, kernels[later:], problem.layers[later:], problem.sizes[later]))


def _problem(samples: int, kernels: Sequence[Kernel], layers: Sequence[Layer], size: Size) -> Problem:
    channels = kernels[0].weight.shape[1] * layers[0].groups
    return Problem("gradient", samples, channels, tuple(size), tuple(layers))


def _check_grad(grad: torch.Tensor, problem: Problem, kernels: Sequence[Kernel]) -> None:
    if tuple(grad.shape) != problem.shapes[-1] or grad.dtype != kernels[0].weight.dtype:
        raise ValueError(
            f"grad must be {problem.shapes[-1]} of {kernels[0].weight.dtype}, as the stack's output is, "
            f"not {tuple(grad.shape)} of {grad.dtype}"
        )


def _spread(x: torch.Tensor, spread: Size) -> torch.Tensor:
    """x with so many positions, less one, of zeros between its own."""
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], spread, strict=True)]
    result = x.new_zeros((*x.shape[:2], *size))
    result[(..., *(slice(None, None, s) for s in spread))] = x
    return result


def _transposed(layer: ExpandedLayer, weight: torch.Tensor, size: Size, spread: Size) -> tuple[Kernel, Layer]:
    """The layer's transpose for numbers `spread` apart, as a convolution of stride 1. size: of the layer's input."""
    groups, axes = layer.groups, tuple(range(2, weight.ndim))
    turned = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(axes)
    padding, dilation = [], []
    for axis, (length, outputs) in enumerate(zip(size, layer.output_size(size), strict=True)):
        reach = layer.effective_kernel_size[axis]
        before = reach - 1 - layer.padding[axis]
        # Further positions at the end, which no window of the layer begins at.
        after = length - 1 + layer.padding[axis] - (outputs - 1) * layer.stride[axis]
        most = max(before, after, 0)
        step = layer.dilation[axis]
        if before != most or after != most:
            turned, step = _uneven(turned, axis + 2, step, most - before, most - after), 1
        padding.append(most * spread[axis])
        dilation.append(step * spread[axis])
    shape = tuple(turned.shape[2:])
    return Kernel(turned), Layer(turned.shape[0], shape, 1, tuple(padding), tuple(dilation), groups)


def _uneven(weight: torch.Tensor, axis: int, dilation: int, before: int, after: int) -> torch.Tensor:
    """The weights without dilation along the axis, between so many zeros: other paddings before and after, as taps."""
    reach = dilation * (weight.shape[axis] - 1) + 1
    shape = list(weight.shape)
    shape[axis] = before + reach + after
    result = weight.new_zeros(shape)
    result.narrow(axis, before, reach)[(slice(None),) * axis + (slice(None, None, dilation),)] = weight
    return result


def _parts(exact: Exact) -> Parts:
    return Parts(*exact.parts())


def _correlation(given: Parts, back: Parts, layer: ExpandedLayer) -> Exact:
    """sum over samples and outputs i of back[o, i] * given[c, i * stride + t * dilation - padding]: (o, c, *t).

    A stack of two products, whose samples are the input's channels in a group, and whose positions are taps: one sums
    over given's parts, samples and outputs, for every part of back apart; the other over these.
    """
    rank, parts, count = len(layer.kernel_size), len(given.values), len(back.values)
    seen = windows(given.values.flatten(0, 1), layer).unflatten(0, (parts, -1)).unflatten(2, (layer.groups, -1))
    images = seen.movedim((3, 2), (0, 1)).flatten(1, 3 + rank)  # in group; group, part, sample, *output; *tap
    weights = back.values.movedim(2, 0).unsqueeze(2)  # out, part of back, part of given, sample, *output
    weights = weights.expand(*weights.shape[:2], parts, *weights.shape[3:]).flatten(2).flatten(0, 1)
    outputs, point = len(weights) // count, (None,) * rank
    products = Kernel(weights[(..., *point)]), Kernel(weights.new_ones(outputs, count)[(..., *point)])
    layers = Layer(len(weights), 1, groups=layer.groups), Layer(outputs, 1, groups=outputs)
    exact = convolve(images, products, layers)
    exponent = exact.exponent + given.exponent + back.exponent
    return replace(exact, digits=exact.digits.transpose(1, 2).contiguous(), exponent=exponent)
