"""The account of the experiment `kernel_size`: the error against the kernel's size, with fixed channels."""

from __future__ import annotations

import math

from analysis.accounts import fan_in_growth as growth
from analysis.accounts import wording
from analysis.accounts.account import Account, Frames, Part, Place
from analysis.frames import Frame
from analysis.parts import plot
from analysis.precision.kernel_size import CHANNELS
from analysis.tables import slug

WHERE = f"square kernels of growing size, {CHANNELS} channels"


def frames(rows: Frame) -> Frames:
    """kernel_sizes: errors by fan-in and kernel size; kernel_size_exponents: their growth with the fan-in."""
    errors = growth.errors(rows)
    return {
        "kernel_sizes": errors.assign(kernel_size=[size(fan_in) for fan_in in errors["fan_in"]]),
        "kernel_size_exponents": growth.growths(rows),
    }


def size(fan_in: int) -> int:
    """The kernel's edge: the experiment's fan-in is channels × its square."""
    return math.isqrt(int(fan_in) // CHANNELS)


def part(place: Place, rows: Frame, found: Frames) -> Part | None:
    summary, exponents = found["kernel_sizes"], found["kernel_size_exponents"]
    if not len(summary):
        return None
    caption = f"Relative L2 error in units of u against the size of the kernel, {CHANNELS} channels ({place.label}), "
    caption += "both axes logarithmic, one row of panels per depth. The axis is the fan-in of one layer, channels × "
    caption += f"area, named by the kernel's size. {wording.band(summary)} {wording.STYLES}"
    alt = f"Lines on two logarithmic axes, one panel per dtype and depth. {growth.worst(summary)}"
    name = slug("kernel-size", place.machine, place.device)
    ticks = {fan_in: f"{size(fan_in)}×{size(fan_in)}" for fan_in in set(summary["fan_in"])}
    figure = plot(f"fig-{name}", caption, alt, "kernel_sizes", growth.figure(summary, "kernel", ticks))
    tables = (growth.table(name, exponents, "kernel_size_exponents", WHERE),) if len(exponents) else ()
    return Part((figure,), tables, growth.answer(exponents), tuple(growth.details(exponents, summary)))


ACCOUNT = Account("kernel_size", "kernel-size", "Error by kernel size", frames, part)
