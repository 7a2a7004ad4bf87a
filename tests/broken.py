"""Records as disks, other programs and other versions may leave them: changed at random, from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

NAMES = [
    "a$\\frac{$b^",
    "x" * 300,
    "\ud800",
    "<script>alert(1)</script>",
    "../../x",
    "",
    "a\nb",
    "`_{^$",
    "ß\u202e",
    "%s{}",
]
NUMBERS = [0, -1, 1, 2**63, 10**400, 1e308, 5e-324, -0.0, 1.5, 1e-15, 1e9, True]
OTHERS = [None, [], {}, [[]], {"": {}}, ["x"], [1, [2]], "x"]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside, of lists only to the first two."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, item in items:
        yield from _places(item, (*path, name))


def _field(text: str, rng: random.Random) -> str:
    """One value anywhere in the record, or a field's name, becomes something else; or the field is gone, or new."""
    data = json.loads(text)
    *inner, last = rng.choice(list(_places(data))[1:])
    target = data
    for name in inner:
        target = target[name]
    change = rng.choice(["name", "number", "number", "other", "drop", "new", "rename"])
    if change == "drop":
        del target[last]
    elif change in ("new", "rename") and isinstance(target, dict):
        target[rng.choice(NAMES)] = target.pop(last) if change == "rename" else 1
    else:
        target[last] = rng.choice({"name": NAMES, "number": NUMBERS}.get(change, OTHERS))
    return json.dumps(data)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text))]


def _flipped(text: str, rng: random.Random) -> bytes:
    data = bytearray(text.encode())
    for _ in range(rng.choice([1, 1, 5])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _deep(text: str, rng: random.Random) -> str:
    opening, closing = rng.choice(["[]", ('{"a":', "}")])
    depth = rng.choice([50, 2000, 100_000])
    nested = opening * depth + "1" + closing * depth
    return rng.choice([nested, text.replace('"environment": {', f'"environment": {{"deep": {nested}, ', 1)])


def _encoded(text: str, rng: random.Random) -> bytes:
    return text.encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"]))


Change: TypeAlias = Callable[[str, random.Random], str | bytes]
CHANGES: tuple[Change, ...] = (
    _field,
    _field,
    _field,
    _field,
    _cut,
    _flipped,
    _deep,
    _encoded,
)


def broken(text: str, rng: random.Random) -> bytes:
    """The record's text, changed once."""
    changed = rng.choice(CHANGES)(text, rng)
    return changed if isinstance(changed, bytes) else changed.encode(errors="surrogatepass")
