"""How to cite a data set: BibTeX, CITATION.cff, and the licences."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

AUTHORS = "The Linear Lasagna developers"
DATA_LICENCE, CODE_LICENCE = "CC-BY-4.0", "BSD-3-Clause"
LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
LICENCE = f"""\
Data, figures, tables and text of this edition: {DATA_LICENCE}, {LICENCE_URL}
The code that measured and rendered them: {CODE_LICENCE}, in the repository that CITATION.cff names.
"""
SPECIAL = re.compile(r"[\\{}$&#^_~%]")


@dataclass(frozen=True)
class Cited:
    """A data set: its title with the machine, what it is called, when and by which commit it was measured."""

    title: str
    name: str
    date: str
    commit: str
    version: str
    address: str

    @property
    def key(self) -> str:
        """Of BibTeX: one per edition."""
        return "linear_lasagna_" + (re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_") or "data")

    @property
    def year(self) -> str:
        return self.date[:4] or "n.d."


def sentence(cited: Cited) -> str:
    """One line, as in a list of references."""
    commit = f", commit {cited.commit[:12]}" if cited.commit else ""
    return f"{AUTHORS} ({cited.year}): {cited.title}. Data set, {cited.name}{commit}. {cited.address}"


def bibtex(cited: Cited) -> str:
    """An entry for the data set, not for the software."""
    fields = {
        "author": f"{{{AUTHORS}}}",
        "title": f"{{{_plain(cited.title)}}}",  # or styles write names of machines in small letters
        "year": cited.year,
        "version": _plain(cited.name + (f", commit {cited.commit[:12]}" if cited.commit else "")),
        "note": _plain(f"Data set, measured with Linear Lasagna {cited.version}"),
        "howpublished": f"\\url{{{cited.address}}}",
    }
    lines = ",\n".join(f"  {name:<12} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{cited.key},\n{lines}\n}}"


def _plain(text: str) -> str:
    """For a BibTeX field: what TeX takes for commands is left out or escaped."""
    return SPECIAL.sub(lambda match: "" if match[0] in "\\{}^~" else "\\" + match[0], " ".join(text.split()))


def cff(cited: Cited, abstract: str) -> str:
    """CITATION.cff, version 1.2.0, of a data set. Texts are JSON's, which is YAML."""
    entries = {
        "cff-version": "1.2.0",
        "message": "If you use these data, please cite them.",
        "type": "dataset",
        "title": cited.title,
        "abstract": abstract,
        "authors": [{"name": AUTHORS}],
        "version": cited.name,
        "license": DATA_LICENCE,
        "repository-code": cited.address,
        "keywords": ["convolution", "benchmark", "rounding error", "reparameterization"],
    }
    entries |= {"date-released": cited.date} if re.fullmatch(r"\d{4}-\d{2}-\d{2}", cited.date) else {}
    entries |= {"commit": cited.commit} if cited.commit else {}
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in entries.items())
