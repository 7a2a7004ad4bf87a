"""Names become ids and files, and two of them never the same one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.data.records import Record, Records, load
from analysis.report import page as report
from analysis.report import svg
from analysis.report.formatting import shortened
from analysis.report.page import OF_THE_PAGE, Shown, distinct
from analysis.report.section import Plot
from analysis.report.tables import Table, slug
from tests import synthetic


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Records:
    folder = tmp_path_factory.mktemp("few")
    synthetic.write(folder, synthetic.trial("resnet50/conv2_3x3", {"unfold_matmul": 2.0}))
    return load(folder)


def rendered(records: Records, rows: object, out: Path) -> str:
    return report.render(records, rows, out, report.Context(version="0.0")).page.read_text(encoding="utf-8")


def page_ids(text: str) -> list[str]:
    return re.findall(r'\bid="([^"]+)"', text)


LONG = "x" * 300


def section(anchor: str, name: str) -> Shown:
    plots = (Plot(f"fig-{name}", "", "", "d", svg.Drawn("")), Plot(name, "", "", "d", svg.Drawn("")))
    return Shown(anchor, "", "", plots, (Table(name, "", (), (), "d"),))


@pytest.mark.parametrize(
    "names",
    [("a b", "A-B", "a-b-2"), (LONG + "1", LONG + "2"), ("机", "器"), ("é", "e\u0301"), ("", "-"), ("data", "answer")],
    ids=["lossy", "long", "no ASCII", "composed", "empty", "of the page"],
)
def test_slugs_that_collide_are_numbered(names):
    slugs = [slug(name) or "none" for name in names]
    found = list(distinct([section(name, name) for name in [*slugs, *slugs]]))
    plots = [plot.name for each in found for plot in each.plots]
    tables = [table.anchor for each in found for table in each.tables]
    ids = [*OF_THE_PAGE, *(each.anchor for each in found), *plots, *tables]
    assert len(ids) == len(set(ids))
    assert max(map(len, ids)) < 220


@pytest.mark.parametrize(
    "names", [("a b", "A-B"), (LONG + "1", LONG + "2"), ("机", "器")], ids=["lossy", "long", "no ASCII"]
)
def test_two_names_never_share_an_id_or_a_file(few, tmp_path, names):
    """Machines and groups whose names make one slug: every figure and table keeps its own id and file."""
    [record] = few
    made = [Record(record.trial, group, machine) for group, machine in zip(names, names, strict=True)]
    text = rendered(Records(tuple(made)), None, tmp_path)
    ids = set(page_ids(text))
    assert len(ids) == len(page_ids(text))
    plots = [name for name in ids if name.startswith("fig-") and "--" not in name]
    assert sorted(plots) == sorted(path.stem for path in (tmp_path / "figures").iterdir())
    tables = sorted(path.stem for path in (tmp_path / "data").glob("*.tex"))
    shown = {name.removeprefix("table-") for name in ids if name.startswith("table-")} - {"results"}
    alone = set(re.findall(r'href="data/([^"]+)\.tex"', text)) - shown
    assert tables == sorted(shown | alone)
    assert len(alone) == 2
    assert sum(name.startswith("fig-speedups-") for name in plots) == 2
    linked = re.findall(r'href="((?:data|figures)/[^"]+)"', text)
    assert all((tmp_path / name).exists() for name in linked)
    assert set(re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text)) <= ids


def test_a_group_named_as_a_section_takes_nothing_from_it(few, tmp_path):
    """Anchors of the page's own parts stay theirs, and headlines lead to them."""
    taken = ("answer", "data", "noise", "wins", "table-wins")
    made = tuple(Record(r.trial, group, "m") for r in few for group in taken)
    text = rendered(Records(made), None, tmp_path)
    ids = page_ids(text)
    assert len(ids) == len(set(ids))
    assert {"answer", "data", "noise", "wins", "group-noise", "group-wins"} <= set(ids)


def test_a_slug_is_plain_and_short():
    assert (
        slug("fig-wins", "AMD EPYC (2 cores, AVX2) #1f0c2a77", "cpu") == "fig-wins-amd-epyc-2-cores-avx2-1f0c2a77-cpu"
    )
    assert slug("wins", "../../etc/passwd", "cuda:0") == "wins-etc-passwd-cuda-0"
    assert slug("wins", "机", "cpu") == "wins-cpu"
    assert len(slug("wins", *["x" * 300] * 9)) == 200


def test_long_names_in_figures_keep_their_ends():
    assert shortened("a" * 40) == "a" * 40
    assert shortened(LONG + "1") != shortened(LONG + "2")
    assert len(shortened(LONG)) <= 40
