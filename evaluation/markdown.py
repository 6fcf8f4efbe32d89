"""Tables, numbers and other people's text as GitHub's markdown."""

import html
import math
import re
import unicodedata
from collections.abc import Sequence

SPECIAL = re.compile(r"([\\`*_\[\]|~])")  # what would start emphasis, code, a link or a cell


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table whose columns are set to the left or the right: one letter each, l or r."""
    marks = ["---" if letter == "l" else "---:" for letter in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *rows))


def escape(text: str) -> str:
    """Any text as one line that markdown shows as it is, in a table's cell too."""
    text = " ".join(text.split())
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))
    text = SPECIAL.sub(r"\\\1", html.escape(text, quote=False))
    return text.replace("$", "<span>$</span>")  # GitHub reads mathematics between two of them


def excerpt(text: str, length: int = 240) -> str:
    """The beginning of a text, cut between words where it is longer than `length`, escaped."""
    text = " ".join(text.split())
    if len(text) > length:
        text = (text[:length].rsplit(" ", 1)[0] or text[:length]) + " …"
    return escape(text)


def capital(text: str) -> str:
    """The text with a capital at its beginning, the rest as it was."""
    return text[0].upper() + text[1:]


def percent(share: float) -> str:
    """A share as a percentage with one decimal, without the sign."""
    return number(100 * share, "{:z.1f}")


def number(value: float, form: str) -> str:
    """A number in the format `form` with a real minus, and a dash where there is none."""
    if value is None or math.isnan(value):
        return "—"
    return re.sub("^-", "−", form.format(value))


def size(value: float) -> str:
    """Three digits at least: 0.654, 11.9, 1,201."""
    return number(value, "{:,.0f}" if value is not None and abs(value) >= 100 else "{:.3g}")


def p_value(p: float) -> str:
    """Two digits, and no more than can be told of a small one."""
    return "< 0.001" if p < 0.001 else number(p, "{:#.2g}")


def interval(low: float, high: float) -> str:
    """An interval of shares in percent, or of their differences in points."""
    return f"{percent(low)} to {percent(high)}"
