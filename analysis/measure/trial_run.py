"""Times a preset's trials in a process of its own, which imports torch and computes nothing itself.

`python -m analysis.measure.trial_run SPECIFICATION`: what `Specification` holds, as JSON.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.measure import leash
from analysis.measure.checkout import ROOT
from linear_lasagna.trial.files import Key


@dataclass(frozen=True)
class Specification:
    """keys: in their order; budget_s: seconds in timed calls per trial and process; limit_s: of the whole run, None for
    none; retry_before: trials with failed cells whose records are older than this time, in seconds since the epoch, are
    run again; commit: "" where git knows.
    """

    keys: Sequence[Key]
    budget_s: float
    limit_s: float | None = None
    retry_before: float = 0.0
    commit: str = ""


def time_all(
    specification: Specification,
    log: Path,
    progress: Callable[[int], None],
    keep: Sequence[int] = (),
    home: Path = ROOT,
) -> float:
    """Time the trials to their end; progress is told how many processes have visited one, about twice a second. Returns
    the wall seconds.

    keep: file descriptors that stay open until all that was started has ended. home: below which the records lie.
    Raises RuntimeError, naming the log, where it did not run.
    """
    command = [sys.executable, "-m", "analysis.measure.trial_run", json.dumps(asdict(specification))]
    environment = {**os.environ, "LASAGNA_BUDGET_S": str(specification.budget_s), "LASAGNA_ROOT": str(home)}
    environment["LASAGNA_RETRY_BEFORE"] = str(specification.retry_before)
    environment |= {"ASV_COMMIT": specification.commit} if specification.commit else {}
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w+") as output, log.open() as written:
        visits = 0

        def told() -> None:
            nonlocal visits
            visits += sum(line.startswith(VISITED) for line in written)
            progress(visits)

        code = leash.run(command, ROOT, output, environment, told, keep)
    if code:
        raise RuntimeError(f"timing ended with exit code {code}; see {log}")
    return time.perf_counter() - start


VISITED = "visited "


def main() -> int:
    """Time the trials of the command line's specification; one line on stdout per visit."""
    start = time.monotonic()  # what is imported counts
    data = json.loads(sys.argv[1])
    specification = Specification(**{**data, "keys": [Key(*key) for key in data["keys"]]})

    import torch  # noqa: F401  # so that forks have it

    from linear_lasagna.trial import files, processes

    files.prepare()
    # What this process took to import is what those that it starts will take. By the clock that nobody sets.
    starting_s = time.monotonic() - start
    until = math.inf if specification.limit_s is None else start + specification.limit_s
    for key in processes.run(specification.keys, processes.Limits(until=until, fork=True, starting_s=starting_s)):
        print(f"{VISITED}{' '.join(key)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
