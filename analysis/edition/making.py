"""Make an edition of what was measured, or again of what an edition holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

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

    Raises ValueError for a bad name, an edition that exists, and where there are no results.
    """
    if (home / folder.checked(name)).exists() and not replaced:
        raise ValueError(f"{home / name} exists; another name, or --replace")
    with results_of(preset, out, records, store=store) as found:
        kept = {folder.NOTES: notes.encode()} if notes.strip() else {}
        kept |= (raw.site(out / asv_site.FOLDER) if found.context.asv else {}) | dict(attached)
        measured = Measured(raw.members(found.folder), found.rows, notes, kept)
        site = raw.SITE if raw.SITE in kept else ""
        files = composing.compose(measured, replace(found.context, edition=name, title=title, asv=site))
    made = folder.write(home, name, files, again=replaced)
    index.write(home)
    return made


def again(name: str, home: Path = HOME) -> Path:
    """Render an edition again from its own data, by this version's code. Raises ValueError for what is no edition."""
    path = home / folder.checked(name)
    told = folder.manifest(path)
    measured = folder.measured(path, told)
    made = folder.write(home, name, composing.compose(measured, composing.context_of(told)), again=True)
    index.write(home)
    return made
