"""Figures: everything is drawn, the same bytes twice, says its values, and is seen by all eyes, light and dark."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.data.records import Record, Records, load
from analysis.report import choosing, formatting, style, svg
from analysis.report.drawing import (
    LONGEST_NAME,
    Drawing,
    arrange,
    cell_ticks,
    facets,
    key,
    marks,
    row_height,
    rows_in_lines,
    rows_named,
    styled,
)
from analysis.report.drawing import _whole as whole_points
from analysis.report.section import Plot, plot
from analysis.report.sections import accuracy, break_even, depth, memory, noise, speed
from linear_lasagna.catalog import CATALOG, GROUPS
from tests import synthetic, test_same_report
from tests.reporting import Study, marks_of, study

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder: Path = synthetic.study(tmp_path_factory.mktemp("trials"))
    return study(load(folder), synthetic.precision())


@pytest.fixture(scope="module")
def page() -> list[Plot]:
    """All figures of a page of measured trials and rows."""
    return [plot for section in study(*test_same_report.study()).sections.values() for plot in section.plots]


DRAWINGS: dict[str, Callable[[Study], Drawing]] = {
    "speedups": lambda s: speed.figure(s.data.speedups[s.data.speedups["group"] == "networks"]),
    "accuracy": lambda s: accuracy.figure(s.data.costs),
    "memory": lambda s: memory.figure(s.data.costs[~s.data.costs["baseline"] & (s.data.costs["peak_ratio"] > 0)]),
    "noise": lambda s: noise.figure(s.frames["noise"], 0.01),
    "depth": lambda s: depth.error_figure(s.frames["depth"]),
    "merge_ratio": lambda s: depth.ratio_figure(s.frames["merge_ratios"]),
}
AXES = ("speedup", "memory", "controls", "depth (layers)")


def drawn(found: Study, name: str) -> Plot:
    return plot(name, "", "what it shows", "", DRAWINGS[name](found))


def panels(text: str) -> list[ElementTree.Element]:
    """The panels of a figure as a page has it."""
    return [each for each in ElementTree.fromstring(f"<div>{text}</div>").iter("svg") if each.get("role") == "img"]


def words(root: ElementTree.Element, prefix: str = "") -> list[str]:
    return [element.text or "" for element in root.iter(f"{prefix}text")]


@pytest.mark.parametrize("name", DRAWINGS)
def test_figure_gives_the_same_bytes_twice(found, name):
    first, second = (drawn(found, name) for _ in range(2))
    assert first.drawn == second.drawn
    assert first.inline == second.inline
    assert first.standalone == second.standalone


def test_pdf_gives_the_same_bytes_twice_and_has_no_date(found):
    first = svg.pdf(DRAWINGS["accuracy"](found))
    assert first == svg.pdf(DRAWINGS["accuracy"](found))
    assert first.startswith(b"%PDF")
    assert b"CreationDate" not in first


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_panel_can_be_read_alone(found, name):
    figure = drawn(found, name)
    shown = panels(figure.inline)
    assert len(shown) == len(figure.drawing.panels)  # type: ignore[union-attr]
    for panel in shown:
        said = " ".join(words(panel))
        assert any(label in said for label in AXES), said
        assert panel.get("aria-label")
    assert "what it shows" in str(shown[0].get("aria-label"))


def test_nothing_of_a_panel_lies_outside_of_it(found):
    for name in DRAWINGS:
        for panel in panels(drawn(found, name).inline):
            _, _, width, height = map(float, str(panel.get("viewBox")).split())
            for text in panel.iter("text"):
                assert 0 <= float(text.get("x", 0)) <= width
                assert 0 <= float(text.get("y", 0)) <= height


@pytest.mark.parametrize("name", sorted(CATALOG, key=len)[-40:])
def test_names_of_rows_have_room_beside_the_axes(name):
    @styled
    def draw() -> Drawing:
        drawing, (panel,) = facets([""])
        rows_named(panel, [name])
        return drawing

    drawing = draw()
    arrange(drawing)
    [panel], [(left, _, _, _)] = drawing.panels, drawing.boxes
    [label] = panel.get_yticklabels()
    assert len(label.get_text()) >= min(len(name), LONGEST_NAME) - 1
    points = label.get_window_extent().x0 * 72 / drawing.figure.dpi
    assert points >= left


def test_a_page_has_no_style_attributes_and_its_rules_define_what_it_uses(page):
    rules = svg.rules(each.of_page for each in page)
    for each in page:
        assert "style=" not in each.inline
        assert not re.search(r"#[0-9a-f]{6}", each.inline)
        for name in re.findall(r'class="([^"]+)"', each.inline):
            for part in name.split():
                assert f".{part}" in rules, part
    used = set(re.findall(r"var\((--[\w-]+)\)", rules))
    assert used
    for variable in used:
        assert rules.count(f"{variable}:") == 2, variable  # light and dark
    assert rules == svg.rules(each.of_page for each in page)


def test_no_colour_of_a_page_is_the_same_in_both_schemes_but_by_its_variable(page):
    """Every colour that a class declares follows the scheme."""
    declarations = [text for each in page for text in each.of_page.classes.values()]
    assert declarations
    for text in declarations:
        assert not re.search(r"(fill|stroke):#", text), text


def test_ids_are_the_figure_s_own(page):
    ids = [given for each in page for given in re.findall(r'\bid="([^"]+)"', each.inline)]
    assert len(ids) == len(set(ids))
    for each in page:
        assert all(given.startswith(f"{each.name}--") for given in re.findall(r'\bid="([^"]+)"', each.inline))
        used = set(re.findall(r"url\(#([^)]+)\)", each.inline))
        assert used <= set(re.findall(r'\bid="([^"]+)"', each.inline))


def test_what_leaves_the_axes_is_cut_there_and_nothing_else_is():
    @styled
    def draw() -> Drawing:
        drawing, panels = facets(["one", "two"])
        for panel in panels:
            panel.plot([0, 9], [0, 9], color=style.BLUE)
            panel.plot([0, 1], [1, 0], color=style.GREEN)
            panel.set(xlim=(0, 1), ylim=(0, 1))
        return drawing

    text = plot("name", "", "", "", draw()).inline
    assert re.findall(r'clip-path="url\(#([^"]+)\)"', text) == ["name--0-clip", "name--1-clip"]
    assert re.findall(r'<clipPath id="([^"]+)"', text) == ["name--0-clip", "name--1-clip"]


def test_every_mark_of_a_page_says_its_value(page):
    counted = 0
    for each in page:
        for mark in itertools.chain.from_iterable(map(marks_of, panels(each.inline))):
            title = mark.find("title")
            assert title is not None, each.name
            assert re.search(r"\d|all", str(title.text)), title.text
            counted += 1
    assert counted > 500


def test_a_mark_without_a_title_is_found():
    """What is drawn around the helper is a mark too."""

    @styled
    def draw() -> Drawing:
        drawing, (panel,) = facets(["one"])
        panel.plot([1, 2], [1, 2], "o", color=style.BLUE)
        return drawing

    [panel] = panels(plot("name", "", "", "", draw()).inline)
    found = marks_of(panel)
    assert len(found) == 2
    assert all(element.find("title") is None for element in found)


def test_texts_are_eleven_pixels_at_least_on_a_phone(page):
    for each in page:
        sizes = re.findall(r"font-size:([\d.]+)px", " ".join(each.of_page.classes.values()))
        assert min([style.FONT, *map(float, sizes)]) * 4 / 3 * 328 / 345 >= 11, each.name


def test_titles_legends_and_names_are_escaped():
    hostile = "<b>&\"'$x_1^2$"

    @styled
    def draw() -> Drawing:
        drawing, (panel,) = facets([hostile])
        marks(panel, [1.0, math.nan], [1.0, 2.0], [hostile, "none"], (style.BLUE, "o"))
        drawing.handles.append(key(hostile, style.BLUE, "o"))
        panel.set_xlabel(hostile)
        return drawing

    figure = plot("name", "", hostile, "", draw())
    [panel] = panels(figure.inline)
    assert words(panel).count(hostile) == 2
    assert [title.text for title in panel.iter("title")] == [hostile]
    assert hostile in str(panel.get("aria-label"))
    assert hostile in "".join(ElementTree.fromstring(f"<div>{figure.inline}</div>").itertext())
    whole = ElementTree.fromstring(figure.standalone.encode())
    assert words(whole, SVG).count(hostile) == 3
    assert hostile in [title.text for title in whole.iter(f"{SVG}title")]


def test_standalone_figure_is_a_whole_file_that_says_its_values(found):
    text = drawn(found, "speedups").standalone
    assert text.startswith("<?xml")
    assert "<a " not in text
    titles = [title.text for title in ElementTree.fromstring(text).iter(f"{SVG}title")]
    assert any("faster" in str(title) for title in titles)


def test_speedup_figure_shows_ways_and_problems_and_says_what_they_are(found):
    text = drawn(found, "speedups").inline
    shown = [word for panel in panels(text) for word in words(panel)]
    for word in ("resnet50/conv2_3x3", "vgg16/conv5", "float32", "bfloat16"):
        assert word in shown
    for way in ("unfold_matmul", "direct_channels_last"):
        assert f"</svg>{way}</li>" in text
    assert "control" not in text
    assert re.search(r"\w+, float32, unfold_matmul: [\d.]+× \[[\d., ]+\], (faster|slower|tie), \d+ processes", text)


def test_marks_that_overlap_are_parted_by_the_paper(page):
    """A filled mark has the paper's edge; a hollow one is the paper inside."""
    declared: dict[str, str] = {}
    for each in page:
        declared |= each.of_page.classes
    looks = {look for each in page for look in re.findall(r'class="point (\w+)"', each.inline)}
    assert looks
    paper = style.PAPER[0]
    for look in looks:
        rules = dict(part.split(":", 1) for part in declared[look].split(";"))
        if "--heat" not in rules["fill"]:  # else a cell of a map
            assert [rules["fill"], rules["stroke"]].count(f"var(--paper, {paper})") == 1, rules


def test_a_line_through_a_map_is_interrupted_where_numbers_stand():
    """Each number has its cell's colour behind it, above the line."""
    pairs = [problem.name for problem in GROUPS["breakeven"].problems]
    trials = [synthetic.trial(name, {"merged/direct": 0.5}) for name in pairs]
    frame = study(Records(tuple(Record(trial, "breakeven", "m") for trial in trials))).frames["pairs"]
    for panel in break_even.figure(frame).panels:
        [line] = [each for each in panel.lines if len(each.get_xdata()) > 2]
        cells = {patch.get_xy(): patch.get_facecolor() for patch in panel.patches}
        assert len(panel.texts) == len(cells)
        for text in panel.texts:
            behind = text.get_bbox_patch()
            x, y = text.get_position()
            assert behind is not None
            assert behind.get_facecolor() == cells[x - 0.5, y - 0.5]
            assert text.get_zorder() > line.get_zorder()


@given(st.lists(st.text("ab/_3", max_size=60), min_size=1, max_size=8), st.integers(3, 40))
def test_names_that_are_shortened_stay_distinct(names, most):
    short = formatting.distinctly(names, most)
    assert len(set(short)) == len(set(names))
    assert [name for name in names if len(name) <= most] == [
        s for s, n in zip(short, names, strict=True) if len(n) <= most
    ]


def test_names_are_shortened_no_less_than_they_must_be():
    names = [f"resnet50/conv{number}_reduce_first" for number in (2, 3)]
    assert formatting.distinctly(names, 24) == names
    assert formatting.distinctly([names[0], "other"], 24) == ["resnet50/co…educe_first", "other"]


def test_a_name_of_two_lines_stands_on_the_page_where_it_was_drawn():
    drawing, (panel,) = facets(["one"])
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.text(0, 0.5, "first line\nsecond", va="bottom")
    text = svg.inline(svg.raw(drawing, "lines"), "lines", "").text
    found = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)">(first line|second)</text>', text)
    (left, above, _), (same, below, _) = found
    assert left == same
    assert 0 < float(above) < float(below) < 150


@given(st.lists(st.text("ab c", min_size=1, max_size=60), min_size=1, max_size=5, unique=True))
def test_names_in_two_lines_lose_nothing_or_are_shortened(names):
    for name, shown in zip(names, formatting.in_two_lines(names, 20), strict=True):
        lines = shown.split("\n")
        assert len(lines) <= 2
        assert shown.split() == name.split() or "…" in shown or len(lines) == 1


def test_panels_say_their_place_after_what_the_figure_shows():
    drawing, _ = facets(["float16", "float32"])
    drawn = svg.raw(drawing, "panels")
    assert svg._spoken(0, drawn, "The largest is 3 %.") == "The largest is 3 %. Panel 1 of 2: float16."
    assert svg._spoken(1, drawn, "The largest is 3 %.") == "Panel 2 of 2: float32."


def test_no_two_rows_of_a_panel_have_one_label():
    names = [f"resnet50/conv{number}_reduce_first" for number in (2, 3)]
    for panel in facets(["one"])[1]:
        rows_named(panel, names)
        assert [label.get_text() for label in panel.get_yticklabels()] == names
        cell_ticks(panel, ["a"], names)
        assert [label.get_text() for label in panel.get_yticklabels()] == names
    titles = [f"Transforms lose small outputs beside large ones, {kind}" for kind in ("ratios", "exponents")]
    assert len({panel.get_title(loc="left") or panel.get_title() for panel in facets(titles)[1]}) == 2


@pytest.mark.parametrize("names", [[("a/b", "one"), ("a/c", "two")], [("a",), ("b", "c/", "d")]])
def test_lines_of_a_name_stand_around_its_row_and_apart(names):
    drawing, [panel] = facets(["one"], row_height(names) * len(names))
    rows_in_lines(panel, names)
    labels = [(text.get_text(), text.get_position()[1]) for text in panel.get_yticklabels()]
    assert [text for text, _ in labels] == [line for name in names for line in name]
    places = [at for _, at in labels]
    for row, name in enumerate(names):
        mine, places = places[: len(name)], places[len(name) :]
        assert sum(mine) / len(mine) == pytest.approx(row)
    svg.raw(drawing, "lines")
    points = sorted(panel.transData.transform((1, at))[1] for _, at in labels)
    assert min(b - a for a, b in itertools.pairwise(points)) > style.FONT


def test_all_panels_of_speedups_have_the_same_rows_and_say_what_was_not_timed():
    rows = [("a", "float16"), ("b", "float16"), ("a", "float32"), ("c", "float32")]
    frame = pandas.DataFrame(rows, columns=["problem", "dtype"]).assign(way="fft", control=False, verdict="faster")
    frame = frame.assign(speedup=2.0, speedup_lower=1.9, speedup_upper=2.1, within=0.01, processes=6, blocks=6)
    panels = speed.figure(frame).panels
    assert [[label.get_text() for label in panel.get_yticklabels()] for panel in panels] == [["a", "b", "c"]] * 2
    untimed = [{t.get_position()[1] for t in panel.texts if t.get_text() == "not timed"} for panel in panels]
    assert untimed == [{2}, {1}]


def test_long_names_leave_room_for_the_panel(found):
    rows = found.data.speedups[found.data.speedups["group"] == "networks"]
    long = speed.figure(rows.assign(problem=rows["problem"] + "x" * 200))
    svg.raw(long, "long")
    assert all(panel.get_position().width * long.figure.get_size_inches()[0] * 72 > 90 for panel in long.panels)
    labels = [label.get_text() for label in long.panels[0].get_yticklabels()]
    assert LONGEST_NAME - 1 <= max(map(len, labels)) <= LONGEST_NAME


def test_drawing_changes_nobody_s_settings(found):
    before = dict(matplotlib.rcParams)
    drawn(found, "noise")
    assert dict(matplotlib.rcParams) == before


def rows_of(**fastest: int) -> pandas.DataFrame:
    """Ways that take the least time on so many problems, each on problems of its own."""
    problems = itertools.count()
    rows = [(way, f"p{next(problems)}", "float32", 1.0) for way, count in fastest.items() for _ in range(count)]
    rows += [(way, row[1], "float32", 99.0 - place) for place, way in enumerate(fastest) for row in list(rows)]
    return pandas.DataFrame(rows, columns=["way", "problem", "dtype", "seconds"])


MANY = {
    "unfold_matmul": 1, "direct_channels_last": 7, "strided_matmul": 2, "im2col_numpy": 5, "merged/direct": 4,
    "merged/unfold_matmul": 6, "merged_per_call/direct": 6, "merged_summed/direct": 10, "planned/direct": 3,
    "planned_operations/direct": 9, "border_exact/direct": 0,
}  # fmt: skip


def test_five_ways_are_chosen_of_each_family_of_schedules_one_first():
    rows = rows_of(**MANY)
    families = ["merged/direct", "border_exact/direct", "planned/direct"]
    assert set(choosing.chosen(rows)) == {*families, "planned_operations/direct", "direct_channels_last"}
    assert set(choosing.shown(rows)["way"]) == set(choosing.chosen(rows))
    assert "The table has 6 other ways" in choosing.others(rows)


def test_two_dtypes_stand_for_all_and_the_others_are_named():
    frame = pandas.DataFrame({"dtype": ["float16", "bfloat16", "float32", "float64"]})
    assert set(choosing.main(frame)["dtype"]) == {"bfloat16", "float32"}
    assert choosing.other_dtypes(frame) == " float16 and float64 are in the CSV."
    assert choosing.other_dtypes(frame[1:3]) == ""


def test_wins_may_be_counted_otherwise():
    wins = {"fft": 3.0, "im2col_numpy": 2.0, "unfold_matmul": 1.0, "strided_matmul": 1.0, "planned/direct": 1.0}
    assert set(choosing.chosen(rows_of(**MANY, fft=0), wins)) == set(wins)


def test_few_ways_are_all_shown_and_nothing_is_said_of_others():
    rows = rows_of(unfold_matmul=1, fft=0, direct_channels_last=2)
    assert len(choosing.chosen(rows)) == 3
    assert choosing.others(rows) == ""


def test_the_baseline_is_among_the_ways_where_a_frame_has_it():
    rows = rows_of(**MANY, direct=0)
    assert "direct" in choosing.chosen(rows)
    assert len(choosing.chosen(rows)) == choosing.MOST


def test_no_figure_of_a_page_has_more_than_five_ways(page):
    for each in page:
        labels = re.findall(r"</svg>([^<]+)</li>", each.inline)
        ways = [label for label in labels if label.rpartition("/")[2] in style.METHODS]
        assert len(ways) <= choosing.MOST, each.name


def test_in_a_figure_of_one_method_colours_are_the_schedules():
    ways = [f"{schedule}/direct" if schedule else "direct" for schedule in style.SCHEDULES]
    found = style.looks(ways)
    assert len({colour for colour, _ in found.values()}) == len(ways)
    assert found["direct"] == style.look("direct")
    assert {way: marker for way, (_, marker) in found.items()} == {way: style.look(way)[1] for way in ways}
    assert style.looks(ways[1:2]) == {ways[1]: found[ways[1]]}, "whichever others there are"
    for method in style.METHODS:
        (own, _), (merged, _) = style.looks([method, f"merged/{method}"]).values()
        assert own != merged
    several = [*ways, "fft"]
    assert style.looks(several) == {way: style.look(way) for way in several}


def test_ways_of_a_method_share_its_colour_and_schedules_differ_in_shape():
    assert style.look("merged/fft")[0] == style.look("fft")[0] == style.look("planned/fft")[0]
    shapes = [style.look(f"{schedule}/direct" if schedule else "direct")[1] for schedule in style.SCHEDULES]
    assert len(set(shapes)) == len(shapes)
    assert style.OTHER not in shapes


def test_unknown_way_looks_the_same_in_every_process():
    assert style.look("merged/own") == style.look("merged/own")
    assert style.look("merged/own")[0] in style.PALETTE


# Machado, Oliveira and Fernandes 2009, severity 1, of linear RGB
VISION = {
    "normal": numpy.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = numpy.array([0.95047, 1.0, 1.08883])  # D65
SCHEMES = ("light", "dark")


def linear(colour: str) -> numpy.ndarray:
    channels = numpy.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return numpy.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: numpy.ndarray) -> numpy.ndarray:
    """CIELAB of linear RGB."""
    ratio = numpy.array(TO_XYZ) @ rgb / WHITE
    x, y, z = numpy.where(ratio > (6 / 29) ** 3, numpy.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return numpy.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, vision: str) -> float:
    """CIE76."""
    seen = [lab(numpy.clip(numpy.array(VISION[vision]) @ linear(colour), 0, 1)) for colour in (one, other)]
    return float(numpy.linalg.norm(seen[0] - seen[1]))


def contrast(one: str, other: str) -> float:
    """WCAG 2.1."""
    low, high = sorted(float(numpy.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_differences_of_colours_are_those_of_other_sources():
    """Of white and black 100; of red and green, 170.6 by the formula on published coordinates of sRGB's primaries."""
    assert difference("#ffffff", "#000000", "normal") == pytest.approx(100, abs=0.1)
    assert difference("#ff0000", "#00ff00", "normal") == pytest.approx(170.6, abs=0.2)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert difference("#ff0000", "#ff0000", "protan") == 0


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_any_two_colours_can_be_told_apart(scheme, vision):
    place = SCHEMES.index(scheme)
    for one, other in itertools.combinations(style.COLOURS, 2):
        colours = style.COLOURS[one][place], style.COLOURS[other][place]
        assert difference(*colours, vision) >= 15, (one, other)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", style.COLOURS)
def test_every_colour_has_contrast_with_the_paper(scheme, name):
    place = SCHEMES.index(scheme)
    assert contrast(style.COLOURS[name][place], style.PAPER[place]) >= 3


@pytest.mark.parametrize("name", style.HEAT)
def test_ink_is_read_on_every_cell(name):
    light, dark = style.HEAT[name]
    assert contrast(light, style.INK) >= 4.5
    assert contrast(dark, "#e4e8ec") >= 4.5


def test_every_method_has_a_colour_of_its_own():
    assert len(set(style.METHODS.values())) == len(style.METHODS)
    assert set(choosing.ways_in_order(style.METHODS)) >= {"direct", "unfold_matmul"}


def test_neighbouring_marks_of_one_look_are_a_group():
    @styled
    def draw() -> Drawing:
        drawing, (panel,) = facets(["one"])
        marks(panel, [1, 2, 3], [1, 2, 3], ["first", "second", "third"], (style.BLUE, "o"))
        marks(panel, [4], [4], ["alone"], (style.VERMILION, "D"))
        return drawing

    [panel] = panels(plot("name", "", "", "", draw()).inline)
    assert [mark.findtext("title") for mark in marks_of(panel)] == ["first", "second", "third", "alone"]
    [group] = panel.iter("g")
    assert [mark.get("class") for mark in group] == [None] * 3


def drawn_along(d: str) -> list[tuple[float, float]]:
    """The points of a path that goes straight, as SVG 1.1 reads it, section 8.3."""
    x = y = 0.0
    start, found = (0.0, 0.0), []
    for command in re.findall(r"[a-zA-Z][^a-zA-Z]*", d):
        letter, numbers = command[0], [float(text) for text in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", command[1:])]
        from_x, from_y = (x, y) if letter.islower() else (0.0, 0.0)
        match letter.upper():
            case "M" | "L":
                x, y = from_x + numbers[0], from_y + numbers[1]
            case "H":
                x = from_x + numbers[0]
            case "V":
                y = from_y + numbers[0]
            case "Z":
                x, y = start
        start = (x, y) if letter.upper() == "M" else start
        found.append((x, y))
    return found


places = st.floats(-3000, 3000)
straight = st.lists(st.tuples(st.sampled_from("MLLLz"), places, places), min_size=1, max_size=30)


@given(straight, st.booleans())
def test_a_short_path_goes_through_the_same_points(path, even):
    """even: many points share a coordinate."""
    path = [(letter, 10 * round(x / 1000) if even else x, round(y)) for letter, x, y in path]
    points = [("M", [1.0, 2.0])] + [(letter, [] if letter == "z" else [x, y]) for letter, x, y in path]
    wanted, start = [], (0.0, 0.0)
    for letter, values in points:
        at = tuple(values) or start
        start = at if letter == "M" else start
        wanted.append(at)
    assert drawn_along(svg._written(points)) == [pytest.approx(at, abs=0.0501) for at in wanted]


def test_a_short_path_says_what_goes_straight_with_one_number():
    points = [("M", [1.0, 2.0]), ("L", [1.0, 5.0]), ("L", [4.0, 5.0]), ("L", [3.0, 4.0]), ("z", []), ("M", [3.0, 9.0])]
    points += [("L", [3.04, 9.0]), ("L", [107.0, 9.0]), ("L", [107.3, 8.6])]
    assert svg._written(points) == "M1 2V5H4L3 4zM3 9H3H107l.3-.4"


def test_texts_and_heights_of_any_size_leave_axes_on_whole_points():
    drawing, panels = facets(["one", "another"], [40.3, 50.7])
    drawing.handles.append(key("a line", line="-"))
    drawing.figure.set_dpi(72)
    arrange(drawing)
    assert whole_points(40.0 + 1e-12) == whole_points(39.5) == 40.0
    whole = drawing.figure.get_size_inches()[1] * 72
    for panel, (_, top, _, height) in zip(panels, drawing.boxes, strict=True):
        extent = panel.get_window_extent()
        for side in (extent.y0, extent.height, whole, top, height):
            assert side == pytest.approx(round(side), abs=1e-9)


@pytest.mark.parametrize("name", DRAWINGS)
def test_sides_of_axes_lie_on_whole_points(found, name):
    """Where a coordinate lay between two digits that are written, its last bit decided, which processors differ in."""
    drawing = DRAWINGS[name](found)
    arrange(drawing)
    for panel, (left, *_) in zip(drawing.panels, drawing.boxes, strict=True):
        extent = panel.get_window_extent()
        for side in (extent.x0 - left, extent.width, extent.y0, extent.height):
            assert side == pytest.approx(round(side), abs=1e-9)
