"""How everything looks that is drawn: one colour and marker per way in the whole suite, ink that follows the page."""

from __future__ import annotations

import zlib
from typing import Any

INK = "#010203"  # stands for the page's text colour; svg.inline makes it currentColor
FAINT = "#010204"  # the same, faint: grids and guides

# seaborn's "colorblind" palette; its yellow and light pink are darkened to be seen on white.
BLUE, ORANGE, GREEN, VERMILION, MAUVE, TAN, PINK, GREY, OLIVE, SKY = PALETTE = (
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#d6499f",
    "#949494",
    "#9c9412",
    "#56b4e9",
)
BROWN, PURPLE, TEAL, CRIMSON, INDIGO, LEAF = (
    "#8c510a",
    "#6a51a3",
    "#0f8a8a",
    "#b2325a",
    "#4454e0",
    "#5a9e1f",
)  # beyond the palette, for ways that meet its other colours in one figure
MARKERS = ("o", "s", "D", "v", "^", "P", "X", "p", "h", "d", "<", ">")

WAYS: dict[str, tuple[str, str]] = {
    "direct": (BLUE, "o"),
    "direct_channels_last": (SKY, "s"),
    "unfold_matmul": (ORANGE, "D"),
    "strided_matmul": (TAN, "v"),
    "shifted_matmul": (GREEN, "^"),
    "im2col_numpy": (GREY, "P"),
    "patch_matmul": (MAUVE, "X"),
    "fft": (CRIMSON, "8"),
    "winograd_f2": (LEAF, "d"),
    "winograd_f4": (PURPLE, "<"),
    "compensated": (BROWN, "*"),
    "merged/direct": (VERMILION, "h"),
    "merged/direct_channels_last": (BROWN, ">"),
    "merged/unfold_matmul": (OLIVE, "d"),
    "merged_working/direct": (PINK, "p"),
    "merged_per_call/direct": (PURPLE, "<"),
    "border_exact/direct": (TEAL, "*"),
    "merged_summed/direct": (CRIMSON, "8"),
    "planned/direct": (INDIGO, "H"),
    "planned_operations/direct": (LEAF, "."),
    "control": (GREY, "o"),
    "merge_float64": (VERMILION, "h"),
    "merge_working": (PINK, "p"),
}

RC: dict[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
}


def look(way: str) -> tuple[str, str]:
    """(colour, marker) of a way, the same in every figure; for a way without an entry, chosen by its name."""
    if way in WAYS:
        return WAYS[way]
    number = zlib.crc32(way.encode())
    return PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
