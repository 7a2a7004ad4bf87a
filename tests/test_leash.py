"""Nothing outlives a study that is ended, however it is ended; and only one is run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from analysis.measure import leash
from analysis.measure.alone import alone

ROOT = Path(__file__).parent.parent
# As asv and its fork server: every process in a group of its own; the grandchild heeds no SIGTERM.
COMMAND = """
import os, signal, subprocess, sys, time
code = "import os, signal, sys, time; os.setpgid(0, 0); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
code += "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(100)"
os.setpgid(0, 0)
subprocess.Popen([sys.executable, "-c", code, sys.argv[1] + "/grandchild"])
open(sys.argv[1] + "/child", "w").write(str(os.getpid()))
time.sleep(100)
"""
PARENT = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, has it ignored
from analysis.measure import leash
from analysis import stopping
from analysis import study
from analysis.measure.alone import alone
from analysis.__main__ import main
folder = Path(sys.argv.pop())

def stand_in(*arguments):
    command = [sys.executable, str(folder / "command.py"), str(folder)]
    with alone(folder / "lock") as keep, open(os.devnull, "w") as log:
        leash.run(command, Path.cwd(), log, os.environ, lambda: None, keep)

study.study = stand_in
stopping.install()
sys.exit(main())
"""


def started(folder: Path) -> subprocess.Popen[str]:
    """A study whose asv is a sleeper with a grandchild, once all three are there."""
    (folder / "command.py").write_text(COMMAND)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", PARENT, "study", str(folder)]
    parent = subprocess.Popen(line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    wait_until(
        lambda: all((folder / name).exists() and (folder / name).read_text() for name in ("child", "grandchild"))
    )
    return parent


def wait_until(holds, most_s: float = 20.0) -> None:
    deadline = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(folder: Path) -> bool:
    return any(lives(int((folder / name).read_text())) for name in ("child", "grandchild"))


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_what_a_study_started_ends_with_it_and_another_may_run_then(name: str, tmp_path: Path) -> None:
    parent = started(tmp_path)
    with pytest.raises(RuntimeError, match=f"a study is running in this checkout: process {parent.pid};"):  # noqa: SIM117
        with alone(tmp_path / "lock"):
            pass
    parent.send_signal(getattr(signal, name))
    said = parent.communicate(timeout=20)[1]
    if name == "SIGKILL":
        assert parent.returncode == -signal.SIGKILL
        wait_until(lambda: not locked(tmp_path / "lock"))
        assert not alive(tmp_path)  # nobody may begin before that
    else:
        assert parent.returncode == 128 + getattr(signal, name)
        assert said.strip().startswith("stopped; trials and rounding errors that were finished are kept")
        assert not alive(tmp_path)
    wait_until(lambda: not locked(tmp_path / "lock"), 5.0)


def locked(path: Path) -> bool:
    try:
        with alone(path):
            return False
    except RuntimeError:
        return True


def test_a_command_that_ends_gives_its_code_and_leaves_nothing(tmp_path: Path) -> None:
    left = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)']).pid)"
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", f"{left}; sys.exit(3)"]
        assert leash.run(command, ROOT, log, os.environ, lambda: None) == 3
    assert not lives(int((tmp_path / "log").read_text()))


def test_a_leash_that_is_killed_itself_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(COMMAND)
    files = [tmp_path / name for name in ("child", "grandchild")]

    def progress() -> None:
        if all(file.exists() and file.read_text() for file in files):
            for child in psutil.Process().children():  # among them is multiprocessing's own
                if "analysis.measure.leash" in child.cmdline():
                    child.kill()

    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, str(tmp_path / "command.py"), str(tmp_path)]
        assert leash.run(command, ROOT, log, os.environ, progress) == -signal.SIGKILL
    assert not alive(tmp_path)


def test_a_lock_that_was_left_behind_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    with alone(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
