"""Sections about the experiments of the precision study: one experiment's rows in, its section out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from analysis.data.frames import Frame, raw
from analysis.data.study_data import Scope, StudyData
from analysis.precision import EXPERIMENTS
from analysis.report import wording
from analysis.report.section import Content, Frames, Section, per_scope


def experiment_section(
    experiment: str,
    name: str,
    title: str,
    frames: Callable[[Frame], Frames],
    part: Callable[[Scope, Frame, Frames], Content | None],
    *,
    files: Mapping[str, str],
    columns: Mapping[str, str] | None = None,
    headlines: Mapping[str, Callable[[StudyData, Frames], str]] | None = None,
    observations: str = "",
    on_threads: str = wording.THREADS,
) -> Section:
    """The section about one experiment, left off the page where it was not run.

    experiment: its name in EXPERIMENTS; name, title: the section's. frames: the experiment's rows to its frames by
    name; part: a scope, its rows and frames to what is shown of them, None where nothing can be. The rest: as `Section`
    has it. observations: the name of the CSV with the rows themselves, `<experiment>_rows` if none is given.
    on_threads: the note on how many threads computed, which stand for {}.
    """
    raw_name = observations or f"{experiment}_rows"

    def all_frames(data: StudyData) -> Frames:
        rows = data.experiment(experiment)
        return {} if rows is None else {**frames(rows), raw_name: raw(rows)}

    def one(scope: Scope, data: StudyData, frames: Frames) -> Content | None:
        rows = data.experiment(experiment)
        return None if rows is None else part(scope, rows, frames)

    def content(data: StudyData, frames: Frames) -> Content | None:
        rows = data.experiment(experiment)
        if rows is None:
            return None
        shown = per_scope(one)(data, frames)
        return replace(shown, notes=(*shown.notes, *wording.notes(rows, on_threads))) if shown else shown

    return Section(
        name,
        title,
        content,
        all_frames,
        intro=EXPERIMENTS[experiment].question,
        empty=f"No observation of the experiment {experiment} gave a result.",
        headlines=headlines or {},
        files={**files, raw_name: f"The experiment {experiment}, one row per observation."},
        columns=columns or {},
    )
