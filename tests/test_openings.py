"""The first sentences of chapters, of data with a known answer."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

from analysis.data.study_data import Scope
from analysis.gaps import STRICT
from analysis.report import openings, page

HERE, THERE = (Scope(name, "cpu", f"{name}, cpu", True) for name in ("here", "there"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("Alike.", "Alike."), ("Alike.",)),
        (("One.", "Another."), ("here, cpu: One.", "there, cpu: Another.")),
        (("One.", ""), ("here, cpu: One.",)),
        (("", ""), ()),
    ],
)
def test_what_holds_everywhere_is_said_once_and_all_else_where_it_holds(monkeypatch, said, told):
    chapter = SimpleNamespace(name="one", title="One", opening=lambda data, frames: data)
    monkeypatch.setattr(page, "CHAPTERS", (chapter,))
    every: Any = {scope: (text, {}) for scope, text in zip((HERE, THERE), said, strict=True)}
    assert page.openings(every, STRICT) == {"one": told}


def costs(ratios: dict[str, float], errors: dict[str, float]) -> pandas.DataFrame:
    """A problem each: direct takes 1 and errs by 1, the other way as given."""
    place = {"machine": "m", "device": "cpu", "group": "networks", "dtype": "float32"}
    rows = [
        place | {"problem": problem, "way": way, "baseline": way == "direct", "ratio": ratio, "error_u": error}
        for problem in ratios
        for way, ratio, error in (("direct", 1.0, 1.0), ("fft", ratios[problem], errors[problem]))
    ]
    return pandas.DataFrame(rows)


def test_what_speed_costs_in_accuracy_and_what_it_gains_is_counted():
    frame = costs(dict.fromkeys("abcd", 0.5) | {"e": 2.0}, dict(zip("abcde", (1.2, 0.8, 1.05, 0.95, 9.0), strict=True)))
    told = openings.trade_off(SimpleNamespace(costs=frame), {})  # type: ignore[arg-type]
    assert told == (
        "The error of the fastest way, by estimate, against that of `direct`: by a factor of over 1.1 larger on 1 and "
        "smaller on 1 of 5 problems in float32."
    )


def merged(ratios: tuple[float, ...], known: tuple[bool, ...]) -> pandas.DataFrame:
    pairs = list(zip(ratios, known, strict=True))
    verdicts = ["undecided" if not sure else "faster" if ratio < 1 else "slower" for ratio, sure in pairs]
    lower = [1 / ratio if sure else math.nan for ratio, sure in pairs]
    return pandas.DataFrame({"ratio": ratios, "speedup_lower": lower, "verdict": verdicts}).assign(
        group="stacks", way="merged/direct", dtype="bfloat16"
    )


def test_stacks_in_batches_are_among_the_stacks():
    frame = merged((0.5, 2.0), (True, True)).assign(group=["throughput", "borders"])
    told = openings.merge(SimpleNamespace(speedups=frame), {})  # type: ignore[arg-type]
    assert told == "In bfloat16, merging the whole stack is faster on 1 and slower on 1 of the 2 stacks."


def test_stacks_that_are_far_slower_merged_are_told_where_there_is_no_interval():
    frame = merged((0.5, 2.0, 3.4, 40.0, 1.5), (True, True, False, False, False))
    told = openings.merge(SimpleNamespace(speedups=frame), {})  # type: ignore[arg-type]
    assert told == (
        "In bfloat16, merging the whole stack is faster on 1 and slower on 1 of the 5 stacks; of the others 2 without "
        "an interval take over 3 times as long as stacked."
    )
    told = openings.merge(SimpleNamespace(speedups=frame[:2]), {})  # type: ignore[arg-type]
    assert told == "In bfloat16, merging the whole stack is faster on 1 and slower on 1 of the 2 stacks."


@pytest.mark.parametrize(("processes", "why"), [(5, ", for intervals need 6 processes"), (6, "")])
def test_why_no_way_is_clearly_fastest(processes, why):
    frame = pandas.DataFrame({"group": "networks", "dtype": "float32", "way": "", "processes": [processes] * 3})
    told = openings.method(SimpleNamespace(), {"winners": frame})  # type: ignore[arg-type]
    assert told == f"Single layers, float32: no way is clearly fastest on any of 3 layers{why}."


def test_who_is_clearly_fastest_on_how_many_layers():
    ways = ["fft", "fft", "fft", "direct", "winograd_f4", ""]
    frame = pandas.DataFrame({"group": "networks", "dtype": "float32", "way": ways, "processes": 6})
    told = openings.method(SimpleNamespace(), {"winners": frame})  # type: ignore[arg-type]
    assert told == "Single layers, float32: `fft` is clearly fastest on 3 of 6 layers, others on 2; on 1 none is."
