"""merge_model's report as a table of 100 columns and as data: names of any length, any number of runs."""

import dataclasses
import json
import math

import pytest
import torch
from blocks import SESR, drawn, normalised, trained
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from linear_lasagna.models import Measured, Note, Report, RunReport, Whole, merge_model
from linear_lasagna.models.report import Errors
from linear_lasagna.models.table import WIDTH, shortened
from linear_lasagna.rounding.certificate import Certificate
from linear_lasagna.timing import Comparison

NAMES = st.lists(st.text(min_size=1, max_size=70), min_size=1, max_size=8).map(".".join)
LISTS = st.lists(NAMES, min_size=1, max_size=30).map(tuple)
SHAPES = st.lists(st.integers(1, 10**6), min_size=2, max_size=4).map(tuple)
COUNTS = st.integers(0, 10**24)
ERRORS = st.floats(0, 1e300)
SECONDS = st.floats(1e-9, 1e7)
RATIOS = st.builds(
    Comparison,
    SECONDS,
    st.floats(1e-9, 1e9) | st.just(math.nan),
    st.floats(1e-9, 1e9) | st.just(math.nan),
    st.sampled_from(["faster", "slower", "tie", "undecided"]),
    st.just(0.01),
    st.just(12),
    st.integers(1, 18),
)
MEASURED = st.builds(Measured, SECONDS, SECONDS, RATIOS, st.none() | ERRORS, ERRORS)
LOST = st.builds(Errors, ERRORS, ERRORS, ERRORS, ERRORS)
CERTIFICATES = st.builds(
    Certificate, ERRORS, st.tuples(ERRORS | st.just(math.inf)), st.tuples(ERRORS), st.tuples(ERRORS), st.booleans()
)
LEFT = st.builds(RunReport, LISTS, st.just(()), st.just(()), SHAPES, SHAPES, COUNTS, COUNTS, left=st.text(max_size=300))


@st.composite
def merged_runs(draw):
    groups = draw(st.lists(LISTS, min_size=1, max_size=4))
    new = tuple(draw(NAMES) for _ in groups)
    names = tuple(name for group in groups for name in group)
    predicted = draw(st.none() | st.tuples(ERRORS, ERRORS))
    rest = (draw(SHAPES), draw(SHAPES), draw(COUNTS), draw(COUNTS), predicted, draw(st.none() | MEASURED))
    rest = (*rest, draw(st.none() | LOST), draw(st.none() | CERTIFICATES))
    return RunReport(names, tuple(groups), new, *rest)


WHOLES = st.builds(
    Whole, SECONDS, SECONDS, RATIOS, SECONDS, SECONDS, SECONDS, SECONDS, st.none() | st.text(min_size=1, max_size=200)
)
REPORTS = st.builds(
    Report,
    st.lists(merged_runs() | LEFT, max_size=5).map(tuple),
    st.lists(st.builds(Note, LISTS, st.text(min_size=1, max_size=300), st.booleans()), max_size=4).map(tuple),
    LISTS | st.just(()),
    st.integers(0, 100),
    st.floats(0, 100),
    st.none() | WHOLES,
)


@given(REPORTS)
def test_every_report_fits_in_100_columns_and_in_strict_json(report):
    lines = str(report).split("\n")
    assert max(map(len, lines)) <= WIDTH
    assert all(character.isprintable() for line in lines for character in line)
    text = report.to_json()
    assert json.loads(text, parse_constant=pytest.fail) == report.to_dict()
    data = report.to_dict()
    assert "".join(str(report).split()).startswith("".join(data["outcome"].split()))
    assert set(data) == {field.name for field in dataclasses.fields(Report)} | {
        "outcome",
        "operations_before",
        "operations_after",
    }
    assert [run["layers"] for run in data["runs"]] == [list(run.layers) for run in report.runs]


@given(st.text(max_size=300), st.integers(1, 200))
def test_shortened_names_keep_their_ends(name, width):
    short = shortened(name, width)
    assert len(short) == min(len(name), width)
    if len(name) > width:
        start, end = short.split("…", 1) if "…" not in name else (short[: width // 2], short[width // 2 + 1 :])
        assert name.startswith(start)
        assert name.endswith(end)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.wide, self.norm = nn.Conv2d(channels, 8 * channels, 1), nn.BatchNorm2d(8 * channels)
        self.narrow = nn.Conv2d(8 * channels, channels, 1)

    def forward(self, x):
        return torch.relu(self.narrow(self.norm(self.wide(x))))


class Stages(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 3)
        self.stage = nn.Sequential(*(Block(4) for _ in range(blocks)))
        self.head = nn.Sequential(normalised(4, 2, 3), nn.Tanh())

    def forward(self, x):
        return self.head(self.stage(torch.relu(self.stem(x))))


def test_runs_alike_are_one_row():
    _, report = merge_model(trained(Stages(6)), drawn(1, 4, 10, 10))
    assert len(report.runs) == 7
    lines = str(report).split("\n")
    assert lines[0] == "7 of 7 runs merged, 113 k -> 8.74 k operations per image"
    assert [line for line in lines[1:] if not line.startswith(" ")] == [
        "stage.0 … stage.5: 6 runs alike: wide + norm + narrow -> merged",
        "head.0: 0 + 1 -> merged",
        "note: stem: convolution is in no run: what is beside it is not linear, or has a note of its own",
    ]
    assert lines[2].split()[:1] == ["stage.0"]


def test_two_runs_alike_are_two_rows():
    _, report = merge_model(trained(Stages(2)), drawn(1, 4, 10, 10))
    titles = [line for line in str(report).split("\n")[1:] if not line.startswith(" ")]
    assert [title.partition(":")[0] for title in titles] == ["stage.0", "stage.1", "head.0", "note"]


def test_nothing_to_merge_explains_itself():
    model = trained(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.GELU()))
    _, report = merge_model(model, drawn(1, 2, 8, 8))
    assert report.linear == ("0", "2")
    text = " ".join(str(report).split())
    assert text.startswith("0 of 0 runs merged: a run is at least two linear operations")
    assert "this model has 2 linear operations, not in a run: 0, 2" in text
    _, report = merge_model(nn.Sequential(nn.Tanh()), drawn(1, 4))
    assert "no linear operation" in " ".join(str(report).split())


def test_what_was_folded_and_moved_alone_is_told_first():
    """A classifier's head becomes one linear layer behind the mean over positions: no run, but not nothing."""
    parts = (nn.Conv2d(2, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    _, report = merge_model(trained(nn.Sequential(*parts)), drawn(1, 2, 8, 8))
    assert [note.done for note in report.notes] == [True] * 3 + [False] * (len(report.notes) - 3)
    outcome = report.to_dict()["outcome"]
    assert outcome.startswith("0 of 0 runs merged; 3 changes beside runs, which the notes name: a run is at least two")
    assert outcome.endswith("this model has 3 linear operations, not in a run: 1, 2, merged_1")
    assert " ".join(str(report).split()).startswith(outcome)


def test_changes_beside_a_run_are_counted():
    model = trained(nn.Sequential(normalised(4, 2, 3), nn.ReLU(), nn.ConvTranspose2d(2, 2, 2), nn.BatchNorm2d(2)))
    _, report = merge_model(model, drawn(1, 4, 10, 10))
    assert str(report).startswith("1 of 1 run merged, ")
    assert str(report).split("\n")[0].endswith(" operations per image; 1 change beside runs, which the notes name")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.qkv(torch.tanh(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * 0.5 @ k.transpose(-2, -1)).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2))


def test_a_transformer_s_report_is_short_and_names_all():
    _, report = merge_model(nn.Sequential(*(Attention() for _ in range(30))).eval(), drawn(1, 5, 8).double().float())
    assert len(str(report).split("\n")) < 30
    assert sum(len(note.layers) for note in report.notes) == len(report.linear) == 30 * 10
    kinds = {note.reason.partition(" is in no run")[0] for note in report.notes}
    assert {"linear layer", "addition", "another shape or order of axes", "a part of a value"} <= kinds
    assert "(60 operations): linear layer is in no run" in " ".join(str(report).split())


def test_notes_with_one_reason_are_one_line():
    notes = tuple(Note((f"blocks.{n}.conv",), "hooks run around it") for n in range(7))
    assert str(Report((), notes)).split("\n")[-1].startswith("note: blocks.0.conv; blocks.1.conv")
    assert str(Report((), notes)).split("\n")[-1].endswith("(7 places): hooks run around it")


def test_numbers_that_are_not_finite_are_null():
    ratio = Comparison(1.0, math.nan, math.nan, "undecided", 0.01, 3)
    run = RunReport(("a", "b"), (("a", "b"),), ("merged",), (1, 2), (1, 2), 8, 4, (1e-7, math.inf))
    run = dataclasses.replace(run, measured=Measured(1.0, 1.0, ratio, None, None))
    (data,) = Report((run,)).to_dict()["runs"]
    assert data["predicted_error"] == [1e-7, None]
    assert (data["measured"]["comparison"]["lower"], data["measured"]["error_before"]) == (None, None)


def test_report_of_a_merged_model_is_data():
    _, report = merge_model(trained(SESR(4, 64), dtype=torch.float32), drawn(3, 4, 8, 8, dtype=torch.float32))
    data = json.loads(report.to_json())
    (run,) = data["runs"]
    assert run["groups"] == [run["layers"]] == [["expand", "squeeze"]]
    assert run["modules"] == ["merged"]
    assert (data["operations_before"], run["operations_before"]) == (163840, 163840)
    assert data["linear"] == ["expand", "squeeze", "add"]
    assert data["whole"] is None


def test_the_sentence_is_about_the_errors_in_the_row():
    """Of the whole example where it was measured, not of the part that is always looked at."""
    ratio = Comparison(0.5, 0.4, 0.6, "faster", 0.01, 12, 6)
    run = RunReport(("a", "b"), (("a", "b"),), ("merged",), (3, 8, 8), (3, 8, 8), 200, 100)
    run = dataclasses.replace(run, errors=Errors(1e-8, 1.2e-8, 2e-9, 1e-8))
    assert "merging makes the error 1.2 times as large and the error after averaging" in str(Report((run,)))
    run = dataclasses.replace(run, measured=Measured(2.0, 1.0, ratio, 1e-8, 3e-8))
    assert "1.0e-08 -> 3.0e-08" in str(Report((run,)))
    assert "merging makes the error 3 times as large and the error after averaging" in str(Report((run,)))
