"""What is simulated is what was committed; noise is as it is said to be; sums and sentences of known rows."""

from __future__ import annotations

import itertools
import math
import statistics
from random import Random

import pandas
import pytest

from analysis.data import characteristics as data
from analysis.measure import characteristics, fresh
from analysis.measure.characteristics import CALLS, COLUMNS, DIFFERENCES, METHODS, NOISE, Outcome
from analysis.report.sections.characteristics import answer
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.intervals import LEAST_PROCESSES, process_interval
from linear_lasagna.trial import Cell, Trial, isolation
from linear_lasagna.trial.processes import MOST_PROCESSES
from linear_lasagna.trial.record import Repeat

ROWS = data.committed()
KEYS = ["method", "noise", "difference"]


def test_every_model_method_and_difference_is_committed():
    expected = {(method, noise, difference) for method in METHODS for noise in NOISE for difference in DIFFERENCES}
    assert list(ROWS.columns) == COLUMNS
    assert set(ROWS[KEYS].itertuples(index=False, name=None)) == expected
    assert len(ROWS) == len(expected) == characteristics.STEPS
    assert ROWS["cells"].min() >= 1000


@pytest.mark.parametrize("noise", NOISE)
def test_the_committed_numbers_are_those_of_this_code(noise):
    """The first trials of each row again. Where this fails, timing or the rules have changed what trials come to:
    `python -m analysis noise --simulated --out analysis/data/characteristics.csv` makes the file anew.
    """
    rows = ROWS[ROWS["noise"] == noise].itertuples(index=False)
    stale = [row[:3] for row in rows if characteristics.digest(*row[:3]) != row.digest]
    assert not stale


def test_rows_are_the_sums_of_their_trials(monkeypatch):
    monkeypatch.setattr(characteristics, "NOISE", {"independent": NOISE["independent"]})
    monkeypatch.setattr(characteristics, "DIFFERENCES", (0.05,))
    ticks = []
    frame = characteristics.rows(2, lambda: ticks.append(1))
    assert len(ticks) == len(frame) == 2
    several = frame.iloc[0]
    assert (several["cells"], several["intervals"]) == (4, 4)
    assert several["by_verdict"] + several["by_precise"] + several["by_most"] == 4
    assert LEAST_PROCESSES <= several["processes"] <= MOST_PROCESSES
    assert frame.iloc[1]["processes"] == 1


def test_a_trial_has_as_many_processes_as_the_rule_asks_for():
    """Calls 5 % apart and hardly noisy need six; equal ones under the same noise more, but not over the most."""
    clear = characteristics.several("heavy tails", 0.05, 0)
    equal = characteristics.several("processes apart", 0.0, 0)
    assert {(each.verdict, each.processes) for each in clear} == {("slower", 6), ("faster", 6)}
    assert {each.processes for each in equal} == {MOST_PROCESSES}


@pytest.mark.parametrize("name", NOISE)
def test_noise_favours_no_call(name):
    """In the median over processes the way's log ratio is 0: by symmetry, but for the order, which favours what makes
    others slow."""
    logs, past = [], {}
    draw = Random(name)
    for process in range(400):
        slowed, now = NOISE[name](draw, process % MOST_PROCESSES, past), 0.0
        rounds = []
        for turn in range(12):
            order = draw.sample(CALLS, len(CALLS))
            times = {}
            for call in order:
                times[call] = slowed(call, turn // 4, now)
                now += 1e-3 * math.exp(times[call])
            rounds.append(times["slower"] - times["direct"])
        logs.append(statistics.median(rounds))
    below = sum(value < 0 for value in logs)
    lopsided = abs(below - 200) > 4 * 10 * (3 if name == "correlated processes" else 1)
    assert lopsided == (name == "order")


@pytest.mark.parametrize(
    ("verdict", "difference", "false"),
    [
        ("tie", 0.0, False),
        ("slower", 0.0, True),
        ("faster", 0.0, True),
        ("undecided", 0.05, False),
        ("tie", 0.01, False),
        ("tie", 0.02, True),
        ("slower", 0.01, False),
        ("faster", 0.01, True),
    ],
)
def test_what_a_false_verdict_is(verdict, difference, false):
    assert characteristics._false(Outcome("slower", True, True, verdict, 6, "verdict"), difference) == false


def made(method: str, difference: float, **counts: int) -> dict[str, object]:
    zeros = dict.fromkeys(COLUMNS[3:], 0)
    return {"method": method, "noise": "known", "difference": difference, **zeros, "cells": 100, **counts}


def test_summary_of_known_rows():
    several, one = data.METHODS
    rows = [
        made(several, d, intervals=100, covered=c, found=50, processes=9)
        for d, c in zip(DIFFERENCES, (99, 95, 92, 97), strict=True)
    ]
    rows += [
        made(one, d, intervals=i, covered=40, wrong_verdicts=3, processes=1)
        for d, i in zip(DIFFERENCES, (50, 80, 40, 0), strict=True)
    ]
    [row] = data.summary(pandas.DataFrame(rows)).itertuples(index=False)
    assert (row.covered, row.false, row.found_2, row.fails) == (0.92, 0.0, 0.5, True)
    assert row.covered_one == 0.5  # 40 of 80; where none has an interval nothing is covered
    assert row.false_one == 0.03


def test_the_answer_names_where_the_method_fails():
    rows = data.summary(ROWS)
    named = rows.loc[rows["fails"], "noise"].tolist()
    text = answer(rows)
    assert named
    assert all(f"{name} (" in text for name in named)
    assert f"Under {len(rows) - len(named)} of {len(rows)} kinds of noise" in text


# Fresh processes


def test_draws_are_disjoint_and_judged_by_the_others():
    """13 processes, two draws: places 0, 2, …, 10 and 1, 3, …, 11; 7 others each, whose median is one of them."""
    ratios = [1.0 + 0.01 * place for place in range(13)]
    assert fresh.draws(ratios) == [True, True]
    high = [9.0 if place % 2 == 0 and place < 12 else 1.0 for place in range(13)]
    assert fresh.draws(high) == [False, False]
    assert fresh.draws(ratios[:6]) == []


def test_what_independent_processes_would_give():
    """Simulated: 13 processes, 2 draws of six. Seven others at first, their median the fourth."""
    draw, held = Random(0), []
    for _ in range(3000):
        held += fresh.draws([draw.gauss(0, 1) for _ in range(13)])
    expected = fresh.expected(13)
    assert expected == pytest.approx(1 - 2 * math.comb(9, 6) / math.comb(13, 6))
    assert abs(statistics.mean(held) - expected) < 4 * math.sqrt(expected * (1 - expected) / 3000)
    assert fresh.expected(7) == pytest.approx(1 - 2 / 7)


def test_coverage_of_known_ratios():
    frame = pandas.DataFrame(
        [("p", way, process, base + 0.01 * process) for way, base in (("a", 1.0), ("b", 2.0)) for process in range(13)]
        + [("p", "rare", 0, 5.0)],
        columns=fresh.COLUMNS,
    )
    cells = fresh.coverage(frame)
    assert cells[["way", "processes", "draws", "held"]].values.tolist() == [["a", 13, 2, 2], ["b", 13, 2, 2]]
    assert fresh.pooled(cells).startswith("4 of 4 intervals hold the others' median: 100.0% [51.0%, 100.0%]")
    assert process_interval([1.0, 1.02, 1.04, 1.06, 1.08, 1.1]) == (1.0, 1.1)
    assert fresh.pooled(cells[:0]) == "No way was timed in enough processes."


def test_every_process_times_every_way(monkeypatch):
    """Two problems, seven processes; the fourth dies with one of them, which then has six."""
    orders = []

    def run(problem, ways, **settings):
        return Trial(
            problem, "float32", "cpu", 1.0, 0, {"direct": Cell(samples=[[1.0]]), "way": Cell(samples=[[2.0]])}, {}
        )

    def again(works, seed):
        orders.append([trial.problem.name for _, trial in works])
        for _, trial in works:
            dies = seed == 3 and trial.problem.name == "sources/merge"
            yield Repeat(reason="died") if dies else Repeat(samples={"direct": [[1.0]], "way": [[2.0 + seed]]})

    monkeypatch.setattr(isolation, "run_isolated", run)
    monkeypatch.setattr(isolation, "repeat_isolated", again)
    ticks, problems = [], {"sources/merge": "sources", "sources/unfold": "sources"}
    frame = fresh.rows(7, "cpu", lambda: ticks.append(1), problems)
    found = {name: dict(zip(rows["process"], rows["ratio"], strict=True)) for name, rows in frame.groupby("problem")}
    every = {process: pytest.approx(2.0 + process) for process in range(7)}
    assert found == {"sources/merge": {k: v for k, v in every.items() if k != 3}, "sources/unfold": every}
    assert len(ticks) == 14
    assert {tuple(order) for order in orders} == set(itertools.permutations(problems))
    assert all(group in GROUPS and name in CATALOG for name, group in fresh.PROBLEMS.items())
    assert fresh.coverage(frame)[["problem", "draws"]].values.tolist() == [["sources/unfold", 1]]


@pytest.mark.parametrize(("processes", "device", "message"), [(6, "cpu", "7 or more"), (7, "tpu", "unknown device")])
def test_what_cannot_be_timed_is_refused(processes, device, message):
    with pytest.raises(ValueError, match=message):
        fresh.rows(processes, device, lambda: None)


def test_the_answer_tells_the_worst_of_what_fails_and_of_one_process():
    columns = ["noise", "covered", "false", "covered_one", "false_one", "fails"]
    numbers = [("calm", 0.97, 0.01, 0.96, 0.02, False), ("order", 0.7, 0.26, 0.5, 0.1, True)]
    numbers += [("drift", 0.95, 0.03, 0.14, 0.49, False)]
    told = answer(pandas.DataFrame(numbers, columns=columns))
    assert "Under 2 of 3 kinds of noise at least 95 % of the intervals between processes" in told
    assert "at most 3.0 % of the verdicts are false" in told
    assert "It fails under order (70 % hold it, 26 % of the verdicts are false)." in told
    assert told.endswith("in 2 of the 3: at worst 14 % hold it, and 49 % of the verdicts are false.")
