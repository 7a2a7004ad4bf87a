"""What TF32 and 16-bit reductions cost in accuracy, where a device has them: each switch on, against all off."""

from __future__ import annotations

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit, plain
from linear_lasagna.switches import SWITCHES, switched
from linear_lasagna.vocabulary import COMMON_METRICS

WAYS = ("direct", "unfold_matmul", "merged/direct")
ABSENT = "TF32 and 16-bit reductions are switches of CUDA devices"


def rows(unit: Unit) -> list[Row]:
    """Two rows per way, the dtype's switches off and on; skipped ones where the device has no such switches."""
    if unit.device.partition(":")[0] != "cuda":
        return [skipped(way) for way in WAYS]
    from analysis.precision.case import Case

    case, results = Case.of(unit), []
    for on in (False, True):
        with switched(SWITCHES[unit.dtype], on):
            results += [{**row, "switches": "on" if on else "off"} for row in case.rows(WAYS)]
    return results


def skipped(way: str) -> Row:
    """The row of a cell that cannot be computed here."""
    return {
        "way": way,
        "status": "skipped",
        "reason": ABSENT,
        **dict.fromkeys(COMMON_METRICS),
        "outputs": 0,
        "switches": "",
    }


def grid(seeds: int, *channels: int) -> tuple[Grid]:
    """Stacks of 4 plain 3×3 layers, 8×8 outputs, by their channels: longer sums have more to lose."""
    return (Grid(tuple(plain(4, number) for number in channels), seeds, dtypes=tuple(SWITCHES)),)


SWITCHED = Experiment(
    name="switches",
    question="What do TF32 and reduced-precision reductions cost in accuracy, where the device has them?",
    ways=WAYS,
    presets={"smoke": grid(2, 16), "default": grid(10, 16), "full": grid(20, 16, 64)},
    rows=rows,
    columns=("switches",),
)
