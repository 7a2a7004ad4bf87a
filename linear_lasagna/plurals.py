"""Counted things as text."""

from __future__ import annotations


def plural(count: int, one: str, many: str = "") -> str:
    """As in "1 trial" and "2 trials"; many: where an s is not enough."""
    return f"{count} {one if count == 1 else many or one + 's'}"
