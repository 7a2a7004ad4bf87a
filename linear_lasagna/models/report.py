"""What `merge_model` did, run by run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linear_lasagna.plurals import plural
from linear_lasagna.rounding.certificate import Certificate
from linear_lasagna.timing import Comparison

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
    that a rounded kernel makes everywhere.
    """

    before: float
    after: float
    pooled_before: float
    pooled_after: float

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


@dataclass(frozen=True)
class Note:
    """Layers that could not be merged with what is around them, and why."""

    layers: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Report:
    """All runs of a model, in order, and what stood in the way of longer ones. print(report) shows it as a table.

    calibrated: padded stacks that were timed for the first time on this machine, for calibration_s seconds.
    """

    runs: tuple[RunReport, ...]
    notes: tuple[Note, ...] = ()
    calibrated: int = 0
    calibration_s: float = 0.0

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

    def __str__(self) -> str:
        total = f"{count_text(self.operations_before)} -> {count_text(self.operations_after)} operations per image"
        lines = [f"{len(self.merged)} of {plural(len(self.runs), 'run')} merged, {total}"]
        lines += [line for run in self.runs for line in _lines(run)]
        lines += [f"note: {', '.join(note.layers)}: {note.reason}" for note in self.notes]
        if self.calibrated:
            stacks = plural(self.calibrated, "padded stack was", "padded stacks were")
            lines.append(f"{stacks} timed for {self.calibration_s:.1f} s; the times are kept for this machine")
        return "\n".join(lines)


def _lines(run: RunReport) -> list[str]:
    shapes = " -> ".join("×".join(map(str, shape)) for shape in (run.in_shape, run.out_shape))
    if run.left is not None:
        return [f"{', '.join(run.layers)}: left ({run.left})", f"    {shapes}, {count_text(run.operations_before)}"]
    groups = "; ".join(f"{' + '.join(g)} -> {name}" for g, name in zip(run.groups, run.modules, strict=True))
    operations = f"{count_text(run.operations_before)} -> {count_text(run.operations_after)} operations"
    lines = [groups, f"    {shapes}, {operations}"]
    if run.predicted_error is not None:
        lines[-1] += ", error {:.1e} to {:.1e} predicted".format(*run.predicted_error)
    larger = None if run.errors is None else run.errors.larger
    lines += [f"    {each}" for each in (run.errors, larger, run.certificate) if each is not None]
    if run.measured is not None:
        lines.append(f"    {_measured(run.measured)}")
    return lines


def _measured(timed: Measured) -> str:
    ratio = timed.comparison
    text = f"{timed.seconds_before * 1e3:.3g} ms -> {timed.seconds_after * 1e3:.3g} ms"
    interval = "" if math.isnan(ratio.lower) else f" [{ratio.lower:.2f}, {ratio.upper:.2f}]"
    text += f" (×{ratio.ratio:.2f}{interval}, {ratio.verdict})"
    if timed.error_before is not None:
        text += f", error {timed.error_before:.1e} -> {timed.error_after:.1e}"
    return text


def count_text(operations: float) -> str:
    """As in "9.44 M"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if operations >= size:
            return f"{operations / size:.3g} {unit}"
    return f"{operations:.3g}"
