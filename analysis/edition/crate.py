"""An edition as an RO-Crate: what it is and what each of its files is, for machines.

Source: RO-Crate Metadata Specification 1.1, https://w3id.org/ro/crate/1.1
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from analysis.report.citing import AUTHORS, LICENCE_URL, Cited

NAME = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
FORMATS = {
    "html": "text/html",
    "csv": "text/csv",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "json": "application/json",
    "tex": "application/x-tex",
    "md": "text/markdown",
    "bib": "application/x-bibtex",
    "cff": "application/yaml",
    "txt": "text/plain",
    "gz": "application/gzip",
    "parquet": "application/vnd.apache.parquet",
}
DESCRIBED = {
    "report.html": "The page: answers, figures, tables and all results, with its data attached.",
    "trials.tar.gz": "Raw trials: every sample by process, block and round, with the machine's state.",
    "precision.parquet": "Rounding errors: one row per observation.",
    "asv-site.tar.gz": "asv's own site of the trials, to be unpacked and shown by a web server.",
    "environment.json": "What was recorded of the machines.",
    "edition.json": "What this edition is, and the SHA-256 of its files.",
}


def crate(cited: Cited, abstract: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    """ro-crate-metadata.json. files: size and sha256 by path, without this one."""
    parts = [_file(path, told) for path, told in files.items()]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": cited.title,
        "description": abstract,
        "version": cited.name,
        "datePublished": cited.date or "1970-01-01",
        "license": {"@id": LICENCE_URL},
        "author": {"@id": "#authors"},
        "url": cited.address,
        "hasPart": [{"@id": part["@id"]} for part in parts],
    }
    graph = [
        {
            "@id": NAME,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": SPECIFICATION},
        },
        root,
        {"@id": "#authors", "@type": "Organization", "name": AUTHORS},
        {"@id": LICENCE_URL, "@type": "CreativeWork", "name": "Creative Commons Attribution 4.0 International"},
        *parts,
    ]
    context = [f"{SPECIFICATION}/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
    return json.dumps({"@context": context, "@graph": graph}, indent=1, ensure_ascii=False) + "\n"


def _file(path: str, told: Mapping[str, Any]) -> dict[str, Any]:
    entry = {"@id": quote(path), "@type": "File", "name": path.rpartition("/")[2], "contentSize": str(told["bytes"])}
    entry |= {"sha256": told["sha256"], "encodingFormat": FORMATS.get(path.rpartition(".")[2], "text/plain")}
    return entry | ({"description": DESCRIBED[path]} if path in DESCRIBED else {})
