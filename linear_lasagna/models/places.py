"""Which line of a model's own code something comes from."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch

LIBRARIES = {Path(torch.__file__).parent, Path(__file__).parents[1]}
FUNCTORCH = Path(torch.__file__).parent / "_functorch"
VMAP = "it calls torch.vmap or torch.func, which take tensors alone; in a submodule of its own it would be kept"
STANDARD = Path(copy.__file__).parent


def own_frame(frames: Iterable[traceback.FrameSummary]) -> traceback.FrameSummary | None:
    """The innermost of the frames, outermost first, that lies in no library, or None."""
    for frame in reversed(list(frames)):
        path = Path(frame.filename)
        if path.is_file() and path.parent != STANDARD and LIBRARIES.isdisjoint(path.parents):
            return frame
    return None


def place(frame: traceback.FrameSummary | None) -> str:
    """As in " (net.py, line 12)", or ""."""
    return "" if frame is None else f" ({Path(frame.filename).name}, line {frame.lineno})"


def place_of(error: Exception) -> str:
    """Where in the model's own code an error arose, as `place` gives it."""
    return place(own_frame(traceback.extract_tb(error.__traceback__)))


def first_line(error: Exception) -> str:
    """What the error says, in one line; of torch.vmap and torch.func, which take tensors alone, a remedy."""
    if FUNCTORCH in {Path(frame.filename).parent for frame in traceback.extract_tb(error.__traceback__)}:
        return VMAP
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
