"""The README's Python runs from its first block to its last, and gives what it says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
REPORT = re.findall(r"^```text\n(\d+ of .*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
ERROR = re.compile(r"  # (\d[\d.e-]*)(?=[ ,]|$)")


@torch.no_grad()
def test_every_block_runs_and_no_error_is_much_larger_than_said() -> None:
    """Numbers in comments are errors of one machine; others sum in another order."""
    names: dict[str, Any] = {"__name__": "__main__"}
    said = 0
    for block in BLOCKS:
        quick = block.replace("budget_s=2.0", "budget_s=0.02").replace("size=(56, 56)", "size=(14, 14)")
        torch.manual_seed(0)
        for node in ast.parse(quick).body:
            if not isinstance(node, ast.Expr):
                exec(ast.unparse(node), names)
                continue
            value = eval(ast.unparse(node), names)
            error = ERROR.search(quick.splitlines()[node.lineno - 1])
            if error:
                said += 1
                assert 0 <= float(value) <= 4 * float(error[1]), ast.unparse(node)
    assert said >= 4
    assert outline(str(names["report"])) == outline(REPORT[0])


def test_the_answers_are_those_of_the_edition_that_is_shown() -> None:
    text = README.read_text(encoding="utf-8")
    [name] = set(re.findall(r"\(reports/([\w-]+)/figures/", text))
    told = json.loads((README.parent / "reports" / name / "edition.json").read_text(encoding="utf-8"))["answers"]
    rows = dict(re.findall(r"^\| (\S[^|]*\?) \| ([^|]*) \|$", text, re.MULTILINE))
    assert rows == {each["question"]: f"{each['answer']} ({each['condition']})" for each in told}


def outline(report: str) -> list[str]:
    """A report's outcome, columns and rows; its times and errors another machine has otherwise."""
    lines = report.strip().splitlines()
    assert max(map(len, lines)) <= 100
    kept = [line for line in lines if line[0] != " " or line.split()[0] == "shape"]
    return [" ".join(line.split(",")[0].split()[:2] if "model" in line else line.split()) for line in kept]
