"""How good are the decisions here? Whether `merge` merges padded stacks where that is faster, in fresh processes.

A first process merges, and so calibrates, every stack; each further one only recalls the decisions, and times both the
layers and the merged kernels of every case. A decision's loss is what it takes longer than the faster of the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from linear_lasagna.plurals import plural

if TYPE_CHECKING:
    import pandas

    from linear_lasagna import Problem

LOSS = 0.05  # of the median process: more is a wrong decision
LARGE_LOSS = 0.2  # in every process
BUDGET_S = 0.05  # in timed calls of one case in one process
BLOCKS = 4
COLUMNS = ("process", "stack", "dtype", "size", "batch", "merges", "layers_s", "merged_s")


class Stack(NamedTuple):
    """Padded layers: channels before each and after the last, and kernel sizes; biased."""

    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    groups: int = 1

    def __str__(self) -> str:
        kernels = " ".join(f"{k}×{k}" for k in self.kernel_sizes)
        return f"{'→'.join(map(str, self.channels))}, {kernels}" + (
            f", groups {self.groups}" if self.groups > 1 else ""
        )


STACKS = (
    Stack((3, 16, 3), (3, 3)),
    Stack((8, 64, 8), (3, 3)),
    Stack((16, 128, 16), (3, 3)),
    Stack((32, 32, 32), (3, 3)),
    Stack((48, 96, 48), (3, 3)),
    Stack((16, 64, 16), (5, 3)),
    Stack((8, 24, 8), (3, 5)),
    Stack((24, 144, 24), (1, 3)),
    Stack((16, 16, 16, 16), (3, 3, 3)),
    Stack((16, 112, 16, 112, 16), (3, 3, 3, 3)),
    Stack((32, 128, 32), (3, 3), 8),
    Stack((64, 64, 16), (3, 3), 4),
    Stack((64, 64, 64), (3, 3), 64),
    Stack((64, 256, 64), (3, 3), 64),
)
SIZES = (8, 24, 64, 192)
BATCHES = (1, 8)
MOST_MACS = {"float32": 4e8, "bfloat16": 6e7}  # of a stack: larger ones are clear, and take long


def cases() -> Iterator[tuple[Stack, str, Problem]]:
    """Stacks, dtypes, and the problem for each size and batch; every other one for several images."""
    from linear_lasagna import Layer, Problem

    for stack, dtype, batch, size in itertools.product(STACKS, MOST_MACS, BATCHES, SIZES):
        layers = (
            Layer(channels, k, padding=k // 2, groups=stack.groups, bias=True)
            for channels, k in zip(stack.channels[1:], stack.kernel_sizes, strict=True)
        )
        problem = Problem(str(stack), batch, stack.channels[0], (size, size), tuple(layers))
        alternate = (STACKS.index(stack) + SIZES.index(size)) % 2 == 0
        if problem.macs <= MOST_MACS[dtype] and (batch == 1 or alternate):
            yield stack, dtype, problem


def rows(processes: int, tick: Callable[[], None]) -> pandas.DataFrame:
    """One row per process and case: process, stack, dtype, size, batch, merges, layers_s, merged_s."""
    import multiprocessing

    import pandas

    timed: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        pool.apply(_calibrate)
        tick()
        for each in pool.imap(_timed, range(processes), chunksize=1):
            timed += each
            tick()
    return pandas.DataFrame(timed, columns=list(COLUMNS))


def _calibrate() -> None:
    for stack, dtype, _ in cases():
        _modules(stack, dtype)


def _timed(process: int) -> list[dict[str, Any]]:
    from linear_lasagna.timing import no_garbage_collection

    with no_garbage_collection():
        return [
            {"process": process, "stack": str(stack), "dtype": dtype, "size": problem.size[0], "batch": problem.batch}
            | _times(stack, dtype, problem)
            for stack, dtype, problem in cases()
        ]


def _times(stack: Stack, dtype: str, problem: Problem) -> dict[str, Any]:
    """What `merge` decides, and the seconds of the layers and of the merged kernels, timed together."""
    import torch

    from linear_lasagna.timing import measure

    layers, merged, forced = _modules(stack, dtype)
    forced.settle(problem.size, problem.batch)
    x = torch.randn(problem.shapes[0]).to(getattr(torch, dtype))

    def build(block: int) -> dict[str, Callable[[], Any]]:
        fresh = x.clone()
        return {"layers": lambda: layers(fresh), "merged": lambda: forced(fresh)}

    with torch.no_grad():
        timing = measure(build, budget_s=BUDGET_S, blocks=BLOCKS, least_blocks=BLOCKS)
    merges = merged.plan(problem.size, problem.batch) is not None
    return {"merges": merges, "layers_s": timing.seconds("layers"), "merged_s": timing.seconds("merged")}


@cache
def _modules(stack: Stack, dtype: str) -> tuple[Any, Any, Any]:
    """The layers, what `merge` makes of them, and the same to be told to merge."""
    import torch
    from torch import nn

    from linear_lasagna.merging import merge

    torch.manual_seed(0)
    axes: Any = zip(stack.channels, stack.channels[1:], stack.kernel_sizes, strict=False)
    layers = nn.Sequential(*(nn.Conv2d(c, out, k, padding=k // 2, groups=stack.groups) for c, out, k in axes))
    layers = layers.to(getattr(torch, dtype))
    return layers, merge(layers), merge(layers)


def losses(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Per case: ratio, the median over processes of the merged time / the layers'; loss, that of what the decision
    takes longer than the faster of the two; least_loss, the smallest of them.
    """
    chosen = frame.merged_s.where(frame.merges, frame.layers_s)
    frame = frame.assign(
        loss=chosen / frame[["layers_s", "merged_s"]].min(axis=1) - 1, ratio=frame.merged_s / frame.layers_s
    )
    cases = frame.groupby(["stack", "dtype", "size", "batch"], sort=False)
    return cases.agg(
        merges=("merges", "first"), ratio=("ratio", "median"), loss=("loss", "median"), least_loss=("loss", "min")
    ).reset_index()


def summary(frame: pandas.DataFrame) -> list[str]:
    """Sentences: how many cases were decided wrongly, per dtype, and each of these cases."""
    decisions, processes = losses(frame), frame.process.nunique()
    lines = []
    for dtype, part in decisions.groupby("dtype", sort=False):
        wrong, always = int((part.loss > LOSS).sum()), int((part.least_loss > LARGE_LOSS).sum())
        lines.append(
            f"{dtype}: of {plural(len(part), 'decision')} {plural(wrong, 'loses', 'lose')} over {LOSS:.0%} in the "
            f"median of {plural(processes, 'process')}, {always} over {LARGE_LOSS:.0%} in every one; "
            f"merged is faster in {plural(int((part.ratio < 1).sum()), 'case')}, "
            f"{plural(int(part.merges.sum()), 'is merged', 'are merged')}."
        )
    wrong_ones: Any = decisions[decisions.loss > LOSS]
    for row in wrong_ones.to_dict("records"):
        case = f"{row['stack']} at {row['size']}², {row['dtype']}, batch {row['batch']}"
        decided = "merged" if row["merges"] else "left"
        lines.append(f"  {case}: {decided}, merged takes {row['ratio']:.2f} times as long")
    return lines
