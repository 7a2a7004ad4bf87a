"""What a process of its own does with one family: chooses an architecture, builds it, tries it in all ways."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from analysis.measure.zoo.packages import PACKAGES, Package, built, declare_torchvision, smallest
from linear_lasagna.models.trying import Trial, first_line, float_outputs, together, tried
from linear_lasagna.models.ways import MODEL_WAYS

Send: TypeAlias = Callable[[str, Any], object]


class Task(NamedTuple):
    """names: of a family, of which the smallest is tried. again: ways to be timed once more, of what was chosen."""

    package: str
    names: tuple[str, ...]
    memory_gib: float
    again: tuple[str, ...] = ()


def main(pipe: Connection, task: Task) -> None:
    """Sends ("stage", what is done), ("chosen", its name), ("built", its numbers), ("trial", so far), and last ("done",
    the trial) or ("error", why there is none).
    """
    _silence()
    _limit(task.memory_gib)
    declare_torchvision()

    def send(kind: str, content: Any) -> None:
        pipe.send((kind, content))

    try:
        send("done", _work(task, PACKAGES[task.package], send))
    except Exception as error:  # whatever a model raises is its result
        send("error", f"{type(error).__name__}: {first_line(error)}")


def _silence() -> None:
    """Models print and warn."""
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def _limit(memory_gib: float) -> None:
    """A model that needs more memory ends in an error, where the system can be asked for that."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        size = int(memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _work(task: Task, package: Package, send: Send) -> dict[str, Any]:
    send("stage", "choosing the smallest of its family")
    name = smallest(package, task.names)
    send("chosen", name)
    send("stage", "building it")
    model = built(package, name)
    inputs = usable(model, package.inputs(name))
    if task.again:
        return {"timing": _again(package, model, inputs, task.again)}
    shapes = [list(leaf.shape) for leaf in pytree.tree_leaves(inputs)]
    send("built", {"shape": _shape_text(shapes), "parameters": sum(p.numel() for p in model.parameters())})

    def stage(what: str, so_far: Trial) -> None:
        send("trial", so_far.to_dict())
        send("stage", what)

    return tried(model, inputs, package.ways, package.authors, package.budget_s, stage).to_dict()


@torch.no_grad()
def _again(package: Package, model: nn.Module, inputs: tuple[Any, ...], ways: Iterable[str]) -> dict[str, Any]:
    modules = {way: MODEL_WAYS[way](model, inputs, package.authors).module for way in ways}
    for module in modules.values():
        module(*inputs)
    return asdict(together(modules, inputs, package.budget_s))


@torch.no_grad()
def usable(model: nn.Module, candidates: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The first inputs that the model can be called with. Raises what it raises for the first of all."""
    failures: list[Exception] = []
    for inputs in candidates:
        try:
            float_outputs(model, inputs)
        except Exception as error:  # another size may fit
            failures.append(error)
        else:
            return inputs
    raise failures[0] if failures else ValueError("there is nothing to call it with")


def _shape_text(shapes: Iterable[Iterable[int]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
