"""What `merge_model` did, run by run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linear_lasagna.models.plain_data import plain
from linear_lasagna.models.table import outcome, text
from linear_lasagna.rounding.certificate import Certificate
from linear_lasagna.timing import Comparison

if TYPE_CHECKING:
    from linear_lasagna.models.whole import Whole

LARGER = 1.1  # times the error before: what is called larger


@dataclass(frozen=True)
class Measured:
    """Seconds per call, and relative L2 errors against float64 (None in float64), of a run before and after.

    comparison: time after / before, with its interval and verdict, as in `timing.compare`.
    """

    seconds_before: float
    seconds_after: float
    comparison: Comparison
    error_before: float | None
    error_after: float | None


@dataclass(frozen=True)
class Errors:
    """Relative L2 errors of a run as given and merged, in the model's dtype, against float64, on part of an example.

    pooled: after averaging over all positions, where errors that differ from one to another vanish, and those remain
    that a rounded kernel makes everywhere. rounding: the error before as a part of what the outputs vary by, which is
    their distance from those of a constant image with the example's mean; 0 where the error stays after merging, too.
    """

    before: float
    after: float
    pooled_before: float
    pooled_after: float
    rounding: float = 0.0

    @property
    def larger(self) -> str | None:
        """Which of them merging makes larger, more than `LARGER` times, in a sentence; None where it does not."""
        pairs = {"the error": (self.before, self.after)}
        pairs["the error after averaging over positions"] = (self.pooled_before, self.pooled_after)
        grown = [f"{name} {a / b:.3g} times as large" for name, (b, a) in pairs.items() if a > LARGER * b > 0]
        return f"merging makes {' and '.join(grown)}" if grown else None

    def __str__(self) -> str:
        text = f"error {self.before:.1e} -> {self.after:.1e}, averaged over positions "
        return text + f"{self.pooled_before:.1e} -> {self.pooled_after:.1e}"


@dataclass(frozen=True)
class RunReport:
    """One run: layers with nothing non-linear between them that nothing else looks into.

    layers: the modules' names. groups: the names again, as they were put together: each group is one module now.
    modules: these modules' names in the merged model. in_shape, out_shape: (channels, *size) for the example.
    operations: multiply-accumulates per image; BatchNorm counts one per output, an addition none.
    predicted_error: relative L2 error that computing the run so will make, for the best and the worst order of
    summation. errors: what the run loses on the example before and after, None in float64. certificate: what its
    outputs are guaranteed to be within, for inputs no larger than the example's; None where it is not known. left: why
    the run is computed as before; then there are no groups and the operations are the same.
    """

    layers: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    modules: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    operations_before: int
    operations_after: int
    predicted_error: tuple[float, float] | None = None
    measured: Measured | None = None
    errors: Errors | None = None
    certificate: Certificate | None = None
    left: str | None = None

    @property
    def rounding(self) -> float:
        """How large the run's own rounding is that merging leaves out, as a part of what outputs vary by: the larger
        of what is measured on the example and by the certificate. From `rounding.offsets.ROUNDS` on it is part of what
        the run computes.
        """
        found = (self.errors, self.certificate)
        return max((each.rounding for each in found if each is not None), default=0.0)


@dataclass(frozen=True)
class Note:
    """Linear operations that could not be merged with what is around them, and why; or, if `done`, what was done to
    them beside the runs: folded into others, or computed in another order.
    """

    layers: tuple[str, ...]
    reason: str
    done: bool = False


@dataclass(frozen=True)
class Report:
    """All runs of a model, in order, and what stood in the way of longer ones. print(report) shows it as a table.

    notes: on every linear operation that is in no run. linear: all linear operations that were found, by module or
    node, whether they are in a run or not; identities, which are skipped, are none. calibrated:
    padded stacks that were timed for the first time on this machine, for calibration_s seconds. whole: the model given
    and merged, timed against each other; None without measure=True.
    """

    runs: tuple[RunReport, ...]
    notes: tuple[Note, ...] = ()
    linear: tuple[str, ...] = ()
    calibrated: int = 0
    calibration_s: float = 0.0
    whole: Whole | None = None

    @property
    def merged(self) -> tuple[RunReport, ...]:
        """The runs that are computed in another way now."""
        return tuple(run for run in self.runs if run.left is None)

    @property
    def operations_before(self) -> int:
        """Multiply-accumulates per image of all runs."""
        return sum(run.operations_before for run in self.runs)

    @property
    def operations_after(self) -> int:
        """The same after merging."""
        return sum(run.operations_after for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for strict JSON: this class's fields, and those of what they hold, by their names;
        and what its properties tell of them. None stands for what is not known or not finite.

        outcome: the first sentence of print(report). operations_before, operations_after: of all runs. whole: None
        without measure=True, else as in `Whole`, and "between": whether its comparison is between processes.
        """
        data = plain(self) | {"outcome": outcome(self)}
        data |= {"operations_before": self.operations_before, "operations_after": self.operations_after}
        if self.whole is not None:
            data["whole"]["between"] = self.whole.alone is None
        return data

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        return text(self)
