"""A figure as text: the same bytes for the same data. For a page, a panel each; for files, all of it as SVG and PDF.

A page has no style attributes: what matplotlib writes there becomes classes, named by what they declare, whose rules
`rules` gives for all figures of a page; colours become variables with a light and a dark value.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from analysis.report.drawing import Drawing, arrange, styled
from analysis.report.style import COLOURS, FAINT, FONT, HEAT, INK, PAPER

SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
MARK = "point"  # the class of what stands for a value
KEY = (24.0, 12.0)  # points that a legend's entry takes
NAMES = {light: f"--{name}" for name, (light, _) in {**COLOURS, **HEAT}.items()}
VALUES = {INK: "currentColor", FAINT: f"var(--line, {FAINT})", PAPER[0]: f"var(--paper, {PAPER[0]})"}
VALUES |= {light: f"var({name})" for light, name in NAMES.items()}
LEFT_OUT = {"stroke-linejoin", "stroke-linecap", "font-family", "stroke-miterlimit"}
ANY_ORDER = ("matplotlib.axis", "LineCollection")  # and of which nothing covers anything
NO_MARKS = ("matplotlib.axis", "FillBetween")  # how the ids of groups begin that matplotlib draws like marks
LINE = re.compile(r' d="([^"]*)"/>')
LINES = re.compile(r'<path class="(\w+)" d="[^"]*"/>(?:<path class="\1" d="[^"]*"/>)+')
TITLED = r'<(?:path|circle) class="%s" [^>]*><title>[^<]*</title></(?:path|circle)>'
MARKS = re.compile(TITLED % rf"({MARK} \w+)" + "(?:" + TITLED % r"\1" + ")+")

Box = tuple[float, float, float, float]  # left, top, width, height, in points from above


@dataclass(frozen=True)
class Drawn:
    """A drawing as matplotlib's SVG. panels: their titles and boxes; keys: the legend's labels and boxes."""

    text: str
    panels: tuple[tuple[str, Box], ...] = ()
    keys: tuple[tuple[str, Box], ...] = ()


@dataclass
class Inline:
    """A figure for a page: its HTML, and the declarations of its classes."""

    text: str = ""
    classes: dict[str, str] = field(default_factory=dict)


@styled
def raw(drawing: Drawing, name: str) -> Drawn:
    """Draw. name: seeds the ids, so that they are the same in every run."""
    import matplotlib

    arrange(drawing)
    for number, panel in enumerate(drawing.panels):
        panel.set_gid(f"panel-{number}")
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawing.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    titles = [title.get_text() for title in drawing.titles]
    return Drawn(text.getvalue(), tuple(zip(titles, drawing.boxes, strict=True)), tuple(_keys(drawing)))


def _keys(drawing: Drawing) -> Iterator[tuple[str, Box]]:
    height = drawing.figure.get_size_inches()[1] * 72
    for legend in drawing.figure.legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if handle is None:
                continue
            box = handle.get_window_extent()
            middle = ((box.x0 + box.x1) / 2, height - (box.y0 + box.y1) / 2)
            yield text.get_text(), (middle[0] - KEY[0] / 2, middle[1] - KEY[1] / 2, *KEY)


@styled
def pdf(drawing: Drawing) -> bytes:
    """A file of its own. The same drawing gives the same bytes."""
    arrange(drawing)
    out = io.BytesIO()
    drawing.figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return out.getvalue()


def standalone(drawn: Drawn) -> str:
    """A file of its own, in light colours; its marks say their titles."""
    text = re.sub(r'<a xlink:href="([^"]*)"[^>]*>(.*?)</a>', _titled, drawn.text, flags=re.S)
    return re.sub(r"'DejaVu Sans'[^;\"]*", SANS, text)


def _titled(match: re.Match[str]) -> str:
    return f"<g><title>{match[1]}</title>{match[2]}</g>"


def inline(drawn: Drawn, name: str, alt: str) -> Inline:
    """For a page: the legend as a list, then an <svg> per panel. name: a slug, with which all ids begin; alt: the text
    for those who cannot see it.
    """
    found, parts = Inline(), _Parts.of(drawn)
    keys = [_key(found, parts, number, label, box) for number, (label, box) in enumerate(drawn.keys)]
    panels = [
        _panel(found, parts, number, box, f"{name}--{number}", _spoken(number, drawn, alt))
        for number, (_, box) in enumerate(drawn.panels)
    ]
    found.text = f'<ul class="legend">{"".join(keys)}</ul>\n' if keys else ""
    found.text += f'<div class="panels{" pairs" if len(panels) in (1, 2, 4) else ""}">\n{"".join(panels)}</div>'
    return found


def _spoken(number: int, drawn: Drawn, alt: str) -> str:
    """The text for a panel: its place and title; with the first, what the whole figure shows, before."""
    title, panels = drawn.panels[number][0], len(drawn.panels)
    place = "" if panels == 1 else f"Panel {number + 1} of {panels}"
    named = ": ".join(part for part in (place, title) if part)
    return " ".join(part for part in (alt if number == 0 else "", f"{named}." if named else "") if part)


@dataclass(frozen=True)
class _Parts:
    """What matplotlib drew: its groups by id, shapes by id, and the rectangles that it clips by."""

    groups: dict[str, Any]
    shapes: dict[str, Any]
    clips: dict[str, Box]

    @classmethod
    def of(cls, drawn: Drawn) -> _Parts:
        groups, shapes, clips = {}, {}, {}
        if not drawn.text:
            return cls(groups, shapes, clips)
        for element in ElementTree.fromstring(drawn.text).iter():
            if (given := element.get("id")) is None:
                continue
            if element.tag == f"{SVG}g":
                groups[given] = element
            elif element.tag == f"{SVG}path":
                shapes[given] = element
            elif element.tag == f"{SVG}clipPath":
                clips[given] = tuple(float(element[0].get(side, 0)) for side in ("x", "y", "width", "height"))
        return cls(groups, shapes, clips)


def _panel(found: Inline, parts: _Parts, number: int, box: Box, name: str, alt: str) -> str:
    writer = _Writer(found, parts, box, name)
    body = writer.joined("".join(writer.element(parts.groups[f"panel-{number}"])))
    clips = "".join(f'<clipPath id="{i}"><rect {_rectangle(b, box)}/></clipPath>' for i, b in writer.clips.items())
    head = f'<svg role="img" class="figure" viewBox="0 0 {_short(box[2])} {_short(box[3])}" '
    return f'{head}aria-label="{html.escape(alt)}">{f"<defs>{clips}</defs>" if clips else ""}{body}</svg>\n'


def _key(found: Inline, parts: _Parts, number: int, label: str, box: Box) -> str:
    body = "".join(_Writer(found, parts, box, "", marked=False).element(parts.groups[f"key-{number}"]))
    size = f'width="{KEY[0] * 4 / 3:g}" height="{KEY[1] * 4 / 3:g}" viewBox="0 0 {KEY[0]:g} {KEY[1]:g}"'
    return f'<li><svg class="key" aria-hidden="true" {size}>{body}</svg>{html.escape(label)}</li>'


class _Writer:
    """Elements of matplotlib's SVG as a page has them: moved to a box, with classes, without ids and groups."""

    def __init__(self, found: Inline, parts: _Parts, box: Box, name: str, marked: bool = True) -> None:
        self.found, self.parts, self.box, self.name, self.marked = found, parts, box, name, marked
        self.clips: dict[str, Box] = {}

    def element(self, element: Any, plain: bool = False, title: str | None = None, clip: str = "") -> Iterator[str]:
        """The text of an element. plain: it is no mark, but of an axis or a band; title: what it says to who points at
        it; clip: of its group.
        """
        tag = element.tag.removeprefix(SVG)
        plain = plain or str(element.get("id", "")).startswith(NO_MARKS)
        clip = element.get("clip-path", clip)
        if tag in ("g", "a"):
            title = element.get(LINK) if tag == "a" else title
            parts = (part for child in element for part in self.element(child, plain, title, clip))
            yield from sorted(parts, key=_kind) if str(element.get("id", "")).startswith(ANY_ORDER) else parts
        elif tag == "path":
            yield self.path(element.get("d", ""), _declared(element), (0.0, 0.0), title, clip, title is not None)
        elif tag == "use":
            shape = self.parts.shapes[element.get(LINK, "")[1:]]
            at = (float(element.get("x", 0)), float(element.get("y", 0)))
            style = _declared(shape) | _declared(element)
            if len(shape.get("d", "").split("L")) == 2:  # a line, as those of ticks
                style.pop("fill", None)
            yield self.path(shape.get("d", ""), style, at, title, clip, self.marked and not plain)
        elif tag == "text":
            yield self.words(element)

    def path(
        self, d: str, style: Mapping[str, str], at: tuple[float, float], title: str | None, clip: str, mark: bool
    ) -> str:
        """A path, moved; a circle where it has curves, for nothing else has."""
        if not d or (style.get("fill", "none") == "none" and style.get("stroke", "none") == "none"):
            return ""
        points = _points(d, (at[0] - self.box[0], at[1] - self.box[1]))
        named = " ".join(([MARK] if mark else []) + self.classes(style))
        told = f"<title>{html.escape(title)}</title>" if title else ""
        xs, ys = [x for _, row in points for x in row[::2]], [y for _, row in points for y in row[1::2]]
        if any(letter == "C" for letter, _ in points):
            r, x, y = (max(xs) - min(xs)) / 2, (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
            shape, tag = f'cx="{_short(x)}" cy="{_short(y)}" r="{_short(r)}"', "circle"
        else:
            shape, tag = f'd="{_written(points)}"', "path"
        return f'<{tag} class="{named}" {shape}{self.cut(clip, xs, ys)}' + (f">{told}</{tag}>" if told else "/>")

    def joined(self, text: str) -> str:
        """The text with neighbouring lines of one class as one path each, and neighbouring marks as one group."""
        return MARKS.sub(_group, LINES.sub(self._one, text))

    def _one(self, match: re.Match[str]) -> str:
        if "fill:" in self.found.classes[match[1]]:
            return match[0]
        return f'<path class="{match[1]}" d="{"".join(LINE.findall(match[0]))}"/>'

    def cut(self, clip: str, xs: list[float], ys: list[float]) -> str:
        """The attribute that clips, where something is outside."""
        if not clip or not xs:
            return ""
        left, top, width, height = rectangle = self.parts.clips[clip[5:-1]]
        left, top = left - self.box[0], top - self.box[1]
        room = 0.5
        inside = left - room <= min(xs) and max(xs) <= left + width + room
        if inside and top - room <= min(ys) and max(ys) <= top + height + room:
            return ""
        self.clips[f"{self.name}-clip"] = rectangle
        return f' clip-path="url(#{self.name}-clip)"'

    def words(self, element: Any) -> str:
        style = _declared(element)
        moved = element.get("transform", "")
        line = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", moved)  # of several, which begins there
        at = line.groups() if line else (element.get("x", 0), element.get("y", 0))
        x, y = (float(each) - corner for each, corner in zip(at, self.box, strict=False))
        angle = re.match(r"rotate\((-?[\d.]+)", moved)
        turn = f' transform="rotate({angle[1]} {_short(x)} {_short(y)})"' if angle and float(angle[1]) else ""
        named = " ".join(self.classes(style))
        given = f' class="{named}"' if named else ""
        return f'<text{given} x="{_short(x)}" y="{_short(y)}"{turn}>{html.escape(element.text or "")}</text>'

    def classes(self, style: Mapping[str, str]) -> list[str]:
        """The class that declares a style, noted with its declaration."""
        declaration = ";".join(f"{name}:{_value(value)}" for name, value in sorted(style.items()))
        if not declaration:
            return []
        name = f"f{hashlib.sha256(declaration.encode()).hexdigest()[:5]}"
        if self.found.classes.setdefault(name, declaration) != declaration:
            raise ValueError(f"two declarations have the class {name}")
        return [name]


def _group(match: re.Match[str]) -> str:
    given = f' class="{match[1]}"'
    return f"<g{given}>{match[0].replace(given, '')}</g>"


def _kind(text: str) -> str:
    """What elements are sorted by, so that lines of one class are neighbours: all up to its place."""
    return text.partition(" d=")[0] if text.startswith("<path") else "=" + text[:5]


def _declared(element: Any) -> dict[str, str]:
    """The declarations of a style attribute that say more than a page's rules for all figures."""
    pairs = [part.partition(":")[::2] for part in element.get("style", "").split(";") if part.strip()]
    style = {name.strip(): value.strip() for name, value in pairs}
    if "font" in style:  # shorthand, as in "bold 9.5px 'DejaVu Sans', sans-serif"
        size = re.search(r"([\d.]+)px", style.pop("font"))
        style["font-size"] = f"{size[1]}px" if size else f"{FONT:g}px"
    if style.get("font-size") in (f"{FONT:g}px", f"{FONT:.1f}px"):
        del style["font-size"]
    if element.tag == f"{SVG}text" and style.get("fill", INK) == INK:
        style.pop("fill", None)
    if element.tag == f"{SVG}path" and style.get("fill") == "none":
        del style["fill"]
    return {name: value for name, value in style.items() if name not in LEFT_OUT}


def _value(value: str) -> str:
    return VALUES.get(value, value)


def _points(d: str, move: tuple[float, float]) -> list[tuple[str, list[float]]]:
    """The commands of a path in absolute coordinates, moved."""
    found = []
    for letter, numbers in re.findall(r"([MLQCzZ])([^MLQCzZ]*)", d):
        values = [float(number) for number in numbers.split()]
        found.append((letter, [value + move[place % 2] for place, value in enumerate(values)]))
    return found


def _written(points: list[tuple[str, list[float]]]) -> str:
    """The d of a path: each command in its shortest form, absolute or from the point before."""
    text, last = "", list[float]()
    for letter, values in points:
        to = [round(value, 1) for value in values]
        text += min(_forms(letter, to, last), key=len)
        last = to[-2:]
    return text


def _forms(letter: str, to: list[float], last: list[float]) -> list[str]:
    if not last or letter not in "ML":
        return [letter + _numbers(to)]
    off = [new - old for new, old in zip(to, last, strict=True)]
    for straight, place in (("H", 0), ("V", 1)):
        if letter == "L" and not off[1 - place]:
            return [straight + _numbers([to[place]]), straight.lower() + _numbers([off[place]])]
    return [letter + _numbers(to), letter.lower() + _numbers(off)]


def _numbers(values: Iterable[float]) -> str:
    """Without what need not stand between or before them."""
    return re.sub(r"(?<![\d.])0(?=\.)", "", " ".join(map(_short, values))).replace(" -", "-")


def _rectangle(rectangle: Box, box: Box) -> str:
    left, top, width, height = rectangle
    sides = {"x": left - box[0], "y": top - box[1], "width": width, "height": height}
    return " ".join(f'{side}="{_short(value)}"' for side, value in sides.items())


def _short(value: float) -> str:
    """With one decimal: a seventh of a pixel."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def rules(inlines: Iterable[Inline]) -> str:
    """The CSS of all figures of a page: their classes, each once, and the colours of both schemes."""
    classes: dict[str, str] = {}
    for each in inlines:
        for name, declaration in each.classes.items():
            if classes.setdefault(name, declaration) != declaration:
                raise ValueError(f"two declarations have the class {name}")
    text = LAYOUT
    for place, media in ((0, "{}"), (1, "@media screen and (prefers-color-scheme: dark){{{}}}")):
        values = "".join(f"--{name}:{both[place]};" for name, both in {**COLOURS, **HEAT}.items())
        text += media.format(f":root{{{values}}}") + "\n"
    return text + "".join(f".{name}{{{declaration}}}\n" for name, declaration in sorted(classes.items()))


LAYOUT = f"""\
.panels{{display:grid;gap:.75rem 1rem;align-items:start}}
.panels{{grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}}
.panels.pairs{{grid-template-columns:repeat(auto-fill,minmax(min(100%,max(20rem,40%)),1fr))}}
.figure{{display:block;width:100%;max-width:28rem;height:auto;color:inherit;overflow:visible}}
:where(.figure) text{{font-size:{FONT:g}px;fill:currentColor}}
:where(.figure,.key){{fill:none}}
.figure text{{pointer-events:none}}
.{MARK}{{pointer-events:all}}
.legend{{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;list-style:none;margin:0 0 .5rem;padding:0;font-size:.82rem}}
.legend li{{display:flex;align-items:center;gap:.35rem;min-width:0;overflow-wrap:anywhere}}
.key{{flex:none}}
@media print{{.panels:has(>:nth-child(7)){{grid-template-columns:repeat(3,1fr)}}}}
"""
