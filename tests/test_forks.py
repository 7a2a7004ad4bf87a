"""Work shared among forks: what comes back, what is raised, and what happens where one dies or there is none."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from analysis.data import records
from analysis.report import chapters, forks, page
from tests import synthetic
from tests.reporting import undrawn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch):
    """Says how many cores are usable, with memory for all."""
    monkeypatch.setattr(forks, "MOST_BYTES", 1 << 50)
    return lambda count: monkeypatch.setattr(forks, "cores", lambda: count)


def test_results_keep_the_order_of_their_items_and_take_what_cannot_be_pickled(cores):
    cores(3)
    parent = os.getpid()
    items = [lambda value=value: value for value in range(7)]
    found = forks.mapped(lambda item: (item(), os.getpid() == parent), items)
    assert found == [(value, False) for value in range(7)]


def test_what_is_raised_in_a_fork_is_raised_here(cores):
    cores(2)
    with pytest.raises(ZeroDivisionError):
        forks.mapped(lambda item: 1 / item, [2, 1, 0])


def test_one_core_makes_no_forks(cores):
    cores(1)
    assert forks.mapped(lambda _: os.getpid(), [1, 2]) == [os.getpid()] * 2


def test_a_process_that_holds_much_makes_no_forks(cores, monkeypatch):
    cores(2)
    monkeypatch.setattr(forks, "MOST_BYTES", 1 << 20)
    assert forks.mapped(lambda _: os.getpid(), [1, 2]) == [os.getpid()] * 2


def test_a_fork_that_is_killed_costs_no_result(cores):
    cores(2)
    parent = os.getpid()

    def make(item: int) -> int:
        if item == 2 and os.getpid() != parent:
            os._exit(9)
        return item

    assert forks.mapped(make, range(4)) == [0, 1, 2, 3]


def test_a_page_and_its_pdfs_are_the_same_bytes_however_many_cores_there_are(cores, tmp_path: Path):
    trials = records.load(synthetic.study(tmp_path / "trials"))

    def rendered(count: int) -> tuple[bytes, list[bytes]]:
        cores(count)
        with undrawn():
            report = page.render(trials, None, tmp_path / str(count), page.Context(version="1"), pdf=True)
        return report.page.read_bytes(), [plot.pdf for plot in chapters.plots(report.made.anatomy)]

    text, pdfs = alone = rendered(1)
    assert b"<figure" in text
    assert pdfs
    assert all(pdfs)
    assert rendered(3) == alone


def test_ctrl_c_ends_at_once_what_forks_are_at(cores):
    cores(2)
    begun = time.monotonic()
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            forks.mapped(lambda _: time.sleep(120), range(6))
    finally:
        timer.cancel()
    assert time.monotonic() - begun < 60
