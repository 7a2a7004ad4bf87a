"""What an experiment is: a question, grids of units, one function from a unit to rows. Needs no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from analysis.precision.unit import Grid, Unit
from linear_lasagna.environment import code_digest

Row: TypeAlias = dict[str, Any]

PRESETS = ("smoke", "default", "full")
SHARED = ("unit.py", "conditions.py", "case.py", "compute.py", "merge_orders.py", "linear_defects.py")


@dataclass(frozen=True)
class Experiment:
    """One question, and how it is asked.

    ways: those that a unit's rows are about, for the record of a unit that was lost whole. presets: PRESETS to grids.
    rows(unit): one row per way (and whatever else the experiment tells apart), without the columns that all rows
    share; a way that cannot compute the unit has no row. columns: those it adds, which a failed row has too, empty. It
    raises for what makes all of the unit's rows impossible.
    """

    name: str
    question: str
    ways: tuple[str, ...]
    presets: Mapping[str, tuple[Grid, ...]]
    rows: Callable[[Unit], list[Row]]
    columns: tuple[str, ...] = ()

    def units(self, preset: str, device: str) -> list[Unit]:
        """The preset's units, each once. Raises ValueError for an unknown preset."""
        if preset not in self.presets:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(self.presets)}")
        units = (unit for grid in self.presets[preset] for unit in grid.units(device))
        return list(dict.fromkeys(units))

    def version(self) -> str:
        """Which code computes the rows, 12 hex digits: linear_lasagna, torch, this experiment and what it shares."""
        digest = hashlib.sha256(code_digest().encode())
        digest.update(importlib.metadata.version("torch").encode())
        own = Path(str(sys.modules[self.rows.__module__].__file__))
        for path in (own, *(Path(__file__).with_name(name) for name in SHARED)):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]
