"""A command under a lesser instruction set: libraries read the variables that choose it when they are first used."""

from __future__ import annotations

import os
import sys


def hold(name: str) -> None:
    """Start this process's program anew, held to the instructions, unless it is already.

    Raises ValueError for a set that is unknown, or that this processor lacks.
    """
    from linear_lasagna.reproducibility.instructions import INSTRUCTION_SETS, emulated

    if name not in INSTRUCTION_SETS:
        raise ValueError(f"unknown instruction set {name!r}; known: {', '.join(INSTRUCTION_SETS)}")
    if name not in emulated():
        raise ValueError(f"this processor has no {name}")
    wanted = dict(os.environ) | INSTRUCTION_SETS[name][1]
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
