"""The report: self-contained, the same bytes again, honest about what is missing."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis import dictionary, formatting, report
from analysis.findings import find
from analysis.headlines import headlines
from analysis.records import Record, Records, load
from tests import synthetic

CONTEXT = report.Context(
    version="0.0",
    commit="c0ffee" * 6,
    date="2020-01-02",
    selection="tiny",
    expected=[("networks", "resnet50/conv2_3x3", "float32", "cpu")],
    commands=("make study",),
    citation="Somebody (2020).",
    bibtex="@software{somebody}",
)
VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


class Page(HTMLParser):
    """Collects ids, links and sources, and raises where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        self.loaded += [values[name] for name in ("src", "srcset", "data") if name in values]
        self.loaded += [values["href"]] if tag == "link" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return load(synthetic.study(tmp_path_factory.mktemp("trials")))


@pytest.fixture(scope="module")
def out(trials: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.render(trials, synthetic.precision(), tmp_path_factory.mktemp("report"), CONTEXT).parent


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_data_give_the_same_bytes(trials, out, tmp_path):
    backwards = Records(tuple(reversed(trials.found)))
    shuffled = synthetic.precision().sample(frac=1, random_state=1)
    report.render(backwards, shuffled, tmp_path, CONTEXT)
    assert digests(tmp_path) == digests(out)


def test_page_loads_nothing(out, page):
    assert page.loaded == ["data:,"]
    assert not page.tags & {"script", "img", "iframe", "object"}
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_every_link_leads_somewhere(out, page):
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (out / link).is_file()


def test_every_column_of_every_csv_is_explained(out):
    paths = sorted((out / "data").glob("*.csv"))
    assert {path.stem for path in paths} <= dictionary.FILES.keys()
    assert len(paths) >= 15
    for path in paths:
        assert set(next(csv.reader(io.StringIO(path.read_text())))) <= dictionary.COLUMNS.keys()


def test_tables_are_written_for_latex(out):
    [path] = (out / "data").glob("wins-synthetic-*-cpu.tex")
    text = path.read_text()
    assert text.startswith("\\begin{tabular}")
    assert "\\toprule" in text
    assert "direct\\_channels\\_last" in text


def test_reasons_are_escaped_and_shown(out, page):
    assert "wrong on integers &lt;&amp;&gt;" in (out / "report.html").read_text(encoding="utf-8")
    assert "wrong on integers <&>" in page.text
    assert "patches need kernel size = stride" in page.text


def test_answer_comes_before_everything_else(page):
    text = page.text
    assert text.index("The answer") < text.index("How to read this") < text.index("Figure 1.")


def test_headlines_say_what_the_data_say(trials):
    said = {line.title.partition(",")[0]: line.text for line in headlines(find(trials, synthetic.precision()))}
    assert "In float32 the fastest way of all is `direct_channels_last` on 2 of 2 layers." in said["Layers of networks"]
    assert "faster on 1 of 1 stack and slower on 0: stacks/sesr_x1 runs 4.00× [3.96, 4.04] faster." in said["Merging"]
    assert "0.50 [0.46, 0.53] in float32" in said["Error by depth"] or "0.50 [0.47" in said["Error by depth"]
    assert "depths 1 to 16, 8 seeds" in said["Error by depth"]
    assert f"{8**-0.25:.3f}"[:4] in said["Error of merging"]
    assert "none got a false verdict" in said["Noise floor"]


def test_headlines_follow_the_data():
    faster, slower = (
        Records(tuple(Record(synthetic.trial(n, {"merged/direct": r}), "stacks", "m") for n, r in pairs))
        for pairs in ((("stacks/plain_x2", 0.5),), (("stacks/plain_x2", 2.0), ("stacks/plain_x4", 3.0)))
    )
    assert "faster on 1 of 1 stack" in headlines(find(faster, None))[0].text
    assert "plain_x4 runs 3.00× [2.97, 3.03] slower" in headlines(find(slower, None))[0].text


@pytest.fixture(scope="module")
def few(trials: Records) -> Records:
    """One trial, for what needs no more."""
    return Records(trials.found[-1:])


def rendered(trials: Records, precision: object, folder: Path, **changes: object) -> str:
    import dataclasses

    context = dataclasses.replace(CONTEXT, **changes)
    return Page(report.render(trials, precision, folder, context).read_text(encoding="utf-8")).text


def test_nothing_at_all_renders_and_says_so(tmp_path):
    text = rendered(Records(), None, tmp_path)
    assert "There are no trial records yet." in text
    assert "no rows of the precision experiment yet" in text
    assert "Run make study" in text


def test_trials_alone_render(few, tmp_path):
    text = rendered(few, None, tmp_path)
    assert "The precision experiment has not been run." in text
    assert "Table 1." in text


def test_precision_alone_renders(tmp_path):
    text = rendered(Records(), synthetic.precision(), tmp_path)
    assert "There are no trial records yet." in text
    assert "Error by depth." in text
    assert "No trial of the group networks was timed." in text


def test_missing_trials_are_listed(few, tmp_path):
    absent = ("stacks", "stacks/plain_x12", "float64", "cpu")
    text = rendered(few, None, tmp_path, expected=[absent, ("networks", "vgg16/conv5", "float32", "cpu")])
    assert "1 of the 2 trials of the selection “tiny” left no record." in text
    assert "stacks/plain_x12" in text


def test_one_way_without_control_renders(tmp_path):
    trial = synthetic.trial("resnet50/conv1", {})
    del trial.cells["control"]
    assert "No control was timed." in rendered(Records((Record(trial, "networks", "m"),)), None, tmp_path)


def test_failed_and_skipped_trials_alone_render(tmp_path):
    trial = synthetic.trial("resnet50/conv1", {})
    for cell in trial.cells.values():
        cell.fail("the child process was killed")
    text = rendered(Records((Record(trial, "networks", "m"),)), None, tmp_path)
    assert "the child process was killed" in text


def test_several_machines_and_groups_are_kept_apart(few, tmp_path):
    other = tuple(Record(record.trial, "custom", "second machine") for record in few)
    text = rendered(Records(few.found + other), None, tmp_path)
    assert "Speed: custom" in text
    assert "second machine, cpu" in text


def test_dirty_tree_and_unreadable_records_are_told_first(few, tmp_path):
    dirty = Records(tuple(Record(r.trial, r.group, r.machine, dirty=True) for r in few), ("cut.json: not JSON",))
    text = rendered(dirty, None, tmp_path, dirty=True)
    assert "The working tree differed from the commit" in text
    assert "1 of 1 trial ran in a working tree that differed from the commit." in text
    assert "Left out: cut.json: not JSON" in text
    assert text.index("cut.json") < text.index("The answer")


def test_precision_rows_without_columns_are_named(few, tmp_path):
    text = rendered(few, synthetic.precision().drop(columns=["seed"]), tmp_path)
    assert "the precision rows lack the columns seed" in text


@pytest.mark.parametrize(
    ("value", "lower", "upper", "text"),
    [
        (1.2345, 1.21, 1.26, "1.23 [1.21, 1.26]"),
        (17.31, 16.2, 18.4, "17.3 [16.2, 18.4]"),
        (0.0513, 0.0509, 0.0517, "0.0513 [0.0509, 0.0517]"),
        (123.4, 100.0, 150.0, "123 [100, 150]"),
        (1.234, math.nan, math.nan, "1.23"),
        (2.0, 2.0, 2.0, "2.00 [2.00, 2.00]"),
        (-0.021, -0.055, 0.024, "−0.02 [−0.06, 0.02]"),
        (-0.004, -0.054, 0.046, "0.00 [−0.05, 0.05]"),
        (math.nan, math.nan, math.nan, "–"),
    ],
)
def test_digits_follow_the_interval(value, lower, upper, text):
    assert formatting.with_interval(value, lower, upper) == text


def test_units_fit():
    assert formatting.seconds(1.234e-5) == "12.3 µs"
    assert formatting.seconds(0.0021) == "2.10 ms"
    assert formatting.count(115605504) == "116 M"
    assert formatting.percent(0.0123) == "1.2 %"
