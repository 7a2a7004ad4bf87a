"""A table as LaTeX: a whole environment with booktabs' rules, caption and label, no wider than the page."""

from __future__ import annotations

import math

from analysis.report import tex
from analysis.report.tables import MARKS, Table, Text

PACKAGES = "array,booktabs,graphicx,longtable,pdflscape,xcolor"
MOST_LINES = 44  # on a page, caption and headings included; a longer table is broken over several
BROKEN = (36, 24, 16, 12)  # characters; a column with longer cells is broken over lines
SIZES = {1.0: r"\normalsize", 0.92: r"\small", 0.85: r"\footnotesize", 0.79: r"\scriptsize", 0.67: r"\tiny"}
UPRIGHT, SIDEWAYS = 66, 106  # digits of the normal size on a line of an A4 or letter page of LaTeX's article
MOST_SHRUNK = 1.5  # times as wide as the page may a table be before its headings are turned
HEIGHT = 0.42  # of a line is a digit wide
GAP = 2  # between two columns, in digits
NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
STYLES = {"faster": r"\textbf", "zero": r"\textcolor{gray}", "skipped": r"\textit", "failed": r"\textit"}


def latex(table: Table, source: str = "") -> str:
    """source: what was measured by which commit, which ends the caption."""
    said = " ".join(part for part in (table.caption, source) if part)
    caption, long = tex.with_code(said), _lines(table, said) > MOST_LINES
    described = f"\\caption{{{caption}}}\n\\label{{tab:{table.name}}}"
    lines = [f"% \\usepackage{{{PACKAGES}}}", *(_long(table, described) if long else _whole(table, described))]
    return "\n".join(lines) + "\n"


def _whole(table: Table, described: str) -> list[str]:
    """On one page, shrunk where it is wider than its column."""
    return [
        *(r"\begin{table}", r"\centering", described, r"\par\medskip", NO_WIDER),
        f"\\begin{{tabular}}{{{_columns(table, BROKEN[0])}}}",
        *(r"\toprule", _head(table), r"\midrule", *_rows(table), r"\bottomrule"),
        *(r"\end{tabular}%", "}", r"\end{table}"),
    ]


def _long(table: Table, described: str) -> list[str]:
    """Over several pages, its head on each; on its side where it is too wide for the smallest size upright."""
    line = UPRIGHT if _digits(table, BROKEN[0]) * min(SIZES) <= UPRIGHT else SIDEWAYS
    most = next((most for most in BROKEN if _digits(table, most) * min(SIZES) <= line), BROKEN[-1])
    size = next((name for share, name in SIZES.items() if _digits(table, most) * share <= line), SIZES[min(SIZES)])
    lines = [
        f"{{{size}\\setlength{{\\tabcolsep}}{{{GAP / 4:g}em}}",
        f"\\begin{{longtable}}{{{_columns(table, most)}}}",
        described + r" \\[1ex]",
        *(r"\toprule", _head(table), r"\midrule", r"\endfirsthead"),
        *(r"\toprule", _head(table), r"\midrule", r"\endhead"),
        *(r"\bottomrule", r"\endlastfoot", *_rows(table), r"\end{longtable}", "}"),
    ]
    return lines if line == UPRIGHT else [r"\begin{landscape}", *lines, r"\end{landscape}"]


def _lines(table: Table, caption: str) -> int:
    """About how many it takes."""
    turned = [len(name) for name, upright in zip(table.head, _turned(table), strict=True) if upright]
    heading = math.ceil(max(turned, default=0) * HEIGHT) or 1
    rows = sum(max(1, *(_lines_of(cell, table.crowded) for cell in row)) for row in table.rows if row)
    return math.ceil(len(caption) / UPRIGHT) + 3 + heading + rows


def _lines_of(cell: Text, crowded: bool) -> int:
    """More than one where its detail stands below, or where it is broken."""
    if crowded and cell.detail:
        return 2
    return math.ceil(len(str(cell)) / BROKEN[0])


def _digits(table: Table, most: int) -> int:
    """The width of a line of it, about, where a cell has at most so many characters on a line."""
    return sum(min(width, most) + GAP for width in _widths(table))


def _widths(table: Table) -> list[int]:
    """The longest text of every column, its heading included, unless that is turned."""
    heads = [3 if turned else len(name) for name, turned in zip(table.head, _turned(table), strict=True)]
    return [max(head, *widths) for head, widths in zip(heads, _inner(table), strict=True)]


def _inner(table: Table) -> list[list[int]]:
    """Of the cells of every column, where the table has any."""
    return [[0, *(_width(table, row[column]) for row in table.rows)] for column in range(len(table.head))]


def _width(table: Table, cell: Text) -> int:
    return max(len(cell.main) + 2, len(cell.detail)) if table.crowded else len(str(cell))


def _turned(table: Table) -> list[bool]:
    """Which headings stand upright, since they make a wide table wider: those longer than all that is below them."""
    widths = [max(each) for each in _inner(table)]
    lengths = [max(width, len(name)) for width, name in zip(widths, table.head, strict=True)]
    if sum(lengths) + GAP * len(lengths) <= MOST_SHRUNK * UPRIGHT:
        return [False] * len(lengths)
    return [length > width + 1 for length, width in zip(lengths, widths, strict=True)]


def _columns(table: Table, most: int) -> str:
    """Texts left, numerals right, long texts over several lines."""
    kinds = []
    for column, width in enumerate(_widths(table)):
        side, ragged = ("l", r"\raggedright") if column in table.wide else ("r", r"\raggedleft")
        kinds.append(side if width <= most else rf">{{{ragged}\arraybackslash}}p{{{most / 2:g}em}}")
    return "".join(kinds)


def _head(table: Table) -> str:
    names = [tex.with_code(name) for name in table.head]
    turned = zip(names, _turned(table), strict=True)
    return _row([rf"\rotatebox{{90}}{{{name}}}" if upright else name for name, upright in turned])


def _rows(table: Table) -> list[str]:
    return [_row([_cell(cell, table.crowded) for cell in row]) for row in table.rows]


def _row(cells: list[str]) -> str:
    """Its first cell is none of the options that the line before may take: [ and *."""
    return " & ".join(["{}" + cells[0] if cells[0][:1] in ("[", "*") else cells[0], *cells[1:]]) + r" \\"


def _cell(cell: Text, crowded: bool) -> str:
    """The detail beside the number, or below it, as on the page."""
    main, detail, mark = tex.with_code(cell.main), tex.text(cell.detail), MARKS.get(cell.kind, "")
    styled = f"{STYLES[cell.kind]}{{{main}}}" if cell.kind in STYLES and main else main
    if crowded and detail:
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{styled}{mark}\\\scriptsize {detail}\end{{tabular}}"
    return f"{styled} {detail}".strip() + mark
