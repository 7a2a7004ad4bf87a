"""Conditions from the command line to the page: chosen, kept apart on disk, filtered by, compared with the usual."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from analysis import arguments
from analysis.__main__ import compare
from analysis.data import asv_results, records
from analysis.data.conditions import conditions, summary
from analysis.data.records import Record, Records
from analysis.measure import presets, trial_run
from analysis.measure.presets import PRESETS, bench_patterns, check_conditions, preset_named, trials, under
from analysis.report import page
from analysis.report.sections.conditions import SECTION, answer
from analysis.study import load_records, render
from benchmarks._rounds import Round
from linear_lasagna.catalog import GROUPS
from linear_lasagna.factors import VARIABLE, one_at_a_time, parsed
from linear_lasagna.intervals import difference, log_median
from linear_lasagna.trial import Cell, files
from linear_lasagna.trial.files import Key
from tests import synthetic
from tests.reporting import Study, undrawn
from tests.test_records import asv_folder

ROOT = Path(__file__).parent.parent
NAMES = ("resnet50/conv2_3x3", "vgg16/conv5")
NOISY = (0.99, 1.01, 0.995, 1.005, 0.997, 1.003, 1.0, 1.0)


def measured(text: str = "", seconds: float = 1e-3, name: str = NAMES[0], **ratios: float | Cell) -> Record:
    """direct takes the seconds, the other ways multiples of them, under the conditions of the text."""
    trial = synthetic.trial(name, ratios or {"unfold_matmul": 0.8}, seconds=seconds, under=parsed(text))
    return Record(trial, "networks", "m")


def together(*entries: Record) -> Records:
    return Records(entries)


def study(records: Records, text: str = "", expected: tuple[Key, ...] = ()) -> Study:
    return Study(*page.derive(records, None, expected, conditions=text))


@pytest.mark.numerical
@pytest.mark.parametrize("counts", [(6, 6), (8, 14)])
@pytest.mark.parametrize("spreads", [(0.02, 0.1), (0.1, 0.02)])
def test_a_ratio_of_medians_of_independent_processes_is_within_its_interval(counts, spreads):
    """Log-normal times whose medians stand as 1.3 to 1, with unlike spreads: 95 % of the intervals hold it, or more."""
    random.seed(1)
    held, trials = 0, 2000
    for _ in range(trials):
        usual = [math.exp(random.gauss(0, spreads[0])) for _ in range(counts[0])]
        other = [1.3 * math.exp(random.gauss(0, spreads[1])) for _ in range(counts[1])]
        estimate, lower, upper = difference(log_median(usual), log_median(other))
        held += lower <= math.log(1.3) <= upper
        assert lower <= estimate <= upper
    assert held / trials >= 0.95


def test_few_processes_give_no_interval_of_a_ratio():
    estimate, lower, upper = difference(log_median([1.0] * 5), log_median([2.0] * 9))
    assert estimate == pytest.approx(math.log(2))
    assert math.isnan(lower)
    assert math.isnan(upper)


def test_what_a_condition_changes_is_told_of_every_way():
    usual = measured(unfold_matmul=0.8, direct_channels_last=0.8, im2col_numpy=2.0)
    lost = Cell("failed", "has no deterministic one")
    cold = measured("cache=cold", 2e-3, unfold_matmul=1.2, direct_channels_last=0.8, im2col_numpy=lost)
    rows = conditions(together(usual, cold)).set_index("way")
    assert set(rows.index) == {"direct", "unfold_matmul", "direct_channels_last", "im2col_numpy"}
    assert set(rows["conditions"]) == {"cache=cold"}
    assert rows["change"].to_dict() == pytest.approx(
        {"direct": 2.0, "unfold_matmul": 3.0, "direct_channels_last": 2.0, "im2col_numpy": math.nan}, nan_ok=True
    )
    unfold = rows.loc["unfold_matmul"]
    # Either side's interval is 1 % to both sides.
    assert (unfold["change_lower"], unfold["change_upper"]) == pytest.approx((3 / 1.0142, 3 * 1.0142), rel=1e-3)
    assert list(rows["change_verdict"]) == ["slower", "slower", "slower", ""]
    assert (unfold["usual_verdict"], unfold["verdict"], unfold["differs"]) == ("faster", "slower", True)
    assert unfold["speedup"] == pytest.approx(1 / 1.2)
    assert not rows.loc["direct_channels_last", "differs"]
    assert (rows.loc["im2col_numpy", "status"], rows.loc["im2col_numpy", "reason"]) == (lost.status, lost.reason)
    [counted] = summary(rows.reset_index()).to_dict("records")
    assert (counted["cells"], counted["lost"], counted["changed_slower"], counted["differing"]) == (4, 1, 3, 1)
    assert counted["mean_change"] == pytest.approx(12 ** (1 / 3))


def test_trials_of_one_condition_alone_are_compared_with_nothing():
    assert not len(conditions(together(measured(), measured(name=NAMES[1]))))
    assert not len(conditions(together(measured("cache=cold"), measured(name=NAMES[1]))))
    assert not len(conditions(Records()))


def test_the_section_says_which_conditions_change_which_verdicts():
    usual, isolated = measured(), measured("turns=isolated")
    cold = measured("cache=cold", 2e-3, unfold_matmul=1.2)
    with undrawn():
        found = study(together(usual, cold, isolated))
        shown = found.section(SECTION)
    assert shown is not None
    assert "in 1 trial: cache=cold changes 1 of 1 decided with and without it (`unfold_matmul` on" in shown.intro
    assert "faster → slower); turns=isolated changes none of 1 decided with and without it." in shown.intro
    assert [len(table.rows) for table in shown.tables] == [2, 2, 1]  # conditions; ways; ways but the baseline
    assert any(note.startswith("cache: warm:") for note in shown.notes)
    assert not any(note.startswith("threads:") for note in shown.notes)
    assert [line.text for line in found.headlines if line.title == "Conditions"] == [
        "Of verdicts against the baseline, in 1 trial: cache=cold changes 1 of 1 decided with and without it "
        "(`unfold_matmul` on resnet50/conv2_3x3, faster → slower); turns=isolated changes none of 1 decided with and "
        "without it. "
        "Times themselves are not the usual ones, by verdict, under cache=cold (2 slower of 2 cells)."
    ]
    empty = study(together(usual)).section(SECTION)
    assert empty is not None
    assert (empty.tables, empty.empty) == ((), SECTION.empty)


def test_a_page_is_about_one_of_the_conditions_and_its_numbers_are_those_of_them_alone():
    """Whatever else lies in the folder: the other sections' frames are those of a folder without it."""
    usual = [measured(name=name) for name in NAMES]
    cold = [measured("cache=cold", 3e-3, name, unfold_matmul=1.5) for name in NAMES]
    both = together(*usual, *cold)
    mine = {"conditions", "conditions_summary"}
    for text, alone in (("", usual), ("cache=cold", cold)):
        expected = study(together(*alone), text).frames
        given = study(both, text).frames
        assert given.keys() - mine == expected.keys() - mine
        for name in given.keys() - mine:
            assert given[name].equals(expected[name]), name
    assert len(study(both).frames["conditions"]) == len(study(both, "cache=cold").frames["conditions"]) == 4
    assert set(study(both, "cache=cold").data.speedups["verdict"]) == {"slower", "tie"}


def test_missing_trials_are_those_of_their_conditions():
    keys = tuple(Key("networks", NAMES[0], "float32", "cpu", text) for text in ("", "cache=cold"))
    missing = study(together(measured()), expected=keys).data.missing
    assert [tuple(row) for row in missing.to_numpy()] == [tuple(keys[1])]
    assert not len(study(together(measured(), measured("cache=cold")), expected=keys).data.missing)


def test_newer_records_replace_those_of_the_same_conditions_alone():
    entries = [measured(text) for text in ("", "cache=cold", "", "cache=cold,threads=1")]
    latest = together(*entries).latest()
    assert sorted(record.under for record in latest) == ["", "cache=cold", "cache=cold,threads=1"]
    assert latest.notes == ("Older records of trials that were run again are left out: 1.",)


def test_a_folder_is_filtered_by_conditions(tmp_path):
    for text in ("", "cache=cold"):
        synthetic.write(tmp_path, measured(text).trial, name=f"{text or 'usual'}.json")
    with undrawn():
        render("smoke", tmp_path / "out", (tmp_path,), conditions=("cache=cold",))
        told = (tmp_path / "out" / "report.html").read_text()
        assert "under cache=cold" in told
        assert "LASAGNA_CONDITIONS=" in told
        with pytest.raises(ValueError, match=r"no trial was timed under threads=1 conditions; of others there are: "):
            render("smoke", tmp_path / "out", (tmp_path,), conditions=("threads=1",))


def test_comparisons_are_of_the_same_conditions(tmp_path, capsys):
    for side, ratio in (("before", 0.5), ("after", 1.5)):
        synthetic.write(tmp_path / side, measured().trial, name="usual.json")
        synthetic.write(tmp_path / side, measured("cache=cold", unfold_matmul=ratio).trial, name="cold.json")
    folders = tmp_path / "before", tmp_path / "after"
    for condition, changed in (((), 1.0), (("cache=cold",), 3.0)):
        compare(*folders, page=tmp_path / "p.html", out=tmp_path / "rows.json", condition=condition)
        [row] = json.loads((tmp_path / "rows.json").read_text())
        assert row["change"] == pytest.approx(changed)
    capsys.readouterr()


def test_records_of_different_conditions_never_overwrite_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("ASV_COMMIT", "0" * 40)
    keys = [Key("networks", NAMES[0], "float32", "cpu", text) for text in one_at_a_time()]
    assert len({files.path_of(key) for key in keys}) == len(keys)
    ways = GROUPS["networks"].ways
    usual, cold = keys[0], Key(*keys[0][:4], "cache=cold")
    for key in (usual, cold):
        trial = synthetic.trial(NAMES[0], {}, under=parsed(key.under))
        trial.cells = {way: trial.cells.get(way, Cell("skipped", "no")) for way in ways}
        files.write(key, trial)
    for key in (usual, cold):
        read = files.read(key)
        assert read is not None
        assert read.under == parsed(key.under)
    files.path_of(usual).replace(files.path_of(cold))
    assert files.read(cold) is None  # it is of another trial
    assert Key(*json.loads(json.dumps(cold))) == cold


def test_what_a_key_asks_for_is_what_is_run(monkeypatch):
    asked = {}
    monkeypatch.setattr("linear_lasagna.trial.run_isolated", lambda *a, **settings: asked.update(settings))
    files._run(Key("networks", NAMES[0], "float32", "cpu", "cache=cold,work=training_step"), fork=False)
    assert asked["under"] == {"cache": "cold", "work": "training_step"}
    assert asked["work"] == "training_step"


def test_a_preset_is_timed_under_other_conditions_where_they_apply():
    cold = under(preset_named("smoke"), ("cache=cold",))
    assert {key[:4] for key in trials(cold, ("cpu",))} == {key[:4] for key in trials(preset_named("smoke"), ("cpu",))}
    assert {key.under for key in trials(cold, ("cpu",))} == {"cache=cold"}
    both = under(preset_named("smoke"), ("", "threads=1"))
    assert len(trials(both, ("cpu",))) == 2 * len(trials(cold, ("cpu",)))
    single = {key.group for key in trials(under(preset_named("default"), ("threads=1",)), ("cpu",))}
    assert single == {key.group for key in trials(preset_named("default"), ("cpu",))} - {"onethread", "twothreads"}
    steps = {key.group for key in trials(under(preset_named("smoke"), ("work=training_step",)), ("cpu",))}
    assert steps == {"sources", "networks", "stacks", "borders", "breakeven"}
    assert under(preset_named("default"), ()) == preset_named("default")


@pytest.mark.parametrize(
    ("text", "told"), [("tf32=on", "tf32=on is for cuda, not cpu"), ("cudnn_benchmark=on", "is for cuda, not cpu")]
)
def test_what_no_device_can_have_is_told_before_anything_is_timed(text, told):
    chosen = under(preset_named("smoke"), (text,))
    with pytest.raises(ValueError, match=re.escape(told)):
        check_conditions(chosen, ("cpu",), (text,))
    check_conditions(chosen, ("cpu", "cuda"), (text,))


def test_the_conditions_preset_varies_one_factor_at_a_time():
    texts = {key.under for key in trials(PRESETS["conditions"], ("cpu",))}
    assert texts == {text for text in one_at_a_time() if not text.startswith(("tf32", "cudnn"))}
    of_cuda = {key.under for key in trials(PRESETS["conditions"], ("cuda",))}
    assert of_cuda == {text for text in one_at_a_time() if not text.startswith(("threads", "subnormals"))}
    default = {key.under for key in trials(PRESETS["default"], ("cpu",))}
    assert default == {"", "cache=cold", "turns=isolated", "threads=1"}
    for key in trials(PRESETS["default"], ("cpu",)):
        assert not key.under or Key(*key[:4]) in trials(PRESETS["default"], ("cpu",))


def discovered(code: str, **environment: str) -> str:
    """What a fresh process prints that discovers the benchmarks."""
    code = f"from asv_runner.discovery import disc_benchmarks; {code}"
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


def test_asv_has_the_conditions_as_a_parameter_and_the_patterns_select_them():
    chosen = presets.Preset(
        "x",
        1.0,
        1.0,
        (
            presets.Selection("sources", ("sources/unfold",), ("bfloat16", "float32"), ("", "tf32=on")),
            presets.Selection("networks", NAMES, ("float32",), ("cache=cold",)),
        ),
    )
    names = "usual;tf32=on;cache=cold"
    code = f"[print(b.name, *p, sep='|') for b in disc_benchmarks({str(ROOT / 'benchmarks')!r}) "
    code += "if b.name.endswith('time_forward') and b.name.startswith('trials') "
    code += "for p in __import__('itertools').product(*b.params)]"
    found = set()
    patterns = bench_patterns(chosen, ("cpu", "cuda"))
    for line in discovered(code, **{VARIABLE: names}).splitlines():
        name, *params = line.split("|")
        if any(re.search(pattern, f"{name}({', '.join(params)})") for pattern in patterns):
            problem, dtype, device, _, text = (param.strip("'") for param in params)
            found.add(Key(name.split(".")[1].lower(), problem, dtype, device, "" if text == "usual" else text))
    assert found == set(trials(chosen, ("cpu", "cuda")))


def test_mistakes_in_the_variable_end_the_benchmarks_in_one_line():
    told = discovered(f"list(disc_benchmarks({str(ROOT / 'benchmarks')!r}))", **{VARIABLE: "cache=lukewarm"})
    assert told.splitlines()[-1].endswith("LASAGNA_CONDITIONS: unknown level 'lukewarm' of cache; known: warm, cold")


def test_a_cell_of_asv_is_that_of_its_conditions(monkeypatch):
    import benchmarks._replay as replay_module
    from benchmarks.trials import Sources

    asked = []
    trial = synthetic.trial("sources/unfold", {}, under={"cache": "cold"}, several=False)
    monkeypatch.setattr(replay_module, "fetch", lambda key, way: asked.append(key) or (trial, Round.ALL))
    cell = ("sources/unfold", "float32", "cpu", "direct", "cache=cold")
    suite = Sources()
    suite.setup(*cell)
    assert asked == [Key("sources", "sources/unfold", "float32", "cpu", "cache=cold")]
    assert suite.track_error(*cell) == 0.5
    trial.cells["direct"].measures.clear()
    assert math.isnan(suite.track_error(*cell))


def test_asv_s_results_tell_their_conditions(tmp_path):
    folder = asv_folder(tmp_path)
    path = folder / "box" / "c0ffee.json"
    data = json.loads(path.read_text())
    values, params, samples = data["results"]["trials.Sources.time_forward"]
    doubled = [value for value in values for _ in range(2)]
    both = [sample for sample in samples for _ in range(2)]
    data["results"]["trials.Sources.time_forward"] = [doubled, [*params, ["'usual'", "'cache=cold'"]], both]
    path.write_text(json.dumps(data))
    loaded = asv_results.load(folder)
    assert sorted(record.under for record in loaded) == ["", "cache=cold"]
    assert all(list(record.trial.cells) == [name.strip("'") for name in params[3]] for record in loaded)


def test_words_and_the_variable_choose_conditions(monkeypatch):
    monkeypatch.setenv(VARIABLE, "threads=1;usual")
    assert arguments.conditions(("threads=2", "cache=cold")) == ("cache=cold,threads=2",)
    assert arguments.conditions(()) == ("threads=1", "")
    monkeypatch.delenv(VARIABLE)
    assert arguments.conditions(()) == ()
    with pytest.raises(ValueError, match="name cache twice"):
        arguments.conditions(("cache=cold", "cache=cold"))


def test_a_study_under_conditions_leaves_records_of_them(tmp_path, monkeypatch):
    """In processes of its own, as a study times: what is recorded is what was asked for."""
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    key = Key("breakeven", "breakeven/k3_4_4", "float32", "cpu", "cache=cold,turns=isolated,threads=1")
    specification = trial_run.Specification([key], 0.02, 300.0, commit="0" * 40)
    trial_run.time_all(specification, tmp_path / "log", lambda visits: None)
    [record] = records.load(tmp_path / ".asv")
    assert record.under == key.under
    assert record.trial.threads == 1
    assert len(record.trial.timings()) >= 6
    assert {cell.calls_per_sample for cell in record.trial.cells.values()} == {1}
    assert len(load_records(tmp_path / ".asv").timed_under(key.under)) == 1
    assert replace(record.trial, under={}) != record.trial


def test_verdicts_that_are_undecided_on_one_side_are_none_that_could_differ():
    fixed = {"problem": "p", "dtype": "float32", "conditions": "threads=1", "status": "ok", "change_verdict": "tie"}
    verdicts = [("slower", "faster"), ("undecided", "faster"), ("faster", "undecided"), ("", "")]
    rows = [
        fixed | {"way": f"way{place}", "verdict": now, "usual_verdict": usual, "differs": place == 0}
        for place, (now, usual) in enumerate(verdicts)
    ]
    told = answer(pandas.DataFrame(rows))
    assert "in 1 trial: threads=1 changes 1 of 1 decided with and without it (`way0` on p, faster → slower)." in told
    assert "none is decided with and without threads=1" in answer(pandas.DataFrame(rows[1:]))
