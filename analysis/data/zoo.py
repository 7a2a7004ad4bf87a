"""What `python -m analysis zoo` found: one row per architecture and way, kept as CSV; the committed ones."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.data.frames import Frame
from linear_lasagna.plurals import plural

COMMITTED = Path(__file__).with_suffix(".csv")
COLUMNS = ["package", "version", "torch", "processor", "family", "architecture", "others", "shape", "parameters"]
COLUMNS += ["way", "status", "reason", "runs", "merged", "notes", "difference", "convolutions", "norms", "additions"]
COLUMNS += [
    "operations",
    "relative_l2",
    "peak_bytes",
    "made_s",
    "seconds",
    "ratio",
    "ratio_lower",
    "ratio_upper",
    "verdict",
    "processes",
]
TEXTS = {"package", "version", "torch", "processor", "family", "architecture", "others", "shape", "way", "status"}
TEXTS |= {"reason", "verdict"}
COUNTED = ("convolutions", "norms", "additions")
DIGITS = 4  # of measured numbers, in the file


def committed() -> Frame:
    """The committed rows."""
    return read(COMMITTED)


def empty() -> Frame:
    import pandas

    return _typed(pandas.DataFrame(columns=COLUMNS))


def read(path: Path) -> Frame:
    """The rows of a file. Raises ValueError, in one line, for one that is not the zoo's."""
    import pandas

    try:
        frame = pandas.read_csv(path, dtype=dict.fromkeys(TEXTS, "object"), keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no table of the zoo: {str(error).splitlines()[0]}") from error
    if list(frame.columns) != COLUMNS:
        raise ValueError(f"{path} is no table of the zoo: its columns are others")
    return _typed(frame)


def _typed(frame: Frame) -> Frame:
    frame = frame.astype(dict.fromkeys(TEXTS, "object")).fillna(dict.fromkeys(TEXTS, ""))
    return frame.astype({name: "float64" for name in COLUMNS if name not in TEXTS})


def write(frame: Frame, path: Path) -> None:
    """Replaces the file at once: one that is being read, or a run that is killed, loses nothing."""
    part = path.with_name(f"{path.name}.part")
    frame.to_csv(part, index=False, float_format=_short)
    os.replace(part, path)


def _short(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.{DIGITS}g}"


def with_rows(frame: Frame, rows: Iterable[Mapping[str, Any]]) -> Frame:
    """The frame and the rows, which may lack columns."""
    import pandas

    new = _typed(pandas.DataFrame([{name: row.get(name) for name in COLUMNS} for row in rows], columns=COLUMNS))
    return new if frame.empty else pandas.concat([frame, new], ignore_index=True)


def current(frame: Frame, package: str, here: Mapping[str, str], families: Iterable[str], retry_failed: bool) -> Frame:
    """The frame without the package's rows of other versions, of families that it has no more, and of failed ones where
    these are to be tried again.
    """
    other = frame["family"].map(lambda family: family not in set(families))
    for name in ("version", "torch"):
        other |= frame[name] != here[name]
    if retry_failed:
        failed = frame[frame["status"].isin(["failed", "refused"]) & frame["way"].isin(["given", "merged"])]
        other |= frame["family"].isin(set(failed["family"]))
    return frame[~((frame["package"] == package) & other)].reset_index(drop=True)


def line(rows: Sequence[Mapping[str, Any]]) -> str:
    """What became of one architecture, as in "timm alexnet: 2 of 3 runs merged, convolutions 5 -> 3, …"."""
    ways = {row["way"]: row for row in rows}
    given, merged = ways["given"], ways.get("merged")
    name = f"{given['package']} {given['architecture']}"
    if merged is None or merged["status"] != "ok":
        row = given if merged is None else merged
        return f"{name}: {'not built' if merged is None else row['status']}: {row['reason']}"
    parts = [f"{merged['merged']} of {plural(merged['runs'], 'run')} merged"]
    for what in ("convolutions", "norms"):
        parts.append(f"{what} {given[what]} -> {merged[what]}{_theirs(ways, what)}")
    if merged["difference"] is not None:
        parts.append(f"difference {merged['difference']:.0e}")
    if merged.get("seconds") is not None:
        parts.append(f"{given['seconds'] * 1e3:.3g} -> {merged['seconds'] * 1e3:.3g} ms")
    return f"{name}: {', '.join(parts)}"


def _theirs(ways: Mapping[str, Mapping[str, Any]], what: str) -> str:
    authors = ways.get("authors", {})
    return f" (authors' {authors[what]})" if authors.get("status") == "ok" else ""


def changed(frame: Frame) -> Frame:
    """One row per accepted architecture in which something is merged or folded, with its numbers for each way, as in
    "seconds_merged"; first those that their authors re-parametrise.
    """
    facts = ["package", "family", "architecture"]
    wide = frame.pivot(index=facts, columns="way")
    wide.columns = [f"{what}_{way}" for what, way in wide.columns]
    wide = wide.reset_index()
    wide = wide[wide["status_merged"] == "ok"] if "status_merged" in wide else wide[:0]
    fewer = [wide[f"{what}_given"] > wide[f"{what}_merged"] for what in COUNTED if len(wide)]
    wide = wide[sum(fewer) > 0] if fewer else wide
    return wide.sort_values(["status_authors", *facts], ascending=[False, True, True, True]).reset_index(drop=True)


def summary(frame: Frame) -> Frame:
    """One row per package: families, and of these how many were built, accepted, refused and failed; of the accepted
    ones in how many something is merged; the largest difference in float64; how many of those are faster and slower.
    """
    import pandas

    rows = []
    for package, part in frame.groupby("package", sort=False):
        given, merged = (part[part["way"] == way].set_index("family") for way in ("given", "merged"))
        accepted = merged[merged["status"] == "ok"]
        counts = {status: int((merged["status"] == status).sum()) for status in ("refused", "failed")}
        row = {"package": package, "version": part["version"].iloc[0], "families": given.index.nunique()}
        row |= {"built": len(merged), "accepted": len(accepted), **counts}
        merged_ones = changed(part)
        row |= {"changed": len(merged_ones)}
        row |= {"difference": float(accepted["difference"].max()) if len(accepted) else math.nan}
        told = list(merged_ones["verdict_merged"]) if len(merged_ones) else []
        rows.append(row | {verdict: told.count(verdict) for verdict in ("faster", "slower")})
    return pandas.DataFrame(rows)


def sentences(frame: Frame) -> list[str]:
    """The summary, a sentence per package."""
    return [
        f"{row.package} {row.version}: of {plural(row.built, 'architecture')} that can be built {row.accepted} "
        f"are accepted, {row.refused} refused, {row.failed} failed; {row.changed} have fewer convolutions, norms or "
        f"additions, of which {row.faster} are faster, {row.slower} slower; the largest difference in float64 is "
        f"{row.difference:.0e}."
        for row in summary(frame).itertuples(index=False)
    ]
