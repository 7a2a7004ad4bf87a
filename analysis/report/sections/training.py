"""Training steps: a stack that is merged anew in every step, against the stack."""

from __future__ import annotations

from analysis.data.frames import Frame
from analysis.data.study_data import Scope, StudyData
from analysis.report import extremes, wording
from analysis.report import formatting as show
from analysis.report.section import Content, Frames, Section, per_scope
from analysis.report.sections.plans import by_problem, main_dtype
from analysis.report.sections.speed import VERDICTS_READ, intervals, speedup_text
from analysis.report.tables import Table, slug, table


def steps(speedups: Frame) -> Frame:
    """Training steps that merge, against the stack's: as `speedups`."""
    rows = speedups[(speedups["group"] == "training") & ~speedups["control"].astype(bool)]
    return rows.reset_index(drop=True)


def part(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
    return Content(tables=(training_table(scope, frames["training"]),)) if len(frames["training"]) else None


def training_table(scope: Scope, rows: Frame) -> Table:
    """A training step of the stack, and one that merges first."""
    columns = {
        "problem": lambda row: row.problem,
        "dtype": lambda row: row.dtype,
        "stack's step": lambda row: show.seconds(row.baseline_seconds),
        "merging step": lambda row: show.seconds(row.seconds),
        "speedup": speedup_text,
    }
    caption = f"One training step, forward and backward, {scope.label}: of the stack, and with its kernels merged "
    caption += f"anew in every step (`merged_per_call`). {intervals(rows)} {VERDICTS_READ}"
    name = slug("training", scope.machine, scope.device)
    return table(name, caption, by_problem(rows), columns, "training", (0, 1))


def headline(data: StudyData, frames: Frames) -> str:
    """What merging in every step does to training."""
    rows = frames["training"]
    dtype = main_dtype(rows)
    of_dtype = rows[rows["dtype"] == dtype]
    if not len(of_dtype):
        return ""
    text = f"In {dtype}, {show.of_these(len(of_dtype), 'stack')}, a training step that merges first, against the "
    text += f"stack's own, is, {wording.by_intervals(of_dtype)}, {wording.listed(list(extremes.by_verdict(of_dtype)))}"
    ends = [end for end in (extremes.most(of_dtype, verdict) for verdict in ("faster", "slower")) if end]
    return f"{text}{': ' if ends else ''}{'; '.join(ends)}."


SECTION = Section(
    "training",
    "Training steps",
    per_scope(part),
    lambda data: {"training": steps(data.speedups)},
    intro="While it is trained, a stack can be merged anew in every step, so that the gradients flow through the "
    "merge. Every step gives the gradients of the input and of all kernels; before it counts, they must lie within a "
    "bound of the stack's in float64.",
    empty="No training step was timed.",
    headlines={"Training": headline},
    files={"training": "Training steps that merge first, against the stack's."},
)
