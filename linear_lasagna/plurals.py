"""Counted things as text."""

from __future__ import annotations


def plural(count: int, one: str, many: str = "") -> str:
    """As in "1 trial", "2 trials" and "3 processes"; many: where neither s nor es is right."""
    return f"{count} {one if count == 1 else many or one + ('es' if one.endswith('s') else 's')}"
