"""An atlas of reproducibility: whether an image keeps its bits however a convolution is computed, and what that costs.

Engines that serve models have begun to promise that an answer does not depend on what else is in the batch (He et al.,
"Defeating Nondeterminism in LLM Inference", Thinking Machines Lab, 2025); convolutions are no part of it yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import BASELINE, COMMON_METRICS, DTYPES, METHODS

if TYPE_CHECKING:
    from linear_lasagna.reproducibility import Subject

BATCH = 8
TINY = Problem("k3_c8", 2, 8, (6, 6), (Layer(8, 3, padding=1),))
K3 = Problem("k3_c32", BATCH, 32, (12, 12), (Layer(32, 3, padding=1),))
K1 = Problem("k1_c256", BATCH, 256, (7, 7), (Layer(128, 1),))
PATCHES = Problem("patches_8", BATCH, 3, (32, 32), (Layer(64, 8, stride=8),))
DEPTHWISE = Problem("depthwise_c32", BATCH, 32, (12, 12), (Layer(32, 3, padding=1, groups=32),))
PROBLEMS = (K3, K1, PATCHES, DEPTHWISE)
TIMED = (TINY.name, K3.name, K1.name)  # the others are over in microseconds
BUDGET_S = 0.2  # for one method and its remedies


def rows(unit: Unit) -> list[Row]:
    """One row per method, perturbation and setting: equal, largest_ulps. Of the first seed also of the remedies against
    what they are for, and, on the problems that are timed, their costs: ratio, with its interval over the blocks of
    this process.
    """
    from linear_lasagna.methods import METHODS as COMPUTED
    from linear_lasagna.reproducibility import REMEDIES

    results = []
    for way in COMPUTED:
        subject = _subject(unit, way)
        if subject is None:
            continue
        results += _compared(way, "", subject)
        for name, remedy in REMEDIES.items() if unit.seed == 0 else ():
            if (remedied := remedy.of(subject)) is not None:
                results += _compared(way, name, remedied, remedy.against)
        if unit.seed == 0 and unit.problem.name in TIMED:
            results += _costs(way, subject)
    return results


def _subject(unit: Unit, way: str) -> Subject | None:
    """None where the method cannot compute the unit."""
    from analysis.precision.case import draw
    from linear_lasagna.devices import dtype_named
    from linear_lasagna.methods import METHODS as COMPUTED
    from linear_lasagna.reproducibility import Subject

    method, layer = COMPUTED[way], unit.problem.expanded[0]
    if method.unsupported(layer, dtype_named(unit.dtype), unit.device.partition(":")[0]) is not None:
        return None
    x, (kernel,) = draw(unit)
    return Subject(method, layer, kernel.map(lambda numbers: numbers.to(unit.device)), x.to(unit.device))


def _compared(way: str, remedy: str, subject: Subject, names: tuple[str, ...] | None = None) -> Iterator[Row]:
    """A perturbation that fails costs its own row alone."""
    from analysis.gaps import reason
    from analysis.precision.compute import lost_row
    from linear_lasagna.reproducibility import PERTURBATIONS, outcomes

    for name in names or PERTURBATIONS:
        about = {"remedy": remedy, "perturbation": name}
        try:
            for each in outcomes(subject, [name]):
                found = {"setting": each.setting, "equal": each.equal, "largest_ulps": each.largest_ulps}
                yield row(way, each.outputs) | about | found
        except Exception as error:
            yield lost_row(way, reason(error)) | about


def _costs(way: str, subject: Subject) -> Iterator[Row]:
    """Of the remedies for the method; the baseline's with the other methods' as they are."""
    from linear_lasagna.methods import METHODS as COMPUTED
    from linear_lasagna.reproducibility import costs

    others = tuple(COMPUTED.values()) if way == BASELINE else ()
    for cost in costs(subject, others, BUDGET_S):
        yield row(cost.method, 0) | {
            "remedy": cost.remedy,
            "ratio": cost.ratio,
            "ratio_lower": cost.lower,
            "ratio_upper": cost.upper,
        }


def row(way: str, outputs: int) -> Row:
    """What all rows here have; nothing is compared with the exact result."""
    columns = dict.fromkeys((*COMMON_METRICS, *COLUMNS))
    return {"way": way, "status": "ok", "reason": "", **columns, "outputs": outputs}


def grid(seeds: int, *problems: Problem, dtypes: tuple[str, ...] = DTYPES) -> tuple[Grid]:
    """On random signs: bits change with the order of a sum, whatever is summed."""
    return (Grid(problems, seeds, dtypes, ("random",)),)


COLUMNS = ("remedy", "perturbation", "setting", "equal", "largest_ulps", "ratio", "ratio_lower", "ratio_upper")
REPRODUCIBILITY = Experiment(
    name="reproducibility",
    question="Does an image keep its bits under another batch, thread count, memory layout, crop or instruction set?",
    ways=tuple(METHODS),
    presets={
        "smoke": grid(1, TINY, dtypes=("float32",)),
        "default": grid(3, *PROBLEMS),
        "full": grid(10, *PROBLEMS),
    },
    rows=rows,
    columns=COLUMNS,
    apart=True,
)
