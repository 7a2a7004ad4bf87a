"""Recommendations: what is chosen of synthetic ways, and real ones measured in fresh processes."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from analysis import arguments
from analysis.measure import recommending
from analysis.measure.recommending import (
    Asked,
    Choice,
    Recommendation,
    chosen,
    contenders,
    predictions,
    recommend,
    steps,
)
from analysis.report.recommendation import as_json, cells, layers, print_recommendation, title
from linear_lasagna import Layer, Problem
from linear_lasagna.methods import direct
from linear_lasagna.trial import Cell, Trial, isolation
from linear_lasagna.trial.isolation import STARTING, Lineup, run_isolated

SMALL = Problem("asked", 2, 4, (9, 9), (Layer(6, 3),))


def choice(way, ratio, error=1e-4, verdict="undecided", allowed=True, status="ok"):
    ends = (ratio - 0.1, ratio + 0.1)
    return Choice(way, status, "", allowed, ratio, ends, ratio, ends, verdict, error)


@pytest.mark.parametrize(
    ("choices", "use", "why"),
    [
        (
            [choice("fast", 0.5, verdict="faster"), choice("direct", 1)],
            "fast",
            "the fastest: it takes 0.5 [0.4, 0.6]",
        ),
        ([choice("fast", 0.95), choice("direct", 1)], "direct", "none was found to be faster: fast takes 0.95"),
        ([choice("direct", 1), choice("slow", 2, verdict="slower")], "direct", "the fastest"),
        (
            [choice("good", 2), choice("direct", 1, allowed=False)],
            "good",
            "by 0.001 or less, of which direct is none",
        ),
        ([choice("direct", 1, 0.5, allowed=False), choice("b", 2, 0.1, allowed=False)], None, "b errs least, by 0.1"),
        ([choice("direct", math.nan, status="failed", allowed=False)], None, "no way computes this right here"),
    ],
)
def test_what_is_chosen(choices, use, why):
    found, said = chosen(choices, 1e-3)
    assert found == use
    assert why in said


@pytest.mark.parametrize(
    ("max_error", "kept"),
    [
        (1.0, ["direct", "control", "unfold_matmul", "merged/direct"]),
        (1e-3, ["direct", "control", "unfold_matmul", "fft"]),  # merged/direct errs by more
    ],
)
def test_ways_that_are_far_from_the_fastest_within_the_budget_are_not_timed_again(max_error, kept):
    seconds = {"direct": 5.0, "control": 5.0, "unfold_matmul": 1.9, "fft": 2.1, "merged/direct": 1.0}
    cells = {
        way: Cell(samples=[[value]], first_call_s=value, measures={"relative_l2": 1e-2 if "merged" in way else 1e-4})
        for way, value in seconds.items()
    }
    trial = Trial(SMALL, "float32", "cpu", 1.0, 0, cells | {"failed": Cell("failed")}, {})
    assert list(contenders(trial, max_error).cells) == kept


def test_a_process_that_does_not_load_is_told(monkeypatch):
    monkeypatch.setattr(isolation, "_wait", _ends)
    with pytest.raises(RuntimeError, match="did not start: it ended with exit code 3"):
        Lineup(("direct",), 1)


def test_where_one_does_not_load_all_are_ended(monkeypatch):
    def loaded(child):
        raise RuntimeError("not today")

    monkeypatch.setattr(isolation._Child, "loaded", loaded)
    with pytest.raises(RuntimeError, match="not today"):
        Lineup(("direct",), 2)
    assert not multiprocessing.active_children()


def _ends(pipe, watch):
    os._exit(3)


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("64,3", Layer(64, 3)),
        ("8,3x5,stride=2,padding=1x2,bias", Layer(8, (3, 5), 2, (1, 2), bias=True)),
        ("8,3,dilation=2,groups=4", Layer(8, 3, dilation=2, groups=4)),
    ],
)
def test_layers_as_they_are_typed(text, layer):
    assert arguments.layer(text) == layer


def test_a_layer_and_a_stack_are_measured(capsys):
    stack = Problem("asked", 1, 4, (12, 12), (Layer(16, 3, padding=1), Layer(4, 3, padding=1)))
    asked, ticks = [Asked(SMALL, "float32", "cpu"), Asked(stack, "float32", "cpu", 1e-9)], []
    layer, stacked = recommend(asked, lambda: ticks.append(1))
    assert len(ticks) == steps(asked) == 12
    assert layer.processes == 6
    assert layer.use in {each.way for each in layer.choices if each.allowed}
    direct = next(each for each in layer.choices if each.way == "direct")
    assert direct.predicted == pytest.approx(direct.relative_l2, rel=0.5)
    assert 0 < direct.share < 2
    assert direct.limit in ("operations", "bytes")
    assert 0 < direct.seconds_interval[0] <= direct.seconds <= direct.seconds_interval[1]
    assert all(each.share for each in stacked.choices if each.status == "ok")
    assert (stacked.use, stacked.why[:30]) == (None, "no way errs by 1e-09 or less; ")
    assert {each.way for each in stacked.choices if each.status == "ok"} >= {"direct", "border_exact/direct"}
    print_recommendation([layer, stacked])
    shown = capsys.readouterr().out
    assert "2×4×9×9, 3×3 to 6; float32, cpu; 6 processes" in shown
    assert f"Use {layer.use}: " in shown
    assert json.loads(as_json([layer, stacked]))[1]["use"] is None


def test_own_methods_and_ways_that_are_asked_for_are_compared(monkeypatch):
    own = replace(recommending.OWN, methods={"mine": direct.prepare_expanded})
    monkeypatch.setattr(recommending, "OWN", own)
    assert Asked(SMALL, "float32", "cpu", more=("merged/fft", "direct")).ways[-2:] == ("mine", "merged/fft")
    with pytest.raises(ValueError, match="unknown method 'nonsense' in way 'merged/nonsense'; known: direct,"):
        arguments.ways(["fft", "merged/nonsense"])


def test_errors_are_predicted_of_the_ways_asked_for():
    found = predictions(Asked(SMALL, "float32", "cpu"), ["direct", "control", "fft", "unfold_matmul"])
    assert list(found) == ["direct", "unfold_matmul"]


def test_a_model_s_convolutions_are_problems(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)
    ).eval()
    torch.export.save(torch.export.export(model, (torch.rand(2, 3, 16, 16),)), tmp_path / "model.pt2")
    problems = {problem.name: problem for problem in arguments.problems("", (), tmp_path / "model.pt2")}
    assert set(problems) == {"0", "3", "4", "3…4"}
    assert problems["3…4"].shapes == ((2, 8, 14, 14), (2, 8, 12, 12), (2, 4, 12, 12))


def test_times_have_one_unit():
    quick = replace(choice("direct", 1), seconds=0.0255, seconds_interval=(0.0253, 0.0257))
    assert cells(quick)[1] == "25.50 [25.30, 25.70] ms"
    assert cells(replace(quick, seconds_interval=(math.nan, math.nan)))[1] == "25.5 ms"


def test_what_a_table_is_headed_with():
    named = replace(SMALL, name="conv1", occurrences=3, layers=(Layer(6, (3, 1), stride=2, padding=(1, 0), groups=2),))
    assert layers(named) == ["3×1 to 6 stride 2 padding 1×0 groups 2"]
    found = Recommendation(Asked(named, "float16", "cpu"), (), None, "", 6)
    assert title(found).startswith("conv1: 2×4×9×9, 3×1 to 6 stride 2 padding 1×0 groups 2, 3 times; float16, cpu; 6")


def test_processes_that_wait_are_used_and_ended():
    with Lineup(("direct", "control"), 2) as lineup:
        waiting = list(lineup._waiting)
        assert all(child._doing[0] != STARTING for child in waiting)
        trial = run_isolated(SMALL, ("direct", "control"), budget_s=0.01, blocks=1, begin=lineup.begin)
        assert trial.named("ok") == ["direct", "control"]
        assert lineup._waiting == waiting[1:]
    assert not any(child._process.is_alive() for child in waiting)
