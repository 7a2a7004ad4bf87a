"""What of a report could not be made: a named gap on the page and on the console, never the end of the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
MOST = 200  # characters of a reason


class Gaps:
    """Collects what failed, one line each. strict: let what fails raise, as whoever asks for one part alone wants."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.lines: list[str] = []

    def attempt(self, what: str, make: Callable[[], T], instead: T) -> T:
        """What make() gives; where it raises, `instead`, and a line that says what is missing and why."""
        if self.strict:
            return make()
        try:
            return make()
        except Exception as error:
            self.lines.append(f"{what} could not be made: {reason(error)}")
            return instead


STRICT = Gaps(strict=True)


def reason(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= MOST else text[: MOST - 1] + "…"
