"""How good the timings' own intervals and verdicts are, by simulation: committed numbers, the same in every report."""

from __future__ import annotations

from typing import Any

from analysis.data import characteristics
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.section import Content, Frames, Section
from analysis.report.tables import Table, Text, table
from linear_lasagna.trial.processes import MOST_PROCESSES


def frames(data: StudyData) -> Frames:
    """characteristics: the committed rows; none for a study without trials."""
    return {"characteristics": characteristics.committed()} if len(data.records) else {}


def content(data: StudyData, frames: Frames) -> Content | None:
    if "characteristics" not in frames:
        return None
    rows = characteristics.summary(frames["characteristics"])
    cells = int(frames["characteristics"]["cells"].min())
    here = f" Trials of this study had {wording.processes(data.records)}." if len(data.records) else ""
    return Content(tables=(_table(rows, cells),), answer=answer(rows) + here)


def answer(rows: Any) -> str:
    """What holds, and under which noise it does not. rows: of `characteristics.summary`."""
    good, bad = rows[~rows["fails"]], rows[rows["fails"]]
    text = f"Under {len(good)} of {show.plural(len(rows), 'kind')} of noise at least "
    text += (
        f"{show.percent(good['covered'].min())} of the intervals between processes hold the true ratio, whatever it "
    )
    text += f"is, and at most {show.percent(good['false'].max())} of the verdicts are false. "
    if len(bad):
        told = "{} ({} hold it, {} of the verdicts are false)"
        names = [told.format(r.noise, show.percent(r.covered), show.percent(r.false)) for r in bad.itertuples()]
        text += f"It fails under {wording.listed(names)}. "
    failing = (rows["covered_one"] < characteristics.COVERAGE) | (rows["false_one"] > characteristics.FALSE)
    text += f"With one process alone, fewer than {show.percent(characteristics.COVERAGE)} of the intervals hold it, or "
    text += f"more than {show.percent(characteristics.FALSE)} of the verdicts are false, in {int(failing.sum())} of "
    text += f"the {len(rows)}: at worst {show.percent(rows['covered_one'].min())} hold it, and "
    return text + f"{show.percent(rows['false_one'].max())} of the verdicts are false."


def _table(rows: Any, cells: int) -> Table:
    def pair(name: str) -> Any:
        return lambda row: Text(show.percent(getattr(row, name)), show.percent(getattr(row, f"{name}_one")))

    columns = {
        "noise": lambda row: row.noise,
        "covered": pair("covered"),
        "false verdicts": pair("false"),
        "2 % found": pair("found_2"),
        "5 % found": pair("found_5"),
        "processes": lambda row: f"{row.processes_5:.0f} to {row.processes_0:.0f}",
    }
    caption = f"Simulated trials, {cells} cells for each noise and true difference of 0, 1, 2 and 5 %. Covered: "
    caption += "intervals that hold the true ratio, at the difference where fewest do; false verdicts: where most are. "
    caption += (
        "Beside each: the same with one process of 12 blocks. Processes: in the mean, from a difference of 5 % to "
    )
    caption += f"none; {MOST_PROCESSES} are the most."
    return table("characteristics", caption, rows, columns, "characteristics")


SECTION = Section(
    "characteristics",
    "What the method finds where the truth is known",
    content,
    frames,
    intro="Simulated trials of a baseline, its control and two ways of a known ratio, timed and ended by the very code "
    "of this study, on a clock whose calls take as long as a kind of noise says. A trial has as many processes as it "
    f"needs, up to {MOST_PROCESSES}; that a study's time is over before is not simulated.",
    files={"characteristics": "One row per method, noise and true difference of simulated trials; no measurement."},
    columns={
        "method": "several processes, as trials are timed here, or one process of 12 blocks",
        "noise": "what was simulated; `NOISE` in `analysis/measure/characteristics.py` has each",
        "difference": "by how much one way takes longer than the baseline, and the other less",
        "intervals": "cells that have an interval",
        "covered": "intervals that hold the true ratio",
        "wrong_verdicts": "verdicts of faster or slower where that is wrong, or of a tie where calls differ by more",
        "found": "verdicts that say rightly which is faster",
        "ties": "verdicts of a tie",
        "undecided_cells": "verdicts of undecided",
        "by_verdict": "cells whose verdict was clear when their trial ended",
        "by_precise": "cells without one whose interval was narrow enough",
        "by_most": "cells with neither, after the most processes",
        "digest": "of the first trials, to tell when the code has changed",
    },
)
