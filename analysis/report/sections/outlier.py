"""The experiment `outlier`: how errors grow with depth where weights multiply a mean, and where they hardly do."""

from __future__ import annotations

from analysis.data.frames import Frame, dtypes_in_order, usable
from analysis.data.over_seeds import PLACE, over_seeds
from analysis.data.study_data import Scope
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import (
    Drawing,
    course,
    decimal_ticks,
    ends,
    facets,
    key,
    log_range,
    measured_ticks,
    styled,
    told,
)
from analysis.report.section import Content, Frames, Plot, plot
from analysis.report.sections.findings import section
from analysis.report.style import MARKERS, PALETTE
from analysis.report.tables import slug

TAPS = 9
WIDE = 16  # channels: the stacks that are drawn, where they were computed


def errors(rows: Frame) -> Frame:
    """The median error in u with its interval, per place, dtype, families, channels and depth."""
    own = usable(rows)
    own = own.assign(channels=own["fan_in"] // TAPS)
    return over_seeds(own, [*PLACE, "dtype", "signs", "inputs", "weights", "channels", "depth"], "error_u")


@styled
def figure(found: Frame) -> Drawing:
    """Error against depth, both logarithmic, a line per strength, one panel per dtype. found: of one width."""
    dtypes, limits = dtypes_in_order(found["dtype"]), log_range(ends(found))
    looks = dict(zip(sorted(set(found["weights"])), zip(PALETTE, MARKERS, strict=False), strict=False))
    drawing, panels = facets(dtypes)
    for panel, dtype in zip(panels, dtypes, strict=True):
        own = found[found["dtype"] == dtype]
        for weights, look in looks.items():
            line = own[own["weights"] == weights]
            titles = [told(f"{said(weights)}, {dtype}", f"depth {r['depth']}", r, "u") for r in line.to_dict("records")]
            course(panel, line.assign(title=titles), "depth", look)
        measured_ticks(panel, own["depth"])
        panel.set_yscale("log")
        panel.set_ylim(limits)
        decimal_ticks(panel.yaxis)
        panel.set(xlabel="depth (layers)", ylabel="relative L2 error (u)")
    drawing.handles += [key(said(weights), *look, line="-") for weights, look in looks.items()]
    return drawing


def said(weights: str) -> str:
    """As in "strength 0.5" and "near the identity"."""
    return f"strength {weights.removeprefix('rank_one:')}" if weights != "near_identity" else "near the identity"


def part(scope: Scope, rows: Frame, frames: Frames) -> Content | None:
    """The figure of the widest choice of strengths."""
    found = frames["outlier"]
    if not len(found):
        return None
    width = WIDE if WIDE in set(found["channels"]) else int(found["channels"].max())
    return Content((_plot(scope, found[found["channels"] == width], width),))


def _plot(scope: Scope, found: Frame, channels: int) -> Plot:
    caption = (
        f"Relative L2 error in units of u against depth ({scope.label}), both axes logarithmic: stacks of {channels} "
    )
    caption += "channels whose weights are noise and a matrix of rank one that multiplies the mean by the strength. "
    caption += wording.band(found)
    last = found[found["depth"] == found["depth"].max()]
    least, most = (show.significant(last["median"].agg(end)) for end in ("min", "max"))
    alt = f"Lines on two logarithmic axes, one panel per dtype. At depth {last['depth'].iloc[0]} the median errors lie "
    alt += f"between {least} u and {most} u."
    return plot(slug("fig-outlier", scope.machine, scope.device), caption, alt, "outlier", figure(found))


SECTION = section(
    "outlier",
    "Where errors stop growing with depth",
    frames=lambda rows: {"outlier": errors(rows)},
    part=part,
    files={"outlier": "Errors by depth, for each family of weights and number of channels, over seeds."},
    columns={"channels": "channels of every layer"},
)
