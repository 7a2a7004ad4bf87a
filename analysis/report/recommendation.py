"""Recommendations, as tables for the terminal or as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.measure.recommending import Choice, Recommendation
from analysis.report import formatting as show
from linear_lasagna.problems import Problem

WIDTH = 150  # characters, where no terminal says
READ_AS = (
    "Time: of a call, median over processes, with the 95 % interval between them; ways without one err too much, or "
    "take over twice as long as the fastest of the others, and one process timed them. Of limit: the share of what the "
    "machine attains in a matrix product, or in copying the least bytes. Error: relative L2, measured on a tile of "
    "random numbers; predicted: the error to expect there, of ways that add up products and that all processes timed. "
    "Memory: allocated at once during a call, its result included."
)
SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
HEADINGS = ("way", "time", "/ direct", "of limit", "error", "predicted", "memory", "")


def print_recommendation(found: Sequence[Recommendation]) -> None:
    """A table per problem on stdout, what to use in bold, and a sentence that says why."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for each in found:
        console.print(table(each))
        print(sentence(each))
    console.print(READ_AS)


def table(found: Recommendation) -> Any:
    from rich.table import Table

    drawn = Table(title=title(found))
    for heading in HEADINGS:
        drawn.add_column(heading, justify="left" if heading in ("way", "") else "right", overflow="fold")
    for choice in found.choices:
        drawn.add_row(*cells(choice), style="bold" if choice.way == found.use else "" if choice.allowed else "dim")
    return drawn


def title(found: Recommendation) -> str:
    """The problem, dtype and device, as in "8×64×56×56, 3×3 to 64; float16, cpu; 6 processes"."""
    asked, problem = found.asked, found.asked.problem
    shape = "×".join(map(str, problem.shapes[0]))
    often = f", {problem.occurrences} times" if problem.occurrences > 1 else ""
    name = "" if problem.name == "asked" else f"{problem.name}: "
    processes = show.plural(found.processes, "process")
    return f"{name}{shape}, {', '.join(layers(problem))}{often}; {asked.dtype}, {asked.device}; {processes}"


def layers(problem: Problem) -> list[str]:
    """As in "3×3 to 64" and "3×3 to 64, stride 2"."""
    told = []
    for layer in problem.expanded:
        text = f"{'×'.join(map(str, layer.kernel_size))} to {layer.out_channels}"
        for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1)):
            extents = getattr(layer, name)
            if set(extents) != {usual}:
                text += f" {name} {'×'.join(map(str, extents if len(set(extents)) > 1 else extents[:1]))}"
        told.append(text + (f" groups {layer.groups}" if layer.groups > 1 else "") + (" bias" if layer.bias else ""))
    return told


def cells(choice: Choice) -> list[str]:
    """A row of the table."""
    if choice.status != "ok":
        return [choice.way, *[""] * 6, f"{choice.status}: {choice.reason}"]
    predicted = "" if choice.predicted is None else f"{choice.predicted:.2g}"
    memory = "" if choice.peak_bytes is None else f"{choice.peak_bytes / 2**20:.3g} MiB"
    ratio = "1" if choice.way == "direct" else show.with_interval(choice.ratio, *choice.ratio_interval)
    told = "" if choice.allowed else "errs too much"
    share = "" if choice.share is None else f"{show.percent(choice.share)}, {choice.limit}"
    error = f"{choice.relative_l2:.2g}"
    return [choice.way, _time(choice), ratio, share, error, predicted, memory, told or choice.reason]


def _time(choice: Choice) -> str:
    """As in "25.50 [25.30, 25.70] ms"."""
    _, unit = show.seconds(choice.seconds).rsplit(" ", 1)
    values = (value / SECONDS[unit] for value in (choice.seconds, *choice.seconds_interval))
    return f"{show.with_interval(*values)} {unit}"


def sentence(found: Recommendation) -> str:
    """As in "Use direct: the fastest."."""
    return f"Use {found.use}: {found.why}." if found.use else f"Use none: {found.why}."


def as_json(found: Sequence[Recommendation]) -> str:
    """A list of strict JSON objects, one per problem: NaN and infinity are null."""
    return json.dumps([_finite(asdict(each)) for each in found], indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
