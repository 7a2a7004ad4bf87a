"""Sweeps: one number of a layer, or of a stack, varies and all others stay: how times grow, and which way leads where.

Values are those of published networks, doublings mostly, from where a call is over before it has begun to where the
arithmetic takes all the time. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from linear_lasagna.problems import Layer, Problem

CHANNELS, SIZE, KERNEL = 32, 28, 3  # of every layer, but for what varies
STRIDED_SIZE = 112  # a larger image, of which strides leave enough
STACK_CHANNELS, STACK_OUTPUT = 16, 32

LAYER = f"made up: {CHANNELS} → {CHANNELS} channels, 3×3, padded, {SIZE}×{SIZE}, one image"
STACK = f"made up: 3×3 layers of {STACK_CHANNELS} channels, unpadded, {STACK_OUTPUT}×{STACK_OUTPUT} outputs"


@dataclass(frozen=True)
class Sweep:
    """values: of the number that varies; coarse: those that a short study times. group: of the catalogue; problem: the
    problem with a value, of the name that it is given.
    """

    what: str
    values: tuple[int, ...]
    coarse: tuple[int, ...]
    problem: Callable[[str, int], Problem]
    group: str = "sweeps"


def _layer(
    name: str,
    *,
    channels: int = CHANNELS,
    size: int = SIZE,
    kernel: int = KERNEL,
    batch: int = 1,
    stride: int = 1,
    but: str,
) -> Problem:
    """A padded layer; but: what of it varies, in words."""
    layer = Layer(channels, kernel, stride, padding=kernel // 2)
    return Problem(name, batch, channels, (size, size), (layer,), f"{LAYER}; {but}")


def _stack(name: str, depth: int) -> Problem:
    size, layers = STACK_OUTPUT + 2 * depth, (Layer(STACK_CHANNELS, 3),) * depth
    return Problem(name, 1, STACK_CHANNELS, (size, size), layers, f"{STACK}; {depth} layers")


SWEEPS: dict[str, Sweep] = {
    "channels": Sweep(
        "channels of input and output",
        (8, 16, 32, 64, 128, 256),
        (8, 32, 128),
        lambda name, value: _layer(name, channels=value, but=f"{value} channels"),
    ),
    "size": Sweep(
        "image’s width and height",
        (7, 14, 28, 56, 112, 224),
        (7, 28, 112),
        lambda name, value: _layer(name, size=value, but=f"{value}×{value}"),
    ),
    "kernel": Sweep(
        "kernel’s width and height",
        (1, 3, 5, 7, 9, 11, 15),
        (1, 3, 7, 15),
        lambda name, value: _layer(name, kernel=value, but=f"{value}×{value} taps"),
    ),
    "batch": Sweep(
        "images in the batch",
        (1, 2, 4, 8, 16, 32),
        (1, 4, 16),
        lambda name, value: _layer(name, batch=value, but=f"a batch of {value}"),
    ),
    "stride": Sweep(
        "stride",
        (1, 2, 3, 4),
        (1, 2, 4),
        lambda name, value: _layer(name, size=STRIDED_SIZE, stride=value, but=f"112×112, stride {value}"),
    ),
    "depth": Sweep("layers of the stack", (2, 3, 4, 6, 8, 12, 16), (2, 4, 8, 16), _stack, "depths"),
}


# How many threads compute is a matter of processes, not of problems: a group for each number, with the same problems.
THREADS: dict[str, int] = {"onethread": 1, "twothreads": 2, "threads": 0}  # 0: as many as torch takes
THREADED = tuple(_layer(f"threads/size_{size}", size=size, but=f"{size}×{size}") for size in (14, 56, 224))
FEW_THREADED = ("threads/size_56",)


def name_of(axis: str, value: int) -> str:
    """The name in the catalogue of a sweep's problem."""
    return f"{SWEEPS[axis].group}/{axis}_{value}"


def problems(group: str) -> tuple[Problem, ...]:
    """All problems of the sweeps of a group."""
    return tuple(
        sweep.problem(name_of(axis, value), value)
        for axis, sweep in SWEEPS.items()
        if sweep.group == group
        for value in sweep.values
    )


def coarse(group: str) -> tuple[str, ...]:
    """The names of those that a short study times."""
    return tuple(
        name_of(axis, value) for axis, sweep in SWEEPS.items() if sweep.group == group for value in sweep.coarse
    )


PLACES: dict[str, tuple[str, int]] = {
    name_of(axis, value): (axis, value) for axis, sweep in SWEEPS.items() for value in sweep.values
}
