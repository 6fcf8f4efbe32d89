"""Which column of a table holds the texts, the labels and the groups, and which looks like groups.

A column that is not named is taken where there is one candidate:

    text    `text`, in any letter case, or the one column of long texts, most of which differ
    label   `label`, likewise, or the one column of few values, each in many rows, if no other
            column repeats words
"""

import re
from typing import Any

import pandas as pd

from boundary import BadInput, quoted, short, some

LABELS = 50  # the most values of a column that is taken for the labels without being named
GROUP_WORDS = "id author client company customer film movie patient person speaker subject user"
NUMBER = r"[-+\d.,:/ TZ]+"  # or a date and time
DATE = r"(\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4})([ T].*)?"
SPLIT_WORDS = {"train", "training", "validation", "valid", "val", "dev", "test"}


def choose_columns(frame: pd.DataFrame, name: str, asked: dict[str, str | None]) -> dict[str, str]:
    """The columns by role: text, label, perhaps group.

    `asked` holds a column or None for each role. Raises `BadInput` that lists all columns.
    """
    columns = {role: column for role, column in asked.items() if column is not None}
    for role, column in columns.items():
        if column not in frame:
            line = f"{name} has no column {column!r}; it has {_listed(frame)}"
            raise BadInput(f"{line}; give another --{role}-column")
    possible = {}  # columns by role
    for role in ("text", "label"):
        if role not in columns:
            unassigned = [column for column in frame if column not in columns.values()]
            candidates = [column for column in unassigned if _role(frame[column]) == role]
            named = [c for c in unassigned if str(c).strip().casefold() == role]
            named = [column for column in named if _values(frame[column]).nunique() > 1]
            if role == "label" and len(candidates) == 1:
                candidates += [c for c in unassigned if _role(frame[c]) == "words"]
            both = [column for column in candidates if column in named]
            candidates = [role] if role in frame else both or [*named, *candidates]
            possible[role] = candidates
            if len(candidates) == 1:
                columns[role] = candidates[0]
    if unclear := [role for role in ("text", "label") if role not in columns]:
        named = {role: " or ".join(map(repr, possible[role])) for role in unclear}
        roles = " and ".join(f"the {role}s{named[role] and ': '}{named[role]}" for role in unclear)
        options = " and ".join(f"--{role}-column" for role in unclear)
        line = f"{name}: which column holds {roles}? It has {_listed(frame)}"
        raise BadInput(f"{line}; give {options}")
    if len(set(columns.values())) < len(columns):
        options = ", ".join(f"--{role}-column {column}" for role, column in columns.items())
        raise BadInput(f"{options}: expected different columns")
    label, is_found = columns["label"], not asked["label"] and "text" not in frame
    if is_found and "separator" in frame.attrs and label in frame[label].tolist():
        line = f"{name} has no header, since {label!r} is one of the labels"
        raise BadInput(f"{line}; put a row such as text,label above it, or give --label-column")
    return {role: columns[role] for role in ("text", "label", "group") if role in columns}


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or text without letters."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _values(column):
    """The values that are not missing, without lists and dictionaries."""
    values = [v for v in column if not is_missing(v) and not isinstance(v, list | dict)]
    return pd.Series(values, dtype=object)


def _role(column):
    """What a column's values suggest: "text", "label", "words" that repeat, or None."""
    values = _values(column)
    count, sample = values.nunique(), values[:1000].map(str)
    has_words = sample.str.count(" ").mean() >= 2
    has_words |= (~sample.map(str.isascii)).mean() > 0.5  # Chinese and Japanese have no spaces
    is_long, are_texts = sample.str.len().mean() >= 20 and has_words, _are_texts(values)
    if is_long and are_texts and count >= len(values) / 2:
        return "text"
    if count < 2 or _are_splits(values):
        return None
    if count <= min(LABELS, len(values) / 5):
        return "label"
    is_sparse = len(values) < len(column) / 2
    if is_long or is_sparse or not are_texts or _is_of_groups(column.name):
        return None
    is_other = sample.str.fullmatch(NUMBER) | sample.str.contains("://")
    return "words" if count <= len(values) / 2 and not is_other.any() else None


def _is_of_groups(name):
    """Whether a column's name is one of those that groups have."""
    words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", str(name))}
    return not words.isdisjoint(GROUP_WORDS.split())


def _are_texts(values):
    return values.map(type).eq(str).all()


def _are_splits(values):
    """Whether these say which split a row belongs to."""
    return values.nunique() > 1 and {str(v).strip().lower() for v in values} <= SPLIT_WORDS


def _are_dates(values):
    return values.nunique() > 1 and values.map(str).str.fullmatch(DATE).all()


def _listed(frame):
    """The columns in words, each with up to three of its values."""
    parts = []
    for column in frame:
        cells = _values(frame[column][:1000]).map(lambda cell: short(str(cell), 25))
        nothing = "empty" if frame[column].map(is_missing).all() else "lists or objects"
        parts.append(f"{column!r} ({', '.join(cells.unique()[:3]) or nothing})")
    return some(parts, 20)


def split_warnings(frame: pd.DataFrame) -> list[str]:
    """A warning for each column that says which split a row belongs to: it is not used."""
    return [
        f"the column {column!r} is not used: for its splits, save their rows as train.csv, "
        "validation.csv and test.csv in a folder, and give the folder as --dataset"
        for column in frame
        if _are_splits(_values(frame[column]))
    ]


def date_warnings(frame: pd.DataFrame) -> list[str]:
    """A warning of columns of dates, where folds or a drawn test mix old texts with new."""
    dates = [repr(column) for column in frame if _are_dates(_values(frame[column]))]
    line = f"dates in {some(dates, 3)}, but old and new texts are tested alike: if they differ, "
    line += "save the latest rows as test.csv, the others as train.csv, and give their folder"
    return [line] * bool(dates)


def group_warnings(frame: pd.DataFrame, columns: dict[str, str]) -> list[str]:
    """A warning for each column whose values may be groups, each of several texts (a customer)."""
    lines = []
    for column in frame.columns.difference(columns.values(), sort=False):
        values = _values(frame[column])
        count, rows = values.nunique(), len(values)
        is_named = _is_of_groups(column)
        is_usual = count < 0.9 * rows if is_named else rows / 20 <= count <= rows / 2
        if count >= 5 and is_usual and not _are_dates(values):
            line = f"the column {column!r} has {count:,} values in {rows:,} rows: if a value's"
            more = "texts belong together (one customer, one film), give --group-column "
            more += quoted(str(column))
            lines.append(f"{line} {more}")
    return lines
