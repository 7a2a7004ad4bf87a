"""The table of results with its script: sorted, filtered, remembered, cited; and the files that the page carries."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pandas
import pytest

pytestmark = pytest.mark.browser
EVERY = "#all tr[id]"
ROWS = f"{EVERY}:not([hidden])"
COLUMN = "(rows, place) => rows.filter(row => row.cells.length > 2).map(row => row.cells[place].textContent)"
UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "kB": 1e3, "MB": 1e6}


@pytest.fixture
def opened(visit, real):
    options = {"viewport": {"width": 1440, "height": 900}, "accept_downloads": True}
    with visit(real, permissions=["clipboard-read", "clipboard-write"], **options) as opened:
        yield opened


def numbers(page, place: int) -> list[float]:
    """A column as it is shown, empty cells left out."""
    texts = [text.strip("[").replace(",", "") for text in page.eval_on_selector_all(ROWS, COLUMN, place)]
    shown = [text.split() for text in texts if text]
    return [float(number) * UNITS.get("".join(unit[:1]), 1) for number, *unit in shown]


def test_a_heading_sorts_and_sorts_back(opened):
    page = opened.page
    page.get_by_role("button", name="speedup", exact=True).click()
    values = numbers(page, 1)
    assert values == sorted(values, reverse=True)
    assert page.locator("th[data-key=speedup]").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="speedup", exact=True).click()
    values = numbers(page, 1)
    assert values == sorted(values)
    assert page.url.endswith("#results?sort=speedup")
    page.get_by_role("button", name="time", exact=True).click()
    assert numbers(page, 5) == sorted(numbers(page, 5))
    page.get_by_role("button", name="memory", exact=True).click()
    assert numbers(page, 9) == sorted(numbers(page, 9), reverse=True)
    page.get_by_role("button", name="interval", exact=True).click()
    assert numbers(page, 2) == sorted(numbers(page, 2), reverse=True)


def test_rows_stand_below_their_trial_or_name_it(opened):
    """In their own order by a heading, sorted by what each says itself, and back."""
    page = opened.page
    trials = "rows => rows.map(row => row.closest('tbody').rows[0].textContent.trim())"
    before = page.eval_on_selector_all(EVERY, trials)
    page.wait_for_function("rows => document.querySelectorAll('button.cite').length === rows", arg=len(before))
    names = "rows => rows.map(row => row.querySelector('th small').textContent)"
    assert page.eval_on_selector_all(EVERY, names) == before
    heading = page.locator("#all th[scope=rowgroup]").first
    small = page.locator(f"{EVERY} th small").first
    assert heading.is_visible()
    assert not small.is_visible()
    page.get_by_role("button", name="speedup", exact=True).click()
    assert not heading.is_visible()
    assert small.is_visible()
    assert page.eval_on_selector_all(EVERY, names) != before
    page.get_by_role("button", name="Reset").click()
    heading.wait_for(state="visible")
    assert page.eval_on_selector_all(EVERY, trials) == before
    page.locator("#filters select[name=dtype]").select_option(label="bfloat16")
    shown = page.locator("#all th[scope=rowgroup]:visible").all_inner_texts()
    assert shown
    assert all(text.endswith("bfloat16") for text in shown)


@pytest.mark.parametrize("sort", ["no_column", "-of%20old"])
def test_an_address_with_an_unknown_order_shows_all_rows_in_their_own(visit, real, sort):
    with visit(f"{real}#results?sort={sort}", viewport={"width": 1440, "height": 900}) as opened:
        page = opened.page
        page.locator("#filters").wait_for()
        rows = page.locator(EVERY)
        assert rows.count() > 100
        assert all(row.is_visible() for row in (rows.first, rows.last, page.locator("#all th[scope=rowgroup]").first))


@pytest.mark.parametrize("width", [900, 1024, 1440])
def test_sorted_rows_fit_beside_each_other(visit, real, width):
    with visit(f"{real}#results?sort=-speedup", viewport={"width": width, "height": 900}) as opened:
        page = opened.page
        rows = page.locator(EVERY).count()
        page.wait_for_function("rows => document.querySelectorAll('button.cite').length === rows", arg=rows)
        box = page.locator("div.results")
        assert box.evaluate("box => box.scrollWidth <= box.clientWidth + 1")


def test_filters_leave_what_fits_and_the_address_remembers(opened, visit, real):
    page = opened.page
    before = page.locator(ROWS).count()
    page.locator("#filters select[name=dtype]").select_option("float32")
    page.locator("#filters input[name=q]").fill("merged sesr")
    whole = "rows => rows.map(row => row.closest('tbody').rows[0].textContent + row.textContent)"
    texts = page.eval_on_selector_all(ROWS, whole)
    names = page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.id)")
    assert 0 < len(texts) < before
    assert all("float32" in text and "sesr" in text and "merged" in text for text in texts)
    assert page.locator("#filters output").inner_text() == f"{len(texts)} of {before}"
    with visit(page.url, viewport={"width": 1440, "height": 900}) as again:
        assert again.page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.id)") == names
        again.page.get_by_role("button", name="Reset").click()
        again.page.locator("#filters output", has_text=f"{before} of {before}").wait_for()
        assert again.logged == []


def results(real: str, **how: object) -> pandas.DataFrame:
    """The CSV of the page at that address."""
    return pandas.read_csv(Path(real.removeprefix("file://")).parent / "data" / "results.csv", **how)


@pytest.mark.parametrize("name", ["group", "dtype", "way", "verdict"])
def test_each_choice_leaves_the_rows_that_the_csv_has_of_it(opened, real, name):
    """Groups, of which problems' names say nothing, among them."""
    page, found = opened.page, results(real, keep_default_na=False)
    bare = (found["verdict"] == "undecided") & (found["speedup_lower"] == "")
    found["verdict"] = (
        found["verdict"].mask(bare, "no interval").mask(found["baseline"].astype(str) == "True", "baseline")
    )
    select = page.locator(f"#filters select[name={name}]")
    values = [value for value in select.locator("option").all_inner_texts() if value != "all"]
    assert len(values) > 1
    for value in values:
        select.select_option(value)
        shown = page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.id)")
        assert sorted(shown) == sorted(found.loc[found[name] == value, "id"]), value
    assert {each.split("/")[0] for each in found["problem"]} != set(found["group"])


@pytest.mark.parametrize("letter", ["", "-t"])
def test_an_address_leads_to_a_row_that_is_seen(visit, real, letter):
    """Below the headings, marked, and whatever is filtered."""
    with visit(real, viewport={"width": 1440, "height": 900}) as opened:
        page = opened.page
        row = page.locator(EVERY).nth(120)
        identity, way = row.get_attribute("id"), row.locator("th").inner_text()
        ways = page.locator("#filters select[name=way] option").all_inner_texts()[1:]
        page.locator("#filters select[name=way]").select_option(next(each for each in ways if each not in way))
        assert not row.is_visible()
        page.evaluate("id => { location.hash = id; }", identity + letter)
        row.wait_for(state="visible")
        page.wait_for_function(
            """id => {
              const box = document.getElementById(id).getBoundingClientRect();
              const seen = document.elementFromPoint(box.left + 5, box.top + 5);
              return seen && seen.closest("tr") === document.getElementById(id).closest("tr");
            }""",
            arg=identity + letter,
        )
        assert row.evaluate("row => getComputedStyle(row).outlineStyle") == "solid"


def test_citations_say_what_there_is_and_no_more(opened, real):
    """Of baselines, of ways with an interval and without one, and of those without an error."""
    page, found = opened.page, results(real).set_index("id")
    timed = found[found["status"] == "ok"]
    way = timed[~timed["baseline"].astype(bool)]
    chosen = {"baseline": timed[timed["baseline"].astype(bool)], "interval": way[way["speedup_lower"].notna()]}
    chosen |= {"none": way[way["speedup_lower"].isna()], "no error": timed[timed["error_u"].isna()]}
    chosen |= {"failed": found[found["status"] != "ok"]}
    told = {kind: _cited(page, rows.index[0]) for kind, rows in chosen.items() if len(rows)}
    assert set(told) >= {"baseline", "interval"}
    for kind, text in told.items():
        assert "  " not in text, kind
        assert "error  u" not in text
        assert "undefined" not in text
        assert "null" not in text
    assert "speedup" not in told["baseline"]
    assert "the baseline, n = " in told["baseline"]
    assert re.search(r"speedup over the baseline [\d.]+× \[[\d., ]+\] \(\w+; 95 % interval, n = ", told["interval"])
    assert "95 % interval" not in told.get("none", "")
    assert "(no interval; n = " in told.get("none", "(no interval; n = ")


def _cited(page, identity: str) -> str:
    row = page.locator(f"#{identity}")
    row.scroll_into_view_if_needed()
    button = row.locator("button.cite")
    button.wait_for(state="attached")
    button.dispatch_event("click")
    row.locator("button.cite[data-copied]").wait_for(state="attached")
    text = button.get_attribute("data-copied")
    assert identity in text
    return text


def test_every_row_can_be_cited_once(opened):
    """The script adds that a hundred rows at a time, so that the page is there before."""
    page = opened.page
    rows = page.locator(EVERY).count()
    assert rows > 200
    page.wait_for_function("rows => document.querySelectorAll('button.cite').length === rows", arg=rows)
    assert page.locator(f"{EVERY}:has(button.cite)").count() == rows


def test_a_row_s_citation_says_all_that_makes_it_checkable(opened):
    page = opened.page
    row = page.locator(f"{ROWS}.faster").first
    row.scroll_into_view_if_needed()
    row.hover()
    row.locator("button.cite").click()
    page.locator("button.cite[data-copied]").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    identity = row.get_attribute("id")
    shown = row.locator("td").first.inner_text().replace("\n", " ")
    assert shown.split()[0] in text
    for part in (identity, "95 % interval", "n = 1 process)", "commit c0ffee", "edition test", "Linear Lasagna"):
        assert part in text
    assert re.search(r"\d× \[", text)


def test_an_address_of_a_number_leads_to_its_row(opened, visit, real):
    identity = opened.page.locator("#all tbody td[id]").nth(30).get_attribute("id")
    with visit(f"{real}#{identity}", viewport={"width": 1440, "height": 900}) as again:
        place = f"document.getElementById('{identity}').getBoundingClientRect()"
        for _ in range(50):
            top, bottom = (again.page.evaluate(f"{place}.{end}") for end in ("top", "bottom"))
            if top >= 0 and bottom <= 900:
                break
            again.page.wait_for_timeout(100)
        assert top >= 0
        assert bottom <= 900


def test_a_mailed_page_has_its_files(visit, real, tmp_path: Path):
    """Alone in a folder, without what lies beside it: every link of a file gives that file."""
    source = Path(real.removeprefix("file://"))
    alone = tmp_path / "report.html"
    alone.write_bytes(source.read_bytes())
    with visit(alone.as_uri(), viewport={"width": 1440, "height": 900}, accept_downloads=True) as opened:
        page = opened.page
        page.evaluate("() => { for (const each of document.querySelectorAll('details')) each.open = true; }")
        for name in ("data/results.csv", "data/speedups.csv"):
            with page.expect_download() as download:
                page.locator(f'a[href="{name}"]').first.click()
            assert Path(download.value.path()).read_bytes() == (source.parent / name).read_bytes()
        with page.expect_download() as download:
            page.locator("#attached").click()
        with zipfile.ZipFile(download.value.path()) as packed:
            names = packed.namelist()
            assert packed.read("data/cells.csv") == (source.parent / "data" / "cells.csv").read_bytes()
        linked = page.eval_on_selector_all("a[download]:not(#attached)", "all => all.map(e => e.getAttribute('href'))")
        assert set(linked) <= set(names)
        assert opened.logged == []
