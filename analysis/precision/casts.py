"""Ways in which weights are rounded last: "merged+nearest/direct" merges them as they were, and casts once.

"merged/direct" merges what the dtype holds of each layer: cast, then merged. A cast, after "+", takes the unit's true
weights, layer by layer (stacked) or merged in float64; where the truth is "rounded", they are the dtype's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.merging import merge_stack
from linear_lasagna.merging.split import doubled, two_parts
from linear_lasagna.merging.stack import finite
from linear_lasagna.merging.tap_sums import kept_sums
from linear_lasagna.methods import METHODS, Call, Method
from linear_lasagna.planning.compute import compose
from linear_lasagna.problems import ExpandedLayer, Kernel, Problem
from linear_lasagna.ways import Way, way_named

Place: TypeAlias = tuple[torch.dtype, str]  # dtype and device of what is computed
Cast: TypeAlias = Callable[[Kernel, ExpandedLayer, Method, Place], Call]


class LastCast(NamedTuple):
    """A way whose weights are rounded last: how they are grouped, and how they are rounded."""

    way: Way
    cast: str

    def prepare(self, problem: Problem, kernels: Sequence[Kernel], place: Place) -> Call:
        """call(x) -> y. kernels: of any dtype. Raises OverflowError where the dtype cannot hold a cast kernel."""
        wide = [kernel.map(lambda numbers: numbers.double()) for kernel in kernels]
        layers = problem.expanded
        if self.way.schedule.name == "merged":
            kernel, layer = merge_stack(wide, layers)
            wide, layers = [kernel], (layer,)
        method = METHODS[self.way.method]
        pairs = zip(wide, layers, strict=True)
        return compose([CASTS[self.cast](kernel, layer, method, place) for kernel, layer in pairs])


def last_cast(name: str) -> LastCast | None:
    """The way "schedule+cast/method", or None for a name without "+". Raises ValueError for an unknown part."""
    schedule, plus, rest = name.partition("+")
    if not plus:
        return None
    cast, _, method = rest.partition("/")
    if schedule not in ("stacked", "merged") or cast not in CASTS:
        raise ValueError(f"{name!r} is no way: before + stands stacked or merged, after it one of {', '.join(CASTS)}")
    return LastCast(way_named(f"{schedule}/{method}"), cast)


def nearest(kernel: Kernel, layer: ExpandedLayer, method: Method, place: Place) -> Call:
    """Every weight rounded to the nearest number of the dtype."""
    return method.build(_held(kernel, place), layer)


def tap_sums(kernel: Kernel, layer: ExpandedLayer, method: Method, place: Place) -> Call:
    """Rounded so that each kernel's sum over its taps is kept (`merging.tap_sums`)."""
    return method.build(_held(Kernel(kept_sums(kernel.weight, place[0]), kernel.bias), place), layer)


def split(kernel: Kernel, layer: ExpandedLayer, method: Method, place: Place) -> Call:
    """High and low parts, in one convolution of the input beside itself (`merging.split`)."""
    both = _held(Kernel(two_parts(kernel.weight, place[0]), kernel.bias), place)
    call = method.build(both, layer)
    return lambda x: call(doubled(x, layer.groups, len(layer.kernel_size)))


CASTS: dict[str, Cast] = {"nearest": nearest, "tap_sums": tap_sums, "split": split}


def _held(kernel: Kernel, place: Place) -> Kernel:
    dtype, device = place
    return finite(kernel.map(lambda numbers: numbers.to(dtype).to(device)))
