"""Several machines on one page: what holds on all of them, and what differs."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from analysis import given
from analysis.__main__ import main
from analysis.data import across as cells
from analysis.data.across import agreement
from analysis.data.records import Record, Records
from analysis.data.study_data import Scope, of_several
from analysis.gaps import STRICT
from analysis.report import answers, page
from analysis.report.page import Context
from analysis.report.sections import across
from analysis.report.sections.networks import NETWORKS
from analysis.report.style import PAPER
from linear_lasagna.catalog import GROUPS
from tests import synthetic
from tests.reporting import study

STACK, OTHER = "stacks/sesr_x1", "stacks/plain_x4"
WIDE = tuple(1 + 0.1 * (place - 5.5) for place in range(12))


def on(machine: str, ratios: dict[str, object], device: str = "cpu") -> tuple[Record, ...]:
    """A trial per stack, merged/direct taking the given multiple of the baseline's time."""
    return tuple(
        Record(synthetic.trial(name, {"merged/direct": ratio}, device=device), "stacks", machine)
        for name, ratio in ratios.items()
    )


def said(*machines: tuple[Record, ...]) -> str:
    data = study(Records(tuple(record for each in machines for record in each)))
    return across.sentence(data.frames["across"], data.data.scopes)


UNDECIDED = synthetic.cell(1e-3, WIDE)


@pytest.mark.parametrize("places", [[0], [1], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_a_part_of_the_scopes_has_their_rows_and_no_others(places):
    """One machine has two devices."""
    made = (on("a", {STACK: 0.5}), on("a", {STACK: 0.5}, "cuda"), on("b", {STACK: 0.5, OTHER: 0.5}))
    data = study(Records(tuple(record for each in made for record in each))).data
    assert [(scope.machine, scope.device) for scope in data.scopes] == [("a", "cpu"), ("a", "cuda"), ("b", "cpu")]
    scopes = tuple(data.scopes[place] for place in places)
    part, wanted = data.among(scopes), {(scope.machine, scope.device) for scope in scopes}
    assert {(record.machine, record.trial.device) for record in part.records} == wanted
    for frame in (part.cells, part.speedups, part.costs, of_several(scopes, data.speedups)):
        assert set(zip(frame["machine"], frame["device"], strict=True)) == wanted
    assert len(part.speedups) == sum(len(scope.of(data.speedups)) for scope in scopes)
    problems = data.problems
    assert of_several(scopes, problems) is problems


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["faster", "faster"], "same"),
        (["faster", "slower"], "opposite"),
        (["faster", "tie"], "differs"),
        (["faster", "undecided"], "undecided"),
        (["faster", "slower", "undecided"], "opposite"),
        (["undecided", "undecided"], "undecided"),
        (["tie", "tie"], "same"),
    ],
)
def test_verdicts_agree_or_do_not(verdicts, expected):
    assert agreement(verdicts) == agreement(verdicts[::-1]) == expected


def test_the_sentence_counts_and_names_what_is_opposite():
    text = said(on("a", {STACK: 0.5, OTHER: 0.5}), on("b", {STACK: 2.0, OTHER: 0.5}))
    assert text == (
        "Of 2 cells timed on both, the verdict is the same on 1. Faster on one and slower on another: 1 "
        f"({STACK} float32 `merged/direct`). Otherwise a tie on one, faster or slower on another: 0. "
        "Undecided on one or more, alike on the rest: 0."
    )
    assert "alike on the rest: 1." in said(on("a", {STACK: 0.5}), on("b", {STACK: UNDECIDED}))


def test_what_is_opposite_on_two_and_undecided_on_a_third_is_counted_once_and_named_last():
    """A headline, too, comes after what is decided on all."""
    a = {STACK: 0.5, "stacks/sesr_x3": 0.5, OTHER: 0.5}
    b = {STACK: 2.0, "stacks/sesr_x3": 2.0, OTHER: UNDECIDED}
    c = {STACK: UNDECIDED, "stacks/sesr_x3": 2.0, OTHER: 0.5}
    text = said(on("a", a), on("b", b), on("c", c))
    assert text == (
        "Of 3 cells timed on all 3, the verdict is the same on 0. Faster on one and slower on another: 2 "
        f"(stacks/sesr_x3 float32 `merged/direct`; {STACK} float32 `merged/direct`), 1 of these undecided on a third. "
        "Otherwise a tie on one, faster or slower on another: 0. Undecided on one or more, alike on the rest: 1."
    )
    assert "of these undecided" not in said(on("a", a), on("b", b))


def test_a_machine_that_lacks_a_cell_is_not_counted_for_it():
    text = said(on("a", {STACK: 0.5, OTHER: 0.5}), on("b", {STACK: 0.5}))
    assert text.startswith("Of 1 cell timed on both, the verdict is the same on 1.")
    assert said(on("a", {STACK: 0.5}), on("b", {OTHER: 0.5})) == ""


def test_three_machines_and_two_devices_of_one():
    text = said(on("a", {STACK: 0.5}), on("b", {STACK: 0.5}), on("c", {STACK: 2.0}))
    assert text.startswith(
        "Of 1 cell timed on all 3, the verdict is the same on 0. Faster on one and slower on another: 1 ("
    )
    assert "on both, the verdict is the same on 1" in said(on("a", {STACK: 0.5}), on("a", {STACK: 0.5}, device="cuda"))


def layers(machine: str, ratio: float, most: int | None = None) -> tuple[Record, ...]:
    """VGG-16's layers, or the first of them, one way taking so many times the baseline's time."""
    names = [problem.name for problem in GROUPS["networks"].problems if problem.name.startswith("vgg16/")]
    made = [synthetic.trial(name, {"unfold_matmul": ratio}) for name in names[:most]]
    return tuple(Record(trial, "networks", machine) for trial in made)


def test_part_of_a_network_is_not_compared_with_the_whole():
    """Nor does it count as the network where all have the same part."""
    data = study(Records((*layers("a", 2.0), *layers("b", 0.5), *layers("c", 0.5, most=2))))
    rows = data.frames["across"]
    whole = rows[rows["problem"] == "vgg16"]
    assert list(zip(whole["machine"], whole["scopes"], whole["agreement"], strict=True)) == [
        ("a", 2, "opposite"),
        ("b", 2, "opposite"),
    ]
    assert set(rows.loc[rows["scopes"] == 3, "problem"]) == {record.trial.problem.name for record in layers("c", 1, 2)}
    [table] = data.sections["across-cells"].tables
    [row] = [row for row in table.rows if row[0].main == "vgg16"]
    assert [cell.main for cell in row[3:6]] == ["0.5000", "2.000", "–"]
    parts = study(Records((*layers("a", 2.0, most=2), *layers("b", 0.5, most=2)))).frames["across"]
    assert "vgg16" not in set(parts["problem"])


def test_marks_are_hollow_where_nothing_is_decided_and_small_without_an_interval():
    few = synthetic.cell(5e-4, (1.0,) * 3)
    ratios = {"a": 0.5, "b": UNDECIDED, "c": few, "d": 1.0}
    rows = study(Records(tuple(r for name, ratio in ratios.items() for r in on(name, {STACK: ratio})))).frames["across"]
    drawing = across.figure(rows, [Scope(name, "cpu", f"{name}, cpu", several=True) for name in ratios])
    drawn = [each for each in drawing.panels[0].collections if len(each.get_offsets()) and each.get_urls()[0]]
    hollow = [to_hex(each.get_facecolor()[0]) == PAPER[0] for each in drawn]
    assert hollow == [False, True, True, True]
    sizes = [float(each.get_sizes()[0]) for each in drawn]
    assert sizes[1] == sizes[3] > 2 * sizes[2]
    names = [str(handle.get_label()) for handle in drawing.handles]
    assert names == [*(f"{name}, cpu" for name in ratios), "tie or undecided", "no interval"]
    certain = across.figure(rows[rows["machine"] == "a"], [Scope("a", "cpu", "a, cpu", several=True)])
    assert [str(handle.get_label()) for handle in certain.handles] == ["a, cpu"]


def test_one_machine_has_no_such_chapter():
    made = study(Records(on("a", {STACK: 0.5})))
    assert "across-cells" not in made.sections
    assert not len(made.frames["across"])


def test_frames_do_not_depend_on_the_order_of_the_machines():
    records = [*on("b", {STACK: 0.5, OTHER: 2.0}), *on("a", {STACK: 2.0, OTHER: 0.5}), *on("c", {STACK: 0.5})]
    first = study(Records(tuple(records)))
    random.Random(0).shuffle(records)
    second = study(Records(tuple(records)))
    assert first.files.keys() == second.files.keys()
    for name, frame in first.files.items():
        assert frame.equals(second.files[name]), name


def test_names_are_escaped_and_told_apart(tmp_path):
    evil = "<script>alert(1)</script>"
    records = Records((*on(f"{evil} #0123abcd", {STACK: 0.5}), *on(f"{evil} #4567cdef", {STACK: 2.0})))
    made = page.render(records, None, tmp_path, Context(version="0"))
    text = made.page.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "#0123abcd" in text
    assert 'id="across"' in text


def test_a_heading_is_the_least_that_tells_a_machine_apart():
    def scope(machine: str, device: str = "cpu") -> Scope:
        return Scope(machine, device, f"{machine}, {device}", several=True)

    xeon, epyc = "Intel(R) Xeon(R) Processor (2 cores, AVX512)", "AMD EPYC (1 core, AVX2)"
    card = "NVIDIA H100 80GB HBM3 on Intel(R) Xeon(R) Processor (16 cores, AVX512)"
    machines = [scope(f"{xeon} #00000001"), scope(f"{epyc} #00000002"), scope(f"{card} #00000003", "cuda")]
    assert across.names(machines) == ["Intel Xeon, cpu", "AMD EPYC, cpu", "NVIDIA H100 80GB HBM3, cuda"]
    twins = [scope(f"{epyc} #00000001"), scope("AMD EPYC (2 cores, AVX2) #00000002"), scope("the one on my desk")]
    assert across.names(twins) == [f"{epyc}, cpu", "AMD EPYC (2 cores, AVX2), cpu", "the one on my desk, cpu"]
    alike = [scope(f"{epyc} #00000001"), scope(f"{epyc} #00000002")]
    assert across.names(alike) == [f"{epyc} #00000001, cpu", f"{epyc} #00000002, cpu"]


def first_screen(folder, *machines: tuple[Record, ...]) -> str:
    records = Records(tuple(record for each in machines for record in each))
    text = page.render(records, None, folder, Context(version="0")).page.read_text()
    return text[text.index('<section id="answer"') : text.index("<nav")]


def test_the_first_screen_has_a_sentence_of_each_of_two_or_three_of_more_what_holds_on_all(tmp_path):
    a, b, c, d = (on(name, {STACK: ratio}) for name, ratio in zip("abcd", (0.5, 2.0, 2.0, 2.0), strict=True))
    first = first_screen(tmp_path / "two", a, b)
    assert first.count(answers.MERGE) == 1
    assert "a, cpu: sesr_x1: 2.00× [" in " ".join(re.sub("<[^>]+>", "", first).split())
    assert "b, cpu:</span> sesr_x1: 0.500× [" in first
    assert first.count("float32, cpu") == first.count('<p class="condition">float32, cpu</p>') == 1  # they share it
    first = first_screen(tmp_path / "three", a, b, c)
    assert "on all 3" in first
    assert 'href="#across"' in first
    assert "c, cpu:</span> sesr_x1: 0.500× [" in first
    first = first_screen(tmp_path / "four", a, b, c, d)
    assert "on all 4" in first
    assert answers.MERGE not in first


def test_an_answer_of_the_first_screen_has_its_own_condition_where_machines_differ(tmp_path):
    own = first_screen(tmp_path, on("a", {STACK: 0.5}), on("b", {STACK: 2.0}, device="cuda"))
    for device in ("cpu", "cuda"):
        assert re.search(rf">{device}:</span>.*<span class=\"condition\">\(float32, {device}\)</span></p>", own)
    assert '<p class="condition">float32' not in own


def test_the_fourth_machine_has_no_sections_but_its_column():
    records = Records(tuple(r for name in "abcd" for r in on(name, {STACK: 0.5})))
    made = page.rendering(records, None, Context(version="0"), STRICT)
    [chapter] = [part for part in made.anatomy.parts if part.chapter.name == "across"]
    assert any("d, cpu" in table.head for table in chapter.tables)
    others = [part for part in made.anatomy.parts if part.chapter.name != "across"]
    captions = [t.caption for part in others for each in (part, *part.folded) for t in each.tables]
    assert captions
    assert not any("d, cpu" in caption for caption in captions)


def write(folder, machine, ratio):
    for record in on(machine, {STACK: ratio}):
        trial = replace(record.trial, environment={**record.trial.environment, "cpu": machine})
        synthetic.write(folder, trial, "stacks")


def test_a_folder_that_is_given_twice_counts_once(tmp_path):
    write(tmp_path / "a", "A", 0.5)
    write(tmp_path / "b", "B", 2.0)
    paths = [tmp_path / "b", tmp_path / "a", tmp_path / "a"]
    records, rows = given.merged(given.sources(paths))
    assert (len(records), rows) == (2, None)
    again, _ = given.merged(given.sources(paths[::-1]))
    assert again == records
    (tmp_path / "copy").symlink_to(tmp_path / "a")
    assert len(given.merged(given.sources([*paths, tmp_path / "copy"]))[0]) == 2


@pytest.mark.parametrize("bad", ["missing", "empty", "broken.tar.gz"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, capsys, monkeypatch, bad):
    write(tmp_path / "a", "A", 0.5)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tar.gz").write_bytes(b"no archive")
    arguments = ["x", "report", "--out", str(tmp_path / "out"), "--records", str(tmp_path / "a"), str(tmp_path / bad)]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert str(tmp_path / bad) in line


def test_what_stands_for_all_is_in_the_catalogue():
    networks = {problem.name.partition("/")[0] for group in NETWORKS for problem in GROUPS[group].problems}
    assert cells.NETWORKS.keys() <= networks
    assert cells.STACKS.keys() <= {problem.name for problem in GROUPS["stacks"].problems}
