"""Weights of small trained networks, kept beside this file; `training` made them.

They are kept, not trained anew: rounding differs between processors, and training magnifies it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".npz")


@cache
def kept() -> dict[str, Any]:
    """By data set: float32 (networks, layers in turn, out, in, 3, 3)."""
    import numpy

    with numpy.load(FILE) as file:
        return {name: file[name] for name in file.files}


def trained(name: str) -> Callable[..., list[Any]]:
    """The family of the networks trained on the data set.

    A draw takes one network, the layer to begin with, and of all layers the same channels, at random; consecutive
    layers stay so, after the last comes the first. Raises ValueError for layers that are no part of the kept ones.
    """

    def draw(random: Any, places: Sequence[Any]) -> list[Any]:
        networks = kept()[name]
        count, depth, width = networks.shape[:3]
        network, start = random.integers(count), int(random.integers(depth))
        channels, stack = random.permutation(width), []
        for index, (out, per_group, *taps) in enumerate(place.shape for place in places):
            if max(out, per_group) > width or tuple(taps) != networks.shape[4:]:
                raise ValueError(
                    f"trained layers are 3 x 3 with up to {width} channels, "
                    f"not {' x '.join(map(str, taps))} with {max(out, per_group)}"
                )
            layer = networks[network, (start + index) % depth].astype("float64")
            stack.append(layer[channels[:out]][:, channels[:per_group]])
        return stack

    return draw
