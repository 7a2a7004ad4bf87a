"""asv's own site: the history of what this checkout has measured, built beside a report.

It shows its numbers with scripts that it loads from the network, and only from a web server.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from analysis.measure import leash
from analysis.measure.checkout import ROOT

FOLDER = "asv"  # beside the report
INDEX = "index.html"
CONFIGURATION = "asv.conf.json"


def publish(out: Path, log: Path, keep: Sequence[int] = ()) -> Path:
    """Write asv's site to out/asv, whole or not at all; returns its index. keep: as leash.run takes it.

    Raises RuntimeError, naming the log, where asv did not.
    """
    with tempfile.TemporaryDirectory(dir=out, prefix=".asv-") as name:
        made, configuration = Path(name) / "html", Path(name) / CONFIGURATION
        configuration.write_text(json.dumps(_configuration(made)), encoding="utf-8")
        command = [sys.executable, "-m", "asv", "--config", str(configuration), "publish", "--no-pull"]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as output:
            code = leash.run(command, ROOT, output, os.environ, lambda: None, keep)
        if code or not (made / INDEX).is_file():
            raise RuntimeError(f"asv publish ended with exit code {code}; see {log}")
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        os.replace(made, out / FOLDER)
    return out / FOLDER / INDEX


def _configuration(html: Path) -> dict[str, object]:
    """The checkout's own, for the commits that lead to the one that is checked out, whatever its branch is called."""
    told = json.loads((ROOT / CONFIGURATION).read_text(encoding="utf-8"))
    paths = {name: str(ROOT / told[name]) for name in ("repo", "benchmark_dir", "env_dir", "results_dir")}
    return {**told, **paths, "branches": ["HEAD"], "html_dir": str(html)}


def link(out: Path) -> str:
    """Of the site, from the report in out; "" where there is none."""
    return f"{FOLDER}/{INDEX}" if (out / FOLDER / INDEX).is_file() else ""
