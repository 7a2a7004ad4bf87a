"""Finding 5: when the order of a layer's sum matters."""

from __future__ import annotations

from analysis.findings.claim import ANY, Claim, Finding
from analysis.findings.statistics import Ratio

NOISE, PLAIN, IMAGES, PHOTOGRAPHS = (
    ("normal", "normal"),
    ("pink", "normal"),
    ("pink", "zero_mean"),
    ("photograph", "zero_mean"),
)
ABOUT = {
    NOISE: "noise",
    PLAIN: "1/f images, any kernels",
    IMAGES: "1/f images, kernels of mean zero",
    PHOTOGRAPHS: "photographs, kernels of mean zero",
}
NAMES = {
    "channels_first": "channels first",
    "taps_first": "taps first",
    "sum_per_channel": "a sum per channel",
    "direct_channels_last": "NHWC",
    "direct": "NCHW",
}


def _claim(over: str, under: str, data: tuple[str, str], low: float, high: float) -> Claim:
    cells = {"inputs": data[0], "weights": data[1]}
    ratio = Ratio((over, "error_u"), (under, "error_u"), cells)
    return Claim(f"{NAMES[over]} / {NAMES[under]}, {ABOUT[data]}", ratio, low, high, ("float32",))


SUMMATION = Finding(
    "A sum’s order matters only on images",
    "Where a float32 layer adds its products in turn, all channels of a tap before the next tap loses as much on noise "
    "as all taps of a channel before the next channel, within 10 %, and on images within 25 %; but over 1.5 times as "
    "much where kernels see no constant, so that images cancel within each channel. A running sum per channel loses "
    "less than one in all, under 0.6 of it on noise and 0.5 to 0.9 on such images. The library’s memory formats differ "
    "likewise: channels last loses over 1.2 times as much on such images, and on noise the same, within 25 %.",
    "summation",
    (
        _claim("channels_first", "taps_first", NOISE, 0.9, 1.1),
        _claim("channels_first", "taps_first", PLAIN, 0.75, 1.25),
        _claim("channels_first", "taps_first", IMAGES, 1.5, ANY),
        _claim("channels_first", "taps_first", PHOTOGRAPHS, 1.5, ANY),
        _claim("sum_per_channel", "taps_first", NOISE, 0.0, 0.6),
        _claim("sum_per_channel", "taps_first", IMAGES, 0.5, 0.9),
        _claim("direct_channels_last", "direct", NOISE, 0.75, 1.25),
        _claim("direct_channels_last", "direct", IMAGES, 1.2, ANY),
    ),
    (0, 2, 3, 7),
)
