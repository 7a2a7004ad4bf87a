"""The page that `compare` writes: known changes, what is within the tolerance, and nothing."""

from __future__ import annotations

import math
import re

import pytest

from analysis.__main__ import compare, main
from analysis.data.comparison import compared
from analysis.data.records import Record, Records
from analysis.report import comparing
from linear_lasagna.catalog import GROUPS
from tests import synthetic
from tests.test_comparison import measured

NAMES = [problem.name for problem in GROUPS["networks"].problems]
NARROW = tuple(1 + 1e-4 * (place - 5.5) for place in range(12))


def narrow(ratio: float, **extra: object) -> object:
    return synthetic.cell(1e-3 * ratio, NARROW, **extra)


def page(before: dict[str, object], after: dict[str, object], tolerance: float = 0.02) -> str:
    sides = [measured(before), measured(after)]
    return comparing.html(compared(*sides), *(comparing.side("given", each) for each in sides), tolerance)


def test_the_first_sentence_counts_what_changed():
    sides = [
        measured(dict(zip(NAMES, map(narrow, ratios), strict=False)))
        for ratios in ((2.0, 0.5, 2.0, 2.0), (0.5, 2.0, 2.02, 2.0))
    ]
    assert comparing.sentence(compared(*sides), 0.03) == (
        "Against its own side’s baseline, a way became faster in 1 and slower in 1 of 4 cells on both sides; 1 tie, "
        "1 undecided and 0 lost. Verdicts against the baseline that changed: 2, and 0 to or from undecided. Speedups "
        "that moved by at most 3.0 %: 2 of 4 timed on both."
    )


@pytest.mark.parametrize(
    ("machines", "dates", "title"),
    [
        (("One #00000001", "Two #00000002"), ("2026-01-02", "2026-01-03"), "One → Two"),
        (("One #00000001", "One #00000002"), ("2026-01-02", "2026-01-03"), "One #00000001 → One #00000002"),
        (("One #00000001", "One #00000001"), ("2026-01-02", "2026-01-03"), "One, 2026-01-02 → 2026-01-03"),
        (("One #00000001", "One #00000001"), ("", ""), "One, old → new"),
        (("One #00000001", "One #00000001"), ("2026-01-02", "2026-01-02"), "One, old → new"),
        (("One+Two", "One+Three"), ("2026-01-02", "2026-01-03"), "old → new"),
    ],
)
def test_the_title_says_what_tells_the_sides_apart(machines, dates, title):
    frame = compared(measured({NAMES[0]: narrow(2.0)}), measured({NAMES[0]: narrow(1.0)}))
    sides = zip(("old", "new"), machines, dates, strict=True)
    before, after = (comparing.Side(name, tuple(machine.split("+")), (), date, 1) for name, machine, date in sides)
    assert f"<h1>What changed: {title}</h1>" in comparing.html(frame, before, after, 0.02)


def test_the_tolerance_hides_what_moved_less():
    frame = compared(
        measured({NAMES[0]: narrow(2.0), NAMES[1]: narrow(2.0), NAMES[2]: narrow(2.0)}),
        measured({NAMES[0]: narrow(2.02), NAMES[1]: narrow(1.0), NAMES[2]: narrow(3.0)}),
    )
    assert list(comparing.beyond(frame, 0.02)["problem"]) == [NAMES[1], NAMES[2]]
    assert list(comparing.beyond(frame, 0.005)["problem"]) == [NAMES[1], NAMES[2], NAMES[0]]
    assert list(comparing.beyond(frame, 0.9)["problem"]) == [NAMES[1]]


def test_right_is_better_and_every_mark_says_its_value():
    text = page({NAMES[0]: narrow(2.0)}, {NAMES[0]: narrow(0.5)})
    assert f"<title>{NAMES[0]}, float32, cpu, unfold_matmul: 4.000× [" in text
    assert "faster" in text


def texts(page: str) -> list[str]:
    """What stands in the figure, from above."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", page)


def both_sides(before: list[Record], after: list[Record]) -> str:
    sides = [Records(tuple(each)) for each in (before, after)]
    return comparing.html(compared(*sides), *(comparing.side("given", each) for each in sides), 0.02)


def test_rows_of_the_figure_have_their_whole_names():
    names, ways = ("resnet50/conv5_reduce_first", "vgg16/conv1_1"), ("fft", "merged_per_call/direct_channels_last")
    sides = [
        [Record(synthetic.trial(name, dict.fromkeys(ways, ratio)), "networks", "m") for name in names]
        for ratio in (2.0, 1.0)
    ]
    shown = [text for text in texts(both_sides(*sides)) if not re.fullmatch(r"[\d./]+|.*→.*", text)]
    rows = [line for name in names for way in ways for line in (name, *way.replace("/", "/ ").split())]
    assert shown == [*rows, "float32"]


def test_what_is_decided_stands_before_larger_changes_that_are_not():
    unsure = dict.fromkeys(NAMES[3:23], synthetic.cell(32e-3, (1.0,) * 5))  # too few processes for an interval
    decided = {name: narrow(ratio) for name, ratio in zip(NAMES, (1.5, 3.0, 2.5), strict=False)}
    text = page(dict.fromkeys(NAMES[:23], narrow(2.0)), decided | unsure)
    shown = [text for text in texts(text) if text in NAMES]
    assert shown[:3] == [NAMES[1], NAMES[0], NAMES[2]]
    assert len(shown) == comparing.MOST_MARKS
    assert "first what is faster (diamond) or slower (square) by verdict" in text
    assert f"Not shown: 0 more that are decided, {23 - len(shown)} that are not." in text
    assert "hollow" not in page({NAMES[0]: narrow(2.0)}, {NAMES[0]: narrow(3.0)})


def test_rows_of_two_devices_have_panels_of_their_own():
    sides = [
        [Record(synthetic.trial(NAMES[0], {"fft": r}, device=device), "networks", "m") for device in ("cpu", "cuda")]
        for r in (2.0, 1.0)
    ]
    assert {"float32, cpu", "float32, cuda"} < set(texts(both_sides(*sides)))


def test_where_nothing_changed_the_page_says_so():
    text = page({NAMES[0]: narrow(2.0)}, {NAMES[0]: narrow(2.0)})
    assert "Nothing changed" in text
    assert "<svg" not in text
    assert "<table" not in text
    assert "Nothing changed" not in page({NAMES[0]: narrow(2.0)}, {NAMES[0]: narrow(3.0)})


def captions(page: str) -> dict[str, str]:
    """Of the tables, by their names, without markup."""
    found = re.findall(r'id="table-(\w+)">.*?<caption>(.*?)</caption>', page, re.S)
    return {name: re.sub("<[^>]*>", "", text) for name, text in found}


def test_captions_say_between_which_verdicts_and_what_every_mark_of_their_table_means():
    unsure = synthetic.cell(2e-3, (1.0,) * 5)
    before = dict(zip(NAMES, (narrow(2.0), narrow(0.5), narrow(2.0), unsure), strict=False))
    text = page(before, dict(zip(NAMES, (narrow(0.5), narrow(2.0), unsure, narrow(2.0)), strict=False)))
    told = captions(text)
    assert "changed from faster to slower or back." in told["verdicts"]
    tied = captions(page(before, dict(zip(NAMES, (narrow(1.0), narrow(2.0)), strict=False))))
    assert "changed from faster to slower or back, or to or from a tie." in tied["verdicts"]
    assert set(told) == {"verdicts", "undecided", "disjoint"}
    assert 'class="faster"' in text
    assert 'aria-label="undecided">?<' in text
    for caption in told.values():
        assert "before between processes (12); after between processes (12)" in caption
        assert {"Bold: faster.", "“?”: undecided"} == set(re.findall(r"Bold: faster\.|“\?”: undecided", caption))


def test_a_table_that_is_cut_says_with_what_command_all_rows_are_written(monkeypatch):
    monkeypatch.setattr(comparing, "MOST_ROWS", 2)
    text = page(dict.fromkeys(NAMES[:3], narrow(2.0)), dict.fromkeys(NAMES[:3], narrow(0.5)))
    assert (
        text.count("The first 2 of 3; <code>python -m analysis compare BEFORE AFTER --out rows.json</code> writes") == 2
    )
    assert 'aria-label="Table 1"' in text


def test_errors_lost_and_missing_cells_have_tables():
    worse = narrow(2.0, measures={"relative_l2": 0.9, "error_u": 0.9})
    text = page({NAMES[0]: narrow(2.0), NAMES[1]: narrow(2.0)}, {NAMES[0]: worse, NAMES[2]: narrow(2.0)})
    assert 'id="table-accuracy"' in text
    assert "1.8×" in text
    assert 'id="table-alone"' in text
    after = measured({NAMES[0]: narrow(2.0)})
    after.entries[0].trial.cells["unfold_matmul"].fail("wrong")
    before = measured({NAMES[0]: narrow(2.0)})
    text = comparing.html(compared(before, after), comparing.side("a", before), comparing.side("b", after), 0.02)
    assert 'id="table-lost"' in text
    assert "1 lost" in text


def test_what_is_not_a_number_is_left_out():
    odd = narrow(2.0, measures={"relative_l2": math.nan, "error_u": math.nan})
    text = page({NAMES[0]: odd, NAMES[1]: narrow(2.0)}, {NAMES[0]: narrow(2.0), NAMES[1]: narrow(4.0)})
    assert "table-accuracy" not in text
    assert ">nan" not in text
    few = synthetic.cell(4e-3, (1.0,) * 5)  # too few processes for an interval
    assert "nan" not in page({NAMES[0]: narrow(2.0)}, {NAMES[0]: few}).replace("nance", "")


def test_names_are_escaped_and_nothing_is_loaded():
    sides = [measured({NAMES[0]: narrow(2.0)}, "<b>x</b>"), measured({NAMES[0]: narrow(3.0)}, "<b>y</b>")]
    text = comparing.html(compared(*sides), *(comparing.side("<i>", each) for each in sides), 0.02)
    assert "<b>" not in text
    assert "<i>" not in text
    assert "<script" not in text
    assert "default-src &#39;none&#39;" in text
    assert " style=" not in text
    assert text == comparing.html(compared(*sides), *(comparing.side("<i>", each) for each in sides), 0.02)


def test_the_command_prints_the_page_last_and_takes_a_tolerance(tmp_path, capsys):
    for side, ratio in (("a", 2.0), ("b", 3.0)):
        synthetic.write(tmp_path / side, synthetic.trial(NAMES[0], {"unfold_matmul": ratio}))
    path = tmp_path / "made" / "page.html"
    compare(tmp_path / "a", tmp_path / "b", page=path, tolerance="60%")
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    assert "by at most 60 %: 1 of 1" in path.read_text()
    for bad in ("much", "-1%", "100%", "nan"):
        with pytest.raises(ValueError, match="tolerance must be a share"):
            compare(tmp_path / "a", tmp_path / "b", page=path, tolerance=bad)


def test_what_shares_no_cell_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    synthetic.write(tmp_path / "a", synthetic.trial(NAMES[0], {"unfold_matmul": 2.0}))
    synthetic.write(tmp_path / "b", synthetic.trial(NAMES[1], {"unfold_matmul": 2.0}))
    arguments = ["x", "compare", *(str(tmp_path / side) for side in "ab"), "--page", str(tmp_path / "p.html")]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "p.html").exists()
