"""axe-core finds nothing, whatever the colours, the width, or the medium."""

from __future__ import annotations

from importlib.resources import files

import pytest

pytestmark = pytest.mark.browser
# Contrast takes axe a millisecond per element: of every table its first rows stand for the others.
RULES = "{ resultTypes: ['violations'], rules: { 'color-contrast': { enabled: false } } }"
CONTRAST = "{ resultTypes: ['violations'], runOnly: ['color-contrast'] }"
AXE = f"""async () => [
  ...(await axe.run(document, {RULES})).violations,
  ...(await axe.run({{ include: ['html'], exclude: ['tbody tr:nth-child(n+6)'] }}, {CONTRAST})).violations,
]"""
OPEN = "() => { for (const each of document.querySelectorAll('details')) each.open = true; }"


@pytest.fixture(scope="module")
def axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("scheme", "media", "width"), [("light", "screen", 1440), ("dark", "screen", 360), ("light", "print", 1440)]
)
def test_axe_finds_nothing(visit, real, axe, scheme, media, width):
    with visit(real, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True) as opened:
        opened.page.emulate_media(media=media)
        opened.page.evaluate(OPEN)
        opened.page.evaluate(axe)
        found = opened.page.evaluate(AXE)
        assert [(each["id"], len(each["nodes"]), each["nodes"][0]["html"][:200]) for each in found] == []
