"""What a narrow page shows before each number of a table: its heading, from the page's style, not from every cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from analysis.report.tables import Table

NARROW = "@media screen and (max-width:56rem){{{}}}\n"  # as in style.css


def name(table: Table) -> str:
    """The class of a table, the same for all with the same headings."""
    text = json.dumps([table.head, sorted(table.wide)])
    return f"h{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def rules(tables: Iterable[Table], results: Sequence[str] = ()) -> str:
    """The CSS of all tables of a page. Columns of running text have no labels. results: the headings of the table of
    all results, "" for those without a label.
    """
    heads: dict[str, Sequence[str]] = {f".{name(table)}": _labels(table) for table in tables}
    heads["table.results tr:not(.failed)"] = results
    return NARROW.format("".join(line for rows, labels in heads.items() for line in _lines(rows, labels)))


def _labels(table: Table) -> list[str]:
    return ["" if place in table.wide else heading for place, heading in enumerate(table.head)]


def _lines(rows: str, labels: Sequence[str]) -> Iterator[str]:
    for place, label in enumerate(labels, 1):
        if label:
            yield f"{rows} td:nth-child({place})::before{{content:{_quoted(label)}}}"


def _quoted(text: str) -> str:
    """A CSS string, with all that could end it, or the <style> around it, as a number."""
    safe = "".join(each if each.isalnum() or each in " ./,()×-" else f"\\{ord(each):x} " for each in text)
    return f'"{safe} "'
