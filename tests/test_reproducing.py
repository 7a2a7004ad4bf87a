"""An edition's headlines measured again: reproduced, contradicted, undecided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.__main__ import reproduce as command
from analysis.data.records import Records, load
from analysis.edition import headlines, reproducing
from analysis.edition.headlines import Headline
from analysis.edition.making import make
from analysis.gaps import Gaps
from analysis.measure import trial_run
from analysis.measure.presets import PRESETS
from analysis.report import page
from linear_lasagna.trial.files import Key
from tests import synthetic
from tests.reporting import undrawn

STACK = "stacks/sesr_x1"
CONTEXT = page.Context("1.0", selection="smoke")


def written(folder: Path, ratio: float, layer: float = 0.8) -> Records:
    """A stack whose merged way takes `ratio` of the time, and a network's layers where another way takes `layer`."""
    synthetic.write(folder, synthetic.trial(STACK, {"merged/direct": ratio}), "stacks")
    for name in ("resnet50/conv2_3x3", "resnet50/conv3_3x3"):
        synthetic.write(folder, synthetic.trial(name, {"unfold_matmul": layer}), "networks")
    return load(folder)


def told(loaded: Records, rows: Any = None) -> list[Headline]:
    with undrawn():
        return headlines.chosen(page.rendering(loaded, rows, CONTEXT, Gaps(strict=True)))


def merging(factor: float) -> Any:
    """Rows of the experiment on merging: the merged error is so many times the stacked one, on six seeds."""
    import pandas

    rows = [
        {"dtype": dtype, "signs": "random", "depth": 8, "seed": seed, "way": way, "part": "total", "status": "ok"}
        | {"reason": "", "relative_l2": error * (1 + seed / 1000), "error_u": error, "problem": "plain_x8"}
        for dtype in ("float32", "float16")
        for seed in range(8)
        for way, error in (("direct", 1e-7), ("merged/direct", factor * 1e-7))
    ]
    parts = [row | {"part": part} for row in rows if row["way"] != "direct" for part in ("kernel", "sum")]
    frame = pandas.DataFrame(rows + parts)
    return frame.assign(experiment="merging", machine="synthetic", device="cpu", threads=1, fan_in=144, gain=1.0)


@pytest.mark.parametrize(
    ("ratio", "layer", "stack", "network"),
    [
        (0.3, 0.7, "reproduced", "reproduced"),
        (2.0, 1.5, "contradicted", "contradicted"),
        (1.0, 0.8, "undecided", "reproduced"),
    ],
)
def test_each_headline_is_judged_by_its_verdict(
    ratio: float, layer: float, stack: str, network: str, tmp_path: Path
) -> None:
    loaded = written(tmp_path / "before", 0.25)
    asked: list[Key] = []

    def timed(keys: Sequence[Key], preset: Any) -> Records:
        asked.extend(keys)
        assert preset is PRESETS["smoke"]
        return written(tmp_path / "after", ratio, layer)

    outcomes = list(reproducing.reproduce(told(loaded), loaded, "smoke", timed, lambda *_: None))
    assert [(each.headline.kind, each.said) for each in outcomes] == [("speedup", stack), ("network", network)]
    assert {key.problem for key in asked} == {STACK, "resnet50/conv2_3x3", "resnet50/conv3_3x3"}
    assert all(each.headline.claim in reproducing.line(each) for each in outcomes)


@pytest.mark.parametrize(("factor", "said"), [(2.1, "reproduced"), (0.5, "contradicted"), (1.0, "undecided")])
def test_errors_are_computed_again(factor: float, said: str, tmp_path: Path) -> None:
    before = told(Records(), merging(2.0))
    assert [(each.kind, each.dtype, each.verdict) for each in before] == [
        ("error", "float16", "larger"),
        ("error", "float32", "larger"),
    ]
    outcomes = reproducing.reproduce(before, Records(), "smoke", _never, lambda *_: merging(factor))
    assert [each.said for each in outcomes] == [said, said]


def _never(*_: Any) -> Records:
    raise AssertionError("no trial is needed")


def test_what_is_not_found_again_is_undecided(tmp_path: Path) -> None:
    loaded = written(tmp_path, 0.25)
    outcomes = list(reproducing.reproduce(told(loaded), loaded, "smoke", lambda *_: Records(), lambda *_: None))
    assert {each.said for each in outcomes} == {"undecided"}
    assert "not measured" in reproducing.line(outcomes[0])


def test_what_this_version_lacks_is_refused_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = written(tmp_path, 0.25)
    lines = told(loaded)
    other = replace(loaded, entries=tuple(replace(record, group="folded") for record in loaded))
    with pytest.raises(ValueError, match=r"has no stacks/sesr_x1 in the group folded"):
        reproducing.reproduce([replace(lines[0], group="folded")], other, "smoke", _never, lambda *_: None)
    monkeypatch.setattr("linear_lasagna.devices.unavailable", lambda device: "no such card")
    with pytest.raises(ValueError, match="is of cuda, which is not here: no such card"):
        reproducing.checked([Key("stacks", STACK, "float32", "cuda")])


def test_headlines_are_read_as_they_are_written(tmp_path: Path) -> None:
    lines = told(written(tmp_path, 0.25))
    assert headlines.read([asdict(each) for each in lines]) == lines
    for spoilt in (None, [{}], [{**asdict(lines[0]), "kind": "other"}], [1]):
        with pytest.raises(ValueError, match="headline"):
            headlines.read(spoilt)


def test_trials_are_timed_by_the_code_of_a_study_and_leave_no_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def time_all(specification: Any, log: Path, progress: Any, keep: Any, home: Path) -> float:
        seen.append((specification, home))
        synthetic.write(home / ".asv" / "trials", synthetic.trial(STACK, {"merged/direct": 0.5}), "stacks")
        return 0.0

    monkeypatch.setattr(trial_run, "time_all", time_all)
    monkeypatch.setattr("analysis.study.LOCK", tmp_path / "study.lock")
    keys = [Key("stacks", STACK, "float32", "cpu")]
    loaded = reproducing.timed(keys, PRESETS["smoke"])
    [(specification, home)] = seen
    assert (specification.keys, specification.budget_s) == (keys, PRESETS["smoke"].budget_s)
    assert [record.trial.problem.name for record in loaded] == [STACK]
    assert not home.exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edition `one` of what `written` writes."""
    folder = tmp_path_factory.mktemp("home")
    written(folder / "trials", 0.25)
    with undrawn():
        make("one", "smoke", folder / "study", folder / "trials", home=folder)
    return folder


def test_an_edition_tells_its_headlines_and_they_are_reproduced(home: Path, tmp_path: Path) -> None:
    again, said = written(tmp_path, 0.3), list[str]()
    reproducing.of_edition(home / "one", lambda *_: again, lambda *_: None, said.append)
    first, *lines, last = said
    assert first.startswith("measured on Synthetic processor")
    assert "this is another machine" in first
    assert len(lines) == 2
    assert last == "2 reproduced, 0 contradicted, 0 undecided"


def test_nothing_is_said_of_another_machine_on_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, said = written(tmp_path, 0.3), list[str]()
    [machine] = {record.machine for record in again}
    monkeypatch.setattr(reproducing, "this_machine", lambda device: machine)
    reproducing.of_edition(home / "one", lambda *_: again, lambda *_: None, said.append)
    assert len(said) == 3
    assert not any("another machine" in line for line in said)


def test_what_rests_on_trials_is_told_before_errors_are_computed(tmp_path: Path) -> None:
    loaded = written(tmp_path, 0.25)
    lines = [*told(Records(), merging(2.0)), *told(loaded)]
    order: list[str] = []

    def compute(those: Sequence[Headline], device: str, preset: Any) -> Any:
        order.append("computed")
        assert [(each.kind, each.dtype) for each in those] == [("error", "float16"), ("error", "float32")]
        return merging(2.0)

    for outcome in reproducing.reproduce(lines, loaded, "smoke", lambda *_: loaded, compute):
        order.append(outcome.headline.kind)
    assert order == ["speedup", "network", "computed", "error", "error"]


def test_only_what_the_headlines_rest_on_is_computed() -> None:
    [line] = [each for each in told(Records(), merging(2.0)) if each.dtype == "float16"]
    rows = reproducing.computed([replace(line, problem="plain_x2")], "cpu", PRESETS["smoke"])
    assert rows is not None
    for name, values in {"depth": {2}, "dtype": {"float16"}, "signs": {"random"}, "seed": {0, 1}}.items():
        assert set(rows[name]) == values


def test_the_machine_is_what_it_was_before_anything_was_computed(home: Path, tmp_path: Path) -> None:
    """Errors are computed by one thread, and with another number of threads a machine is another one."""
    again, before, threads = written(tmp_path, 0.3), reproducing.this_machine("cpu"), torch.get_num_threads()

    def timed(*_: Any) -> Records:
        torch.set_num_threads(threads + 1)
        return again

    try:
        found = reproducing.of_edition(home / "one", timed, lambda *_: None)
        assert reproducing.this_machine("cpu") != before
    finally:
        torch.set_num_threads(threads)
    assert found.here == (before,)


@pytest.mark.parametrize(("ratio", "code"), [(0.3, None), (2.0, 1), (1.0, None)])
def test_the_command_ends_with_1_where_something_is_contradicted(
    home: Path,
    tmp_path: Path,
    ratio: float,
    code: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = written(tmp_path, ratio)
    monkeypatch.setattr(reproducing, "timed", lambda *_: again)
    with nullcontext() if code is None else pytest.raises(SystemExit) as ended:
        command("one", home=home, json=True)
    assert code is None or ended.value.code == code
    told = json.loads(capsys.readouterr().out)
    assert {each["headline"]["kind"] for each in told["outcomes"]} == {"speedup", "network"}


def test_what_is_no_edition_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no edition"):
        command("none", home=home)
