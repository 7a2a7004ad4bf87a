"""Up to which gains a way stays within the range of its dtype. Pure functions on the rows of the experiment `gain`."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.accounts.account import usable
from analysis.accounts.summaries import SERIES, over_seeds
from analysis.frames import Frame, framed
from analysis.style import dtypes_in_order

KEYS = [*SERIES, "way"]
LIMITS = ["subnormal_up_to", "flushed_up_to", "not_finite_from"]
KEPT = 1.1  # the error counts as kept while the median ratio to that at gain 1 lies within this factor of 1


def by_gain(rows: Frame) -> Frame:
    """Per series, way and gain, over seeds. quantity: error (in u, of gains at which no seed overflows), lost (share of
    outputs that are not finite, or zero though the exact ones are not), subnormal (share of outputs).
    """
    import pandas

    computed = rows[rows["status"] != "failed"]
    shares = computed.assign(
        lost=(computed["not_finite"] + computed["flushed"]) / computed["outputs"],
        subnormal=computed["subnormal"] / computed["outputs"],
    )
    overflows = (computed["status"] != "ok").groupby([computed[name] for name in (*KEYS, "gain")]).transform("any")
    parts = {"error": (usable(computed[~overflows]), "error_u"), "lost": (shares, "lost")}
    parts["subnormal"] = (shares, "subnormal")
    by = [*KEYS, "gain"]
    found = [over_seeds(frame, by, column).assign(quantity=name) for name, (frame, column) in parts.items()]
    return pandas.concat(found, ignore_index=True)


def ranges(rows: Frame) -> Frame:
    """Per series and way: kept_from and kept_to, the gains around 1 at which the error is that at gain 1 on the same
    seed, within 10 % in the median; up to which gain some output is subnormal, or flushed to zero; from which on some
    is not finite. NaN: at no gain that was tried.
    """
    computed = rows[rows["status"] != "failed"]
    found = []
    for key, group in computed.groupby(KEYS, sort=True):
        kept = _kept(group)
        low = [_extreme(group, name, max) for name in ("subnormal", "flushed")]
        high = _extreme(group, "not_finite", min)
        counts = (group["seed"].nunique(), len(group))
        found.append((*key, min(kept, default=math.nan), max(kept, default=math.nan), *low, high, *counts))
    return framed(found, [*KEYS, "kept_from", "kept_to", *LIMITS, "seeds", "cells"])


def _kept(group: Frame) -> list[float]:
    """The gains next to each other, 1 among them, at which the error is kept; an overflow keeps nothing."""
    at_one = group[group["gain"] == 1].set_index("seed")["error_u"]
    ratios = (group["error_u"] / group["seed"].map(at_one)).fillna(math.inf).groupby(group["gain"]).median()
    gains = sorted(ratios.index)
    held = [1 / KEPT <= ratios[gain] <= KEPT for gain in gains]
    if 1 not in gains or not held[gains.index(1)]:
        return []
    first = last = gains.index(1)
    while first > 0 and held[first - 1]:
        first -= 1
    while last + 1 < len(gains) and held[last + 1]:
        last += 1
    return gains[first : last + 1]


def _extreme(group: Frame, column: str, which: Callable[..., float]) -> float:
    return which(group.loc[group[column] > 0, "gain"], default=math.nan)


def leaving(found: Frame) -> list[str]:
    """The dtypes in which some output is subnormal, flushed or not finite at some gain. found: `ranges`."""
    return dtypes_in_order(found.loc[found[LIMITS].notna().any(axis=1), "dtype"])
