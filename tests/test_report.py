"""The report: self-contained, the same bytes again, honest about what is missing."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import math
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas
import pytest

from analysis.data.records import Record, Records, load
from analysis.report import formatting, markup
from analysis.report import page as report
from analysis.report.answers import MERGE
from linear_lasagna.catalog import GROUPS
from linear_lasagna.intervals import autocorrelation
from linear_lasagna.trial import Cell, Trial
from tests import synthetic
from tests.reporting import study, undrawn

CONTEXT = report.Context(
    version="0.0",
    commit="c0ffee" * 6,
    date="2020-01-02",
    selection="tiny",
    expected=[("networks", "resnet50/conv2_3x3", "float32", "cpu")],
    commands=("make study",),
    address="https://example.org/lasagna",
)
CELLS, PARTS = {"td", "th"}, {"thead", "tbody"}  # whose ends HTML lets leave out, where it is clear
ENDED_BY = {"td": CELLS, "th": CELLS, "tr": {*CELLS, "tr"}, "tbody": {*CELLS, "tr", *PARTS}}
ENDED_WITH = {"thead": {*CELLS, "tr"}, "tbody": {*CELLS, "tr"}, "table": {*CELLS, "tr", *PARTS}}
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
        self.end(ENDED_BY.get(tag, set()))
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
        self.end(ENDED_WITH.get(tag, set()))
        assert self.open.pop() == tag

    def end(self, tags: set[str]) -> None:
        """Elements that no tag ends."""
        while self.open and self.open[-1] in tags:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return load(synthetic.study(tmp_path_factory.mktemp("trials")))


@pytest.fixture(scope="module")
def out(trials: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.render(trials, synthetic.precision(), tmp_path_factory.mktemp("report"), CONTEXT).page.parent


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_data_give_the_same_bytes(trials, out, tmp_path):
    backwards = Records(tuple(reversed(trials.entries)))
    shuffled = synthetic.precision().sample(frac=1, random_state=1)
    report.render(backwards, shuffled, tmp_path, CONTEXT)
    assert digests(tmp_path) == digests(out)


def test_page_loads_nothing(out, page):
    assert page.loaded == ["data:,"]
    assert not page.tags & {"img", "iframe", "object", "embed", "base"}
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_every_link_leads_somewhere(out, page):
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif not link.startswith("data:"):
            assert (out / link).is_file()


def test_every_csv_and_each_of_its_columns_is_explained_once(out):
    paths = sorted((out / "data").glob("*.csv"))
    assert len(paths) > 20
    heads = {path.name: next(csv.reader(io.StringIO(path.read_text()))) for path in paths}
    text = (out / "report.html").read_text(encoding="utf-8")
    [files] = re.findall(r'<dl class="dictionary">(.*?)</dl>', text, re.DOTALL)
    listed = re.findall(r"<code>([^<]+)</code></a></dt>\s*<dd>.+: <code>([^<]+)</code></dd>", files)
    assert {name: names.split(", ") for name, names in listed} == heads
    assert len(listed) == len(heads)
    with (out / "data" / "columns.csv").open(encoding="utf-8", newline="") as file:
        meanings = [(row["column"], row["meaning"]) for row in csv.DictReader(file)]
    assert [name for name, _ in meanings] == sorted({name for names in heads.values() for name in names})
    assert all(meaning == markup.COLUMNS[name] != "" for name, meaning in meanings)


def test_tables_are_written_for_latex(out):
    [path] = (out / "data").glob("wins-synthetic-*-cpu.tex")
    text = path.read_text()
    assert "\\begin{table}" in text
    assert "\\toprule" in text
    assert "direct\\_\\allowbreak{}channels\\_\\allowbreak{}last" in text


def test_a_csv_is_what_pandas_writes_of_it():
    values = [0.1 + 0.2, math.nan, math.inf, -math.inf, 1e-300, 123456789012345.6, -0.0, 2.0]
    frame = pandas.DataFrame({"a, b": values, "n": range(8), "flag": [True, False] * 4})
    frame["text"] = ['says "x", y', "", None, "two\nlines", "x", "y", "器", "0.5"]
    frame["mixed"] = frame["n"].astype(object)
    frame.loc[3, "mixed"] = None
    assert report.csv_text(frame) == frame.to_csv(index=False, lineterminator="\n", float_format=report.NUMBERS)
    assert report.csv_text(frame[:0]) == frame[:0].to_csv(index=False, lineterminator="\n")


def test_a_table_that_repeats_the_results_is_for_papers_alone(out, page):
    """It is linked and written, but not shown, and the others are numbered as if it were not there."""
    text = (out / "report.html").read_text(encoding="utf-8")
    linked = re.findall(r'<a href="data/(speedups-[^"]+)\.tex" download>[^<]*speedups in float', text)
    assert linked
    for name in linked:
        assert f'id="table-{name}"' not in text
        assert r"\toprule" in (out / "data" / f"{name}.tex").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r">Table (\d+)\.</a>", text)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_reasons_are_escaped_and_shown(out, page):
    assert "wrong on integers &lt;&amp;&gt;" in (out / "report.html").read_text(encoding="utf-8")
    assert "wrong on integers <&>" in page.text
    assert "patches need kernel size = stride" in page.text


def test_answer_comes_before_everything_else(page):
    text = page.text
    assert text.index(MERGE) < text.index("Figure 1.") < text.index("Table 1.") < text.index("Glossary")


def test_headlines_say_what_the_data_say(trials):
    lines = study(trials, synthetic.precision()).headlines
    said = {line.title: line.text for line in lines}
    fastest = (
        "In float32, by verdict between processes, the fastest way of all is `direct_channels_last` on 2 of 2 layers."
    )
    assert fastest in said["Layers of networks"]
    text = "of 1 stack, one merged beforehand (`merged/direct`) is, by intervals between processes, faster on 1 "
    text += "(sesr_x1): sesr_x1 4.00× faster [3.96, 4.04]."
    assert text in said["Merging"]
    assert "0.50 [0.46, 0.53] in float32" in said["Error by depth"] or "0.50 [0.47" in said["Error by depth"]
    assert "depths 1 to 16, 8 seeds" in said["Error by depth"]
    assert f"{8**-0.25:.3f}"[:4] in said["Error of merging"]
    assert (
        "by interval between processes and a margin of 1 % alone, none of the 6 with an interval would be told"
        in said["Noise floor"]
    )


def test_headlines_follow_the_data():
    faster, slower = (
        Records(tuple(Record(synthetic.trial(n, {"merged/direct": r}), "stacks", "m") for n, r in pairs))
        for pairs in ((("stacks/plain_x2", 0.5),), (("stacks/plain_x2", 2.0), ("stacks/plain_x4", 3.0)))
    )
    assert "faster on 1 (plain_x2): plain_x2 2.00× faster" in study(faster).headlines[0].text
    text = study(slower).headlines[0].text
    assert "slower on 2 (plain_x2, plain_x4): plain_x4 3.00× slower, the most of 2" in text
    assert "[2.97, 3.03]" in text


def said(trials: list[Trial], group: str, title: str, precision: Any = None) -> str:
    """The headline of that title."""
    records = Records(tuple(Record(trial, group, "m") for trial in trials))
    (line,) = [line for line in study(records, precision).headlines if line.title.startswith(title)]
    return line.text


def apart(ratio: float, spread: float) -> Cell:
    """`ratio` times the baseline's time, its processes `spread` apart."""
    places = (0, 11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6)
    return synthetic.cell(1e-3 * ratio, tuple(math.exp(spread * (place - 5.5)) for place in places))


def vgg16(ways: Mapping[str, tuple[float, float]], **extra: Any) -> list[Trial]:
    """All its layers, each way as `apart`."""
    names = [problem.name for problem in GROUPS["networks"].problems if problem.name.startswith("vgg16/")]
    return [synthetic.trial(name, {way: apart(*each) for way, each in ways.items()}, **extra) for name in names]


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [(1.25, 0.5, "undecided"), (0.8, 0.5, "undecided"), (1.25, 0.001, "slower"), (0.8, 0.001, "faster")],
)
def test_a_network_s_best_way_is_called_what_its_verdict_says(ratio, spread, verdict):
    """An undecided one is neither "none is faster", though its estimate is below 1, nor a speedup."""
    text = said(vgg16({"unfold_matmul": (ratio, spread)}), "networks", "Whole networks")
    best = rf"`unfold_matmul` {1 / ratio:.1f}\S*× \[.+\], {verdict}\.$"
    assert re.search(f"best of 1 way by intervals between processes: {best}", text)
    assert "none is faster" not in text


def test_a_way_that_is_faster_is_named_before_one_that_might_be():
    """The second is twice as fast by estimate, and undecided."""
    trials = vgg16({"unfold_matmul": (0.9, 0.001), "im2col_numpy": (0.5, 0.8)})
    text = said(trials, "networks", "Whole networks")
    assert "best of 2 ways by intervals between processes: `unfold_matmul` 1.11" in text


def test_the_most_of_several_is_one_with_a_verdict():
    """sesr_x5 runs 17 times as fast by 4 processes: it has no verdict, and is in no extreme."""
    few = synthetic.cell(1e-3 / 17, (1.0,) * 4)
    trials = [synthetic.trial(f"stacks/{name}", {"merged/direct": 0.5}) for name in ("sesr_x1", "plain_x2")]
    trials.append(synthetic.trial("stacks/sesr_x5", {"merged/direct": few}))
    text = said(trials, "stacks", "Merging")
    assert "faster on 2 (sesr_x1, plain_x2) and undecided on 1 (sesr_x5): " in text
    assert "2.00× faster, the most of 3, its own interval [1.98, 2.02]" in text
    assert "17" not in text


def test_controls_are_counted_by_interval_and_plans_by_the_rule():
    """The published rule can call no control different, whatever it shows; a plan that merges nothing it can."""
    runs = [[i, i + 1] for i in range(6)]
    trials = []
    for name, way in (("stacks/sesr_x3", 0.9), ("borders/sesr_x3_32", 1.0)):
        trial = synthetic.trial(name, {"planned/direct": synthetic.cell(1e-3 * way, (1.0,) * 12, runs=runs)})
        synthetic.put(trial, "control", synthetic.cell(0.98e-3, (1.0,) * 12))
        trials.append(trial)
    text = said(trials, "stacks", "Noise floor")
    assert "between processes and a margin of 1 % alone, 2 of the 2 with an interval (100 %) would be told" in text
    assert "apart: 2 faster. " in text
    assert "was told from it on 1 of 2." in text


def test_controls_without_an_interval_are_not_counted_among_those_that_agree():
    trials = [synthetic.trial("stacks/sesr_x3", {"merged/direct": 0.5}), synthetic.trial("stacks/sesr_x1", {})]
    synthetic.put(trials[0], "control", synthetic.cell(0.98e-3, (1.0,) * 2))
    text = said(trials, "stacks", "Noise floor")
    assert "of 2 controls" in text
    assert "by interval between processes and a margin of 1 % alone, none of the 1 with an interval" in text


def test_the_section_on_noise_says_how_blocks_of_one_process_depend_on_each_other(tmp_path):
    alternating = tuple(1 + 0.02 * (block % 2) for block in range(12))
    drifting = tuple(1 + 0.01 * block for block in range(12))
    trials = [
        synthetic.trial(name, {"unfold_matmul": synthetic.cell(2e-3, deviations)}, several=False)
        for name, deviations in (("resnet50/conv1", alternating), ("vgg16/conv5", drifting))
    ]
    text = rendered(Records(tuple(Record(trial, "networks", "m") for trial in trials)), None, tmp_path)
    found = re.search(r"log ratios is (\S+) in the mean of 2 cells, .* show about 0; it is above 0.5 in 50 %", text)
    assert found is not None
    each = [autocorrelation([[math.log(d) for d in series]]) for series in (alternating, drifting)]
    assert found[1] == formatting.signed(f"{sum(each) / 2:.3f}")


MODELS_OWN = (
    "or blocks of a single one",
    "for lack of an interval",
)  # in captions of models, which come with the suite
WORDS = {True: ("between processes", "within one process"), False: ("within one process", "between processes")}


@pytest.mark.parametrize("several", [True, False])
def test_every_interval_and_verdict_says_whether_it_is_between_processes(several):
    """In captions and headlines of every section with times; never the other kind."""
    right, wrong = WORDS[several]
    runs = [[0, 2], [2, 4], [4, 6]]
    kinds = {"unfold_matmul": (1.25, 0.001), "im2col_numpy": (0.8, 0.002)}
    trials = [(trial, "networks") for trial in vgg16(kinds, several=several)]
    for name, group, ways in (
        ("stacks/sesr_x3", "stacks", {"merged/direct": 0.5, "planned/direct": synthetic.cell(3e-4, runs=runs)}),
        ("stacks/sesr_x3", "training", {"merged_per_call": 0.5}),
        ("stacks/sesr_x3", "merging", {"merge_float64": 3.0}),
        ("breakeven/k3_16_128", "breakeven", {"merged/direct": 0.5}),
    ):
        trials.append((synthetic.trial(name, ways, several=several), group))
    found = study(Records(tuple(Record(trial, group, "m") for trial, group in trials)))
    speed = {"Whole networks", "Unfold and matmul", "Merging", "Plans", "Break-even", "Training", "Layers of networks"}
    said = {line.title: line.text for line in found.headlines}
    assert speed | {"Noise floor"} == said.keys()
    captions = [each.caption for section in found.sections.values() for each in (*section.plots, *section.tables)]
    told = [*said.values(), *(text for text in captions if re.search(r"interval|verdict", text))]
    assert len(told) >= 18
    apart = ("Intervals and verdicts stand in the table", "One seed each: no interval", "Simulated trials")
    apart += MODELS_OWN
    assert [text for text in told if right not in text and not any(words in text for words in apart)] == []
    texts = [*said.values(), *captions, *(note for section in found.sections.values() for note in section.notes)]
    shown = found.sections["processes"]
    assert all(name for table in shown.tables for name in table.head)
    texts = [text for text in texts if text not in {table.caption for table in shown.tables}]
    assert [text for text in texts if wrong in text and not any(words in text for words in MODELS_OWN)] == []
    assert bool(shown.tables) == several
    assert markup.times(found.data) == right
    [line] = report.conditions(found.data)
    assert line.endswith(f"13 trials, each timed in {'12 processes' if several else '1 process'}")


def test_a_study_of_both_kinds_says_how_many_are_within_one_process():
    trials = [synthetic.trial("stacks/sesr_x1", {"merged/direct": 0.5})]
    trials.append(synthetic.trial("stacks/plain_x2", {"merged/direct": 0.5}, several=False))
    text = said(trials, "stacks", "Merging")
    assert "by intervals between processes (1 of 2: within one process), faster on 2" in text


def test_no_sentence_has_brackets_in_brackets():
    """Also where some cells have one process, which sentences say in brackets."""
    kinds = {"unfold_matmul": (1.25, 0.001), "im2col_numpy": (0.8, 0.002)}
    layers = vgg16(kinds)
    trials = [(trial, "networks") for trial in [*vgg16(kinds, several=False)[:1], *layers[1:]]]
    for place, name in enumerate(("sesr_x1", "sesr_x3", "sesr_x5")):
        problem, several = f"stacks/{name}", place > 0
        trials.append((synthetic.trial(problem, {"merged/direct": 0.5 - 0.1 * place}, several=several), "stacks"))
        trials.append((synthetic.trial(problem, {"merged_per_call": 0.5}, several=several), "training"))
    for place, problem in enumerate(GROUPS["sweeps"].problems):
        ways = {"fft": 0.7, "unfold_matmul": 0.9 + 0.01 * place, "merged/direct": 0.8}
        trials.append((synthetic.trial(problem.name, ways, several=place > 0), "sweeps"))
    found = study(Records(tuple(Record(trial, group, "m") for trial, group in trials)), synthetic.precision())
    with undrawn():
        sections = found.sections.values()
    texts = [*(line.text for line in found.headlines), *(f"{each.text} {each.condition}" for each in found.answers)]
    texts += [each.caption for section in sections for each in (*section.plots, *section.tables)]
    texts += [text for section in sections for text in (section.intro, *section.answers, *section.notes)]
    assert sum("of 3: within one process" in text for text in texts) > 0
    assert sum("its own interval" in text for text in texts) > 1
    mathematics = re.compile(r"f\(|\(x |\(2k|\(n ")
    assert [text for text in texts if re.search(r"\([^()]*\(", text) and not mathematics.search(text)] == []


def test_no_section_says_a_sentence_twice():
    from tests.test_same_report import study as fixed

    found = study(*fixed())
    with undrawn():
        sections = list(report.contents(found.data, found.results, lines=found.headlines))
    assert any(section.answers for section in sections)
    for section in sections:
        text = " ".join([*section.answers, section.intro, *section.notes])
        long = [each.lower() for each in re.split(r"(?<=[.;]) ", text) if len(each) > 50 and "fewest" not in each]
        assert len(long) == len(set(long)), section.title


def test_error_by_depth_names_the_weights_that_its_exponent_is_of(trials):
    text = said([], "stacks", "Error by depth", synthetic.precision())
    assert "of a plain stack of 3×3 layers with 16 channels and weights drawn uniformly" in text
    assert "Other weights have other exponents." in text


def test_error_by_depth_speaks_of_no_interval_where_there_is_none():
    text = said([], "stacks", "Error by depth", synthetic.precision(2))
    assert "2 seeds, too few for an interval)" in text
    assert "over which" not in text


def test_headlines_mix_no_machines():
    """The second machine's exponents and depths are not in the first one's sentence."""
    first = synthetic.precision()
    second = first.assign(machine="zeta", relative_l2=first["relative_l2"] * first["depth"] ** 2.0)
    deeper = second[second["depth"] == 8].assign(depth=32)
    alone = said([], "stacks", "Error by depth", first)
    both = pandas.concat([first, second, deeper])
    lines = {line.title: line.text for line in study(rows=both).headlines}
    assert lines["Error by depth, synthetic, cpu"] == alone
    assert lines["Error of merging, synthetic, cpu"] == said([], "stacks", "Error of merging", first)
    assert "depths 1 to 32" in lines["Error by depth, zeta, cpu"]


def test_error_of_merging_names_its_conditions():
    text = said([], "stacks", "Error of merging", synthetic.precision())
    assert "relative L2 error over single outputs" in text
    assert "against the exact result of the weights as the dtype has rounded them" in text


@pytest.fixture(scope="module")
def few(trials: Records) -> Records:
    """One trial, for what needs no more."""
    return Records(trials.entries[-1:])


def rendered(trials: Records, precision: object, folder: Path, **changes: object) -> str:
    """The page's text, without its figures; those of `page` are drawn."""
    with undrawn():
        made = report.render(trials, precision, folder, dataclasses.replace(CONTEXT, **changes)).page
    return Page(made.read_text(encoding="utf-8")).text


def test_nothing_at_all_renders_and_says_so(tmp_path):
    text = rendered(Records(), None, tmp_path)
    assert "There are no trial records yet." in text
    assert "no rows of the precision experiment yet" in text
    assert "Run make study" in text


def test_trials_alone_render(few, tmp_path):
    text = rendered(few, None, tmp_path)
    assert "no rows of the precision experiment yet" in text
    assert "Table 1." in text
    assert "intervals between processes" in text


def test_precision_alone_renders(tmp_path):
    text = rendered(Records(), synthetic.precision(), tmp_path)
    assert "There are no trial records yet." in text
    assert "Error by depth" in text
    assert "No trial of the group networks was timed." in text


def test_missing_trials_are_listed(few, tmp_path):
    absent = ("stacks", "stacks/plain_x12", "float64", "cpu")
    text = rendered(few, None, tmp_path, expected=[absent, ("networks", "vgg16/conv5", "float32", "cpu")])
    assert "1 of the 2 trials of the selection “tiny”, as this version has it, left no record." in text
    assert "stacks/plain_x12" in text


def test_one_way_without_control_renders(tmp_path):
    trial = synthetic.trial("resnet50/conv1", {})
    del trial.cells["control"]
    assert "No control was timed." in rendered(Records((Record(trial, "networks", "m"),)), None, tmp_path)


def test_a_trial_without_its_baseline_renders_and_findings_are_shown(tmp_path):
    """Times, and no ratio: its baseline failed. What is odd about a way that passed stands in a table of its own."""
    trial = synthetic.trial("resnet50/conv1", {"unfold_matmul": 1.5, "strided_matmul": 2.0})
    for name in ("direct", "control"):
        trial.cells[name].fail("its result is wrong")
    trial.cells["strided_matmul"].finding = "inexact on integers, say"
    text = rendered(Records((Record(trial, "networks", "m"),)), None, tmp_path)
    assert "its result is wrong" in text
    assert "inexact on integers, say" in text


def test_failed_and_skipped_trials_alone_render(tmp_path):
    trial = synthetic.trial("resnet50/conv1", {})
    for cell in trial.cells.values():
        cell.fail("the child process was killed")
    text = rendered(Records((Record(trial, "networks", "m"),)), None, tmp_path)
    assert "the child process was killed" in text


def test_several_machines_and_groups_are_kept_apart(few, tmp_path):
    other = tuple(Record(record.trial, "custom", "second machine") for record in few)
    text = rendered(Records(few.entries + other), None, tmp_path)
    assert "Speed: custom" in text
    assert "second machine, cpu" in text


def test_dirty_tree_and_unreadable_records_are_told_first(few, tmp_path):
    dirty = Records(tuple(Record(r.trial, r.group, r.machine, dirty=True) for r in few), ("cut.json: not JSON",))
    text = rendered(dirty, None, tmp_path, dirty=True)
    assert "1 of 1 trial ran in a working tree that differed from the commit: they belong to no commit." in text
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
