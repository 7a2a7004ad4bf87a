"""Two measurements of the same cells: what changed, and what only seems to."""

from __future__ import annotations

import json
import math
import os
import random
import re
from pathlib import Path

import pytest

from analysis import atomic, given
from analysis.__main__ import compare
from analysis.data.comparison import compared, regressions, spread, summary
from analysis.data.records import Record, Records
from analysis.report import changes
from linear_lasagna.catalog import GROUPS
from tests import synthetic

NAMES = [problem.name for problem in GROUPS["networks"].problems]


def measured(ratios: dict[str, object], machine: str = "m", **extra: object) -> Records:
    """One trial per problem, with unfold_matmul taking the given multiple of the baseline's time, or the given cell."""
    trials = [synthetic.trial(name, {"unfold_matmul": ratio}, **extra) for name, ratio in ratios.items()]
    return Records(tuple(Record(trial, "networks", machine) for trial in trials))


def one(before: object, after: object, **extra: object) -> dict[str, object]:
    [row] = compared(measured({NAMES[0]: before}, **extra), measured({NAMES[0]: after}, **extra)).to_dict("records")
    return row


def test_a_change_is_the_ratio_of_the_ratios():
    row = one(2.0, 3.0)
    assert row["change"] == pytest.approx(1.5)
    # Either ratio's interval is 1 % to both sides.
    assert (row["change_lower"], row["change_upper"]) == pytest.approx((1.5 / 1.0142, 1.5 * 1.0142), rel=1e-3)
    assert (row["verdict"], row["disjoint"], row["accuracy"]) == ("slower", True, "same")
    assert one(2.0, 1.0)["verdict"] == "faster"
    assert (one(2.0, 2.0)["verdict"], one(2.0, 2.0)["disjoint"]) == ("undecided", False)  # 1.4 % is no tie
    assert (row["processes_before"], row["processes_after"]) == (12, 12)
    assert (row["verdict_before"], row["verdict_after"]) == ("slower", "slower")
    assert one(2.0, synthetic.cell(4e-3, (1.0,) * 5))["verdict"] == "undecided"  # 5 processes give no interval


def test_errors_and_lost_ways_are_told():
    worse = one(2.0, synthetic.cell(2e-3, measures={"relative_l2": 0.9, "error_u": 0.9}))
    assert (worse["accuracy"], worse["error_u_before"], worse["error_u_after"]) == ("less accurate", 0.5, 0.9)
    assert one(2.0, synthetic.cell(2e-3, measures={"relative_l2": 0.4, "error_u": 0.4}))["accuracy"] == "more accurate"
    after = measured({NAMES[0]: 2.0})
    after.entries[0].trial.cells["unfold_matmul"].fail("wrong")
    frame = compared(measured({NAMES[0]: 2.0}), after)
    assert list(frame["verdict"]) == ["lost"]
    assert len(regressions(frame)) == 1


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_baseline_that_fails_is_lost_and_with_it_the_times_of_all_others(status):
    after = measured({NAMES[0]: 2.0})
    baseline = after.entries[0].trial.cells["direct"]
    baseline.status, baseline.samples, baseline.reason = status, [], "wrong"
    frame = compared(measured({NAMES[0]: 2.0}), after)
    assert dict(zip(frame["way"], frame["verdict"], strict=True)) == {
        "direct": "lost",
        "unfold_matmul": "no longer timed",
    }
    assert len(regressions(frame)) == 2
    first, *_ = lines = list(summary(frame))
    assert first == "cells in both: 2; in one alone: 0"
    assert any(line.endswith("0 undecided, 1 lost, 1 no longer timed") for line in lines)


def test_a_baseline_that_became_less_accurate_is_told():
    after = measured({NAMES[0]: 2.0})
    after.entries[0].trial.cells["direct"].measures = {"relative_l2": 500.0, "error_u": 500.0}
    frame = compared(measured({NAMES[0]: 2.0}), after)
    assert list(regressions(frame)["way"]) == ["direct"]
    assert next(summary(frame)) == "cells in both: 1; in one alone: 0"
    assert next(line for line in summary(frame) if "errors" in line).endswith(
        "0 more accurate, 1 less accurate, 1 same"
    )
    back = summary(compared(after, measured({NAMES[0]: 2.0})))
    assert next(line for line in back if "errors" in line).endswith("1 more accurate, 0 less accurate, 1 same")
    assert changes._said(regressions(frame).iloc[0]) == "baseline, less accurate: 0.500 → 500 u"


def test_cells_of_one_side_alone_are_counted():
    frame = compared(measured(dict.fromkeys(NAMES[:2], 2.0)), measured(dict.fromkeys(NAMES[1:4], 2.0)))
    assert next(summary(frame)) == "cells in both: 1; in one alone: 3"
    with pytest.raises(ValueError, match="share no cell"):
        compared(measured({NAMES[0]: 2.0}), measured({NAMES[1]: 2.0}))


def test_two_machines_are_compared_with_each_other():
    frame = compared(measured({NAMES[0]: 2.0}), measured({NAMES[0]: 3.0}, "other"))
    assert list(frame["machine"]) == ["m / other"]
    assert list(frame["verdict"]) == ["slower"]


def test_a_machine_with_its_accelerator_is_compared_device_by_device():
    """A machine is another one with its accelerator than without: two names on either side."""
    sides = [
        Records((*measured({NAMES[0]: 2.0}, host).entries, *measured({NAMES[0]: r}, f"{host}+card", device="cuda")))
        for host, r in (("a", 2.0), ("b", 3.0))
    ]
    frame = compared(*sides)
    assert list(frame[["machine", "device", "verdict"]].itertuples(index=False, name=None)) == [
        ("a / b", "cpu", "undecided"),
        ("a+card / b+card", "cuda", "slower"),
    ]


@pytest.mark.parametrize("sides", [(False, False), (False, True), (True, False)])
def test_what_every_cell_does_is_no_change_where_a_side_is_of_one_process(sides):
    """All ratios move by some 10 % from one process to the next, though every interval is 1 % wide; one doubles."""
    rng = random.Random(0)
    moved = {name: 2.0 * math.exp(rng.gauss(0, 0.1)) for name in NAMES}
    changed = moved | {NAMES[5]: 4.0}
    before, after = sides
    frame = compared(measured(dict.fromkeys(NAMES, 2.0), several=before), measured(changed, several=after))
    assert list(frame.loc[frame["verdict"].isin(["faster", "slower"]), "problem"]) == [NAMES[5]]
    assert frame["disjoint"].astype(bool).mean() > 0.8
    told = list(summary(frame))
    kinds = ["between processes (12)" if side else "within one process" for side in sides]
    assert f"intervals: before {kinds[0]}; after {kinds[1]}" in told
    moves = r"cells with a side of one process move by ([\d.]+)% .* counts only above 3 × \1%"
    [typical] = [float(found[1]) for line in told if (found := re.fullmatch(moves, line))]
    assert typical == pytest.approx(100 * math.expm1(0.1), rel=0.4)
    assert "ways against their own side's baselines: " in " ".join(told)
    assert any(line.startswith("pairs of intervals, one or both within one process, that") for line in told)
    assert spread([math.log(moved[name] / 2.0) for name in NAMES]) == pytest.approx(0.1, rel=0.4)
    assert spread([0.0, 5.0] * 9) == 0.0


@pytest.mark.parametrize(("machine", "decided"), [("m", False), ("another", True)])
def test_from_one_machine_to_another_most_cells_change_and_processes_tell_what_does_not(machine, decided):
    """One process there; here twelve, which lie 1 % apart."""
    rng = random.Random(0)
    here = measured({name: 2.0 * math.exp(rng.gauss(0, 0.5)) for name in NAMES}, machine)
    frame = compared(measured(dict.fromkeys(NAMES, 2.0), several=False), here)
    share = frame["verdict"].isin(["faster", "slower"]).mean()
    assert share > 0.8 if decided else share < 0.2
    how = f"the median scatter of {len(NAMES)} cells between processes" if decided else "from the median of"
    assert how in " ".join(summary(frame))


def test_intervals_between_processes_need_no_spread_of_all_cells():
    """The same changes, seen by intervals that hold for the next process: what lies apart has changed."""
    rng = random.Random(0)
    frame = compared(
        measured(dict.fromkeys(NAMES, 2.0)), measured({name: 2.0 * math.exp(rng.gauss(0, 0.1)) for name in NAMES})
    )
    assert frame["verdict"].isin(["faster", "slower"]).mean() > 0.8
    told = " ".join(summary(frame))
    assert "intervals: before between processes (12); after between processes (12)" in told
    assert "one process" not in told


def test_the_spread_is_that_of_cells_with_a_side_of_one_process():
    """Those barely move, so that 10 % is a change; the others move by 30 %, which says nothing of them."""
    rng = random.Random(0)
    still = {name: 2.0 * math.exp(rng.gauss(0, 0.005)) for name in NAMES} | {NAMES[5]: 2.2}
    moved = {name: 2.0 * math.exp(rng.gauss(0, 0.3)) for name in NAMES}
    before, after = (
        Records(
            (
                *measured(single, several=False).entries,
                *measured(several, dtype="bfloat16").entries,
                *measured(several, dtype="float16").entries,
            )
        )
        for single, several in ((dict.fromkeys(NAMES, 2.0), dict.fromkeys(NAMES, 2.0)), (still, moved))
    )
    frame = compared(before, after)
    told = frame[frame["verdict"].isin(["faster", "slower"]) & (frame["dtype"] == "float32")]
    assert list(told["problem"]) == [NAMES[5]]
    lines = " ".join(summary(frame))
    assert f"from the median of {len(NAMES)})" in lines
    assert f"before between processes (12), {len(NAMES)} of {3 * len(NAMES)} within one;" in lines


def test_changes_of_verdicts_are_counted_those_of_undecided_ones_apart():
    """Ratios before and after, with what verdict: a flip, a tie that is slower, two that are undecided on one side."""
    wide = tuple(1 + 0.1 * (place - 5.5) for place in range(12))
    narrow = tuple(1 + 1e-4 * (place - 5.5) for place in range(12))
    cell = lambda ratio, spread: synthetic.cell(1e-3 * ratio, spread)  # noqa: E731
    sides = [
        (cell(0.5, narrow), cell(2.0, narrow)),
        (cell(1.0, narrow), cell(2.0, narrow)),
        (cell(1.0, wide), cell(2.0, narrow)),
        (cell(2.0, narrow), cell(1.0, wide)),
        (cell(2.0, narrow), cell(2.0, narrow)),
    ]
    before, after = ({NAMES[i]: pair[side] for i, pair in enumerate(sides)} for side in range(2))
    told = list(summary(compared(measured(before), measured(after))))
    moved = "2 of 5 (40.0%), of them 1 from faster to slower or back"
    assert f"verdicts that changed: {moved}; to or from undecided: 2" in told
    assert "pairs of intervals, both between processes, that share no number: 4 of 5 (80.0%)" in told


def test_the_interval_of_a_change_covers():
    """Processes of both sides vary at random, ratio 1.2 before and 1.5 after: at least 90 of 100 hold 1.25."""
    held = 0
    for seed in range(100):
        rng = random.Random(seed)
        sides = [synthetic.cell(1e-3 * r, tuple(math.exp(rng.gauss(0, 0.05)) for _ in range(12))) for r in (1.2, 1.5)]
        row = one(*sides)
        held += row["change_lower"] <= 1.25 <= row["change_upper"]
    assert held >= 95 - 3 * math.sqrt(100 * 0.95 * 0.05)


def test_the_command_ends_with_1_on_a_regression_if_asked(tmp_path, capsys):
    for side, ratio in (("a", 2.0), ("b", 3.0)):
        synthetic.write(tmp_path / side, synthetic.trial(NAMES[0], {"unfold_matmul": ratio}))
    compare(tmp_path / "a", tmp_path / "b", page=tmp_path / "p.html", out=tmp_path / "rows.json")
    assert "0 faster, 1 slower" in capsys.readouterr().out
    [row] = json.loads((tmp_path / "rows.json").read_text())
    assert (row["way"], row["verdict"]) == ("unfold_matmul", "slower")
    with pytest.raises(SystemExit, match="1"):
        compare(tmp_path / "a", tmp_path / "b", page=tmp_path / "p.html", fail_on_regression=True)
    compare(tmp_path / "b", tmp_path / "a", page=tmp_path / "p.html", fail_on_regression=True)
    with pytest.raises(ValueError, match="none: no such folder"):
        compare(tmp_path / "a", tmp_path / "none", page=tmp_path / "p.html")


def test_compare_writes_over_nothing_that_is_not_its_own(tmp_path):
    for side in "ab":
        synthetic.write(tmp_path / side, synthetic.trial(NAMES[0], {"unfold_matmul": 2.0}))
    folders = tmp_path / "a", tmp_path / "b"
    [record] = folders[0].rglob("*.json")
    before = record.read_bytes()
    with pytest.raises(ValueError, match=f"{record.name} is there, and no page of compare's; --page needs"):
        compare(*folders, page=record)
    for out in (record, folders[1] / "rows.json"):
        with pytest.raises(ValueError, match=f"{out.name} lies in what is compared"):
            compare(*folders, page=tmp_path / "p.html", out=out)
    assert record.read_bytes() == before
    for _ in range(2):
        compare(*folders, page=folders[0] / "p.html", out=tmp_path / "rows.json")
    report = tmp_path / "report.html"
    report.write_text("<title>Changes: mine</title><h1>Changes: mine</h1>")
    with pytest.raises(ValueError, match="no page of compare's"):
        compare(*folders, page=report)
    (tmp_path / "edition").mkdir()
    (tmp_path / "edition" / "edition.json").write_text("{}")
    for where in ({"page": tmp_path / "edition" / "p.html"}, {"out": tmp_path / "edition" / "data" / "rows.json"}):
        with pytest.raises(ValueError, match="would be no file of the edition"):
            compare(*folders, **{"page": tmp_path / "p.html"} | where)
    assert [path.name for path in (tmp_path / "edition").iterdir()] == ["edition.json"]


def test_a_device_is_written_to_and_not_replaced(monkeypatch):
    def no_file(*paths):
        raise AssertionError(f"{paths} would be replaced")

    monkeypatch.setattr(os, "replace", no_file)
    atomic.write(Path("/dev/null"), "a page")


def test_folders_of_one_name_are_told_apart(tmp_path, capsys):
    for side, ratio in (("old", 2.0), ("new", 3.0)):
        synthetic.write(tmp_path / side / "study", synthetic.trial(NAMES[0], {"unfold_matmul": ratio}))
    compare(tmp_path / "old" / "study", tmp_path / "new" / "study", page=tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert "before: old/study" in text
    assert "after: new/study" in text


def test_a_folder_that_has_rows_of_errors_alone_is_named(tmp_path):
    with pytest.raises(ValueError, match="study holds no trial record; a study's lie in"):
        given.timed_under(given.Source(tmp_path / "study", Records(), synthetic.precision()), "")


def test_compare_names_the_side_that_has_no_trial_of_the_conditions(tmp_path):
    for side, under in (("a", {"cache": "cold"}), ("b", {})):
        synthetic.write(tmp_path / side, synthetic.trial(NAMES[0], {"unfold_matmul": 2.0}, under=under))
    with pytest.raises(ValueError, match=r"b: no trial was timed under cache=cold conditions; of others .* usual ones"):
        compare(tmp_path / "a", tmp_path / "b", page=tmp_path / "p.html", condition=("cache=cold",))
