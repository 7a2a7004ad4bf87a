"""Ctrl-C, and being told to end, at any moment: the command ends soon, and says what is kept."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
GOES_ON = "and the same command goes on from there"
KEPT = {
    "study": f"trials and rounding errors that were finished are kept, {GOES_ON}",
    "precision": f"rounding errors that were finished are kept, {GOES_ON}",
    "report": "what was measured is untouched",
    "edition": "an edition is written whole, or not at all",
    "verify": "nothing was changed",
    "compare": "what was measured is untouched",
    "reproduce": "what was told before holds; it was kept nowhere else",
    "noise": "an unfinished comparison of timings keeps nothing",
}
_received: list[int] = []


class Stopped(KeyboardInterrupt):
    """A signal that asks to end. code: the exit code that tells of it, 128 + its number."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.code = 128 + signum


def install() -> None:
    """Let the signals that ask to end raise Stopped; those that this process was told to ignore stay ignored."""
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _stop)


def sentence() -> str:
    """What is kept, in one line, by the verb of this process's command line."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    return f"stopped; {KEPT.get(verb, 'nothing was begun')}"


def check() -> None:
    """Raise Stopped where a signal asked to end and some library swallowed that."""
    if _received:
        raise Stopped(_received[0])


def _stop(signum: int, frame: FrameType | None) -> None:
    if _importing(frame):
        # An import that is interrupted may be swallowed, and leave half a torch: all that it computes then fails.
        os.write(2, f"\n{sentence()}\n".encode(errors="replace"))
        os._exit(128 + signum)
    _received.append(signum)
    raise Stopped(signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
