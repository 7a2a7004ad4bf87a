"""Methods whose bits are known to change under one perturbation alone, or under none; other processes import them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import partial

import torch

from linear_lasagna.exact import convolve
from linear_lasagna.methods import Method
from linear_lasagna.methods.views import windows
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer, Problem

CHANNELS, SIZE = 8, 7
PROBLEM = Problem("planted", 3, 4, (SIZE, SIZE), (Layer(CHANNELS, 3, padding=1, bias=True),))
Condition = Callable[[torch.Tensor, Kernel, ExpandedLayer], bool]


def added(kernel: Kernel, layer: ExpandedLayer, x: torch.Tensor, backwards: bool = False) -> torch.Tensor:
    """Product after product, each rounded by itself, in one order for every output: element by element, so that nothing
    but the output's own inputs can matter.
    """
    rank, groups = len(layer.kernel_size), layer.groups
    seen = windows(x, layer).unflatten(1, (groups, -1)).flatten(3 + rank)  # batch, group, channel, *size, tap
    weight = kernel.weight.unflatten(0, (groups, -1)).flatten(3)  # group, out, channel, tap
    shape = (len(x), groups, weight.shape[1], *seen.shape[3:-1])
    y, ones = x.new_zeros(shape), (1,) * rank
    terms = list(itertools.product(range(weight.shape[2]), range(weight.shape[3])))
    for channel, tap in reversed(terms) if backwards else terms:
        y = y + weight[:, :, channel, tap].reshape(1, groups, -1, *ones) * seen[:, :, channel, ..., tap].unsqueeze(2)
    y = y.flatten(1, 2)
    return y if kernel.bias is None else y + kernel.bias.view(-1, *ones)


def _term_by_term(kernel: Kernel, layer: ExpandedLayer):
    return lambda x: added(kernel, layer, x)


def _rounded_once(kernel: Kernel, layer: ExpandedLayer):
    return lambda x: convolve(x, [kernel], [layer]).to(x.dtype)


def _nudged(condition: Condition, kernel: Kernel, layer: ExpandedLayer):
    """Every output goes to the next number where the condition holds."""

    def call(x: torch.Tensor) -> torch.Tensor:
        y = added(kernel, layer, x)
        return torch.nextafter(y, torch.full_like(y, torch.inf)) if condition(x, kernel, layer) else y

    return call


def _turned(kernel: Kernel, layer: ExpandedLayer):
    """Added backwards where there are several images, as a library takes another algorithm for them."""
    return lambda x: added(kernel, layer, x, backwards=len(x) > 1)


def _first_image_apart(kernel: Kernel, layer: ExpandedLayer):
    return lambda x: torch.cat([added(kernel, layer, x[:1]), added(kernel, layer, x[1:], backwards=True)])


COUNT = itertools.count()


def _every_other_call(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return next(COUNT) % 2 == 1


def _many_threads(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return torch.get_num_threads() > 2


def _image_laid_out(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return not x.is_contiguous()


def _kernel_laid_out(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return not kernel.weight.is_contiguous()


def _image_elsewhere(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return x.storage_offset() > 0


def _kernel_elsewhere(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return kernel.weight.storage_offset() > 0


def _cropped(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return x.shape[-1] < SIZE


def _strided(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return layer.stride != (1, 1)


def _some_channels(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return layer.out_channels < CHANNELS


def _least_instructions(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return torch.backends.cpu.get_cpu_capability() == "DEFAULT"


def _always(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> bool:
    return True


def nudged(name: str, condition: Condition) -> Method:
    return Method(name, partial(_nudged, condition))


TERM_BY_TERM = Method("term by term", _term_by_term)
ROUNDED_ONCE = Method("rounded once", _rounded_once)
INVARIANT = (TERM_BY_TERM, ROUNDED_ONCE)
# Each with the one perturbation that finds it, and the settings of it that do.
PLANTED: dict[str, tuple[Method, str, str]] = {
    "other calls": (nudged("other calls", _every_other_call), "repeat", "again"),
    "order by batch": (Method("order by batch", _turned), "batch", ""),
    "order by place": (Method("order by place", _first_image_apart), "batch", "last of "),
    "threads": (nudged("threads", _many_threads), "threads", ""),
    "image laid out": (nudged("image laid out", _image_laid_out), "layout", ""),
    "kernel laid out": (nudged("kernel laid out", _kernel_laid_out), "layout", "kernel's"),
    "image elsewhere": (nudged("image elsewhere", _image_elsewhere), "offset", "image"),
    "kernel elsewhere": (nudged("kernel elsewhere", _kernel_elsewhere), "offset", "kernel"),
    "cropped": (nudged("cropped", _cropped), "crop", ""),
    "strided": (nudged("strided", _strided), "stride", ""),
    "some channels": (nudged("some channels", _some_channels), "channels", ""),
    "another method": (nudged("another method", _always), "method", TERM_BY_TERM.name),
}
INSTRUCTED = nudged("least instructions", _least_instructions)


def _raising(kernel: Kernel, layer: ExpandedLayer):
    raise ArithmeticError("not today\nnor tomorrow")


def _dying(kernel: Kernel, layer: ExpandedLayer):
    return lambda x: os._exit(3) if "ONEDNN_MAX_CPU_ISA" in os.environ else x


def _printing(kernel: Kernel, layer: ExpandedLayer):
    print("what a method says is no answer")
    return _term_by_term(kernel, layer)


RAISING, DYING, PRINTING = Method("raising", _raising), Method("dying", _dying), Method("printing", _printing)
