"""reports/index.html: the editions that lie there, each with its answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis import atomic
from analysis.edition import composing, folder
from analysis.report import markup


def editions(home: Path) -> Iterator[dict[str, Any]]:
    """What the editions below home tell of themselves, the newest first; what is damaged, or has a name that no
    edition has, is left out.
    """
    found = []
    for path in sorted(home.glob(f"*/{composing.MANIFEST}")):
        try:
            told = folder.manifest(home / folder.checked(path.parent.name))
        except ValueError:
            continue
        found.append({**told, "folder": path.parent.name, "sha256": composing.hashed(path.read_bytes())["sha256"]})
    found.sort(key=lambda each: (str(each["date"]), each["folder"]), reverse=True)
    yield from found


def write(home: Path) -> Path:
    """Write home/index.html; the same editions give the same bytes. Raises ValueError where there is no such folder."""
    if not home.is_dir():
        raise ValueError(f"{home}: no such folder")
    style = (markup.TEMPLATES / "style.css").read_text(encoding="utf-8")
    listed = list(editions(home))
    template = markup.environment().get_template("index.html")
    text = template.render(editions=listed, style=style, policy=markup.policy(style, ""))
    atomic.write(home / folder.INDEX, text)
    return home / folder.INDEX
