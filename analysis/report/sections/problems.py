"""What was computed: the problems, and where their numbers come from."""

from __future__ import annotations

from analysis.data.frames import Frame, problems_in_order
from analysis.data.study_data import StudyData
from analysis.report import formatting as show
from analysis.report.section import Content, Frames, Section
from analysis.report.tables import Table, Text, table


def content(data: StudyData, frames: Frames) -> Content:
    rows = frames["problems"]
    return Content(tables=(problem_table(rows),), notes=tuple(sources(rows))) if len(rows) else Content()


def problem_table(problems: Frame) -> Table:
    """What was computed."""
    order = {name: place for place, name in enumerate(problems_in_order(problems["problem"]))}
    rows = problems.assign(_order=problems["problem"].map(order)).sort_values("_order")
    columns = {
        "problem": lambda row: row.problem,
        "layers": lambda row: str(row.depth),
        "input": lambda row: row.input,
        "output": lambda row: row.output,
        "parameters": lambda row: show.count(row.parameters),
        "multiply-accumulates": lambda row: show.count(row.macs),
        "occurrences": lambda row: Text(str(row.occurrences), kind="" if row.occurrences > 1 else "zero"),
    }
    if (rows["numbers"] != "drawn").any():
        columns["numbers"] = lambda row: row.numbers
    caption = "The problems: shapes are batch × channels × size; multiply-accumulates are those of the unmerged layers."
    return table("problems", caption, rows, columns, "problems", (0, 2, 3))


def sources(problems: Frame) -> list[str]:
    """Where the problems' numbers come from, each source once."""
    names: dict[str, list[str]] = {}
    for problem in problems_in_order(problems["problem"]):
        source = problems.set_index("problem")["source"][problem]
        names.setdefault(source, []).append(problem)
    lines = []
    for source, listed in names.items():
        more = f" and {len(listed) - 2} more" if len(listed) > 2 else ""
        lines.append(f"{', '.join(listed[:2])}{more}: {source}." if source else "")
    return [line for line in lines if line]


SECTION = Section(
    "problems",
    "What was computed",
    content,
    lambda data: {"problems": data.problems},
    empty="No problem was run.",
    files={"problems": "What was computed."},
    columns={
        "input": "the input's shape: batch × channels × size",
        "output": "the output's shape",
        "parameters": "weights and biases of all layers",
        "macs": "multiply-accumulates of all layers, unmerged",
        "occurrences": "how often the layer stands in its network",
        "numbers": "drawn from a seed, or which were given: the input, each layer's weight and bias",
        "source": "where the numbers come from",
    },
)
