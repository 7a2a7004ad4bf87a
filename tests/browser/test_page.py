"""The report in a real browser: no network, nothing sticks out on a phone, legible in light and dark."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.data.records import load
from analysis.report import page as report
from tests import synthetic

pytestmark = pytest.mark.browser

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
CONTRAST = """() => {
  const luminance = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const paper = parse(getComputedStyle(document.body).backgroundColor).slice(0, 3);
  const low = [];
  for (const e of document.querySelectorAll('p, li, td, th, dd, dt, h1, h2, a, figcaption, svg text')) {
    const style = getComputedStyle(e);
    const drawn = e.namespaceURI.endsWith('svg');
    if (drawn && style.fill !== style.color) continue;  // a label on a coloured bar
    const ink = parse(drawn ? style.fill : style.color);
    if (!e.textContent.trim() || ink.length === 4 && ink[3] === 0) continue;
    let ground = paper;
    for (let up = e; up; up = up.parentElement) {
      const found = parse(getComputedStyle(up).backgroundColor);
      if (found.length === 3 || found[3] === 1) { ground = found.slice(0, 3); break; }
    }
    const [a, b] = [luminance(ink.slice(0, 3)), luminance(ground)].sort((x, y) => x - y);
    const ratio = (b + .05) / (a + .05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 40), ratio]);
  }
  return low;
}"""


def executable() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def crowd() -> dict[str, Any]:
    """As many ways as make a table crowded, all undecided: the widest cells there are."""
    noisy = tuple(0.8 + 0.04 * block for block in range(12))
    methods = ("direct_channels_last", "unfold_matmul", "strided_matmul", "shifted_matmul", "im2col_numpy")
    schedules = ("", "merged/", "merged_working/", "merged_per_call/")
    return {schedule + method: synthetic.cell(1.01e-3, noisy) for schedule in schedules for method in methods}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("browser")
    synthetic.write(synthetic.study(folder / "trials"), synthetic.trial("stacks/plain_x8", crowd()), "stacks")
    trials = load(folder / "trials")
    rows = synthetic.precision(seeds=6)
    rows = rows[rows["dtype"].isin(["float16", "float32"])]
    context = report.Context(version="0.0", commit="c0ffee", dirty=True, date="2020-01-02", commands=("make study",))
    return report.render(trials, rows, folder / "out", context).page.as_uri()


@pytest.fixture(scope="module")
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


WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_loads_quietly_without_network(browser, address, scheme):
    with Visit(browser, address, viewport=WIDE, color_scheme=scheme) as visit:
        assert visit.logged == []
        assert [url for url in visit.asked if not url.startswith("data:")] == []
        assert visit.page.title().startswith("Linear Lasagna")


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_every_figure_and_table_is_visible(browser, address, viewport):
    with Visit(browser, address, viewport=viewport) as visit:
        figures = visit.page.query_selector_all("svg.figure")
        assert len(figures) >= 8
        for figure in figures:
            box = figure.bounding_box()
            assert box is not None
            assert box["width"] > 300
            assert box["height"] > 60
        assert all(table.bounding_box()["height"] > 30 for table in visit.page.query_selector_all("table"))


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1600])
def test_page_never_scrolls_sideways(browser, address, width):
    with Visit(browser, address, viewport={"width": width, "height": 800}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_figures_stay_legible_on_a_phone(browser, address):
    script = "() => [...document.querySelectorAll('svg.figure text')].map(e => e.getBoundingClientRect().height)"
    with Visit(browser, address, viewport=PHONE) as visit:
        assert min(height for height in visit.page.evaluate(script) if height) > 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, address, scheme):
    with Visit(browser, address, viewport=WIDE, color_scheme=scheme) as visit:
        assert visit.page.evaluate(CONTRAST) == []


def test_dark_page_is_dark_and_its_figures_follow(browser, address):
    with Visit(browser, address, viewport=WIDE, color_scheme="dark") as visit:
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = visit.page.evaluate("getComputedStyle(document.querySelector('svg.figure text')).fill")
        assert max(map(int, re.findall(r"\d+", paper)[:3])) < 60
        assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180


def test_keyboard_reaches_the_answer_and_the_scrolling_regions(browser, address):
    with Visit(browser, address, viewport=PHONE) as visit:
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.className") == "skip"
        assert visit.page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**#answer")  # a busy machine follows a link late
        regions = visit.page.query_selector_all("[role=region]")
        assert all(region.get_attribute("tabindex") == "0" for region in regions)


def test_page_is_the_same_without_scripts(browser, address):
    with Visit(browser, address, viewport=WIDE, java_script_enabled=False) as visit:
        assert visit.page.locator("svg.figure").count() >= 8


def test_printed_page_is_light_and_whole(browser, address, tmp_path: Path):
    with Visit(browser, address, viewport=WIDE, color_scheme="dark") as visit:
        visit.page.emulate_media(media="print")
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
        assert len(visit.page.pdf(path=str(tmp_path / "page.pdf"))) > 10_000
