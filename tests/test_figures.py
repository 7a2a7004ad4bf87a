"""Figures: everything is drawn, the same bytes twice, in ink that follows the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest

from analysis.data.records import load
from analysis.report import style, svg
from analysis.report.sections import accuracy, depth, memory, noise, speed, wins
from linear_lasagna.vocabulary import METHODS, TRANSFORMS
from tests import synthetic
from tests.reporting import Study, study

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder: Path = synthetic.study(tmp_path_factory.mktemp("trials"))
    return study(load(folder), synthetic.precision())


DRAWINGS: dict[str, Callable[[Study], object]] = {
    "speedups": lambda s: speed.figure(s.data.speedups[s.data.speedups["group"] == "networks"]),
    "wins": lambda s: wins.figure(s.frames["wins"]),
    "accuracy": lambda s: accuracy.figure(s.data.costs),
    "memory": lambda s: memory.figure(s.data.costs[~s.data.costs["baseline"] & (s.data.costs["peak_ratio"] > 0)]),
    "noise": lambda s: noise.figure(s.frames["noise"], 0.01),
    "depth": lambda s: depth.error_figure(s.frames["depth"]),
    "merge_ratio": lambda s: depth.ratio_figure(s.frames["merge_ratios"]),
}


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", DRAWINGS)
def test_figure_is_drawn_with_named_axes_and_the_same_bytes_twice(found, name):
    first, second = (svg.raw(DRAWINGS[name](found), name) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    words = " ".join(texts(first))
    assert any(label in words for label in ("baseline", "problems (%)", "depth (layers)"))


def test_inline_figure_takes_the_page_s_ink_and_has_ids_of_its_own(found):
    drawing = svg.raw(DRAWINGS["wins"](found), "name")  # type: ignore[arg-type]
    inline = svg.inline(drawing, "name", "more <than> one & all")
    ElementTree.fromstring(inline)
    assert style.INK not in inline
    assert style.FAINT not in inline
    assert "currentColor" in inline
    assert "more &lt;than&gt; one &amp; all" in inline
    ids = re.findall(r'\bid="([^"]+)"', inline)
    assert len(ids) == len(set(ids))
    assert all(each.startswith("name-") for each in ids)
    used = re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', inline)
    assert used
    assert {a or b for a, b in used} <= set(ids)


def test_standalone_figure_is_a_whole_file(found):
    text = svg.standalone(svg.raw(DRAWINGS["noise"](found), "noise"))  # type: ignore[arg-type]
    assert text.startswith("<?xml")
    assert style.INK not in text
    ElementTree.fromstring(text)


def test_speedup_figure_shows_every_way_and_problem(found):
    words = texts(svg.raw(DRAWINGS["speedups"](found), "speedups"))  # type: ignore[arg-type]
    for word in ("unfold_matmul", "direct_channels_last", "resnet50/conv2_3x3", "vgg16/conv5", "float32", "bfloat16"):
        assert word in words
    assert "control" not in words


def test_drawing_changes_nobody_s_settings(found):
    before = dict(matplotlib.rcParams)
    DRAWINGS["noise"](found)
    assert dict(matplotlib.rcParams) == before


MERGED = [way for way in style.WAYS if way not in (*METHODS, "control") and not way.startswith("merge_")]


@pytest.mark.parametrize(
    "ways",
    [[*METHODS, "merged/direct"], [*(way for way in METHODS if way not in TRANSFORMS), *MERGED]],
    ids=["methods", "merged, beside no transforms"],
)
def test_no_two_ways_of_one_figure_share_a_colour_or_a_marker(ways):
    for part in range(2):
        assert len({style.WAYS[way][part] for way in ways}) == len(ways)


def test_unknown_way_looks_the_same_in_every_process():
    assert style.look("merged/winograd") == style.look("merged/winograd")
    assert style.look("merged/winograd")[0] in style.PALETTE


@pytest.mark.parametrize("colour", sorted({colour for colour, _ in style.WAYS.values()}))
def test_colours_are_seen_on_light_and_dark_paper(colour):
    assert min(contrast(colour, "#ffffff"), contrast(colour, "#14171a")) > 2


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
