"""Make an edition of what was measured, or again of what an edition holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from analysis import arguments
from analysis.edition import composing, folder, index, raw
from analysis.edition.composing import Measured
from analysis.measure import asv_site
from analysis.measure.checkout import ROOT
from analysis.study import results_of

HOME = ROOT / "reports"


def make(
    name: str,
    preset: str,
    out: Path,
    records: Path | None = None,
    store: Path | None = None,
    home: Path = HOME,
    notes: str = "",
    attached: Mapping[str, bytes] = MappingProxyType({}),
    title: str = "",
    replaced: bool = False,
) -> Path:
    """Write home/name, and home/index.html. records, store: as `study.results_of` takes them; attached: files that are
    kept as they are; title: the page's, in the place of what the data tell.

    Raises ValueError for a bad name, of the edition or of what is attached, for what exists, and where there are no
    results.
    """
    arguments.folder(home)
    folder.check_place(home / folder.checked(name), replaced)
    folder.check_attached(attached)
    with results_of(preset, out, records, store=store) as found:
        kept = {folder.NOTES: notes.encode()} if notes.strip() else {}
        kept |= (raw.site(out / asv_site.FOLDER) if found.context.asv else {}) | dict(attached)
        for message in found.records.messages:
            print(f"left out: {message}", file=sys.stderr)
        measured = Measured(raw.records_below(found.folder), found.rows, notes, kept)
        site = raw.SITE if raw.SITE in kept else ""
        context = replace(found.context, edition=name, title=title, asv=site, left_out=found.records.messages)
        files = composing.compose(measured, context)
    made = folder.write(home, name, files, again=replaced)
    index.write(home)
    return made


def again(name: str, home: Path = HOME, notes: str | None = None) -> Path:
    """Render an edition again from its own data, by this version's code. notes: in the place of its own.

    Raises ValueError for what is no edition, and for one of which something would be lost.
    """
    path = home / folder.checked(name)
    told = folder.whole(path)
    measured = folder.measured(path, told)
    if notes is not None:
        others = {file: content for file, content in (measured.others or {}).items() if file != folder.NOTES}
        kept = {folder.NOTES: notes.encode()} if notes.strip() else {}
        measured = replace(measured, notes=notes, others=others | kept)
    made = folder.write(home, name, composing.compose(measured, composing.context_of(told)), again=True)
    index.write(home)
    return made
