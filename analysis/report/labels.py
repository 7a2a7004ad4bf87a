"""What a page's style says of a table's columns, once and not in every cell: which hold running text, and the heading
that a narrow page shows before each number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from analysis.report.tables import Table

NARROW = "@media screen and (max-width:56rem){{{}}}\n"  # as in style.css
TEXT, STRONG = "text-align:left;white-space:normal", "font-weight:600"  # of running text; on a narrow page it leads


def name(table: Table) -> str:
    """The class of a table, the same for all with the same headings."""
    text = json.dumps([table.head, sorted(table.wide)])
    return f"h{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def rules(tables: Iterable[Table], results: Sequence[str] = ()) -> str:
    """The CSS of all tables of a page. Columns of running text have no labels. results: the headings of the table of
    all results, "" for those without a label.
    """
    by_name = {f".{name(table)}": table for table in tables}
    heads = {rows: _labels(table) for rows, table in by_name.items()} | {"table.results tr:not(.failed)": results}
    labels = "".join(line for rows, headings in heads.items() for line in _lines(rows, headings))
    texts = ",".join(f"{rows} {cell}" for rows, table in by_name.items() for cell in _texts(table))
    return (f"{texts}{{{TEXT}}}\n" if texts else "") + NARROW.format(labels + (f"{texts}{{{STRONG}}}" if texts else ""))


def _texts(table: Table) -> list[str]:
    """Those of running text beyond the first, which always is."""
    return [f"tr>:nth-child({place + 1})" for place in sorted(table.wide) if place]


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
