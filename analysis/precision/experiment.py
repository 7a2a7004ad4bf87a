"""What an experiment is: a question, grids of units, one function from a unit to rows. Needs no torch."""

from __future__ import annotations

import ast
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
COMPUTES = Path(__file__).with_name("compute.py")  # every experiment's units


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
        """Which code computes the rows, 12 hex digits: linear_lasagna, torch, this experiment and what it imports."""
        digest = hashlib.sha256(code_digest().encode())
        digest.update(importlib.metadata.version("torch").encode())
        file = Path(str(sys.modules[self.rows.__module__].__file__))
        for path in sources(file):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]


def sources(file: Path) -> list[Path]:
    """An experiment's file, what computes its units, and all of this package that either imports, in functions too."""
    files, pending = [file], [file, COMPUTES]
    while pending:
        path = pending.pop()
        files += [path] if path not in files else []
        tree = ast.walk(ast.parse(path.read_bytes()))
        modules = [node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module]
        names = [module.rpartition(".")[2] for module in modules if module.startswith(f"{__package__}.")]
        pending += [used for name in names if (used := COMPUTES.with_name(f"{name}.py")) not in files]
    return [file, *sorted(files[1:])]
