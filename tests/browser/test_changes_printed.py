"""Figures of several panels, printed: those of the page of what changed, and any at all places of a page."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from pypdf import PdfReader

from analysis.data.comparison import compared
from analysis.data.records import Record, Records
from analysis.report import comparing, markup, svg
from linear_lasagna.catalog import GROUPS
from tests import synthetic

pytestmark = pytest.mark.browser
DTYPES = ("float16", "bfloat16", "float32", "float64")
NAMES = [problem.name for problem in GROUPS["networks"].problems][:15]


def measured(ratio: float) -> Records:
    """A way for each dtype, by whose name its panel is known."""
    trials = [synthetic.trial(name, {f"own_{dtype}": ratio}, dtype) for dtype in DTYPES for name in NAMES]
    return Records(tuple(Record(trial, "networks", "m") for trial in trials))


def printed(visit, path: Path) -> list[str]:
    """The texts of a page's sheets."""
    with visit(path.as_uri()) as opened:
        opened.page.pdf(path=str(path.with_suffix(".pdf")), prefer_css_page_size=True)
    found = [page.extract_text() for page in PdfReader(path.with_suffix(".pdf")).pages]
    return [" ".join(unicodedata.normalize("NFKC", text).split()) for text in found]


@pytest.fixture(scope="module")
def pages(visit, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The texts of its pages up to the first table."""
    folder: Path = tmp_path_factory.mktemp("changes")
    before, after = measured(2.0), measured(1.0)
    sides = (comparing.side("before", before), comparing.side("after", after))
    path = comparing.write(folder / "page.html", compared(before, after), *sides, 0.02)
    texts = printed(visit, path)
    last = next(place for place, text in enumerate(texts) if "Table 1." in text)
    return [*texts[:last], texts[last].partition("Table 1.")[0]]


def test_a_figure_begins_on_the_page_where_there_is_room_for_its_first_panels(pages):
    assert "Against its own side" in pages[0]
    assert f"own_{DTYPES[0]}" in pages[0]
    assert f"own_{DTYPES[-1]}" not in pages[0]  # it is too high for one page


def test_panels_are_whole_and_the_caption_is_with_the_last_of_them(pages):
    for dtype in DTYPES:
        assert sorted(text.count(f" own_{dtype} ") for text in pages) == [*[0] * (len(pages) - 1), len(NAMES)]
    [captioned] = [text for text in pages if "Speedup after / speedup before" in text]
    assert f"own_{DTYPES[-1]}" in captioned


def test_a_legend_is_with_the_first_panels_and_a_caption_with_the_last_wherever_a_figure_begins(visit, tmp_path):
    """After 0 to 260 mm of other things on a sheet."""
    style = (markup.TEMPLATES / "style.css").read_text(encoding="utf-8") + svg.rules([])
    panel = '<svg class="figure" viewBox="0 0 259 120"><text x="9" y="60">{}</text></svg>'
    text = f'<!DOCTYPE html><meta charset="utf-8"><style>{style}</style><main class="page">'
    for height in range(0, 261, 10):
        panels = "".join(panel.format(f"panel{place}at{height}") for place in range(4))
        keys = "".join(f"<li>key{place}at{height} {'long ' * 30}</li>" for place in range(3))
        text += f'<div style="break-before: page; height: {height}mm"></div><figure class="plot">'
        text += f'<ul class="legend">{keys}</ul><div class="panels pairs">{panels}</div>'
        text += f"<figcaption>caption at{height} {'long ' * 60} end{height}</figcaption></figure>"
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    sheets = [set(text.split()) for text in printed(visit, tmp_path / "page.html")]
    on = {word: place for place, words in enumerate(sheets) for word in words}
    broken = {at: on[f"panel0at{at}"] < on[f"panel3at{at}"] for at in range(0, 261, 10)}
    assert set(broken.values()) == {True, False}
    for at in broken:
        assert len({on[f"{name}at{at}"] for name in ("key0", "key1", "key2", "panel0", "panel1")}) == 1
        assert len({on[name] for name in (f"panel2at{at}", f"panel3at{at}", f"at{at}", f"end{at}")}) == 1
