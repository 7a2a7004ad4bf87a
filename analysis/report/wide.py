"""Tables with one column per value of a frame's column, as in one column per dtype."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analysis.data.frames import Frame
from analysis.report import formatting as show
from analysis.report.style import dtypes_in_order, problems_in_order, ways_in_order
from analysis.report.tables import Table, Text, table

EXACT = ("f(-x) = -f(x)", "f(4x) = 4f(x)")  # identities that rounding to nearest keeps, within the range
Shown = Callable[[Any], Text]
ORDERS: dict[str, Callable[[Any], list[Any]]] = {
    "dtype": dtypes_in_order,
    "way": ways_in_order,
    "problem": problems_in_order,
    "signs": lambda signs: sorted(set(signs), reverse=True),
    "identity": lambda kinds: sorted(set(kinds), key=lambda kind: (kind not in EXACT, kind)),
    "inputs": lambda inputs: list(dict.fromkeys(inputs)),
    "order": lambda orders: sorted(set(orders), key=lambda order: (order != "left_to_right", order)),
}


def in_order(column: str, values: Any) -> list[Any]:
    """The distinct values in the suite's order, or sorted."""
    return ORDERS.get(column, lambda found: sorted(set(found)))(values)


def arranged(frame: Frame, columns: list[str]) -> Frame:
    """The rows sorted by the columns, each in the suite's order."""
    places = {name: {v: i for i, v in enumerate(in_order(name, frame[name]))} for name in columns}
    keys = frame.assign(**{f"_{name}": frame[name].map(places[name]) for name in columns})
    names = [f"_{name}" for name in columns]
    return keys.sort_values(names, kind="stable").drop(columns=names)


def wide_table(
    name: str,
    caption: str,
    frame: Frame,
    labels: Mapping[str, str],
    across: str,
    cell: Shown,
    data: str,
    heading: Callable[[Any], str] = str,
) -> Table:
    """One row per combination of the label columns (column -> heading), one column per value of `across`.

    heading: of such a column. cell: shows a row of the frame, a namedtuple; a combination without a row is a dash.
    """
    keys = list(labels)
    shown = {(*_key(row, keys), getattr(row, across)): cell(row) for row in frame.itertuples(index=False)}
    columns: dict[str, Any] = {heading: lambda row, key=key: str(getattr(row, key)) for key, heading in labels.items()}
    for value in in_order(across, frame[across]):
        columns[heading(value)] = lambda row, value=value: shown.get((*_key(row, keys), value), Text(show.DASH))
    distinct = arranged(frame[keys].drop_duplicates(), keys)
    return table(name, caption, distinct, columns, data, range(len(keys)))


def with_interval(row: Any) -> Text:
    """A median with its interval."""
    ends = (row.lower, row.upper)
    return Text(show.number(row.median, *ends), show.interval(row.median, *ends))


def _key(row: Any, names: list[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)
