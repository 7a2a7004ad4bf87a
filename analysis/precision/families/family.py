"""What a family is: a way to draw numbers, which may have a strength, under a name such as "rank_one:0.5"."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Family(NamedTuple):
    """draw: from random numbers, shapes and the strength. about: one sentence, for readers. strength: what it is unless
    the name says another; None where there is none.
    """

    draw: Callable[..., Any]
    about: str
    strength: float | None = None


def family_named(name: str, families: Mapping[str, Family]) -> tuple[Family, float | None]:
    """The family of "name" or "name:strength", and its strength. Raises ValueError for what is none."""
    first, colon, text = name.partition(":")
    if first not in families:
        raise ValueError(f"unknown family {first!r}; known: {', '.join(families)}")
    family = families[first]
    if not colon:
        return family, family.strength
    if family.strength is None:
        raise ValueError(f"the family {first!r} has no strength, as {name!r} has")
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ValueError(f"the strength in {name!r} must be a finite number, as in '{first}:{family.strength:g}'")
    return family, strength
