"""What a user gives: a problems file, methods of installed packages, and the study of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy
import pytest

from benchmarks import trials
from linear_lasagna import METHODS, Layer, Problem, catalog, own
from linear_lasagna.methods import method_named
from linear_lasagna.methods.direct import direct
from linear_lasagna.trial import files, run
from linear_lasagna.trial.files import Key
from tests.copies import copy_code, run_code

ROOT = Path(__file__).parent.parent
COMMIT = "0123456789abcdef"
FILE = """
from linear_lasagna import Layer, Problem

CATALOG = {
    "layer": Problem("any", batch=1, in_channels=2, size=(6, 6), layers=(Layer(3, 3, bias=True),)),
    "stack": Problem("any", batch=1, in_channels=2, size=(8, 8), layers=(Layer(4, 3), Layer(2, 3))),
}


def right(kernel, layer):
    from torch.nn import functional

    return lambda x: functional.conv2d(x, kernel.weight, kernel.bias, layer.stride, layer.padding)


def wrong(kernel, layer):
    call = right(kernel, layer)
    return lambda x: 2 * call(x)


def cut(kernel, layer):
    call = right(kernel, layer)
    return lambda x: call(x)[..., 1:]


METHODS = {"mine": right, "wrong": wrong, "cut": cut}
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Methods that are put among the suite's are taken out again."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def given(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> own.Own:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(own.VARIABLE, str(folder / "mine.py"))
    return own.load()


def test_problems_methods_and_ways_are_read(tmp_path: Path, monkeypatch) -> None:
    found = given(tmp_path, FILE, monkeypatch)
    assert [problem.name for problem in found.problems] == ["own/layer", "own/stack"]
    assert list(found.methods) == ["mine", "wrong", "cut"]
    assert {"direct", "control", "unfold_matmul", "mine", "merged/direct", "merged/mine"} < set(found.ways)
    assert not found.torch
    alone = given(tmp_path, FILE.replace('    "stack"', '    # "stack"'), monkeypatch)
    assert not [way for way in alone.ways if "/" in way], "a layer alone has nothing to merge"
    chosen = given(tmp_path, FILE + 'WAYS = ["merged/mine", "fft"]', monkeypatch)
    assert chosen.ways == ("direct", "control", "merged/mine", "fft")


def test_the_file_may_use_the_catalogue_and_what_lies_beside_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "beside.py").write_text("BATCH = 8\n")
    text = """
from dataclasses import replace
from beside import BATCH
from linear_lasagna.catalog import CATALOG as SUITE
CATALOG = {name: replace(SUITE[name], batch=BATCH) for name in ("resnet50/conv1", "vgg16/conv5")}
METHODS = {"mine": lambda kernel, layer: lambda x: x}
"""
    found = given(tmp_path, text, monkeypatch)
    assert [(p.name, p.batch) for p in found.problems] == [("own/resnet50/conv1", 8), ("own/vgg16/conv5", 8)]
    before = found.code(["mine"])
    (tmp_path / "beside.py").write_text("BATCH = 8  # by another method\n")
    monkeypatch.delitem(sys.modules, "beside")
    assert given(tmp_path, text, monkeypatch).code(["mine"]) != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_the_kind", "line 1: ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("\nCATALOG = {", "line 2: SyntaxError: '{' was never closed"),
        ("x = 1\nraise SystemExit(3)", "line 2: SystemExit: 3"),
        ("PROBLEMS = {}", r'it has no CATALOG; it must be a dict such as {"mine": Problem(…)}'),
        ("\nCATALOG = {}", "line 2: CATALOG is empty"),
        ("\nCATALOG = [3]", "line 2: CATALOG must be a dict, not a list"),
        ('CATALOG = {\n    "a": 3,\n}', "line 2: CATALOG['a'] must be a Problem, not a int"),
        (FILE.replace('"layer"', '"it\'s"'), "line 5: a problem's name must be printable text"),
        (FILE.replace('"layer"', '"a/b"').replace('"stack"', '"a-b"'), "line 6: a problem's record is named after it"),
        (FILE.replace("(6, 6)", "(2, 2)"), "line 5: any: layer 0 spans (3, 3) positions"),
        (FILE.replace('"mine"', '"direct"'), "line 26: METHODS: there is a method 'direct' already"),
        (FILE.replace('"mine"', '"my method"'), "line 26: METHODS: a method's name is letters"),
        (FILE.replace(": right", ": 3"), "line 26: METHODS['mine'] must be a Method or a function prepare"),
        (FILE + '\nNUMBERS = {"lair": "x.npy"}', "line 28: NUMBERS: no problem is called 'lair'; known: layer, stack"),
        (FILE + '\nWAYS = ("merged/yours",)', "line 28: WAYS: unknown way 'merged/yours'"),
        (FILE + '\nWAYS = "direct"', "line 28: WAYS must be a tuple of ways, not 'direct'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_file_and_line(text: str, said: str, tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match=f"^{tmp_path / 'mine.py'}.*{re.escape(said)}") as refusal:
        given(tmp_path, text, monkeypatch)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(own.VARIABLE, "absent.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path / 'absent.py'} cannot be read: No such file or directory"):
        own.load()


def test_names_are_found_without_torch(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    code = """
import sys
from benchmarks.trials import Own
from linear_lasagna.catalog import CATALOG, GROUPS
assert "torch" not in sys.modules
print(Own.params[0], "mine" in Own.params[3], CATALOG["own/stack"].depth, list(GROUPS)[-1])
"""
    environment = {**os.environ, own.VARIABLE: str(tmp_path / "mine.py"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "['own/layer', 'own/stack'] True 2 own", done.stderr


def test_a_right_method_is_timed_and_a_wrong_one_fails_with_its_reason(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(catalog, "OWN", given(tmp_path, FILE, monkeypatch))
    for problem in catalog.OWN.problems:
        trial = run(problem, catalog.OWN.ways, budget_s=0.02, blocks=1)
        assert (trial.cells["mine"].status, trial.cells["mine"].reason) == ("ok", "")
        assert trial.cells["mine"].samples
        reasons = {name: trial.cells[name].reason for name in ("wrong", "cut")}
        assert "wrong on integers that any order of summation gets right" in reasons["wrong"]
        assert re.match(r"gives shape \(1, \d, \d, \d\) instead of", reasons["cut"])
        assert not any(trial.cells[name].samples for name in reasons)


def test_an_unknown_method_is_named_with_those_of_the_user(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(catalog, "OWN", given(tmp_path, FILE, monkeypatch))
    with pytest.raises(ValueError, match=r"unknown method 'main'; known: direct, .*, scipy_fft, mine, wrong, cut$"):
        method_named("main")


def test_a_method_that_raises_when_it_is_asked_is_skipped_alone(monkeypatch) -> None:
    def unsupported(layer, dtype, device):
        raise KeyError("no table")

    asked = replace(direct, unsupported=unsupported)
    monkeypatch.setattr(catalog, "OWN", own.Own(methods={"mine": asked}))
    trial = run(Problem("any", 1, 2, (6, 6), (Layer(2, 3),)), ["direct", "mine"], budget_s=0.01, blocks=1)
    assert {name: cell.status for name, cell in trial.cells.items()} == {"direct": "ok", "mine": "skipped"}
    assert trial.cells["mine"].reason == "its unsupported() raises KeyError: 'no table'"


def installed(folder: Path, points: str) -> None:
    (folder / "plugged.py").write_text(FILE)
    (folder / "plugged-1.0.dist-info").mkdir()
    (folder / "plugged-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (folder / "plugged-1.0.dist-info" / "entry_points.txt").write_text(f"[{own.ENTRY_POINTS}]\n{points}\n")


PLUGGED = """
import json
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.trial import run
timed = [name for name, group in GROUPS.items() if "plugged" in group.ways]
ways = ["direct", "plugged", "broken", "nothing"]
trial = run(CATALOG["sources/merge"], ways, dtype="float64", budget_s=0.02, blocks=1)
print(json.dumps([timed, {way: [cell.status, cell.reason] for way, cell in trial.cells.items()}]))
"""


def test_an_installed_package_s_methods_are_timed_wherever_all_methods_are(tmp_path: Path) -> None:
    installed(tmp_path, "plugged = plugged:right\nbroken = plugged_not:right\nnothing = plugged:absent")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", PLUGGED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    timed, cells = json.loads(done.stdout)
    assert timed == ["sources", "networks", "batches"]
    assert cells["direct"] == cells["plugged"] == ["ok", ""]
    for name, reason in (("broken", "No module named 'plugged_not'"), ("nothing", "has no attribute 'absent'")):
        assert cells[name][0] == "failed"
        assert f"the entry point {name!r} gives no method" in cells[name][1]
        assert reason in cells[name][1]


def test_an_installed_method_is_known_by_its_package_s_code(tmp_path: Path, monkeypatch) -> None:
    installed(tmp_path, "plugged = plugged:right\nfft = plugged:right")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="the entry point 'fft' of plugged: there is a method 'fft' already"):
        own.load()
    found = own.Own(methods={"plugged": EntryPoint("plugged", "plugged:right", own.ENTRY_POINTS)})
    before = found.code(["direct", "merged/plugged"])
    (tmp_path / "plugged.py").write_text(FILE.replace("layer.padding", "0"))
    assert len(before) == 1
    assert found.code(["direct", "plugged"]) != before
    assert "plugged" not in sys.modules


def test_the_latest_of_several_problems_under_one_name_counts(tmp_path: Path, monkeypatch) -> None:
    """Reports show the latest record of a name: one that was timed before is timed again when it is asked for again."""
    monkeypatch.setenv("LASAGNA_ROOT", str(tmp_path))
    monkeypatch.delenv("ASV_CONF_DIR", raising=False)
    key = Key("own", "own/one", "float32", "cpu")

    def timed(size: int) -> Path:
        problem = Problem("own/one", 1, 1, (size, size), (Layer(1, 3),))
        monkeypatch.setitem(catalog.CATALOG, "own/one", problem)
        monkeypatch.setitem(catalog.GROUPS, "own", catalog.Group("own", (problem,), ("direct",)))
        if files.read(key) is None:
            files.write(key, run(problem, ["direct"], budget_s=0.01, blocks=1))
        return files.path_of(key)

    first, moment = timed(5), 1e9
    os.utime(first, (moment, moment))
    assert first.stat().st_mtime == moment
    assert timed(5) == first
    assert first.stat().st_mtime == moment, "nothing has changed"
    assert timed(6) != first
    assert timed(5) == first
    assert first.stat().st_mtime > moment


COMMAND = """
import os, sys
os.environ["LASAGNA_PROBLEMS"] = "user/mine.py"
from dataclasses import replace
from analysis.__main__ import main
from analysis.measure.presets import PRESETS
PRESETS["smoke"] = replace(PRESETS["smoke"], budget_s=0.02)
sys.exit(main())
"""
PLAIN = "import sys; from analysis.__main__ import main; sys.exit(main())"
SMALL = FILE.replace('"wrong": wrong, "cut": cut', '"wrong": wrong') + (
    '\nWAYS = ("mine", "wrong", "merged/mine")\nNUMBERS = {"layer": {"input": "x.npy"}}\n'
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code without git, and the user's file."""
    home = copy_code(tmp_path_factory.mktemp("copy"))
    (home / "user").mkdir()
    (home / "user" / "mine.py").write_text(SMALL)
    return home


def command(home: Path, *line: str, code: str = PLAIN) -> subprocess.CompletedProcess[str]:
    return run_code(home, code, *line, COLUMNS="300")


STUDY = ("study", "--preset", "smoke", "--problems", "user/mine.py", "--devices", "cpu", "--commit", COMMIT, "--no-asv")


@pytest.fixture(scope="module")
def studied(copied: Path) -> Path:
    numpy.save(copied / "user" / "x.npy", numpy.random.default_rng(0).standard_normal((1, 2, 6, 6)) * 1e-40)
    done = command(copied, *STUDY, "--archive", str(copied / "own.tar.gz"), code=COMMAND)
    assert done.returncode == 0, done.stderr
    return copied


def test_a_study_times_the_user_s_problems_alone(studied: Path) -> None:
    records = [json.loads(path.read_text()) for path in (studied / ".asv" / "trials").rglob("*.json")]
    assert sorted((r["group"], r["trial"]["problem"]["name"]) for r in records) == [
        ("own", "own/layer"),
        ("own", "own/stack"),
    ]
    [layer] = [r["trial"] for r in records if r["trial"]["problem"]["name"] == "own/layer"]
    assert list(layer["numbers"]) == ["input"]
    assert len(layer["repeats"]) >= 5
    assert all(repeat["samples"]["mine"] for repeat in layer["repeats"])
    assert {way: cell["status"] for way, cell in layer["cells"].items()} == {
        "direct": "ok",
        "control": "ok",
        "mine": "ok",
        "wrong": "failed",
        "merged/mine": "skipped",
    }


def test_the_report_shows_them_and_needs_no_file(studied: Path) -> None:
    shown = (studied / "study" / "own" / "report.html").read_text(encoding="utf-8")
    (studied / "user" / "mine.py").rename(studied / "user" / "away.py")
    try:
        done = command(studied, "report", "--records", "own.tar.gz", "--out", "elsewhere")
    finally:
        (studied / "user" / "away.py").rename(studied / "user" / "mine.py")
    assert done.returncode == 0, done.stderr
    for page in (shown, (studied / "elsewhere" / "report.html").read_text(encoding="utf-8")):
        assert "Speed: your own layers and stacks" in page
        assert "given numbers" in page
        assert "With given numbers instead of drawn ones, as the dtype holds them: own/layer." in page
        assert "given: input" in page
        assert "outputs are wrong on integers that any order of summation gets right" in page
        assert "left no record" not in page
        assert "<code>mine</code>: given by a problems file or an installed package." in page


def test_what_cannot_be_used_ends_a_study_before_it_begins(studied: Path) -> None:
    bad = {
        "numbers.py": (
            SMALL.replace('"x.npy"', '("x.npy", "y")'),
            "x.npy holds one array, which has no name, such as 'y'",
        ),
        "shape.py": (
            SMALL.replace('"input"', '"weight"'),
            "own/layer: 0.weight must have the shape (3, 2, 3, 3), not (1,",
        ),
        "problem.py": (SMALL.replace("(6, 6)", "(2, 2)"), "problem.py, line 5: any: layer 0 spans"),
        "none.py": ("", "none.py: it has no CATALOG"),
    }
    for name, (text, said) in bad.items():
        (studied / "user" / name).write_text(text)
        done = command(studied, *STUDY[:4], f"user/{name}", *STUDY[5:], "--out", f"out-{name}")
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not list((studied / f"out-{name}").glob("*"))


def test_asv_s_processes_find_the_file_from_the_checkout_and_say_what_is_wrong(copied: Path, tmp_path: Path) -> None:
    """They run in a folder of their own, as discovery here."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks.trials import Own; print(Own.params[0])"
    for name, said, ended in (("user/mine.py", "['own/layer', 'own/stack']\n", 0), ("user/no.py", "", 1)):
        environment = {**os.environ, own.VARIABLE: name, "PYTHONPATH": str(copied)}
        line = [sys.executable, "-c", code, str(copied)]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (ended, said), done.stderr
        refused = f"error: the problems file {copied / name} cannot be read: No such file or directory\n"
        assert done.stderr == (refused if ended else "")


def test_without_a_file_there_is_no_group_and_no_benchmark() -> None:
    assert own.GROUP not in catalog.GROUPS
    assert not hasattr(trials, "Own")


FORKS = """
from linear_lasagna.catalog import OWN
import torch
from linear_lasagna.trial import files
print(OWN.torch, files.forkable(True))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_torch_in_the_file_forbids_forks(tmp_path: Path) -> None:
    """It may have computed, and threads do not survive a fork."""
    for line, expected in (("", "False True"), ("import torch\n", "True False")):
        (tmp_path / "mine.py").write_text(line + FILE)
        environment = {**os.environ, own.VARIABLE: str(tmp_path / "mine.py"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", FORKS], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
