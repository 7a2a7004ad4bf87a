"""What the fields of a trial record may hold, checked when one is read. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from linear_lasagna.factors import FACTORS

if TYPE_CHECKING:
    from linear_lasagna.trial.record import Trial

SHORTEST_S, LONGEST_S = 1e-15, 1e9  # of any call that a clock of today could have timed
LARGEST = 1e100  # of any other number: so far that products and squares of a few stay finite
NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 has no place for
STATUSES = ("ok", "skipped", "failed")


class Rule(NamedTuple):
    """wanted: what a value must be, in words; holds: whether it is."""

    wanted: str
    holds: Callable[[Any], bool]


Rules: TypeAlias = Mapping[str, Rule]


def _number(value: Any, least: float = -LARGEST, most: float = LARGEST) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _text(value: Any) -> bool:
    """No surrogates and no control characters: neither is text that a page or a figure could show."""
    return isinstance(value, str) and not NO_TEXT.search(value)


def _seconds(value: Any) -> bool:
    return _number(value, SHORTEST_S, LONGEST_S)


def _all(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(map(holds, value))


def _plain(value: Any) -> bool:
    """Text, finite numbers, None, and lists and dicts of them."""
    if isinstance(value, dict):
        return all(_text(name) and _plain(item) for name, item in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int)) or _text(value) or _all(value, _plain)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(name) and _text(each) for name, each in value.items())


def _conditions(value: Any) -> bool:
    return _texts(value) and all(name in FACTORS and FACTORS[name].has(level) for name, level in value.items())


def _run(value: Any) -> bool:
    return _all(value, lambda end: _whole(end, 0)) and len(value) == 2 and value[0] < value[1]


def _or_none(rule: Rule) -> Rule:
    return Rule(f"{rule.wanted}, or null", lambda value: value is None or rule.holds(value))


TEXT = Rule("text", _text)
NAME = Rule("text that is not empty", lambda value: _text(value) and bool(value))
SECONDS = Rule(f"a time from {SHORTEST_S:g} to {LONGEST_S:g} s", _seconds)
SIZE = Rule(f"a number from 0 to {LARGEST:g}", lambda value: _number(value, 0))
COUNT = Rule("a whole number from 0", lambda value: _whole(value, 0))
POSITIVE = Rule("a whole number from 1", lambda value: _whole(value, 1))

SAMPLES = Rule(
    f"lists, not all of them empty, of times from {SHORTEST_S:g} to {LONGEST_S:g} s",
    lambda value: _all(value, lambda block: _all(block, _seconds)) and (not value or any(value)),
)
ENVIRONMENT = Rule("an object of text and finite numbers", lambda value: isinstance(value, dict) and _plain(value))


def _by_way(rule: Rule) -> Rule:
    """An object of such values by the names of ways."""

    def holds(value: Any) -> bool:
        return isinstance(value, dict) and all(_text(name) and rule.holds(each) for name, each in value.items())

    return Rule(f"an object of values by way, each {rule.wanted}", holds)


NUMBERS = Rule(
    f"an object of numbers from 0 to {LARGEST:g}",
    lambda value: isinstance(value, dict) and all(_text(name) and SIZE.holds(each) for name, each in value.items()),
)
CELL: Rules = {
    "status": Rule(f"one of {', '.join(STATUSES)}", lambda value: _text(value) and value in STATUSES),
    "reason": TEXT,
    "samples": SAMPLES,
    "first_call_s": _or_none(SECONDS),
    "calls_per_sample": _or_none(POSITIVE),
    "every": _or_none(POSITIVE),
    "faults": _or_none(SIZE),
    "measures": NUMBERS,
    "peak_bytes": _or_none(COUNT),
    "runs": _or_none(Rule("pairs of layers [start, stop]", lambda value: _all(value, _run))),
    "finding": TEXT,
    "graphed_s": _or_none(SECONDS),
    "ungraphed": TEXT,
    "counted": NUMBERS,
    "computed_in": TEXT,
    "resident_bytes": _or_none(COUNT),
    "accumulation": Rule("an object of text by name", _texts),
}
TRIAL: Rules = {
    "dtype": NAME,
    "device": NAME,
    "budget_s": SIZE,
    "seed": Rule("a whole number", lambda value: _whole(value, -(2**63))),
    "environment": ENVIRONMENT,
    "conditions": ENVIRONMENT,
    "baseline": TEXT,
    "control": TEXT,
    "started": TEXT,
    "elapsed_s": SIZE,
    "timed_s": SIZE,
    "numbers": Rule("an object of text by name", _texts),
    "threads": COUNT,
    "under": Rule("an object of levels by the names of conditions", _conditions),
}
REPEAT: Rules = {
    "samples": _by_way(SAMPLES),
    "first_call_s": _by_way(SECONDS),
    "faults": _by_way(SIZE),
    **{name: TRIAL[name] for name in ("conditions", "seed", "started", "elapsed_s", "timed_s")},
    "reason": TEXT,
}
PROBLEM: Rules = {"name": NAME, "source": TEXT}


def checked(trial: Trial) -> Trial:
    """The trial. Raises ValueError, in one line, where it holds what no trial could have measured."""
    check(vars(trial), TRIAL, "")
    check(vars(trial.problem), PROBLEM, "problem: ")
    for way, cell in trial.cells.items():
        check({"name": way}, {"name": NAME}, "cell: ")
        check(vars(cell), CELL, f"cell {way!r}: ")
    for number, repeat in enumerate(trial.repeats, 2):
        check(vars(repeat), REPEAT, f"process {number}: ")
    return trial


def check(values: Mapping[str, Any], rules: Rules, where: str) -> None:
    """Raise ValueError, in one line, for the first value that its rule does not allow. where: what its name follows."""
    for name, rule in rules.items():
        if not rule.holds(values[name]):
            raise ValueError(f"{where}{name} must be {rule.wanted}, not {_shown(values[name])}")


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."
