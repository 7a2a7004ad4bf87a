"""A report as text of at most 100 columns, whatever the model's modules are called and however many there are."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from linear_lasagna.plurals import plural
from linear_lasagna.rounding.offsets import rounds, warning

if TYPE_CHECKING:
    from linear_lasagna.models.report import Measured, Note, Report, RunReport
    from linear_lasagna.models.whole import Whole
    from linear_lasagna.timing import Comparison

WIDTH = 100
INDENT = "    "
ALIKE = 3  # so many runs that differ in their place alone are one row
SHOWN = 60  # columns that names take beside a sentence about them
LOOKED_FOR = "at least two linear operations that become one convolution, with nothing non-linear between"


def text(report: Report) -> str:
    """The outcome, what the whole model takes, a row per run or per runs alike, and the notes."""
    lines = [*_wrapped(outcome(report)), *([] if report.whole is None else whole_lines(report.whole))]
    lines += _rows(report.runs)
    lines += [line for reason, notes in _by_reason(report.notes).items() for line in _note(reason, notes)]
    if report.calibrated:
        stacks = plural(report.calibrated, "padded stack was", "padded stacks were")
        lines.append(f"{stacks} timed for {report.calibration_s:.1f} s; the times are kept for this machine")
    return "\n".join(lines)


def outcome(report: Report) -> str:
    """What was done, in one sentence."""
    done = sum(note.done for note in report.notes)
    beside = f"; {plural(done, 'change')} beside runs, which the notes name" if done else ""
    counted = f"{len(report.merged)} of {plural(len(report.runs), 'run')} merged"
    if report.runs:
        total = f"{count_text(report.operations_before)} -> {count_text(report.operations_after)}"
        return f"{counted}, {total} operations per image{beside}"
    return f"{counted}{beside}: a run is {LOOKED_FOR}; {_linear(report.linear)}"


def _linear(names: Sequence[str]) -> str:
    if not names:
        return "this model has no linear operation that is looked for"
    listed = shortened(", ".join(map(_printable, names)), SHOWN)
    return f"this model has {plural(len(names), 'linear operation')}, not in a run: {listed}"


def whole_lines(whole: Whole) -> list[str]:
    """What the model takes as given and merged, and how much of it is in the runs."""
    lead = {"faster": "faster", "slower": "SLOWER", "tie": "as fast", "undecided": "not known to be faster"}
    times = time_text(whole.seconds_before, whole.seconds_after, whole.comparison)
    line = f"whole model: {lead[whole.comparison.verdict]} merged, {times}, {whole.kind}"
    lines = _wrapped(line)
    if whole.runs_before:
        runs = f"its runs take {_ms(whole.runs_before)} -> {_ms(whole.runs_after)}"
        shares = f"{whole.share_before:.0%} of the given model's time, {whole.share_after:.0%} of the merged one's"
        lines += _wrapped(f"{runs}: {shares}")
    return lines


def _rows(runs: Sequence[RunReport]) -> list[str]:
    alike = _alike(runs)
    cells = [_cells(row) for row in alike]
    widths = _widths(cells)
    header = [INDENT + _aligned(list(widths), list(widths.values()))] if runs else []
    lines = []
    for row, values in zip(alike, cells, strict=True):
        lines.append(shortened(_title(row), WIDTH))
        lines.append(INDENT + _aligned([values.get(name, "") for name in widths], list(widths.values())))
        lines += [line for sentence in _sentences(row) for line in _wrapped(sentence, INDENT)]
    return [*header, *lines]


def _alike(runs: Sequence[RunReport]) -> list[list[RunReport]]:
    """The runs in rows: those alike together, where there are several, at the place of the first."""
    kinds: dict[object, list[RunReport]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    rows = [[run] if len(kinds[_kind(run)]) < ALIKE else kinds[_kind(run)] for run in runs]
    return [row for run, row in zip(runs, rows, strict=True) if row[0] is run]


def _kind(run: RunReport) -> object:
    """What runs alike have in common: all but their place, numbers in names, times and errors."""
    name = re.sub(r"\d+", "#", _without(_place(run.layers), run))
    return name, run.in_shape, run.out_shape, run.operations_before, run.operations_after, run.left


def _place(names: Iterable[str]) -> tuple[str, ...]:
    """The names of the modules that contain all of these."""
    paths = [name.split(".")[:-1] for name in names]
    return tuple(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))


def _without(place: Sequence[str], run: RunReport) -> str:
    """What became of which layers, their names without their common place."""
    start = sum(len(part) + 1 for part in place)
    if run.left is not None:
        return " + ".join(name[start:] for name in run.layers)
    pairs = zip(run.groups, run.modules, strict=True)
    return "; ".join(f"{' + '.join(name[start:] for name in group)} -> {new[start:]}" for group, new in pairs)


def _title(row: Sequence[RunReport]) -> str:
    first, last = row[0], row[-1]
    place = _place(first.layers)
    what = _printable(_without(place, first)) + ("" if first.left is None else ": left")
    if len(row) == 1:
        return f"{_printable('.'.join(place))}: {what}" if place else what
    ends = [_printable(".".join(_place(run.layers)) or run.layers[0]) for run in (first, last)]
    return f"{shortened(' … '.join(ends), SHOWN)}: {len(row)} runs alike: {what}"


def _cells(row: Sequence[RunReport]) -> dict[str, str]:
    """The row's numbers by the names of their columns: of one run, the largest errors of several."""
    run, each = row[0], "" if len(row) == 1 else " each"
    shapes = [*dict.fromkeys("×".join(map(str, shape)) for shape in (run.in_shape, run.out_shape))]
    counts = [*dict.fromkeys(map(count_text, (run.operations_before, run.operations_after)))]
    cells = {"shape": " -> ".join(shapes), "operations": " -> ".join(counts) + each}
    errors = [each for run in row if (each := _errors(run)) is not None]
    if errors:
        cells["error"] = " -> ".join(f"{max(side):.1e}" for side in zip(*errors, strict=True))
    predicted = [run.predicted_error for run in row if run.predicted_error is not None]
    if predicted:
        cells["predicted"] = f"{min(a for a, _ in predicted):.1e} to {max(b for _, b in predicted):.1e}"
    bounds = [(run.certificate.wide_relative, run.certificate.relative) for run in row if run.certificate is not None]
    if bounds:
        wide, narrow = (f"{max(side):.1e}" for side in zip(*bounds, strict=True))
        cells["guaranteed"] = wide if wide == narrow else f"{wide} ({narrow})"
    return cells


def _errors(run: RunReport) -> tuple[float, float] | None:
    """Before and after: on the whole example where it was measured, else on the part that is always looked at."""
    if run.measured is not None and run.measured.error_before is not None and run.measured.error_after is not None:
        return run.measured.error_before, run.measured.error_after
    return None if run.errors is None else (run.errors.before, run.errors.after)


def _larger(run: RunReport) -> str | None:
    """Which of the errors in its row, and of their averages, merging makes larger."""
    shown = _errors(run)
    if run.errors is None or shown is None:
        return None
    return replace(run.errors, before=shown[0], after=shown[1]).larger


def _sentences(row: Sequence[RunReport]) -> list[str]:
    """What is said of a run beside its numbers."""
    sentences = [] if row[0].left is None else [row[0].left]
    grown = [larger for run in row if (larger := _larger(run)) is not None]
    if grown:
        sentences.append(grown[0] if len(row) == 1 else f"in {len(grown)} of these, as in the first: {grown[0]}")
    rounding = max(run.rounding for run in row)
    if rounds(rounding):
        sentences.append(warning(rounding, "the layers" if len(row) == 1 else "some of these"))
    if any(run.certificate is not None and not run.certificate.finite for run in row):
        sentences.append("an intermediate may overflow for inputs as large as the example's")
    timed = [run.measured for run in row if run.measured is not None]
    if timed:
        before, after = sum(each.seconds_before for each in timed), sum(each.seconds_after for each in timed)
        together = time_text(before, after, timed[0].comparison) if len(row) == 1 else _together(before, after, timed)
        sentences.append(f"{together}, within one process")
    return sentences


def _together(before: float, after: float, timed: Sequence[Measured]) -> str:
    verdicts = [each.comparison.verdict for each in timed]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return f"{_ms(before)} -> {_ms(after)} together (×{after / before:.3g}; {counts})"


def _widths(cells: Sequence[dict[str, str]]) -> dict[str, int]:
    """The columns that fit beside each other, with their widths; the first one is left out where they do not."""
    names = dict.fromkeys(name for row in cells for name in row)
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in cells)) for name in names}
    while widths and len(INDENT) + sum(widths.values()) + 2 * (len(widths) - 1) > WIDTH:
        del widths[next(iter(widths))]
    return widths


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _by_reason(notes: Sequence[Note]) -> dict[str, list[Note]]:
    grouped: dict[str, list[Note]] = {}
    for note in notes:
        grouped.setdefault(note.reason, []).append(note)
    return grouped


def _note(reason: str, notes: Sequence[Note]) -> list[str]:
    places = [_printable(", ".join(note.layers)) for note in notes]
    count = f" ({len(places)} places)" if len(places) > ALIKE else ""
    if len(notes) == 1 and len(notes[0].layers) > ALIKE:
        count = f" ({len(notes[0].layers)} operations)"
    return _wrapped(f"note: {shortened('; '.join(places), SHOWN)}{count}: {reason}")


def time_text(before: float, after: float, ratio: Comparison) -> str:
    """As in "3.68 ms -> 0.577 ms (×0.16 [0.15, 0.17], faster)"."""
    interval = "" if math.isnan(ratio.lower) else f" [{ratio.lower:.3g}, {ratio.upper:.3g}]"
    return f"{_ms(before)} -> {_ms(after)} (×{ratio.ratio:.3g}{interval}, {ratio.verdict})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _wrapped(sentence: str, indent: str = "") -> list[str]:
    further = indent + INDENT
    return textwrap.wrap(
        _printable(sentence), WIDTH, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
    )


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)


def shortened(name: str, width: int) -> str:
    """The name, or its beginning and end with "…" between, in `width` columns."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def count_text(operations: float) -> str:
    """As in "9.44 M"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if operations >= size:
            return f"{operations / size:.3g} {unit}"
    return f"{operations:.3g}"
