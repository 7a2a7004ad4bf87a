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
PACKAGE = Path(__file__).parent
COMPUTES = PACKAGE / "compute.py"  # every experiment's units


@dataclass(frozen=True)
class Experiment:
    """One question, and how it is asked.

    ways: those that a unit's rows are about, for the record of a unit that was lost whole. presets: PRESETS to grids.
    rows(unit): one row per way (and whatever else the experiment tells apart), without the columns that all rows
    share; a way that cannot compute the unit has no row. columns: those it adds, which a failed row has too, empty. It
    raises for what makes all of the unit's rows impossible. apart: run only where it is asked for by its name.
    """

    name: str
    question: str
    ways: tuple[str, ...]
    presets: Mapping[str, tuple[Grid, ...]]
    rows: Callable[[Unit], list[Row]]
    columns: tuple[str, ...] = ()
    apart: bool = False

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
    """An experiment's file, what computes its units, and all of this package that either imports, in functions too;
    and the numbers (.npz) that lie beside a module under its name.
    """
    files, pending = [file], [file, COMPUTES]
    while pending:
        path = pending.pop()
        files += [path] if path not in files else []
        if path.suffix == ".py":
            pending += [used for used in used_by(path) if used not in files]
    return [file, *sorted(files[1:])]


def used_by(path: Path) -> list[Path]:
    """The files of this package that a module needs: what it imports, and its numbers."""
    nodes = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom)]
    modules = [node.module for node in nodes if node.module and node.module.startswith(f"{__package__}.")]
    bases = [PACKAGE.joinpath(*module.split(".")[len(str(__package__).split(".")) :]) for module in modules]
    files = [base / "__init__.py" if base.is_dir() else base.with_suffix(".py") for base in bases]
    return files + [numbers for numbers in (path.with_suffix(".npz"),) if numbers.exists()]
