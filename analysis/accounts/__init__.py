"""Accounts of the precision experiments: rows in; sections, CSVs and headlines of the report out.

`rows` is always the frame of all precision rows, as `analysis.store.read` gives it, or None.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from analysis.accounts import bounds, fan_in, findings, gain, kernel_size, linearity, merging, methods, order, switches
from analysis.accounts import headlines as _headlines
from analysis.accounts.account import Account, missing_columns
from analysis.accounts.raw import raw
from analysis.frames import Frame
from analysis.gaps import STRICT, Gaps
from analysis.parts import Section, attempted

if TYPE_CHECKING:
    from analysis.headlines import Headline

ACCOUNTS: dict[str, Account] = {
    "fan_in": fan_in.ACCOUNT,
    "kernel_size": kernel_size.ACCOUNT,
    "gain": gain.ACCOUNT,
    "merging": merging.ACCOUNT,
    "order": order.ACCOUNT,
    "methods": methods.ACCOUNT,
    "linearity": linearity.ACCOUNT,
    "bounds": bounds.ACCOUNT,
    "switches": switches.ACCOUNT,
}


def accounted(rows: Frame | None) -> dict[str, Account]:
    """The accounts of which there are rows; none where the rows lack columns (`missing_columns` names them)."""
    if rows is None or not len(rows) or missing_columns(rows):
        return {}
    present = set(rows["experiment"])
    return {name: account for name, account in ACCOUNTS.items() if name in present}


def sections(rows: Frame | None, gaps: Gaps = STRICT) -> list[Section]:
    """One section per experiment that has rows, in the order of ACCOUNTS, the leads last; gaps takes what raises."""
    found = [
        attempted(gaps, account.anchor, account.title, partial(account.section, rows))
        for account in accounted(rows).values()
    ]
    leads = gaps.attempt(f"The section “{findings.TITLE}”", partial(findings.section, rows), None)
    return [*found, leads] if leads is not None else found


def frames(rows: Frame | None, gaps: Gaps = STRICT) -> dict[str, Frame]:
    """Every CSV by name, as documented in `accounts.dictionary`; those without rows are left out."""
    found = {}
    for name, account in accounted(rows).items():
        own = account.rows(rows)
        found |= gaps.attempt(f"The data of the experiment {name}", partial(account.frames, own), {})
        found[f"{name}_rows"] = raw(own)
    found["leads"] = gaps.attempt("The data of the leads", partial(findings.leads, rows), [])
    return {name: frame for name, frame in found.items() if len(frame)}


def headlines(rows: Frame | None, gaps: Gaps = STRICT) -> list[Headline]:
    """At most three sentences with numbers, intervals, seeds and conditions, names of ways in backticks."""
    return list(_headlines.headlines(accounted(rows), rows, gaps))


__all__ = ["ACCOUNTS", "accounted", "frames", "headlines", "missing_columns", "sections"]
