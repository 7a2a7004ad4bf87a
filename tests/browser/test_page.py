"""The page in a real browser: quiet, whole at every width, in light and dark, printed, without script, by keyboard."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from pypdf import PdfReader

pytestmark = pytest.mark.browser

WIDE, LAPTOP, PHONE = {"width": 1440, "height": 900}, {"width": 768, "height": 1024}, {"width": 360, "height": 740}
SCREENS = [WIDE, LAPTOP, PHONE]
SCHEMES = ["light", "dark"]
OPEN = "() => { for (const each of document.querySelectorAll('details')) each.open = true; }"
SIDEWAYS = """() => [...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1
  && e.clientWidth && e.checkVisibility() && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))
  .map(e => e.className + ' ' + (e.closest('[id]') || {}).id)"""
CONTRAST = """() => {
  const luminance = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const paper = parse(getComputedStyle(document.body).backgroundColor).slice(0, 3);
  const low = [];
  for (const e of document.querySelectorAll('p, li, td, th, dd, dt, h1, h2, a, figcaption, caption, svg text')) {
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


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("which", ["real", "evil"])
def test_page_loads_quietly_without_network(visit, request, which, scheme):
    with visit(request.getfixturevalue(which), viewport=WIDE, color_scheme=scheme) as opened:
        opened.page.evaluate(OPEN)
        assert opened.logged == []
        assert [url for url in opened.asked if not url.startswith("data:")] == []


def test_first_screen_holds_the_answers_in_130_words(visit, real):
    with visit(real, viewport=WIDE) as opened:
        texts = opened.page.locator("h1, .answers h2, .answers p").all_inner_texts()
        assert len(re.findall(r"\S*\w\S*", " ".join(texts))) <= 130
        bottom = opened.page.evaluate("document.querySelector('.answers').getBoundingClientRect().bottom")
        banners = opened.page.evaluate(
            "[...document.querySelectorAll('.banner')].reduce((sum, e) => sum + e.offsetHeight + 12, 0)"
        )
        assert bottom - banners <= WIDE["height"]
        assert opened.page.locator(".hero svg").count() >= 1


def test_what_stands_open_is_short(visit, real):
    with visit(real, viewport=WIDE) as opened:
        shown = opened.page.evaluate(
            "() => ['figure.plot', 'figure.table'].map(s => [...document.querySelectorAll(s)]"
            ".filter(e => e.checkVisibility()).length)"
        )
        assert shown[0] <= 10
        assert shown[1] <= 8
        assert opened.page.evaluate("document.documentElement.scrollHeight") <= 14 * WIDE["height"]


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
@pytest.mark.parametrize("which", ["real", "evil"])
def test_nothing_scrolls_sideways(visit, request, which, screen):
    """But folded tables of very long names, in a box of their own, where the window is wide."""
    with visit(request.getfixturevalue(which), viewport=screen) as opened:
        assert opened.page.evaluate(SIDEWAYS) == []
        opened.page.evaluate(OPEN)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= screen["width"]
        assert opened.page.evaluate(SIDEWAYS) == [] or (screen is WIDE and which == "evil")


def test_a_phone_shows_each_number_s_heading(visit, real):
    script = """() => [...document.querySelectorAll('table:not(.results) td')].filter(e => e.textContent)
      .filter(e => getComputedStyle(e).fontWeight !== '600') // of running text
      .map(e => [JSON.parse(getComputedStyle(e, '::before').content).trim(),
        e.closest('table').querySelectorAll('thead th')[e.cellIndex].textContent])"""
    with visit(real, viewport=PHONE) as opened:
        opened.page.evaluate(OPEN)
        pairs = opened.page.evaluate(script)
        assert len(pairs) > 100
        assert [pair for pair in pairs if pair[0] != pair[1]] == []


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
def test_text_of_figures_is_legible(visit, real, screen):
    script = """() => [...document.querySelectorAll('figure.plot svg')].filter(s => s.viewBox.baseVal.width)
      .flatMap(s => [...s.querySelectorAll('text')].map(e => parseFloat(getComputedStyle(e).fontSize)
        * s.getBoundingClientRect().width / s.viewBox.baseVal.width))"""
    with visit(real, viewport=screen) as opened:
        opened.page.evaluate(OPEN)
        sizes = opened.page.evaluate(script)
        assert sizes
        assert min(sizes) >= 11


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_contrast(visit, real, scheme):
    with visit(real, viewport=WIDE, color_scheme=scheme) as opened:
        opened.page.evaluate(OPEN)
        assert opened.page.evaluate(CONTRAST) == []


def test_dark_page_is_dark_and_its_figures_follow(visit, real):
    with visit(real, viewport=WIDE, color_scheme="dark") as opened:
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = opened.page.evaluate("getComputedStyle(document.querySelector('figure.plot svg text')).fill")
        assert max(map(int, re.findall(r"\d+", paper)[:3])) < 60
        assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180


def test_keyboard_reaches_the_answer_and_the_results(visit, real):
    with visit(real, viewport=PHONE) as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.className") == "skip"
        assert opened.page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_url("**#answer")  # a busy machine follows a link late
        regions = opened.page.query_selector_all("[role=region]")
        assert regions
        assert all(region.get_attribute("tabindex") == "0" for region in regions)


def test_a_link_opens_what_it_leads_to(visit, real):
    with visit(real + "#noise", viewport=WIDE) as opened:
        opened.page.locator("#noise").wait_for(state="visible")


def test_a_term_is_explained_where_it_first_stands(visit, real):
    with visit(real, viewport=WIDE) as opened:
        names = opened.page.eval_on_selector_all("dfn button", "all => all.map(e => e.getAttribute('popovertarget'))")
        assert len(names) == len(set(names)) > 5
        opened.page.locator("dfn button").first.click()
        assert opened.page.locator(f"#{names[0]}").is_visible()


def test_the_page_is_whole_without_script(visit, real):
    with visit(real, viewport=WIDE, java_script_enabled=False) as opened:
        assert opened.page.locator("#all tbody tr").count() > 10
        assert opened.page.locator("#filters").is_hidden()
        assert opened.page.locator("figure.plot svg").count() > 8


def test_printed_page_is_light_and_whole(visit, real, tmp_path: Path):
    """Nothing folded, nothing cut: every row of every table has a place on a page of A4's width."""
    with visit(real, viewport={"width": 703, "height": 1000}, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
        lost = opened.page.evaluate(
            "() => [...document.querySelectorAll('main table')].filter(t => [...t.rows].some(r => !r.checkVisibility() "
            "|| !r.getBoundingClientRect().height) || t.getBoundingClientRect().right > innerWidth + 1).map(t => "
            "t.closest('figure').id)"
        )
        assert lost == []
        assert opened.page.evaluate("getComputedStyle(document.querySelector('div.results')).maxHeight") == "none"
        opened.page.pdf(path=str(tmp_path / "page.pdf"), prefer_css_page_size=True)
        last = opened.page.locator("#all th[scope=rowgroup]").last.text_content()
    pages = [" ".join(page.extract_text().split()) for page in PdfReader(tmp_path / "page.pdf").pages]
    assert "Figure 1." in pages[0]  # beside the answers, as on a screen
    headed = [place for place, text in enumerate(pages) if "of fastest" in text and "of limit" in text]
    assert len(headed) > 2  # the headings of the results stand above each page of them
    assert headed == list(range(headed[0], headed[-1] + 1))
    assert _letters(last) in _letters(pages[headed[-1]])


def _letters(text: str) -> str:
    """Without blanks and ligatures."""
    return "".join(unicodedata.normalize("NFKC", text).split())
