"""Units computed by a Dask scheduler's workers, on other machines, behind the standard library's executor interface.

What is sent is bytes, so that a scheduler needs nothing of this suite, and a worker that lacks it can be told so.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.gaps import reason
from analysis.precision.compute import UnfitError, worker_name
from linear_lasagna.environment import chosen_name, code_digest

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10.0
PATIENCE_S = 60.0  # without any worker, before a run ends
AHEAD = 2  # tasks handed out per worker, so that none waits for the network
INSTALL = "pip install -e '.[cluster]' in the checkout installs it"
NEEDS = "a worker needs this checkout on its PYTHONPATH, and the packages that it names"
_alone = threading.Lock()  # of a worker with several threads: switches and numbers of threads are the process's


class Facts(NamedTuple):
    """What must be the same of all workers. device, name: what was asked; machine: as rows have it."""

    device: str
    name: str
    suite: str
    torch: str
    machine: str
    unavailable: str | None
    dtypes: tuple[str, ...]


@cache
def suite() -> tuple[str, str]:
    """Which code of this suite computes here, 12 hex digits, and which torch."""
    digest = hashlib.sha256(code_digest().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12], importlib.metadata.version("torch")


@cache
def facts(device: str, name: str) -> Facts:
    """Of this process. name: what the machine shall be called, "" for its label."""
    from linear_lasagna.devices import unavailable
    from linear_lasagna.environment import fingerprint, machine_named
    from linear_lasagna.vocabulary import DTYPES

    lacking = unavailable(device)
    dtypes = () if lacking else tuple(dtype for dtype in DTYPES if unavailable(device, dtype) is None)
    machine = "" if lacking else machine_named(fingerprint(device), name)
    return Facts(device, name, *suite(), machine, lacking, dtypes)


def called(expected: Facts, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """In a worker: what the function gives. Raises UnfitError where this is another machine, or another version."""
    with _alone:
        found = facts(expected.device, expected.name)
        if found != expected:
            raise UnfitError(f"the worker {worker_name()} is another machine than the others, or has another version")
        return function(*arguments)


class Call:
    """A call that is made where its pickle is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


class Cluster(Executor):
    """A scheduler's workers, all alike. facts: theirs; workers: how many there were at the beginning.

    Where no worker is left for PATIENCE_S, what runs is given up.
    """

    def __init__(self, client: Client, facts: Facts, workers: int) -> None:
        self.facts, self.workers = facts, workers
        self._client, self._executor = client, client.get_executor(pure=False)
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        return self._executor.submit(pickle.loads, pickle.dumps(Call(called, self.facts, fn, args)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed.set()
        if wait and not cancel_futures:
            self._executor.shutdown()
        self._watcher.join(CONNECT_S)  # a question to a client that closes is never answered
        self._client.close()

    def _watch(self) -> None:
        seen = time.monotonic()
        with contextlib.suppress(Exception):  # a scheduler that is gone has told so otherwise
            while not self._closed.wait(PATIENCE_S / 20):
                if self._client.nthreads():
                    seen = time.monotonic()
                elif time.monotonic() - seen > PATIENCE_S:
                    self._client.close()


def open_cluster(address: str, device: str = "cpu") -> Cluster:
    """The workers of the scheduler at the address, ready to compute, all of them alike.

    Raises ValueError for a device that they do not have; RuntimeError where nobody answers, where there are no workers,
    or where one of them has no or another version of the suite.
    """
    client = _connected(address)
    try:
        asked = pickle.dumps(Call(facts, device, chosen_name()))
        found: Any = client.run(pickle.loads, asked, on_error="return")
        return Cluster(client, _alike(found, address), len(found))
    except BaseException:
        client.close()
        raise


def _connected(address: str) -> Client:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error.name} is not installed, which --scheduler needs; {INSTALL}") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it tells of is told in one line

    class Quiet(distributed.Client):
        def __del__(self) -> None:
            """Nothing: it is closed where it is used, and one that never connected has nothing to close."""

    try:
        return Quiet(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RuntimeError(f"no scheduler answers at {address}: {reason(error)}") from error


def _alike(found: Mapping[str, Facts | BaseException], address: str) -> Facts:
    """What all workers are. Raises, in one line, where one cannot compute, or differs."""
    if not found:
        raise RuntimeError(f"the scheduler at {address} has no workers; `dask worker {address}` starts one")
    kinds = {_fit(told, worker): worker for worker, told in found.items()}
    if len(kinds) > 1:
        (one, here), (other, there), *_ = kinds.items()
        raise RuntimeError(
            f"the workers are of {len(kinds)} kinds: {here} is {one.machine}, {there} is {other.machine}; bits depend "
            "on the machine, so give each kind a scheduler of its own"
        )
    return next(iter(kinds))


def _fit(told: Facts | BaseException, worker: str) -> Facts:
    """What a worker told, which can compute what is computed here."""
    if isinstance(told, BaseException):
        raise RuntimeError(f"the worker {worker} cannot compute: {reason(told)}; {NEEDS}")
    if (told.suite, told.torch) != suite():
        raise RuntimeError(
            f"the worker {worker} has version {told.suite} of the suite and torch {told.torch}, here are "
            f"{' and '.join(suite())}: they must be the same"
        )
    if told.unavailable:
        raise ValueError(f"device {told.device!r}: {told.unavailable} on the worker {worker}")
    return told
