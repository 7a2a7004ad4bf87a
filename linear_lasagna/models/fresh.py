"""A given and a merged model timed in processes that have computed nothing before."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from linear_lasagna import switches
from linear_lasagna.models.measuring import timed
from linear_lasagna.timing import Timing

Fields: TypeAlias = Mapping[str, Any]

LEAST_BLOCKS = 3  # of a process: between processes its median counts
TIMEOUT_S = 60.0  # of all processes together,
STARTING_S = 60.0  # after what starts them has imported torch
COMMAND = (sys.executable, "-c", "from linear_lasagna.models.fresh import main; main()")


def fresh_timings(
    given: nn.Module, merged: nn.Module, inputs: Sequence[Any], after: Sequence[Any], budget_s: float, count: int
) -> list[Timing] | str:
    """`measuring.timed` in so many processes, one after another; or why there are no such times.

    A process gets the models by pickle: what is defined in the script that runs cannot be imported there.
    """
    own = next((type(module) for module in given.modules() if type(module).__module__ == "__main__"), None)
    if own is not None:
        return f"no other process can import {own.__name__}, which is defined in the script itself"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "models.pt")
        try:
            torch.save((given, merged, inputs, after), path)
        except Exception as error:  # whatever a module's own pickling raises
            return f"the model cannot be pickled: {_line(str(error))}"
        task = {"path": str(path), "budget_s": budget_s, "count": count, "limit_s": TIMEOUT_S}
        task |= {"threads": torch.get_num_threads(), "switches": switches.state()}
        return _asked(task)


def _asked(task: Fields) -> list[Timing] | str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(task),
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S + STARTING_S,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return f"other processes gave no times: {_line(str(error))}"
    if done.returncode:
        return f"other processes gave no times: {_line(done.stderr)}"
    return [Timing(**json.loads(line)) for line in done.stdout.splitlines()]


def _line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def main() -> None:
    """The task on standard input, a line of a Timing's fields per process on standard output.

    This process has imported torch, and computes nothing: on Linux the others are its forks, which start at once.
    """
    task = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no answer
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    until = time.monotonic() + task["limit_s"]
    for _ in range(task["count"]):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_tell, args=(theirs, task))
        process.start()
        theirs.close()
        answer = _heard(ours, until)
        process.kill()
        process.join()
        if isinstance(answer, str):
            sys.exit(answer)
        print(json.dumps(answer), file=answers, flush=True)


def _heard(pipe: Connection, until: float) -> Fields | str:
    """A timing's fields; or why there are none."""
    if not pipe.poll(max(0.0, until - time.monotonic())):
        return "they timed out"
    try:
        return pipe.recv()
    except EOFError:
        return "one ended without an answer"


def _tell(pipe: Connection, task: Fields) -> None:
    try:
        pipe.send(asdict(_timing(task)))
    except Exception as error:  # whatever a model raises
        pipe.send(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _timing(task: Fields) -> Timing:
    torch.set_num_threads(task["threads"])
    switches.impose(task["switches"])
    given, merged, inputs, after = torch.load(task["path"], weights_only=False)  # written by the process that asks
    return timed(given, merged, inputs, after, task["budget_s"], LEAST_BLOCKS)
