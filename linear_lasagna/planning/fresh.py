"""Cuts timed in a process of their own: what was fast in one process need not be in the next.

Run as `python -m linear_lasagna.planning.fresh`: a task as JSON on standard input, samples as JSON on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any, TypeAlias

import torch

from linear_lasagna import switches
from linear_lasagna.devices import dtype_name, dtype_named
from linear_lasagna.planning.measure import Bench, cut_timing
from linear_lasagna.planning.runs import Runs
from linear_lasagna.timing import Timing
from linear_lasagna.trial.record import problem_of

Fields: TypeAlias = dict[str, Any]

TIMEOUT_S = 60.0


def fresh_timing(bench: Bench, cuts: Mapping[str, Runs], budget_s: float) -> Timing | None:
    """`measure.cut_timing` in a fresh process, or None where that fails or takes over a minute."""
    task = bench._asdict() | {"problem": asdict(bench.problem), "dtype": dtype_name(bench.dtype)}
    task |= {"cuts": cuts, "budget_s": budget_s, "threads": torch.get_num_threads(), "switches": switches.state()}
    try:
        return Timing(**starter.get()(task))
    except (RuntimeError, subprocess.SubprocessError, OSError, ValueError, TypeError):
        return None


def answer(task: Fields) -> Fields:
    """The fields of the Timing that the task asks for, timed in this process."""
    torch.set_num_threads(task["threads"])
    switches.impose(task["switches"])
    bench = Bench(problem_of(task["problem"]), task["device"], dtype_named(task["dtype"]), task["method"])
    cuts = {name: tuple((start, stop) for start, stop in runs) for name, runs in task["cuts"].items()}
    return asdict(cut_timing(bench, cuts, task["budget_s"]))


def _python(task: Fields) -> Fields:
    """`answer` in another Python, which takes seconds to import torch."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "linear_lasagna.planning.fresh"]
    done = subprocess.run(
        command,
        input=json.dumps(task),
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return json.loads(done.stdout)


# How a fresh process is asked to `answer`; a process with a parent that can fork one at once sets its own.
starter: ContextVar[Callable[[Fields], Fields]] = ContextVar("starter", default=_python)

if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
