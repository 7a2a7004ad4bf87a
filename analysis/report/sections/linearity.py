"""The experiment `linearity`: which identities of a linear map hold bit for bit, and by how much not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.data.frames import Frame, dtypes_in_order, usable, ways_in_order
from analysis.data.over_seeds import SERIES, over_seeds
from analysis.data.study_data import Scope
from analysis.report import choosing, wording
from analysis.report import formatting as show
from analysis.report.drawing import (
    Drawing,
    decimal_ticks,
    ends,
    facets,
    legend,
    lines,
    log_range,
    measured_ticks,
    sign_handles,
    styled,
)
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, plot
from analysis.report.style import looks
from analysis.report.tables import EXACT, Table, Text, arranged, slug, wide_table
from linear_lasagna.vocabulary import BASELINE

ROUNDED = ("f(x+z) = f(x)+f(z)", "f(3x) = 3f(x)")
KEYS = [*SERIES, "way", "identity"]


def frames(rows: Frame) -> Frames:
    """linearity: sizes of the defects; identities: how often each identity holds bit for bit."""
    return {"linearity": defects(rows), "identities": identities(rows)}


def defects(rows: Frame) -> Frame:
    """The median defect in u of the exact result, per series, way, identity and depth."""
    return over_seeds(usable(named(rows)), [*KEYS, "depth"], "error_u")


def identities(rows: Frame) -> Frame:
    """Per series, way and identity, over all depths: held, in how many cells the identity holds in every output bit for
    bit; equal, the median share of outputs in which it does. An overflowed cell holds nothing.
    """
    computed = named(rows[rows["status"] != "failed"])
    computed = computed.assign(held=(computed["equal"] == 1) & (computed["status"] == "ok"))
    grouped = computed.groupby(KEYS, sort=True)
    counts = grouped.agg(held=("held", "sum"), cells=("held", "size"), seeds=("seed", "nunique"))
    return counts.join(grouped["equal"].median()).reset_index()


def named(rows: Frame) -> Frame:
    """The rows with their column `property` under the name identity."""
    return rows.rename(columns={"property": "identity"})


@styled
def figure(summary: Frame) -> Drawing:
    """The defects of the identities that rounding breaks, against depth, a panel each per dtype.
    summary: `defects` of one place.
    """
    summary = choosing.shown(summary)
    dtypes, kinds = dtypes_in_order(summary["dtype"]), [name for name in ROUNDED if name in set(summary["identity"])]
    drawing, panels = facets([f"{kind}, {dtype}" for kind in kinds for dtype in dtypes])
    known = looks(summary["way"])
    for index, panel in enumerate(panels):
        kind, dtype = kinds[index // len(dtypes)], dtypes[index % len(dtypes)]
        row = summary[summary["identity"] == kind]
        lines(panel, row[row["dtype"] == dtype], "depth", known, "u")
        measured_ticks(panel, row["depth"])
        panel.set_yscale("log")
        panel.set_ylim(log_range(ends(row)))
        decimal_ticks(panel.yaxis)
        panel.set(xlabel="depth (layers)", ylabel="relative L2 defect (u)")
    legend(drawing, ways_in_order(summary["way"]), sign_handles(summary["signs"]), known)
    return drawing


def identity_table(name: str, counts: Frame) -> Table:
    """In how many cells each identity holds, one column per way. counts: `identities` of one place."""
    keys = ["identity", "dtype", "way"]
    pooled = counts.groupby(keys, sort=True).agg(held=("held", "sum"), cells=("cells", "sum")).reset_index()
    caption = "In how many cells each identity holds in every output, bit for bit; a cell is one seed, depth and "
    caption += f"sign structure, {wording.seeds(counts)}. The right side is computed in the dtype. Counts: no "
    caption += "interval."
    labels = {"identity": "identity", "dtype": "dtype"}
    return wide_table(name, caption, pooled, labels, "way", _count, "identities")


def _count(row: Any) -> Text:
    return Text(str(row.held), f"of {row.cells}", "zero" if row.held == 0 else "")


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    sizes, counts = frames["linearity"], frames["identities"]
    drawn = sizes[sizes["identity"].isin(ROUNDED) & (sizes["median"] > 0)]
    if not len(drawn):
        return None
    caption = "By how much a computed stack misses two identities of a linear map, relative to the exact result, in "
    caption += f"units of u, against depth ({scope.label}), both axes logarithmic. x, z and their multiples are "
    caption += "exact numbers of the dtype, so all of it is rounding in the stack; a single layer has nothing to "
    caption += f"merge. {wording.band(drawn)}{choosing.others(drawn)}{choosing.other_dtypes(drawn)}"
    alt = "Lines on two logarithmic axes, one panel per identity and dtype. The largest median is "
    seen = choosing.main(choosing.shown(drawn))
    row = seen.loc[seen["median"].idxmax()]
    where = ", ".join([row["identity"], row["way"], row["dtype"], wording.signs(row["signs"])])
    alt += f"{row['median']:.3g} u: {where}, depth {row['depth']}."
    name = slug("linearity", scope.machine, scope.device)
    figures = (plot(f"fig-{name}", caption, alt, "linearity", figure(seen)),)
    return Content(figures, (identity_table(name, counts),), answer(counts), tuple(details(sizes, counts)))


def answer(counts: Frame) -> str:
    """Whether the identities that rounding should keep are kept. counts: `identities`."""
    kinds = [kind for kind in (*EXACT, *ROUNDED) if kind in set(counts["identity"])]
    parts = [f"`{kind}` {_held(counts[counts['identity'] == kind])}" for kind in kinds]
    return f"Bit for bit, {wording.listed(parts)} ({wording.seeds(counts)})." if parts else ""


def _held(counts: Frame) -> str:
    held, cells = int(counts["held"].sum()), int(counts["cells"].sum())
    share = "all" if held == cells > 1 else "none of" if not held else f"{held} of"
    return f"holds in {share} {show.plural(cells, 'cell')}"


def details(sizes: Frame, counts: Frame) -> Iterator[str]:
    """Violations of what should hold, and the sizes of the other defects at the largest depth."""
    broken = counts[counts["identity"].isin(EXACT) & (counts["held"] < counts["cells"])]
    for row in arranged(broken, ["dtype", "way", "signs"]).itertuples(index=False):
        lost = f"{row.cells - row.held} of {show.plural(row.cells, 'cell')} of {row.way}, {row.dtype}, "
        lost += wording.signs(row.signs)
        yield f"Broken, though rounding to nearest keeps it: {row.identity} in {lost}."
    baseline = sizes[(sizes["way"] == BASELINE) & (sizes["signs"] == "random")]
    baseline = baseline[baseline["depth"] == baseline["depth"].max()]
    for kind in ROUNDED:
        of_kind = baseline[baseline["identity"] == kind]
        if len(of_kind):
            text = f"Defect of {kind} in u, {BASELINE}, random signs, depth {of_kind['depth'].max()}: "
            yield f"{text}{wording.by_dtype(of_kind, wording.median)} ({wording.counts(of_kind)})."


SECTION = experiment_section(
    "linearity",
    "linearity",
    "Is a computed stack linear?",
    frames,
    part,
    files={
        "linearity": "By how much identities of a linear map fail, over seeds.",
        "identities": "How often identities of a linear map hold bit for bit.",
    },
    columns={
        "identity": "the identity of a linear map f",
        "held": "in how many cells the identity holds in every output, bit for bit",
    },
)
