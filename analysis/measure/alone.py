"""One study at a time in a checkout: two that time beside each other slow each other down."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REFUSED = (errno.EAGAIN, errno.EACCES)  # flock's, where somebody else holds the lock


@contextmanager
def alone(path: Path) -> Iterator[tuple[int, ...]]:
    """Hold the lock of path, which then names this process; gives the descriptors that hold it.

    The system itself lets go of it when the last process that holds one of them ends, killed or not: a file that was
    left behind locks nothing. Raises RuntimeError, in one sentence, where another study holds it.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in REFUSED:
                raise RuntimeError(
                    f"a study is running in this checkout: {_holder(lock)}; {path} is its lock"
                ) from None
            raise RuntimeError(f"cannot lock {path}: {error.strerror}") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield (lock,)
    finally:
        os.close(lock)


def _holder(lock: int) -> str:
    text = os.pread(lock, 20, 0).decode(errors="replace").strip()
    return f"process {text}" if text.isdigit() else "a process that has just started"
