"""The answers about plans, the break-even of merging and training steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis import formatting as show
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.planned import COUNTED, MEASURED
from analysis.style import dtypes_in_order

SHOWN = 3


def _main(rows: Frame) -> str | None:
    """float32, or else the widest dtype that there is."""
    present = dtypes_in_order(rows["dtype"])
    return "float32" if "float32" in present else (present[-1] if present else None)


def _speedup(row: Any) -> str:
    ends = (1 / row["ratio_upper"], 1 / row["ratio_lower"])
    return f"{show.number(1 / row['ratio'], *ends)}× {show.interval(1 / row['ratio'], *ends)}".strip()


def plans(findings: Findings, scope: Scope) -> Iterator[tuple[str, str, str]]:
    """How planned stacks do against the better of stacked and merged. Each: title, text, anchor."""
    rows = scope.of(findings.plans)
    dtype = _main(rows)
    here = rows[(rows["dtype"] == dtype) & (rows["way"] == MEASURED)]
    if not len(here):
        return
    counts, best = here["verdict"].value_counts(), here.loc[here["ratio"].idxmin()]
    text = f"In {dtype} a stack cut by measured time (`{MEASURED}`) is faster than the better of stacked and merged on "
    text += f"{counts.get('faster', 0)} of {show.plural(len(here), 'stack')} and slower on {counts.get('slower', 0)}"
    if best["verdict"] == "faster":
        text += f"; most on {best['problem']}, {_speedup(best)}"
    counted = rows[(rows["dtype"] == dtype) & (rows["way"] == COUNTED)]
    if len(counted):
        text += f". Cut by operation count it is slower on {(counted['verdict'] == 'slower').sum()} of {len(counted)}"
    yield f"Plans, {findings.label(scope)}", f"{text}.", "plans"


def break_even(findings: Findings, scope: Scope) -> Iterator[tuple[str, str, str]]:
    """Where the operation count and the clock disagree about merging a pair. Each: title, text, anchor."""
    rows = scope.of(findings.pairs)
    dtype = _main(rows)
    rows = rows[rows["dtype"] == dtype]
    decided = rows[rows["verdict"].isin(["faster", "slower"])]
    if not len(decided):
        return
    promised = decided[decided["saves"] & (decided["verdict"] == "slower")]
    unforeseen = decided[~decided["saves"].astype(bool) & (decided["verdict"] == "faster")]
    right = len(decided) - len(promised) - len(unforeseen)
    text = f"In {dtype} the operation count says rightly whether merging a pair C → C_mid → C pays on {right} of the "
    text += f"{show.plural(len(decided), 'pair')} with a verdict"
    parts = []
    if len(promised):
        parts.append(f"it promises a gain where merging is slower on {len(promised)} ({_cases(promised, True)})")
    if len(unforeseen):
        parts.append(f"it promises a loss where merging is faster on {len(unforeseen)} ({_cases(unforeseen, False)})")
    ends = f": {'; '.join(parts)}." if parts else "."
    yield f"Break-even, {findings.label(scope)}", text + ends, "breakeven"


def _cases(rows: Frame, slower: bool) -> str:
    """The pairs on which it is furthest off."""
    worst = rows.sort_values(["ratio", "problem"], ascending=[not slower, True]).head(SHOWN)
    cases = [
        f"{r['kernel']}×{r['kernel']}, {r['outer']} → {r['middle']}: {_speedup(r)}" for r in worst.to_dict("records")
    ]
    more = len(rows) - len(worst)
    return "; ".join(cases) + (f"; and {more} more" if more else "")


def training(findings: Findings, scope: Scope) -> Iterator[tuple[str, str, str]]:
    """What merging in every step does to training. Each: title, text, anchor."""
    rows = scope.of(findings.training)
    dtype = _main(rows)
    here = rows[rows["dtype"] == dtype]
    if not len(here):
        return
    counts = here["verdict"].value_counts()
    text = f"In {dtype} a training step that merges first is faster than the stack's on {counts.get('faster', 0)} of "
    text += f"{show.plural(len(here), 'stack')} and slower on {counts.get('slower', 0)}"
    ends = [here.loc[here["ratio"].idxmin()], here.loc[here["ratio"].idxmax()]][: len(here)]
    text += f": {' and '.join(f'{row.problem} {_speedup(row)}' for row in ends)}."
    yield f"Training, {findings.label(scope)}", text, "training"
