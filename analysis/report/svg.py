"""A figure as text: the same bytes for the same data, ready to stand inside a page."""

from __future__ import annotations

import html
import io
import re
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from analysis.report.style import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LIGHT_INK = "#1c2024"


def raw(figure: Figure, name: str) -> str:
    """matplotlib's SVG without its date. name: seeds the ids, so that they are the same in every run."""
    import matplotlib

    plain_text(figure)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts have it, or not
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return text.getvalue()


def plain_text(figure: Figure) -> None:
    """Let names be shown as they are, dollar signs too, of which matplotlib makes mathematics and which it may refuse.

    Only the labels of logarithmic axes are mathematics.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter

    labels = set()
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            labels |= {id(label) for tick in (*axis.majorTicks, *axis.minorTicks) for label in tick.findobj(Text)}
            formatter = axis.get_major_formatter()
            if not isinstance(formatter, (LogFormatter, _escaped())):
                axis.set_major_formatter(_escaped()(formatter))
    for text in figure.findobj(Text):
        if id(text) not in labels:
            text.set_parse_math(False)


@cache
def _escaped() -> Any:
    """A formatter that gives what another gives, without mathematics. Made late: importing matplotlib takes long."""
    from matplotlib.ticker import Formatter

    class Escaped(Formatter):
        def __init__(self, inner: Formatter) -> None:
            self.inner = inner

        def __call__(self, x: float, pos: int | None = None) -> str:
            return str(self.inner(x, pos)).replace("$", r"\$")  # some formatters give numbers

        def set_locs(self, locs: Any) -> None:
            self.inner.set_locs(locs)

        def get_offset(self) -> str:
            return self.inner.get_offset()

    return Escaped


def inline(text: str, name: str, alt: str) -> str:
    """The <svg> element for a page: ids of its own, ink as currentColor, alt text for screen readers.

    text: what `raw` returned; name: a slug. Ids begin with it and "--", which no slug has.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}--\1"', text)
    text = re.sub(r"url\(#", f"url(#{name}--", text)
    text = re.sub(r'xlink:href="#', f'xlink:href="#{name}--', text)
    text = _with_page_font(text).replace(INK, "currentColor")
    text = text.replace(f"stroke: {FAINT}", "stroke: currentColor; stroke-opacity: .22")
    width, height = _size(text)
    head = f'<svg role="img" aria-labelledby="{name}--alt" class="figure" viewBox="0 0 {width:g} {height:g}" '
    head += f'style="--natural: {width * 4 / 3:.0f}px" xmlns:xlink="http://www.w3.org/1999/xlink">'
    head += f'<title id="{name}--alt">{html.escape(alt)}</title>'
    return re.sub(r"<svg\b[^>]*>", lambda match: head, text, count=1).strip()


def standalone(text: str) -> str:
    """A file of its own from what `raw` returned, in dark ink on nothing."""
    text = _with_page_font(text).replace(INK, LIGHT_INK)
    return text.replace(f"stroke: {FAINT}", f"stroke: {LIGHT_INK}; stroke-opacity: .22")


def _with_page_font(text: str) -> str:
    """Fonts are named in every text; name the system's own."""
    return re.sub(r"'DejaVu Sans'[^;\"]*", SANS, text)


def _size(text: str) -> tuple[float, float]:
    """Width and height in points."""
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if match is None:
        raise ValueError("the figure's SVG has no viewBox")
    return float(match[1]), float(match[2])
