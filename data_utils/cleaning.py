"""Clean texts and numbered labels: what is left out and why, and what spoils a comparison."""

import re
from collections.abc import Sequence

import pandas as pd

from boundary import BadInput

from .columns import is_missing

FOLDS = 5  # a label with fewer texts cannot be in each of as many folds
LARGEST = 0.9  # share of one label from which a comparison is warned of


def clean(text: str) -> str:
    """The text as models read it: line breaks of HTML are spaces, none at its ends."""
    if "<" in text:
        text = re.sub(r"<br\s*/?>", " ", text)  # no words are glued together
    return text.strip()


def clean_texts(texts: pd.Series, name: str) -> list[str]:
    """Each text cleaned; what is missing becomes empty. Raises `BadInput` for other values."""
    missing = texts.isna()
    kinds = sorted({type(text).__name__ for text in texts[~missing]} - {"str"})
    if kinds:
        raise BadInput(f"the text column of {name} holds {' and '.join(kinds)} values, not text")
    return ["" if gone else clean(text) for text, gone in zip(texts, missing, strict=True)]


def text_labels(labels: pd.Series, label_names: Sequence[str] | None, name: str) -> pd.Series:
    """The labels as text, missing where there is none. Raises `BadInput` for other kinds of values.

    `label_names` names the labels 0, 1, … of a source; there -1 means that there is none.
    """
    values = labels.astype(object)
    if label_names:
        values = values.where(values != -1, None)
    given = values[~values.map(is_missing)]
    kinds = {type(label).__name__ for label in given}
    if kinds == {"float"} and all(label % 1 == 0 for label in given):
        given, kinds = given.map(int), {"int"}
    if len(kinds) > 1 or not kinds <= {"str", "bool", "int"}:
        expected = "expected whole numbers, booleans or strings, of one kind"
        holds = " and ".join(sorted(kinds))
        raise BadInput(f"the label column of {name} holds {holds} values; {expected}")
    if label_names and kinds == {"int"}:
        unknown = sorted(set(given) - set(range(len(label_names))))
        if unknown:
            line = f"{name} has rows with the label {unknown[0]}, which has no name"
            raise BadInput(f"{line}; expected 0 to {len(label_names) - 1}")
        given = given.map(lambda label: label_names[label])
    for label in given.unique():
        if not str(label).isprintable():
            raise BadInput(f"{name} has the label {label!r}; expected names of one line")
    return given.map(str).reindex(values.index)


def sorted_names(labels: pd.Series) -> list[str]:
    """The labels that occur, numbers by size and others by letter."""
    names = sorted(labels.unique())
    if all(re.fullmatch(r"-?\d+(\.\d+)?", label) for label in names):
        names.sort(key=float)
    return names


def reasons(rows: pd.DataFrame, group: str | None) -> pd.Series:
    """Why each row is left out, "" for those that stay; train comes last of the splits.

    Of a repeated text the first is kept, and none where it has two labels within a split. A group
    stays in the first of its splits.
    """
    why = pd.Series("", rows.index)
    why[rows["label"].isna()] = "no label"
    if group:
        why[rows["group"].isna()] = f"no {group}"
    why[rows["text"] == ""] = "empty text"
    kept = rows[why == ""]
    twice = kept["text"].duplicated()
    again = kept[kept["text"].duplicated(keep=False)]
    labels = again.groupby(["split", "text"], sort=False)["label"].transform("nunique")
    why[again.index[labels > 1]] = "a text with two labels"  # which one is right?
    repeated = twice.index[twice]
    why[repeated[(why[repeated] == "").to_numpy()]] = "a repeated text"
    if group and rows["split"].nunique() > 1:
        kept = rows[why == ""]
        first = kept.groupby("group", sort=False)["split"].transform("first")
        why[kept.index[first != kept["split"]]] = f"its {group} is in another split"
    return why


def label_warnings(labels: pd.Series) -> list[str]:
    """What in the labels spoils a comparison."""
    counts = labels.value_counts()[sorted_names(labels)]
    alike, lines = {}, []
    for label in counts.index:
        alike.setdefault("".join(label.split()).casefold(), []).append(label)
    for names in alike.values():
        if len(names) > 1:
            listed = " and ".join(map(repr, names))
            lines.append(f"the labels {listed} differ by space or case only: are they one label?")
    rare = counts[counts < FOLDS]
    if len(rare):
        listed = some([f"{label!r} ({count})" for label, count in rare.items()], 5)
        lines.append(f"labels with fewer than {FOLDS} texts, which no method can learn: {listed}")
    if counts.max() >= LARGEST * counts.sum():
        line = f"{counts.max() / counts.sum():.0%} of the texts have the label {counts.idxmax()!r}"
        lines.append(f"{line}: who always says so is right as often; compare macro-F1")
    return lines


def some(items: list[str], count: int) -> str:
    """The first items, and how many more there are."""
    more = len(items) - count
    return ", ".join(items[:count]) + (f" and {more} more" if more > 0 else "")
