"""The strongest sentences of the accounts, for the report's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from analysis.accounts import fan_in_growth, merging, methods, predictions
from analysis.accounts.account import Account, Frames, Place, places
from analysis.frames import Frame
from analysis.gaps import Gaps

if TYPE_CHECKING:
    from analysis.headlines import Headline


def _bitwise(found: Frames) -> str:
    row = methods.claim(found["bitwise"])
    return "" if row is None else methods.said(row)


def _fan_in(found: Frames) -> str:
    return fan_in_growth.answer(found["fan_in_exponents"]) if len(found["fan_in_exponents"]) else ""


def _merging(found: Frames) -> str:
    return merging.shares(found["merging_parts"])


def _prediction(found: Frames) -> str:
    return predictions.answer(found["predictions"]) if len(found["predictions"]) else ""


WRITERS: dict[str, tuple[str, Callable[[Frames], str]]] = {
    "methods": ("Bit for bit", _bitwise),
    "fan_in": ("Error by fan-in", _fan_in),
    "merging": ("What merging loses", _merging),
    "bounds": ("Predicting the error", _prediction),
}


def headlines(accounts: Mapping[str, Account], rows: Frame, gaps: Gaps) -> Iterator[Headline]:
    """One headline per experiment of WRITERS that has rows, about the first place that gives one."""
    from analysis.headlines import Headline  # here, so that analysis.headlines may import the accounts

    for name, (title, write) in WRITERS.items():
        if name in accounts:
            first = partial(_first, accounts[name], rows, write)
            place, text = gaps.attempt(f"The headline “{title}”", first, (None, ""))
            if text:
                where = f", {place.label}" if place is not None and place.several else ""
                yield Headline(title + where, text, accounts[name].anchor)


def _first(account: Account, rows: Frame, write: Callable[[Frames], str]) -> tuple[Place | None, str]:
    own = account.rows(rows)
    for place in places(own):
        text = write(account.frames(place.of(own)))
        if text:
            return place, text
    return None, ""
