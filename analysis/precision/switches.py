"""What TF32 and 16-bit reductions cost in accuracy, where a device has them: each switch on, against all off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain

WAYS = ("direct", "unfold_matmul", "merged/direct")
SWITCHES = {
    "float32": ("cudnn.allow_tf32", "cuda.matmul.allow_tf32"),
    "float16": ("cuda.matmul.allow_fp16_reduced_precision_reduction",),
    "bfloat16": ("cuda.matmul.allow_bf16_reduced_precision_reduction",),
}
ABSENT = "TF32 and 16-bit reductions are switches of CUDA devices"


def rows(unit: Unit) -> list[Row]:
    """Two rows per way, the dtype's switches off and on; skipped ones where the device has no such switches."""
    if unit.device.partition(":")[0] != "cuda":
        return [skipped(way) for way in WAYS]
    from analysis.precision.case import Case

    case, found = Case.of(unit), []
    for on in (False, True):
        with switched(unit.dtype, on):
            found += [{**row, "switches": "on" if on else "off"} for row in case.rows(WAYS)]
    return found


def skipped(way: str) -> Row:
    """The row of a cell that cannot be computed here."""
    blank: Row = dict.fromkeys(("relative_l2", "error_u"))
    return {"way": way, "status": "skipped", "reason": ABSENT, **blank, "outputs": 0, "switches": ""}


@contextmanager
def switched(dtype: str, on: bool) -> Iterator[None]:
    """The dtype's switches of `torch.backends` on or off, and put back afterwards."""
    import torch

    owners: list[tuple[Any, str]] = []
    for path in SWITCHES[dtype]:
        owner: Any = torch.backends
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        owners.append((owner, name))
    kept = [getattr(owner, name) for owner, name in owners]
    try:
        for owner, name in owners:
            setattr(owner, name, on)
        yield
    finally:
        for (owner, name), value in zip(owners, kept, strict=True):
            setattr(owner, name, value)


def grid(seeds: int, *channels: int) -> tuple[Grid]:
    """Stacks of 4 plain 3×3 layers, 8×8 outputs, by their channels: longer sums have more to lose."""
    return (Grid(tuple(plain(4, number) for number in channels), seeds, dtypes=tuple(SWITCHES)),)


SWITCHED = Experiment(
    name="switches",
    question="What do TF32 and reduced-precision reductions cost in accuracy, where the device has them?",
    ways=WAYS,
    presets={"smoke": grid(2, 16), "default": grid(10, 16), "full": grid(20, 16, 64)},
    rows=rows,
)
