"""A command that ends with its parent, however the parent ends, and with it all that it started.

`python -m analysis.measure.leash COMMAND…` runs the command in a session of its own. Its stdin is a pipe of which the
parent holds the other end and into which nobody writes: the end of the file says that the parent is gone, killed or
not. asv puts every process that it starts into a group of its own, so it is the session that is ended, not a group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

PATIENCE_S = 1.0  # from SIGTERM to SIGKILL
POLL_S = 0.5


def run(
    command: Sequence[str],
    cwd: Path,
    output: IO[str],
    environment: Mapping[str, str],
    progress: Callable[[], None],
    keep: Sequence[int] = (),
) -> int:
    """The command's exit code; progress is called about twice a second. Nothing of it is left when this returns.

    keep: file descriptors that stay open until the last of it has ended, of a lock for instance.
    """
    leash = subprocess.Popen(
        [sys.executable, "-m", "analysis.measure.leash", *command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=keep,
    )
    assert leash.stdin is not None
    try:
        while leash.poll() is None:
            progress()
            time.sleep(POLL_S)
    finally:
        leash.stdin.close()  # first: whatever interrupts the rest, the command ends
        leash.wait()
        end(leash.pid)
    return leash.returncode


def end(session: int) -> None:
    """End all processes of the session but this one: SIGTERM first, SIGKILL for what is left after PATIENCE_S."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + PATIENCE_S
        while (left := members(session)) and time.monotonic() < deadline:
            for pid in left:
                _kill(pid, signum)
            time.sleep(0.05)


def members(session: int) -> list[int]:
    """The living processes of a session but this one."""
    import psutil

    pids = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or os.getsid(process.pid) != session:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
        except (psutil.Error, OSError):  # gone meanwhile, or another user's
            continue
    return pids


def _kill(pid: int, signum: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signum)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns only at the end of the file
    end(os.getsid(0))
    os._exit(1)


def main() -> int:
    """Run the command of the command line to its end, or to the parent's; the command's exit code."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = child.wait()
    end(os.getsid(0))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
