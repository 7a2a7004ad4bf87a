"""axe-core finds nothing, whatever the colours, the width, or the medium."""

from __future__ import annotations

from importlib.resources import files

import pytest

pytestmark = pytest.mark.browser
AXE = "async () => (await axe.run(document, { resultTypes: ['violations', 'incomplete'] }))"
OPEN = "() => { for (const each of document.querySelectorAll('details')) each.open = true; }"


@pytest.fixture(scope="module")
def axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("light", "print")])
def test_axe_finds_nothing(visit, real, axe, scheme, media, width):
    with visit(real, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True) as opened:
        opened.page.emulate_media(media=media)
        opened.page.evaluate(OPEN)
        opened.page.evaluate(axe)
        found = opened.page.evaluate(AXE)
        told = [(each["id"], len(each["nodes"]), each["nodes"][0]["html"][:200]) for each in found["violations"]]
        assert told == []
