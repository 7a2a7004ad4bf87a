"""What a call can attain at most: by its operations, by the bytes that it must move, by its launches. Pure arithmetic.

    seconds >= max(operations / operations_per_s, least_bytes / bytes_per_s, launches * launch_s)

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
CACM 52(4), 2009; with a slope per cache: Ilic, Pratas, Sousa, "Cache-aware roofline model", IEEE CAL 13(1), 2014.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

Limit: TypeAlias = Literal["operations", "bytes", "launches"]

MEMORY = "memory"


class Ceilings(NamedTuple):
    """operations_per_s: floating-point, a multiply-accumulate is two; bytes_per_s: read and written, by where the data
    lie, `MEMORY` or a cache's name; launch_s: seconds that the device needs per call at least, 0 where it has no
    launches.
    """

    operations_per_s: float
    bytes_per_s: Mapping[str, float]
    launch_s: float = 0.0


class Attainable(NamedTuple):
    """seconds: none can be faster; limit: by what."""

    seconds: float
    limit: Limit


def attainable(
    operations: float, least_bytes: float, ceilings: Ceilings, place: str = MEMORY, launches: int = 0
) -> Attainable:
    """The least seconds of a call. place: where its data lie, as `place_of` tells. Raises KeyError for a place whose
    rate is not known.
    """
    by: dict[Limit, float] = {
        "operations": operations / ceilings.operations_per_s,
        "bytes": least_bytes / ceilings.bytes_per_s[place],
        "launches": launches * ceilings.launch_s,
    }
    limit = max(by, key=by.__getitem__)
    return Attainable(by[limit], limit)


def place_of(least_bytes: float, caches: Mapping[str, int]) -> str:
    """The smallest cache that holds so many bytes, else `MEMORY`. caches: bytes by name."""
    holding = [name for name, size in caches.items() if least_bytes <= size]
    return min(holding, key=caches.__getitem__) if holding else MEMORY
