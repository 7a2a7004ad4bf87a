"""What an edition keeps of what was measured: its trials in one archive, its precision rows as Parquet."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from analysis.data.frames import Frame
from analysis.data.records import UNREADABLE, read

TRIALS, ROWS = "trials.tar.gz", "precision.parquet"
SITE = "asv-site.tar.gz"  # asv's own, where the study built one
AS_JSON = "json:"  # before the name of a column whose values are of several types


def packed(members: Mapping[str, bytes]) -> bytes:
    """A gzipped tar that is the same for the same members: in their order of names, without times and owners."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of an archive's members, for as long as the block lasts. Raises ValueError for what is no archive."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with tarfile.open(path, "r:gz") as archive:
                archive.extractall(name, filter="data")
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise ValueError(f"{path} is no archive of trials: {' '.join(str(error).split())}") from error
        yield Path(name)


def members(folder: Path) -> dict[str, bytes]:
    """The JSON files below a folder, by their paths in it."""
    paths = sorted(path for path in folder.rglob("*.json") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def records_below(folder: Path) -> dict[str, bytes]:
    """The trial records among them: nothing else is published."""
    return {path: content for path, content in members(folder).items() if _is_record(content)}


def _is_record(content: bytes) -> bool:
    try:
        read(content.decode("utf-8"))
    except UNREADABLE:
        return False
    return True


def site(folder: Path) -> dict[str, bytes]:
    """asv's site in the folder, packed, by its name in an edition; nothing where there is none."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {f"asv/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}
    return {SITE: packed(files)} if files else {}


def as_parquet(rows: Frame) -> bytes:
    """The rows of a store. Columns of several types, which Parquet has not, are kept as JSON."""
    mixed = {name: AS_JSON + name for name in rows.columns if _mixed(rows[name])}
    kept = rows.assign(**{name: rows[name].map(json.dumps) for name in mixed}).rename(columns=mixed)
    out = io.BytesIO()
    kept.to_parquet(out, index=False, compression="zstd", engine="pyarrow")
    return out.getvalue()


def _mixed(column: Frame) -> bool:
    """Whether a column of objects holds other than texts, or than nothing."""
    if column.dtype != object:
        return False
    return not {type(value) for value in column} <= {str, type(None)}


def from_parquet(path: Path) -> Frame:
    """The rows as `as_parquet` got them. Raises ValueError for what is no such file."""
    import pandas
    import pyarrow

    try:
        rows = pandas.read_parquet(path, engine="pyarrow")
        names = {name: name.removeprefix(AS_JSON) for name in rows.columns if name.startswith(AS_JSON)}
        return rows.assign(**{name: rows[name].map(json.loads) for name in names}).rename(columns=names)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} holds no precision rows: {' '.join(str(error).split())}") from error
