"""Plain asv results: what can be read where only asv's own JSON was kept, not the trial records.

asv stores its samples in one row and no reason for a missing cell. Blocks are lost, so ratios carry no interval
and no verdict; errors, memory and the machine's record are missing.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.data import machines
from analysis.data.records import Record, Records
from linear_lasagna.catalog import CATALOG
from linear_lasagna.factors import parsed
from linear_lasagna.trial import Cell, Trial

BENCHMARK = "time_forward"
PARAMETERS = (4, 5)  # problem, dtype, device, way; and conditions, which once were the usual alone
RECORDED = {"cpu": "cpu", "os": "os", "arch": "architecture", "num_cpu": "logical_cores", "ram": "ram"}
SKIPPED = "asv keeps no reason for a skipped cell"
FAILED = "asv keeps no reason for a failed cell"


def load(folder: Path) -> Records:
    """The trials in asv's results folder (`.asv/results`); files that asv or this cannot read are named."""
    from asv.results import Results, iter_results_paths
    from asv.util import UserError

    loaded, messages = [], []
    for parent, name, machine in sorted(iter_results_paths(str(folder))):
        path = Path(parent) / name
        try:
            results = Results.load(str(path), machine_name=machine)
            for record in _records(results, machine, path.relative_to(folder).as_posix(), messages):
                loaded.append(record)
        except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
            messages.append(f"{name}: {str(error).strip() or type(error).__name__}")
    note = f"Trials read from asv's results alone, without intervals, errors, memory and reasons: {len(loaded)}."
    return Records(tuple(loaded), tuple(messages), (note,) if loaded else ())


def _records(results: Any, machine: str, source: str, messages: list[str]) -> Iterator[Record]:
    for key in sorted(results.get_all_result_keys()):
        name, _, benchmark = key.rpartition(".")
        group = name.rpartition(".")[2].lower()  # the class's, once also the module's: trials.Sources, sources.Sources
        params = results.get_result_params(key)
        if benchmark != BENCHMARK or len(params or ()) not in PARAMETERS:
            continue
        unknown = sorted({_text(name) for name in params[0]} - CATALOG.keys())
        if unknown:
            messages.append(f"{source}: {key} has problems that the catalogue lacks: {', '.join(unknown)}")
        environment = {new: results.params[name] for name, new in RECORDED.items() if name in results.params}
        for trial in _trials(results, key, params, environment):
            told, commit = machines.told(machine, environment), results.commit_hash or ""
            yield Record(trial, group, told, commit, source=source, given=machine)


def _trials(results: Any, key: str, params: list[list[str]], environment: dict[str, Any]) -> Iterator[Trial]:
    values = results.get_result_value(key, params)
    stored = results.get_result_samples(key, params) or itertools.repeat(None)
    combinations = itertools.product(*([_text(value) for value in values] for values in params))
    trials: dict[tuple[str, str, str, str], dict[str, Cell]] = {}
    for (problem, dtype, device, way, *rest), value, samples in zip(combinations, values, stored, strict=False):
        if problem in CATALOG:
            trials.setdefault((problem, dtype, device, "".join(rest)), {})[way] = _cell(value, samples)
    for (problem, dtype, device, conditions), cells in trials.items():
        under = parsed(conditions)
        yield Trial(CATALOG[problem], dtype, device, math.nan, 0, cells, environment, under=under)


def _cell(value: float | None, samples: list[float] | None) -> Cell:
    """asv writes null for a failed cell and NaN for a skipped one."""
    if value is None:
        return Cell("failed", FAILED)
    if math.isnan(value):
        return Cell("skipped", SKIPPED)
    return Cell(samples=[list(samples or [value])])


def _text(parameter: str) -> str:
    """asv stores a parameter as its repr."""
    return str(ast.literal_eval(parameter))
