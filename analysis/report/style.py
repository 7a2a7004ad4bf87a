"""How everything looks that is drawn: a colour per method, a mark per schedule, ink that follows the page.

Figures are drawn in the light scheme's values; a page makes variables of them, which have a value for the dark one too
(`svg.rules`). The colours were found by simulated annealing, from hues of the names that they have here, in each scheme
apart: so that any two of them are at least 15 apart (CIE76: Euclidean in CIELAB) to normal, protan, deutan and tritan
eyes, the latter three simulated at full severity (Machado, Oliveira and Fernandes 2009), and all have a contrast of 3:1
or more with the paper (WCAG 2.1). `tests/test_figures.py` computes both again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

# (light, dark)
PAPER = ("#ffffff", "#14171a")
INK = "#1c2024"  # the page's text; svg makes it currentColor
FAINT = "#d9dee3"  # grids and guides; the page's lines
COLOURS: dict[str, tuple[str, str]] = {
    "blue": ("#1065cd", "#698bcd"),
    "orange": ("#cf7f00", "#ffbe54"),
    "green": ("#05824b", "#53db99"),
    "vermilion": ("#c83a00", "#f8763e"),
    "purple": ("#5f309e", "#a78afd"),
    "sky": ("#2e94c9", "#88a7a4"),
    "plum": ("#8d0078", "#af5c93"),
    "brown": ("#bb8473", "#b9885b"),
    "olive": ("#828637", "#dad315"),
    "teal": ("#145b59", "#26acc1"),
    "grey": ("#4c4c37", "#bdcad7"),
    "indigo": ("#575a9d", "#9b947c"),
}
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, PLUM, BROWN, OLIVE, TEAL, GREY, INDIGO = PALETTE = tuple(
    light for light, _ in COLOURS.values()
)
# Cells of a heat map, from the least value to the largest: as dark as the ink on them can be read.
HEAT: dict[str, tuple[str, str]] = {
    "heat-0": ("#f3a683", "#8a3a12"),
    "heat-1": ("#f7c3aa", "#6b2f12"),
    "heat-2": ("#fbe0d3", "#432213"),
    "heat-3": ("#f4f5f6", "#23282d"),
    "heat-4": ("#d8e6f8", "#15304f"),
    "heat-5": ("#b3d0f3", "#12437a"),
    "heat-6": ("#8ab6ec", "#0f55a3"),
}
STEPS = tuple(light for light, _ in HEAT.values())
SHADES = STEPS[len(STEPS) // 2 :]  # of what has no middle

METHODS: dict[str, str] = {
    "direct": BLUE,
    "direct_channels_last": ORANGE,
    "unfold_matmul": GREEN,
    "strided_matmul": BROWN,
    "shifted_matmul": PURPLE,
    "im2col_numpy": SKY,
    "patch_matmul": PLUM,
    "fft": VERMILION,
    "winograd_f2": OLIVE,
    "winograd_f4": TEAL,
    "compensated": INDIGO,
    "control": GREY,
}
SCHEDULES: dict[str, str] = {  # markers; a bare method is computed layer after layer
    "": "o",
    "merged": "D",
    "merged_working": "*",
    "merged_per_call": "v",
    "border_exact": "s",
    "merged_summed": "X",
    "planned": "^",
    "planned_operations": ">",
}
OTHER = "P"  # a schedule without an entry
OF_SCHEDULES: dict[str, str] = {  # in figures of one method, whose colour would tell nothing
    "merged": VERMILION,
    "merged_working": PURPLE,
    "merged_per_call": GREEN,
    "border_exact": OLIVE,
    "merged_summed": TEAL,
    "planned": PLUM,
    "planned_operations": BROWN,
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "d", ">", "<")  # for what are no ways

FONT = 9.0  # points: 12 CSS pixels where a panel has its natural width
RC: dict[str, Any] = {
    "font.size": FONT,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": FONT,
    "axes.labelpad": 3.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "figure.dpi": 72.0,
    "figure.facecolor": "none",
    "savefig.dpi": 72.0,
    "savefig.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,  # names are shown as they are, dollar signs too
    "xaxis.labellocation": "right",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": FONT,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


def look(way: str) -> tuple[str, str]:
    """(colour, marker) of a way: its method's and its schedule's, the same in every figure. A method without a colour
    has one by its name.
    """
    schedule, _, method = way.rpartition("/")
    colour = METHODS.get(method) or PALETTE[zlib.crc32(method.encode()) % len(PALETTE)]
    return colour, SCHEDULES.get(schedule, OTHER)


def looks(ways: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of ways that share a figure. Where all are of one method, colours are the schedules', so that
    lines are told apart by more than their marks.
    """
    found = {way: look(way) for way in ways}
    if len({way.rpartition("/")[2] for way in found}) > 1:
        return found
    return {way: (_of_schedule(way.rpartition("/")[0], colour), marker) for way, (colour, marker) in found.items()}


def _of_schedule(schedule: str, own: str) -> str:
    colour = OF_SCHEDULES.get(schedule, own)
    return colour if not schedule or colour != own else BLUE
