"""Tables, numbers and other people's text as GitHub's markdown."""

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping

import pandas as pd

SPECIAL = re.compile(r"([\\`*_\[\]|~])")  # they would start emphasis, code, a link or a cell
BLOCK = re.compile(r"^(\d*)([-+=#.)])(?=\s|$|[-=#])")  # start of a list, a heading or a rule
UNSEEN = ("Cc", "Cs")  # control characters, and halves of letters
WORDS = ("method", "difference", "verdict", "what happened", "label", "predicted", "text")
WORDS += ("constant", "value", "hyperparameters", "started")
LEFT = (*WORDS, "task")  # numbers go right


def table(columns: Mapping[str, Iterable[str]]) -> str:
    """A table from the cells under each heading; cells under headings in `WORDS` are escaped."""
    marks = ["---" if name in LEFT else "---:" for name in columns]
    cells = [map(escape, each) if name in WORDS else each for name, each in columns.items()]
    rows = zip(*cells, strict=True)
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, marks, *rows))


def escape(text: object) -> str:
    """Any text as one line that markdown shows as it is, in a table's cell too."""
    text = "".join(c for c in " ".join(str(text).split()) if unicodedata.category(c) not in UNSEEN)
    text = BLOCK.sub(r"\1\\\2", SPECIAL.sub(r"\\\1", html.escape(text, quote=False)))
    return text.replace("$", "<span>$</span>")  # GitHub reads mathematics between two of them


def code(text: str) -> str:
    """Any text as a block of code; line breaks, which would end the block, become escapes."""
    unseen = {c for c in text if unicodedata.category(c) in (*UNSEEN, "Zl", "Zp")}
    return "    " + "".join(ascii(c)[1:-1] if c in unseen else c for c in text)


def percent(share: float) -> str:
    """A share as a percentage with one decimal, without the sign."""
    return number(100 * share, "{:z.1f}")


def number(value: float, form: str) -> str:
    """A number in the format `form` with a real minus; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "—"
    return re.sub("^-", "−", form.format(value))


def size(value: float) -> str:
    """A number to three digits at least: 0.654, 11.9, 1,201; "< 0.001" below a thousandth."""
    if value is not None and 0 < value < 0.001:
        return "< 0.001"
    return number(value, "{:,.0f}" if value is not None and abs(value) >= 100 else "{:.3g}")


def count(number: int, noun: str) -> str:
    """1 step, 2 steps."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def p_value(p: float) -> str:
    """A p-value to two digits; "< 0.001" for a small one."""
    return "< 0.001" if p < 0.001 else number(p, "{:#.2g}")


def interval(low: float, high: float) -> str:
    """An interval of shares in percent, or of their differences in points."""
    return f"{percent(low)} to {percent(high)}"


def with_interval(value: float, low: float, high: float, unit: str = "") -> str:
    """A share in percent, or a difference in points, with its interval if there is one."""
    return percent(value) + unit + ("" if math.isnan(low) else f" ({interval(low, high)})")


def with_intervals(rows: pd.DataFrame, name: str) -> list[str]:
    """`with_interval` of each row of column `name`; the ends are in <name>_low and <name>_high."""
    return list(map(with_interval, rows[name], rows[f"{name}_low"], rows[f"{name}_high"]))
