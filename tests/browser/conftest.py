"""Chromium, with the network blocked, and pages to open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analysis.data.records import Record, Records
from analysis.report import page as report
from linear_lasagna.trial import Cell
from tests import synthetic, test_same_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = executable()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH, and CHROMIUM does not name one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Visit:
    """An open page, what it logged and what it asked the network for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.logged: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.route("**/*", self._only_files)
        self.page.goto(address)

    def _only_files(self, route: Any) -> None:
        if route.request.url.startswith("file://"):
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture(scope="session")
def visit(browser) -> Callable[..., Visit]:
    """Opens an address, with what Playwright's new_context takes."""
    return lambda address, **options: Visit(browser, address, **options)


def hostile() -> list[Record]:
    """Trials whose names would be markup, mathematics, quotes, another direction of writing, or very long."""
    names = (
        '<img src=x onerror="alert(1)">',
        r"$\frac{1}$",
        "a \"quoted\" 'way'",
        "שלום_עולם",
        "x" * 150,
        "two\nlines",
    )
    cells: dict[str, Any] = {name: synthetic.cell(1e-3 * (1 + place / 7)) for place, name in enumerate(names)}
    cells["failed"] = Cell("failed", "<script>alert(2)</script> & more")
    return [Record(synthetic.trial("stacks/plain_x8", cells), "stacks", "<b>machine</b>")]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a small study that was measured, with trials of hostile names beside it."""
    trials, rows = test_same_report.study()
    context = report.Context(
        version="0.0",
        commit="c0ffee" * 6,
        date="2020-01-02",
        commands=("make study",),
        edition="test",
        address="https://example.org/lasagna",
    )
    return report.render(trials, rows, tmp_path_factory.mktemp("real"), context).page.as_uri()


@pytest.fixture(scope="session")
def evil(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of trials with hostile names."""
    context = report.Context(version="0.0", dirty=True, date="2020-01-02")
    out = tmp_path_factory.mktemp("evil")
    return report.render(Records(tuple(hostile())), synthetic.precision(), out, context).page.as_uri()
