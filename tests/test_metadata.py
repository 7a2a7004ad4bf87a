"""What tells strangers of the suite agrees with itself: pyproject.toml, CITATION.cff, codemeta.json, the paper."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SECTIONS = (  # that the Journal of Open Source Software requires, in this order
    "Summary",
    "Statement of need",
    "State of the field",
    "Software design",
    "Research impact statement",
    "AI usage disclosure",
    "Acknowledgements",
    "References",
)
WORDS = (750, 1750)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))["project"]


def cff(name: str) -> str:
    """An entry of CITATION.cff that is one line."""
    [value] = re.findall(rf"^{name}: (.+)$", read("CITATION.cff"), re.MULTILINE)
    return value.strip('"')


def test_versions_and_addresses_agree(project: dict[str, Any]) -> None:
    codemeta = json.loads(read("codemeta.json"))
    assert project["version"] == cff("version") == codemeta["version"]
    assert project["urls"]["Repository"] == cff("repository-code") == codemeta["codeRepository"]
    assert project["urls"]["Issues"] == codemeta["issueTracker"]
    assert project["license"] == cff("license") == codemeta["license"].rpartition("/")[2]
    assert project["dependencies"] == codemeta["softwareRequirements"]
    assert project["description"] == codemeta["description"]
    assert project["keywords"] == codemeta["keywords"]


def test_the_paper_has_the_journal_s_sections_and_length() -> None:
    _, _, text = read("paper.md").split("---\n", 2)
    assert re.findall(r"^# (.+)$", text, re.MULTILINE) == list(SECTIONS)
    assert WORDS[0] <= len(text.split()) <= WORDS[1]


def test_what_the_paper_cites_is_in_its_list_and_nothing_else() -> None:
    cited = set(re.findall(r"@([a-z]+\w*)", read("paper.md").split("---\n", 2)[2]))
    listed = re.findall(r"^@\w+\{(\w+),$", read("paper.bib"), re.MULTILINE)
    assert cited == set(listed)
    assert listed == sorted(set(listed))


def test_the_paper_names_files_that_are_there() -> None:
    names = re.findall(r"`([\w./-]+/[\w./-]*)`", read("paper.md"))
    assert "reports/" in names
    assert [name for name in names if not (ROOT / name).exists()] == []
