"""Rows already computed survive a kill: one SQLite file, one transaction per unit of work.

A unit's rows are kept as JSON under the experiment, the unit, the version of the code that computed them, and the
machine. SQLite's rollback journal makes each transaction whole or absent, whenever the process ends.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
APPLICATION = 0x4C61736E  # "Lasn", in the file's header: it says whose file it is
BUSY_S = 30.0
TABLE = """
CREATE TABLE units (
    experiment TEXT NOT NULL,
    unit TEXT NOT NULL,
    version TEXT NOT NULL,
    machine TEXT NOT NULL,
    failed INTEGER NOT NULL,
    rows TEXT NOT NULL,
    PRIMARY KEY (experiment, unit, version, machine)
)"""

# Rows are a list of objects, or an empty one. What another program has put there is not.
SOUND = "CASE WHEN json_valid(rows) THEN json_type(rows) = 'array' AND coalesce(json_type(rows, '$[0]'), 'object') = "
SOUND += "'object' ELSE 0 END"


class StoreError(RuntimeError):
    """A store that cannot be opened, read or written; the message is one line, for the user."""


class Store:
    """A store open for writing; made, with its folder, where there is none. Raises StoreError.

    notice: one line where the path held a store of another schema, which is kept under another name; else "".
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with _told(self.path, "open"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.notice = _set_aside(self.path)
            self.connection = _connect(self.path, "rwc")
            with self._transaction():
                if not _header(self.connection)[0]:
                    self.connection.execute(TABLE)
                # Written even where it is there: only a write tells that the file may be written.
                self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
                self.connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """What is written inside is stored whole, or not at all."""
        with contextlib.closing(self.connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield
                cursor.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    cursor.execute("ROLLBACK")

    def put(self, experiment: str, unit: str, version: str, machine: str, rows: Sequence[dict[str, Any]]) -> None:
        """Store a unit's rows, in place of those stored under the same four names. Raises StoreError."""
        failed = any(row.get("status") == "failed" for row in rows)
        values = (experiment, unit, version, machine, failed, json.dumps(rows, allow_nan=False))
        with _told(self.path, "write"), self._transaction():
            self.connection.execute("INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?)", values)

    def done(self, experiment: str, version: str, machine: str, *, retry_failed: bool = False) -> set[str]:
        """The units that have rows; with retry_failed, only those of which none failed. Spoilt rows are none."""
        query = "SELECT unit FROM units WHERE experiment = ? AND version = ? AND machine = ? AND failed <= ?"
        query += f" AND {SOUND}"
        with _told(self.path, "read"):
            rows = self.connection.execute(query, (experiment, version, machine, not retry_failed))
            return {unit for (unit,) in rows}

    def of_others(self, experiment: str, version: str, machine: str) -> int:
        """How many of the experiment's units on this machine were computed by other versions. Raises StoreError."""
        query = "SELECT count(*) FROM units WHERE experiment = ? AND version != ? AND machine = ?"
        with _told(self.path, "read"):
            return int(self.connection.execute(query, (experiment, version, machine)).fetchone()[0])


def read(
    path: str | Path, experiment: str | None = None, machine: str | None = None, *, all_versions: bool = False
) -> pandas.DataFrame:
    """The stored rows as a frame, one row per observation, in an order that does not depend on how they were computed.

    Of each experiment, machine and device only the rows of the code that computed last are given, unless all_versions.
    Raises StoreError where there is no store of this schema.
    """
    import pandas

    units = [item for item in _units(Path(path)) if experiment in (None, item[0]) and machine in (None, item[3])]
    if not all_versions:
        latest = {_series(item): item[2] for item in units}
        units = [item for item in units if latest[_series(item)] == item[2]]
    units.sort(key=lambda item: item[:4])
    return _frame(pandas.DataFrame([row for *_, rows in units for row in rows]))


def _units(path: Path) -> list[tuple[str, str, str, str, list[dict[str, Any]]]]:
    """Experiment, unit, version, machine and rows of all units, in the order in which they were stored."""
    if not path.exists():
        raise StoreError(f"{path}: there is no store here; run a precision study first")
    with _told(path, "read"), contextlib.closing(_connect(path, "rw")) as connection:
        _, schema = _header(connection)
        if schema != SCHEMA:
            raise StoreError(f"{path}: a store of schema {schema}; this version reads {SCHEMA}. It is left as it is")
        query = f"SELECT experiment, unit, version, machine, rows FROM units WHERE {SOUND} ORDER BY rowid"
        return [(*names, json.loads(rows)) for *names, rows in connection.execute(query)]


def spoilt(path: str | Path) -> int:
    """How many units have rows that cannot be read; `read` leaves them out, and a study computes them again."""
    with _told(Path(path), "read"), contextlib.closing(_connect(Path(path), "rw")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM units WHERE NOT {SOUND}").fetchone()[0])


def closed(path: str | Path) -> bytes:
    """The store as the bytes of one file, checked and whole whatever still writes. Raises StoreError."""
    with _told(Path(path), "read"), tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.sqlite"
        with (
            contextlib.closing(_connect(Path(path), "rw")) as connection,
            contextlib.closing(_connect(copy, "rwc")) as to,
        ):
            connection.backup(to)
            told = to.execute("PRAGMA integrity_check").fetchone()[0]
        if told != "ok":
            raise StoreError(f"{path} is damaged: {str(told).splitlines()[0]}")
        return copy.read_bytes()


def _series(item: tuple[str, str, str, str, list[dict[str, Any]]]) -> tuple[str, str, str]:
    experiment, _, _, machine, rows = item
    return experiment, machine, rows[0].get("device", "") if rows else ""


def _frame(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Columns of numbers where nothing but None was stored, so that they can be reckoned with."""
    empty = frame.columns[frame.isna().all()]
    return frame.astype(dict.fromkeys(empty, "float64"))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """mode: "rwc" makes the file where there is none; "rw" falls back to reading where writing is not allowed."""
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)


def _header(connection: sqlite3.Connection) -> tuple[bool, int]:
    """Whether the file holds anything, and its schema. Raises sqlite3.DatabaseError for another program's file."""
    number = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")}
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if number["application_id"] != APPLICATION and (tables or any(number.values())):
        raise sqlite3.DatabaseError("another program's database")
    return bool(tables), number["user_version"]


def _set_aside(path: Path) -> str:
    """Rename a store of another schema, and say so in one line; "" where there is none."""
    if not path.exists():
        return ""
    with contextlib.closing(_connect(path, "rw")) as connection:
        holds, schema = _header(connection)
    if not holds or schema == SCHEMA:
        return ""
    kept, count = path.with_name(f"{path.stem}.schema{schema}{path.suffix}"), 2
    while kept.exists():
        kept, count = path.with_name(f"{path.stem}.schema{schema}-{count}{path.suffix}"), count + 1
    path.rename(kept)
    return f"{path} was a store of schema {schema}, this version writes {SCHEMA}: kept as {kept.name}, a new one begun"


@contextlib.contextmanager
def _told(path: Path, verb: str) -> Iterator[None]:
    """Whatever goes wrong with the file, as one line that says that what is stored is safe."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreError(f"cannot {verb} {path}: {error}; what was stored before is intact") from error
    except OSError as error:
        raise StoreError(f"cannot {verb} {path}: {error.strerror or error}") from error
