"""Any text as pdflatex takes it: ASCII alone, commands and mathematics for the rest, nothing executed."""

from __future__ import annotations

import re
import unicodedata

ESCAPED = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
}
SIGNS = {
    "×": r"$\times$",
    "·": r"$\cdot$",
    "∗": r"$*$",
    "−": "$-$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "∝": r"$\propto$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "‖": r"$\|$",
    "∑": r"$\sum$",
    "∂": r"$\partial$",
    "∈": r"$\in$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↔": r"$\leftrightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "′": r"$'$",
    "°": r"$^{\circ}$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "„": ",,",
    "‘": "`{}",
    "’": "'{}",
    "…": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{THIN SPACE}": r"\,",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "§": r"\S{}",
    "©": r"\copyright{}",
}
SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi "
    "rho sigma tau upsilon phi chi psi omega"
)
CAPITAL = "Gamma Delta Theta Xi Pi Sigma Upsilon Phi Psi Omega"
SPELLED = {"lambda": "lamda"}  # as Unicode spells it
ACCENTS = {  # combining marks
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING MACRON}": "=",
    "\N{COMBINING DOT ABOVE}": ".",
    "\N{COMBINING BREVE}": "u",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H",
}
RAISED = {"<super>": r"\textsuperscript", "<sub>": r"\textsubscript"}
LIGATURES = re.compile(r"(?<=[-'`,?!<>])(?=[-'`,?!<>])")  # as in --, which would become a dash
BREAKS, ALLOWED = re.compile(r"\\_|/"), r"\allowbreak{}"
CODE = re.compile(r"`([^`]+)`")


def _greek() -> dict[str, str]:
    kinds = (("SMALL", SMALL), ("CAPITAL", CAPITAL))
    names = [(size, name) for size, names in kinds for name in names.split()]
    return {
        unicodedata.lookup(f"GREEK {size} LETTER {SPELLED.get(name, name).upper()}"): f"$\\{name}$"
        for size, name in names
    }


KNOWN = ESCAPED | SIGNS | _greek()


def text(plain: str) -> str:
    """One line of it; a character that nothing stands for is its code, as in U+5FAE."""
    line = LIGATURES.sub("\0", " ".join(plain.split()))
    return "".join("{}" if char == "\0" else _char(char) for char in unicodedata.normalize("NFC", line))


def with_code(plain: str) -> str:
    """Likewise; what stands between backticks is set as code. Names may be broken behind underscores and strokes."""
    parts = CODE.split(plain)
    said = [rf"\texttt{{{text(part)}}}" if place % 2 else _kept_apart(part) for place, part in enumerate(parts)]
    return BREAKS.sub(lambda match: match[0] + ALLOWED, "".join(said))


def _kept_apart(part: str) -> str:
    """The text with the spaces at its ends."""
    inner = text(part)
    if not inner:
        return " " if part else ""
    return f"{' ' if part[0].isspace() else ''}{inner}{' ' if part[-1].isspace() else ''}"


def _char(char: str) -> str:
    if char in KNOWN:
        return KNOWN[char]
    if " " <= char <= "~":
        return char
    if unicodedata.category(char) in {"Cc", "Cf"}:  # such as marks of direction
        return ""
    return _decomposed(char) or rf"\texttt{{U+{ord(char):04X}}}"


def _decomposed(char: str) -> str:
    """A letter with its accent, a raised or lowered digit, a fraction, a wide form; "" for what is none of these."""
    kind, *codes = unicodedata.decomposition(char).split() or [""]
    if kind and not kind.startswith("<"):
        codes, kind = [kind, *codes], ""
    parts = [chr(int(code, 16)) for code in codes]
    if len(parts) == 2 and not kind and parts[1] in ACCENTS:
        base = _char(parts[0])
        return f"\\{ACCENTS[parts[1]]}{{{base}}}" if not base.startswith(r"\texttt{U+") else ""
    if not kind or not parts:
        return _char(parts[0]) if len(parts) == 1 else ""
    inner = "".join("/" if part == "\N{FRACTION SLASH}" else _char(part) for part in parts)
    return f"{RAISED[kind]}{{{inner}}}" if kind in RAISED else inner
