"""Families of weights: float64 (out, in / groups, *kernel_size) for every layer, from numpy's random numbers.

Where nothing else is said, weights are independent and of mean square 1 / fan-in, which preserves the variance of white
noise. As in `inputs`, they are the same on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from analysis.precision.families.family import Family
from analysis.precision.families.trained import trained

if TYPE_CHECKING:
    from analysis.precision.families.inputs import Array, Random


class Place(NamedTuple):
    """The weights that a layer wants: their shape, (out, in / groups, *kernel_size), and its groups."""

    shape: tuple[int, ...]
    groups: int

    @property
    def scale(self) -> float:
        """1 / sqrt(fan-in)."""
        return 1 / math.sqrt(math.prod(self.shape[1:]))


Places: TypeAlias = Sequence[Place]
Stack: TypeAlias = "list[Array]"


def apart(draw: Callable[..., Array]) -> Callable[..., Stack]:
    """A family whose layers are drawn one by one: draw(random, place, *strength)."""
    return lambda random, places, *strength: [draw(random, place, *strength) for place in places]


def normal(random: Random, place: Place) -> Array:
    """N(0, 1 / fan-in)."""
    return random.standard_normal(place.shape) * place.scale


def laplace(random: Random, place: Place) -> Array:
    """Laplace's distribution: more small and more large weights than normal, as trained layers often have."""
    size = random.standard_exponential(place.shape) / math.sqrt(2)
    return size * (2 * random.integers(2, size=place.shape) - 1) * place.scale


def pruned(random: Random, place: Place, share: float) -> Array:
    """N(0, 1 / fan-in), of which this share, the smallest of the layer, are zero. Raises ValueError outside [0, 1)."""
    import numpy

    if not 0 <= share < 1:
        raise ValueError(f"the share of pruned weights must be at least 0 and less than 1, not {share:g}")
    weight = normal(random, place)
    order = numpy.argsort(abs(weight), axis=None, kind="stable")
    weight.flat[order[: int(share * weight.size)]] = 0
    return weight


def near_identity(random: Random, place: Place, strength: float) -> Array:
    """The identity plus strength * N(0, 1 / fan-in): 1 at the middle tap from a group's channel to its namesake."""
    import numpy

    weight = strength * normal(random, place)
    outputs = numpy.arange(place.shape[0])
    channel = outputs % (place.shape[0] // place.groups)
    kept = channel < place.shape[1]
    middle = tuple(k // 2 for k in place.shape[2:])
    weight[(outputs[kept], channel[kept], *middle)] += 1
    return weight


def rank_one(random: Random, place: Place, strength: float) -> Array:
    """N(0, 1 / fan-in) + strength / fan-in: noise, and a matrix of rank one that maps a mean m to strength * m."""
    return normal(random, place) + strength * place.scale**2


def zero_mean(random: Random, place: Place) -> Array:
    """N(0, 1 / fan-in), less the mean over each kernel's taps: no kernel sees a constant image.

    Raises ValueError for kernels of one tap.
    """
    if math.prod(place.shape[2:]) == 1:
        raise ValueError("a kernel of one tap and mean zero is zero: zero_mean is for larger kernels")
    weight = normal(random, place)
    return weight - weight.mean(tuple(range(2, weight.ndim)), keepdims=True)


UNIFORM = "uniform"
WEIGHTS: dict[str, Family] = {
    UNIFORM: Family(apart(normal), "uniform of both signs; positive: in [0, 2 / fan-in)"),  # drawn by `Problem.draw`
    "normal": Family(apart(normal), "N(0, 1 / fan-in)"),
    "laplace": Family(apart(laplace), "Laplace’s distribution, of variance 1 / fan-in"),
    "pruned": Family(apart(pruned), "N(0, 1 / fan-in), the smallest (a share, the strength) set to zero", 0.9),
    "near_identity": Family(apart(near_identity), "the identity + strength × N(0, 1 / fan-in)", 0.1),
    "rank_one": Family(apart(rank_one), "N(0, 1 / fan-in) + strength / fan-in", 1.0),
    "zero_mean": Family(apart(zero_mean), "N(0, 1 / fan-in), each kernel less the mean of its taps"),
    "trained_digits": Family(trained("digits"), "3 × 3 layers of small networks that read digits"),
    "trained_photographs": Family(trained("photographs"), "3 × 3 layers of small networks that denoise photographs"),
}
