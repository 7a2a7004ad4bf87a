"""What the report says of processes: one row each, why they ended, page faults and two groups, from made-up times."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.data import processes, speedups
from analysis.data.records import Record, Records
from analysis.report.sections import noise
from analysis.report.sections import processes as section
from linear_lasagna.trial import Trial
from linear_lasagna.trial.record import Repeat
from tests import synthetic
from tests.reporting import Study, study

LAYER = "resnet50/conv2_3x3"
WIDE = tuple(1 + 0.1 * (place - 5.5) for place in (0, 11, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6))


def records(*trials: Trial) -> Records:
    return Records(tuple(Record(trial, "networks", "m") for trial in trials))


def shown(*trials: Trial) -> tuple[Study, str]:
    """A study, and all that the section says."""
    found = study(records(*trials))
    part = found.section(section.SECTION)
    assert part is not None
    rows = [" ".join(map(str, row)) for table in part.tables for row in table.rows]
    return found, "\n".join([part.empty if not part.tables else "", *rows, *part.notes])


def faulty(faults: list[float], times: list[float]) -> Trial:
    """unfold_matmul with the given page faults per call and times, a process each."""
    trial = synthetic.trial(LAYER, {"unfold_matmul": synthetic.cell(1e-3, times)})
    trial.cells["unfold_matmul"].faults = faults[0]
    for repeat, value in zip(trial.repeats, faults[1:], strict=False):
        repeat.faults["unfold_matmul"] = value
    return trial


def test_every_process_of_every_way_is_a_row():
    trial = faulty([0.0, 512.0, 3.0], [2.0, 3.0, 2.5])
    trial.repeats[1].conditions |= {"steal": 0.25, "mhz": 1800.0, "preempted": 7}
    rows = processes.processes(records(trial)).set_index(["way", "process"])
    assert rows.loc["unfold_matmul", "seconds"].tolist() == pytest.approx([2e-3, 3e-3, 2.5e-3])
    assert rows.loc["unfold_matmul", "ratio"].tolist() == pytest.approx([2.0, 3.0, 2.5])
    assert rows.loc["unfold_matmul", "faults"].tolist() == [0.0, 512.0, 3.0]
    assert rows.loc["direct", "ratio"].tolist() == [1.0] * 12
    kept = ["steal", "mhz", "preempted", "allocator", "started"]
    assert rows.loc[("direct", 3), kept].tolist() == [0.25, 1800.0, 7, "keep", "2020-01-01T00:02:00Z"]
    assert rows.loc[("direct", 1), kept].tolist() == [0.0, 2500.0, 0, "keep", "2020-01-01T00:00:00Z"]
    assert len(rows) == 12 + 12 + 3


def test_a_process_that_ended_without_a_time_is_counted_and_is_no_row():
    trial = synthetic.trial(LAYER, {"unfold_matmul": 2.0})
    trial.repeats.insert(3, Repeat(reason="the child process was killed"))
    found, text = shown(trial)
    assert found.files["processes"]["process"].unique().tolist() == [1, 2, 3, 4, *range(6, 14)]
    assert "1 repeat of a trial in a further process ended without a time; one reason: the child process was" in text


def test_cells_are_counted_by_why_no_further_process_timed_them():
    """In float32 two that are decided; one narrow; undecided after 18 processes; undecided after 12; of one process."""
    narrow = tuple(1 + 0.001 * (place - 5.5) for place in range(12))
    many = (*WIDE, *WIDE[:6])
    ways = {
        "unfold_matmul": 2.0,
        "patch_matmul": 3.0,
        "im2col_numpy": synthetic.cell(1.01e-3, narrow),
        "direct_channels_last": synthetic.cell(1e-3, many),
        "shifted_matmul": synthetic.cell(1e-3, WIDE),
        "strided_matmul": synthetic.cell(0.5, (1.0,)),
    }
    trial = synthetic.trial(LAYER, ways)
    baseline = synthetic.cell(1e-3, (1.0,) * 18)
    for way in ("direct", "control"):
        synthetic.put(trial, way, baseline)
    found, text = shown(trial, replace(trial, dtype="bfloat16", repeats=[]))
    rows = found.frames["spreads"].set_index("dtype")
    counts = ["cells", "several", "least_processes", "median_processes", "most_processes"]
    assert rows.loc["float32", counts].tolist() == [6, 5, 1, 12.0, 18]
    ends = [f"ended_{end}" for end in ("verdict", "precise", "most", "time")]
    assert rows.loc["float32", ends].tolist() == [2, 1, 1, 1]
    assert rows.loc["bfloat16", ["several", *ends]].tolist() == [0] * 5
    frame = speedups.speedups(records(trial)).set_index("way")
    assert frame.loc[list(ways), "ended"].tolist() == ["verdict", "verdict", "precise", "most", "time", ""]
    assert rows.loc["float32", "between"] == pytest.approx(sorted(frame.loc[[*ways][:5], "between"])[2])
    assert "float32 6 12 1 to 18" in text


@pytest.mark.parametrize(
    ("faults", "times", "correlation", "words"),
    [
        ([0, 10, 20, 30, 40, 50], [1, 2, 3, 4, 5, 6], 1.0, "in 1 (unfold_matmul on resnet50/conv2_3x3 in float32)"),
        ([0, 10, 20, 30, 40, 50], [6, 5, 4, 3, 2, 1], -1.0, "as only chance would have it, in 1"),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 3, 4, 5, 6], math.nan, "In no cell do the page faults per call differ"),
    ],
)
def test_times_that_go_with_page_faults_are_named(faults, times, correlation, words):
    found, text = shown(faulty(faults, times))
    row = found.frames["process_groups"].set_index("way").loc["unfold_matmul"]
    assert row["fault_correlation"] == pytest.approx(correlation, nan_ok=True)
    assert words in text
    differ = "0 of 3 cells" if math.isnan(correlation) else "1 of 3 cells"
    assert differ in text


@pytest.mark.parametrize(
    ("values", "gap"),
    [
        ([0.0, 0.01, 0.02, 0.2, 0.21, 0.21], 0.18),
        ([0.2, 0.0, 0.21, 0.01], 0.19),
        ([0.0, 0.01, 0.02, 0.03, 0.04, 0.5], math.nan),  # one alone is no group
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], math.nan),
        ([0.0, 0.05, 0.1, 0.3, 0.35, 0.4], math.nan),  # twice as far apart as either is wide
        ([0.0, 0.001, 0.002, 0.04, 0.041, 0.042], math.nan),  # under 5 %
        ([0.0, 0.2], math.nan),
    ],
)
def test_two_groups_lie_far_apart_and_close_together(values, gap):
    assert processes.two_groups(values) == pytest.approx(gap, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.one_of(st.none(), st.integers(0, 5))), max_size=40))
def test_rank_correlations_are_spearman_s(rows):
    """Of small whole numbers, so that there are ties; one column lacks some."""
    frame = pandas.DataFrame(rows, columns=["group", "seconds", "faults"]).astype({"seconds": float, "faults": float})
    found = processes.rank_correlations(frame[["seconds", "faults"]], frame["group"])
    for group, cell in frame.groupby("group"):
        known = cell.dropna()
        varies = len(known) > 1 and known["seconds"].nunique() > 1 and known["faults"].nunique() > 1
        expected = stats.spearmanr(known["seconds"], known["faults"]).statistic if varies else math.nan
        assert found.get(group, math.nan) == pytest.approx(expected, nan_ok=True)


def test_a_ratio_of_two_values_is_named():
    _, text = shown(synthetic.trial(LAYER, {"unfold_matmul": synthetic.cell(1e-3, (1.0, 1.3) * 6)}))
    assert "in 1 of 2 cells (unfold_matmul on resnet50/conv2_3x3 in float32); of 6" in text


def test_processes_that_depend_on_each_other_show():
    rising = {"unfold_matmul": synthetic.cell(1e-3, tuple(1 + 0.01 * place for place in range(12)))}
    frame = processes.processes(records(synthetic.trial(LAYER, rising)))
    assert processes.dependence(frame) > 0.6
    _, text = shown(synthetic.trial(LAYER, {"unfold_matmul": synthetic.cell(1e-3, (1.0, 1.1) * 6)}))
    assert "in the order of their time, is −0.8" in text


def test_conditions_that_differ_between_processes_are_counted():
    trial = synthetic.trial(LAYER, {"unfold_matmul": 2.0})
    trial.repeats[4].conditions |= {"steal": 0.5, "allocator": "default"}
    _, text = shown(trial, synthetic.trial("vgg16/conv5", {"unfold_matmul": 2.0}))
    assert "steal: time that other machines took 0 % 0 % 50 % 1 of 2 trials" in text
    assert "MHz of the processors 2500 2500 2500 0 of 2 trials" in text
    assert "allocator default and keep   1 of 2 trials" in text


def test_trials_of_one_process_have_no_such_section_and_say_so():
    found, text = shown(synthetic.trial(LAYER, {"unfold_matmul": 2.0}, several=False))
    assert text == "Every trial was timed in one process alone: no interval on this page is between processes."
    assert set(found.files["processes"]["process"]) == {1}


@pytest.mark.parametrize(("several", "controls"), [(True, 12), (False, 1)])
def test_controls_are_judged_between_processes_where_there_are_several(several: bool, controls: Any):
    """Its blocks are 5 % slower in every process but the first, in which they are faster."""
    off = synthetic.cell(1.05e-3, (0.9, *(1.0 + 1e-4 * place for place in range(11))))
    trial = synthetic.trial(LAYER, {"control": off}, several=several)
    [row] = noise.controls(records(trial)).to_dict("records")
    assert (row["processes"], row["verdict"]) == (controls, "slower")
    text = next(line.text for line in study(records(trial)).headlines if line.title == "Noise floor")
    assert f"by interval {'between processes' if several else 'within one process'} and a margin of 1 % alone" in text
