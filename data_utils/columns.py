"""Which column of a table holds the texts, the labels and the groups, and which looks like groups.

A column that is not named is taken where there is one candidate:

    text    `text`, or the one column of long texts, most of which differ
    label   `label`, or the one column of few values, each in many rows
"""

import re
from textwrap import shorten
from typing import Any

import pandas as pd

from boundary import BadInput

LABELS = 50  # the most values of a column that is taken for the labels without being named
GROUP_WORDS = "id author client company customer film movie patient person speaker subject user"


def choose_columns(frame: pd.DataFrame, name: str, given: dict[str, str | None]) -> dict[str, str]:
    """The columns by role: text, label, perhaps group.

    `given` holds a column or None for each role. Raises `BadInput` that lists all columns.
    """
    columns = {role: column for role, column in given.items() if column is not None}
    for role, column in columns.items():
        if column not in frame:
            line = f"{name} has no column {column!r}; it has {_listed(frame)}"
            raise BadInput(f"{line}; give another --{role}-column")
    asked = {*columns}
    columns = {role: role for role in ("text", "label") if role in frame} | columns
    for role, looks in (("text", _looks_like_text), ("label", _looks_like_labels)):
        if role not in columns:
            free = [column for column in frame if column not in columns.values()]
            found = [column for column in free if looks(_values(frame[column]))]
            columns |= {role: found[0]} if len(found) == 1 else {}
    unclear = [role for role in ("text", "label") if role not in columns]
    if unclear:
        which = " and ".join(f"the {role}s" for role in unclear)
        options = " and ".join(f"--{role}-column" for role in unclear)
        line = f"{name}: which column holds {which}? It has {_listed(frame)}"
        raise BadInput(f"{line}; give {options}")
    if len(set(columns.values())) < len(columns):
        options = ", ".join(f"--{role}-column {column}" for role, column in columns.items())
        raise BadInput(f"{options}: expected different columns")
    text, label = columns["text"], columns["label"]
    if not asked & {"text", "label"} and text.count(" ") > 1 and label in frame[label].tolist():
        raise BadInput(f"{name} has no header; put a row such as text,label above it")
    return {role: columns[role] for role in ("text", "label", "group") if role in columns}


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or text without letters."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _values(column):
    """The values that are there, lists and dictionaries excepted."""
    values = [v for v in column if not is_missing(v) and not isinstance(v, list | dict)]
    return pd.Series(values, dtype=object)


def _looks_like_text(values):
    if not len(values) or any(type(value) is not str for value in values):
        return False
    sample = values[:1000]
    is_long = sample.str.len().mean() >= 20 and sample.str.count(" ").mean() >= 2
    return is_long and values.nunique() >= len(values) / 2


def _looks_like_labels(values):
    return 2 <= values.nunique() <= min(LABELS, len(values) / 5) and not _looks_like_text(values)


def _listed(frame):
    """The columns with three values each."""
    parts = []
    for column in frame:
        cells = [
            shorten(str(value), 25, placeholder="…") for value in _values(frame[column][:1000])
        ]
        parts.append(f"{column!r} ({', '.join(list(dict.fromkeys(cells))[:3]) or 'empty'})")
    return some(parts, 20)


def some(items: list[str], count: int) -> str:
    """The first items, and how many more there are."""
    more = len(items) - count
    return ", ".join(items[:count]) + (f" and {more} more" if more > 0 else "")


def group_warnings(frame: pd.DataFrame, columns: dict[str, str]) -> list[str]:
    """What to say of columns whose values belong to several texts each, as a customer's do."""
    lines = []
    for column in frame.columns.difference(columns.values(), sort=False):
        values = _values(frame[column]).map(str)
        count, rows = values.nunique(), len(values)
        words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", str(column))}
        is_named = words & {*GROUP_WORDS.split()}
        if count >= 5 and (count < 0.9 * rows if is_named else rows / 20 <= count <= rows / 2):
            lines.append(
                f"the column {column!r} has {count:,} values in {rows:,} rows: if a value's texts "
                f"belong together (one customer, one film), give --group-column {column}"
            )
    return lines
