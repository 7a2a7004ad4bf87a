"""The observations themselves, one row each, fit for a CSV."""

from __future__ import annotations

from analysis.frames import Frame, ordered

FIRST = ["experiment", "problem", "machine", "device", "dtype", "signs", "depth", "fan_in", "gain", "seed", "way"]
SAME_EVERYWHERE = ["code", "version", "torch", "elapsed_s"]  # of the computation, not of the observation


def raw(rows: Frame) -> Frame:
    """The rows of one experiment without columns that are empty, in the suite's order of dtypes and ways."""
    kept = rows.dropna(axis="columns", how="all").drop(columns=SAME_EVERYWHERE, errors="ignore")
    kept = kept.rename(columns={"property": "identity"})
    first = [name for name in FIRST if name in kept]
    others = [name for name in kept.columns if name not in first]
    by = [name for name in ("problem", "signs", "gain", "seed") if name in kept]
    return ordered(kept[[*first, *others]].sort_values(by, kind="stable")).reset_index(drop=True)
