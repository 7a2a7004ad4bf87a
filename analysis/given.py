"""Where results lie, whatever was given: a folder of records, an edition's folder, a study's archive; or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.data import archive
from analysis.data.archive import Results
from analysis.data.frames import Frame
from analysis.data.loading import load_records, load_rows
from analysis.data.records import Record, Records
from analysis.edition import raw
from linear_lasagna.factors import named

OF_AN_EDITION = (raw.TRIALS, "results.tar.gz")  # its archive: of trials, or in older ones a study's
TRIALS, STORE = archive.TRIALS, archive.STORE


@dataclass(frozen=True)
class Source:
    """What was read of one place. rows: of the precision study, None where there are none."""

    path: Path
    records: Records
    rows: Frame | None


@contextmanager
def opened(path: Path) -> Iterator[Results]:
    """Where the records lie, and the store beside them, for as long as the block lasts.

    Raises ValueError, in one line, for what is not there or is no archive.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such folder, and no archive")
    if is_edition(path) and not any((path / name).is_file() for name in OF_AN_EDITION):
        raise ValueError(f"{path} is an edition without its {raw.TRIALS}")
    inner = next((path / name for name in OF_AN_EDITION if (path / name).is_file()), path)
    if inner.name == raw.TRIALS:
        with raw.unpacked(inner) as folder:
            yield Results(folder, _first(inner.parent / raw.ROWS))
    elif inner.is_file():
        with archive.results(inner) as found:
            yield found
    else:
        below = path / TRIALS if (path / TRIALS).is_dir() else path
        above = (path.parent / STORE,) if path.name == TRIALS else ()
        yield Results(below, _first(path / STORE, *above))


def is_edition(path: Path) -> bool:
    return (path / "edition.json").is_file()


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def source(path: Path) -> Source:
    """All that lies there. Raises ValueError, naming the path, where there is neither a record nor a row."""
    with opened(path) as found:
        try:
            records, rows = load_records(found.records), rows_of(found.store)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not len(records) and rows is None:
        raise ValueError(f"{path}: {records.left_out or 'it holds no trial record'}")
    return Source(path, records, rows)


def timed_under(found: Source, conditions: str) -> Records:
    """Those of these conditions alone. Raises ValueError, naming the place, where it has none, or others only."""
    records = found.records.timed_under(conditions)
    if not len(found.records):
        raise ValueError(f"{found.path} holds no trial record; a study's lie in .asv/results, and in its archive")
    if not len(records):
        raise ValueError(f"{found.path}: {of_others(found.records, conditions)}")
    return records


def of_others(loaded: Records, about: str) -> str:
    """What is wrong where no trial was timed under the conditions that were asked for."""
    there = sorted({each.under for each in loaded})
    others = ", ".join(f"--condition {text.replace(',', ' ')}" if text else "the usual ones" for text in there)
    return f"no trial was timed under {named(about)} conditions; of others there are: {others}"


def rows_of(store: Path | None) -> Frame | None:
    """The precision rows of a store, or of an edition's file."""
    if store is None:
        return None
    return raw.from_parquet(store) if store.suffix == ".parquet" else load_rows(store)


def distinct(paths: Sequence[Path]) -> list[Path]:
    """The places, each once and in a fixed order, so that neither order nor repetition changes a page."""
    return sorted({path.resolve() for path in paths})


def names(paths: Sequence[Path]) -> list[str]:
    """What tells the places apart: their last parts, or what follows the folder that they share."""
    last = [path.name for path in paths]
    if len(set(last)) == len(last):
        return last
    shared = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(shared).as_posix() for path in paths]


def sources(paths: Sequence[Path]) -> list[Source]:
    """What lies in every place."""
    return [source(path) for path in distinct(paths)]


def merged(found: Sequence[Source]) -> tuple[Records, Frame | None]:
    """All records and rows; what is there twice, as a folder's copy has it, once."""
    named = list(zip(names([one.path for one in found]), found, strict=True))
    entries = _once(replace(each, source=f"{name}/{each.source}") for name, one in named for each in one.records)
    messages = dict.fromkeys(f"{name}/{text}" for name, one in named for text in one.records.messages)
    notes = dict.fromkeys(text for one in found for text in one.records.notes)
    records = Records(tuple(entries), tuple(messages), tuple(notes))
    return records, rows_together([one.rows for one in found if one.rows is not None])


def _once(records: Iterable[Record]) -> list[Record]:
    """The first of the records of one trial that began at the same time."""
    return list({(each.key, each.trial.started, each.commit): each for each in reversed(list(records))}.values())[::-1]


def rows_together(frames: Sequence[Frame]) -> Frame | None:
    """The rows of several stores; those that two have alike, once."""
    import pandas

    if not frames:
        return None
    together = pandas.concat(list(frames), ignore_index=True)
    shared = len(frames) > 1 and any(
        set(a["machine"]) & set(b["machine"]) for a in frames for b in frames if a is not b
    )
    return together[~together.astype(str).duplicated()].reset_index(drop=True) if shared else together
