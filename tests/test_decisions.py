"""The losses of decisions, on rows whose answer is known, and the cases that are timed."""

from __future__ import annotations

import pandas
import pytest

from analysis.measure import decisions
from analysis.measure.decisions import COLUMNS, cases, losses, summary


def made(merges: bool, times: list[tuple[float, float]], size: int = 8) -> list[tuple[object, ...]]:
    """One case in as many processes as there are pairs of seconds: layers, merged."""
    return [(process, "pair", "float32", size, 1, merges, *pair) for process, pair in enumerate(times)]


def test_a_decision_loses_against_the_faster_of_the_two() -> None:
    frame = pandas.DataFrame(
        [
            *made(True, [(1.0, 2.0), (1.0, 1.1), (1.0, 0.5)], size=8),
            *made(False, [(1.5, 1.0), (1.25, 1.0), (1.3, 1.0)], size=24),
            *made(True, [(1.0, 0.2)] * 3, size=64),
        ],
        columns=list(COLUMNS),
    )
    found = losses(frame).set_index("size")
    assert list(found.loss) == pytest.approx([0.1, 0.3, 0.0])
    assert list(found.least_loss) == pytest.approx([0.0, 0.25, 0.0])
    assert list(found.ratio) == pytest.approx([1.1, 1 / 1.3, 0.2])
    head, first, second = summary(frame)
    assert head.startswith(
        "float32: of 3 decisions 2 lose over 5% in the median of 3 processes, 1 over 20% in every one"
    )
    assert "merged is faster in 2 cases, 2 are merged" in head
    assert first.endswith("at 8², float32, batch 1: merged, merged takes 1.10 times as long")
    assert second.endswith("at 24², float32, batch 1: left, merged takes 0.77 times as long")


def test_the_grid_is_dense_and_grouped_small_and_large_in_two_dtypes() -> None:
    found = list(cases())
    assert len(found) >= 60
    assert {stack.groups > 1 for stack, *_ in found} == {True, False}
    assert {dtype for _, dtype, _ in found} == {"float32", "bfloat16"}
    assert {problem.size[0] for *_, problem in found} == {8, 24, 64, 192}
    assert len({(dtype, problem) for _, dtype, problem in found}) == len(found)


def test_every_case_is_timed_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, for the first two cases."""
    few = list(cases())[:2]
    monkeypatch.setattr(decisions, "cases", lambda: iter(few))
    monkeypatch.setattr(decisions, "BUDGET_S", 0.002)
    frame = pandas.DataFrame([row for process in (0, 1) for row in decisions._timed(process)], columns=list(COLUMNS))
    assert len(frame) == 4
    assert (frame[["layers_s", "merged_s"]] > 0).all(axis=None)
    assert not frame.merges.any()  # the tests time nothing beforehand, so that the layers run


def test_one_decision_is_said_in_the_singular() -> None:
    head = summary(pandas.DataFrame(made(True, [(1.0, 2.0)]), columns=list(COLUMNS)))[0]
    assert head.startswith("float32: of 1 decision 1 loses over 5% in the median of 1 process, 1 over 20% in every one")
    assert head.endswith("merged is faster in 0 cases, 1 is merged.")
