"""The command line as a user meets it: bad input gives one clear line and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.measure.progress import timing_bar
from linear_lasagna.intervals import LEAST_PROCESSES
from tests import synthetic

ROOT = Path(__file__).parent.parent
OF_MAKING = (["--records", "{tmp}"], ["--store", "{tmp}/file"], ["--out", "{tmp}"], ["--attach", "{tmp}/file"])
OF_MAKING += (["--title", "T"], ["--replace"], ["--preset", "full"])  # options of an edition that is made
HOME = ("--home", "{tmp}")
OF_ONE = (["e1"], ["--again"], ["--notes", "{tmp}/file"])


def command(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    line = [sys.executable, "-m", "analysis", *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "--preset", "tiny"], 'Choose from: "smoke", "default", "full", "accelerator", "sweeps"'),
        (["precision", "width", "--out", "{tmp}"], "unknown experiment 'width'; known: depth"),
        (["precision", "--device", "tpu", "--out", "{tmp}"], "unknown device 'tpu'; known: cpu, cuda, mps"),
        (["precision", "--device", "cpu:x", "--out", "{tmp}"], "after the colon stands a number, as in cpu:0"),
        (["precision", "--device", "cpu:", "--out", "{tmp}"], "after the colon stands a number, as in cpu:0"),
        (["precision", "--device", "cpu:3", "--out", "{tmp}"], "cpu is one device"),
        (["precision", "--workers", "-1", "--out", "{tmp}"], "workers must be 0 or more, not -1"),
        (["precision", "--scheduler", "", "--out", "{tmp}"], "must be an address such as tcp://host:8786, not ''"),
        (["precision", "--scheduler", "head:port", "--out", "{tmp}"], "tcp://host:8786, not 'head:port'"),
        (["precision", "--scheduler", "a:1", "--workers", "2"], "with a scheduler its own workers compute"),
        (["precision", "--scheduler", "a:1", "--instructions", "AVX2"], "with a scheduler its own workers compute"),
        (
            ["precision", "--instructions", "MMX", "--out", "{tmp}"],
            "unknown instruction set 'MMX'; known: AVX2, SSE4.1",
        ),
        (["report", "--records", "{tmp}/none", "--out", "{tmp}"], "none: no such folder, and no archive"),
        (["report", "--records", "{tmp}/file", "--out", "{tmp}"], "file is no archive of a study"),
        (["edition", "--index", "--home", "{tmp}/none"], "none: no such folder"),
        *(
            (["edition", "e1", "--again", *HOME, *more], "--again renders what the edition holds; ")
            for more in OF_MAKING
        ),
        *(
            (["edition", "--index", *HOME, *more], "--index writes index.html alone; ")
            for more in (*OF_MAKING, *OF_ONE)
        ),
        (["compare", "{tmp}/none", "{tmp}"], "no such folder, and no archive"),
        (["study", "--time-limit", "soon", "--out", "{tmp}"], "time-limit must be a time above zero such as 540s, 9m"),
        (["study", "--time-limit", "0s", "--out", "{tmp}"], "not '0s'"),
        (["study", "--commit", "main", "--out", "{tmp}"], "commit must be 7 to 40 hexadecimal digits"),
        (["study", "--commit", "0123456789", "--out", "{tmp}"], "not of 0123456789; a commit is given where"),
        (["study", "--devices", "tpu", "--out", "{tmp}"], "unknown device 'tpu'"),
        (["study", "--archive", "{tmp}", "--out", "{tmp}"], "it is a folder"),
        (["precision", "--workers", "1.5", "--out", "{tmp}"], "must be a whole number, not '1.5'"),
        (["precision", "--out", "{tmp}/file/sub"], "cannot write in the folder"),
        (["study", "--workers", "-1", "--out", "{tmp}"], "workers must be 0 or more, not -1"),
        (["study", "--out", "{tmp}/file/sub"], "cannot write in the folder"),
        (["study", "--out", "{tmp}/alien"], "another program's database"),
        (["report", "--out", "{tmp}/file/sub"], "cannot write in the folder"),
        (["noise", "--comparisons", "0"], "comparisons must be positive"),
        (["noise", "--comparisons", "2.5"], "must be a whole number, not '2.5'"),
        (["noise", "--budget-s", "inf"], "budget-s must be positive and finite, not inf"),
        (["noise", "--calls-s", "nan"], "calls-s must be positive and finite, not nan"),
        (["noise", "--calls-s", "0.001", "inf"], "calls-s must be positive and finite, not 0.001 inf"),
        (["noise", "--calls-s"], "calls-s must be positive and finite, not nothing"),
        (["noise", "--out", "{tmp}"], "it is a folder"),
        (["noise", "--out", "{tmp}/file/x.csv"], "cannot write in the folder"),
        (["zoo", "resnets", "--out", "{tmp}/zoo.csv"], "unknown package 'resnets'; known: designs, timm, torchvision"),
        (["zoo", "designs", "--time-limit", "soon", "--out", "{tmp}/zoo.csv"], "time-limit must be a time above zero"),
        (["zoo", "designs", "--memory-gib", "0", "--out", "{tmp}/zoo.csv"], "memory-gib must be positive and finite"),
        (["zoo", "designs", "--out", "{tmp}"], "it is a folder"),
        (["zoo", "designs", "--out", "{tmp}/file"], "file is no table of the zoo"),
        (["recommend"], "give either input and layer, such as --input 8x64x56x56 --layer 64,3, or a model"),
        (["recommend", "--input", "1x2x9x9"], "give either input and layer"),
        (["recommend", "--input", "1x2x9x9", "--layer", "2,3", "--model", "{tmp}/file"], "give either input and layer"),
        (
            ["recommend", "--input", "1x2", "--layer", "2,3"],
            "batch, channels and a size, such as 8x64x56x56, not '1x2'",
        ),
        (["recommend", "--input", "1,2,9", "--layer", "2,3"], "must be whole numbers such as 8x64x56x56, not '1,2,9'"),
        (["recommend", "--input", "1x2x9x9", "--layer", "2"], "kernel_size of layer '2' must be whole numbers"),
        (["recommend", "--input", "1x2x9x9", "--layer", "2,3,1"], "'1' in '2,3,1' is none of these"),
        (["recommend", "--input", "1x2x9x9", "--layer", "2,3,bias,bias"], "layer '2,3,bias,bias' says bias twice"),
        (["recommend", "--input", "1x2x9x9", "--layer", "2,3,groups=4"], "must be a multiple of groups (4)"),
        (["recommend", "--input", "1x2x9x9", "--layer", "2,12"], "layer 0 spans (12, 12) positions"),
        (
            ["recommend", "--input", "1x2x9x9", "--layer", "2,3", "--max-error", "0"],
            "max-error must be positive, not 0",
        ),
        (["recommend", "--input", "1x2x9x9", "--layer", "2,3", "--device", "tpu"], "unknown device 'tpu'"),
        (["recommend", "--model", "{tmp}/none.pt2"], "none.pt2: no such file"),
        (["recommend", "--model", "{tmp}/file"], "file is no file that torch.export.save wrote"),
        (["cook"], 'Unknown command "cook"'),
    ],
)
def test_bad_input_is_one_clear_line_and_an_exit_code(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process, which has all libraries already; `test_what_ends_a_command_is_its_exit_code` has its own."""
    (tmp_path / "file").touch()
    (tmp_path / "alien").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "alien" / "precision.sqlite")) as alien:
        alien.execute("CREATE TABLE theirs (x)")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["analysis", *(argument.format(tmp=tmp_path) for argument in arguments)])
    with pytest.raises(SystemExit) as ended:
        sys.exit(main())
    output = "".join(capsys.readouterr())
    assert ended.value.code
    assert said in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["cook"], 2), (["precision", "width", "--out", "{tmp}"], 2), (["noise", "--out", "{tmp}"], 2)],
)
def test_what_ends_a_command_is_its_exit_code(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = command(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr


def script(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    line = [sys.executable, "-c", code, "precision"]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_report_of_given_records_needs_no_git_no_installation_and_no_unicode(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "trials", synthetic.trial("resnet50/conv1", {"unfold_matmul": 2.0}))
    code = """
import importlib.metadata, sys
from analysis.__main__ import main
from analysis.measure.progress import timing_bar
from linear_lasagna.intervals import LEAST_PROCESSES
real = importlib.metadata.version
def version(name):
    if name == "linear-lasagna":
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
sys.argv = ["analysis", "report", "--records", {records!r}, "--out", {out!r}]
sys.exit(main())
"""
    code = code.format(records=str(tmp_path / "trials"), out=str(tmp_path / "out"))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = script(code, PATH=str(tmp_path), HOME=str(tmp_path), **plain)
    assert done.returncode == 0, done.stderr
    assert "c0ffee" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "?" in done.stdout  # what ASCII lacks


STUB = "import os, signal, sys; from analysis import stopping, study; from analysis.__main__ import main; "


def test_a_reader_that_has_enough_is_no_error() -> None:
    code = f"{STUB}study.measure_precision = lambda *a, **k: print('x' * 10**6); sys.exit(main())"
    line = [sys.executable, "-c", code, "precision"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait()) == (b"", 141)
    process.stderr.close()


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    done = script(f"{STUB}study.measure_precision = lambda *a, **k: __import__('no_such_package'); sys.exit(main())")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no_such_package is not installed; `make study` installs all that is needed")


SWALLOWED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("went on")
except BaseException:
    pass
"""


@pytest.mark.parametrize("where", ["in an import", "elsewhere"])
def test_an_interrupt_that_a_library_swallows_ends_the_command_all_the_same(where: str, tmp_path: Path) -> None:
    (tmp_path / "swallower.py").write_text(SWALLOWED)
    action = "import swallower" if where == "in an import" else SWALLOWED
    work = f"""
{STUB}
from analysis.measure.progress import progress_bar
sys.path.append({str(tmp_path)!r})
def work(*arguments, **named):
    exec({action!r})
    print("imported")
    with progress_bar("x", 1) as advance_to:
        advance_to(1)
    print("went on")
study.measure_precision = work
stopping.install()
sys.exit(main())
"""
    done = script(work)
    assert done.returncode == 130
    assert "stopped; rounding errors that were finished are kept" in done.stderr
    assert "went on" not in done.stdout
    assert ("imported" in done.stdout) == (where == "elsewhere")  # what is half imported is not used


def test_help_names_the_verbs_without_importing_what_is_slow() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("study", "precision", "report", "noise"))
    code = (
        "import sys, analysis.__main__; "
        "sys.exit(', '.join({'torch', 'pandas', 'seaborn', 'matplotlib', 'scipy'} & set(sys.modules)) or 0)"
    )
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert imported.returncode == 0, f"--help imports {imported.stderr}"


def test_the_bar_of_trials_counts_what_is_timed_beyond_the_least(capsys: pytest.CaptureFixture[str]) -> None:
    """A full bar that stands still for minutes says nothing."""
    with timing_bar(2) as visited:
        visited(2 * LEAST_PROCESSES)
    assert "timing trials" in capsys.readouterr().err
    with timing_bar(2) as visited:
        visited(2 * LEAST_PROCESSES + 7)
    assert "timing what is undecided again, 7 times so far" in capsys.readouterr().err
