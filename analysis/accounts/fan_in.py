"""The account of the experiment `fan_in`: the error against the number of products summed for one output."""

from __future__ import annotations

from analysis.accounts import fan_in_growth as growth
from analysis.accounts import wording
from analysis.accounts.account import Account, Frames, Part, Place
from analysis.frames import Frame
from analysis.parts import plot
from analysis.tables import slug

WHERE = "3×3 layers with as many channels in as out"


def frames(rows: Frame) -> Frames:
    """fan_in: errors; fan_in_exponents: their growth."""
    return {"fan_in": growth.errors(rows), "fan_in_exponents": growth.growths(rows)}


def part(place: Place, rows: Frame, found: Frames) -> Part | None:
    summary, exponents = found["fan_in"], found["fan_in_exponents"]
    if not len(summary):
        return None
    caption = f"Relative L2 error in units of u against the fan-in of one layer, {WHERE} ({place.label}), both axes "
    caption += f"logarithmic, one row of panels per depth. {wording.band(summary)} {wording.STYLES} Where marks lie "
    caption += "in each other, the ways lose the same."
    alt = f"Lines on two logarithmic axes, one panel per dtype and depth. {growth.worst(summary)}"
    name = slug("fan-in", place.machine, place.device)
    figure = plot(f"fig-{name}", caption, alt, "fan_in", growth.figure(summary, "fan-in of one layer"))
    tables = (growth.table(name, exponents, "fan_in_exponents", WHERE),) if len(exponents) else ()
    return Part((figure,), tables, growth.answer(exponents), tuple(growth.details(exponents, summary)))


ACCOUNT = Account("fan_in", "fan-in", "Error by fan-in", frames, part)
