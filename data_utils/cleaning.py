"""Clean texts and numbered labels: what is left out and why, and what spoils a comparison."""

import re

import pandas as pd

from boundary import BadInput

from .columns import is_missing, some

FOLDS = 5  # a label with fewer texts cannot be in each of as many folds
LARGEST = 0.9  # share of one label from which a comparison is warned of


def clean(text: str) -> str:
    """The text as models read it: line breaks of HTML are spaces, none at its ends."""
    return re.sub(r"<br\s*/?>", " ", text).strip()  # no words are glued together


def raw_texts(column: pd.Series, name: object) -> list[str]:
    """The texts as they are; a missing one is empty. Raises `BadInput` with the row of another."""
    for row, text in column[column.notna()].items():
        if not isinstance(text, str):
            kind = type(text).__name__
            raise BadInput(f"{name}, row {row}: {column.name} holds {kind}, not text")
    return column.where(column.notna(), "").tolist()


def text_labels(labels: pd.Series, name: str) -> pd.Series:
    """The labels as text, missing where there is none. Raises `BadInput` for other values."""
    given = labels[~labels.map(is_missing)]
    kinds = {type(label).__name__ for label in given}
    if kinds == {"float"} and all(label % 1 == 0 for label in given):
        given, kinds = given.map(int), {"int"}
    if len(kinds) > 1 or not kinds <= {"str", "bool", "int"}:
        line = f"the label column of {name} holds {' and '.join(sorted(kinds))} values"
        raise BadInput(f"{line}; expected whole numbers, booleans or strings, of one kind")
    given = given.map(str)
    if bad := [label for label in given.unique() if not label.isprintable()]:
        raise BadInput(f"{name} has the label {bad[0]!r}; expected names of one line")
    return given.reindex(labels.index)


def sorted_names(labels: pd.Series) -> list[str]:
    """The labels that occur, numbers by size and others by letter."""
    names = sorted(labels.unique())
    are_numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names)
    return sorted(names, key=float) if are_numbers else names


def reasons(rows: pd.DataFrame, group: str | None) -> pd.Series:
    """Why each row is left out, "" for those that stay; train comes last of the splits.

    Of a repeated text the first is kept, and none where it has two labels within a split. A group
    stays in the first of its splits. A label's only text cannot be both learnt and tested.
    """
    why = pd.Series("", rows.index)
    why[rows["label"].isna()] = "no label"
    if group:
        why[rows["group"].isna()] = f"no {group}"
    why[rows["text"] == ""] = "empty text"
    kept = rows[why == ""]
    labels = kept.groupby(["split", "text"], sort=False)["label"].transform("nunique")
    why[kept.index[kept["text"].duplicated()]] = "a repeated text"
    why[kept.index[labels > 1]] = "a text with two labels"  # which one is right?
    if group:
        kept = rows[why == ""]
        first = kept.groupby("group", sort=False)["split"].transform("first")
        why[kept.index[first != kept["split"]]] = f"its {group} is in another split"
    labels = rows.loc[why == "", "label"]
    why[labels.index[~labels.duplicated(keep=False)]] = "the only text of its label"
    return why


def alike_labels(labels: pd.Series) -> list[str]:
    """A warning for each few labels that a slip of the keyboard may have made of one."""
    alike = {}
    for label in sorted_names(labels.dropna()):
        alike.setdefault("".join(label.split()).casefold(), []).append(repr(label))
    return [
        f"the labels {' and '.join(names)} differ by space or case only: are they one label?"
        for names in alike.values()
        if len(names) > 1
    ]


def label_warnings(labels: pd.Series) -> list[str]:
    """What in the labels spoils a comparison."""
    counts, lines = labels.value_counts()[sorted_names(labels)], []
    rare = [f"{label!r} ({count})" for label, count in counts[counts < FOLDS].items()]
    if rare:
        line = f"labels with fewer than {FOLDS} texts, which some folds lack: {some(rare, 5)}"
        lines.append(line)
    if (share := counts.max() / counts.sum()) >= LARGEST:
        line = f"{share:.0%} of the texts have the label {counts.idxmax()!r}"
        lines.append(f"{line}: who always says so is right as often; compare macro-F1")
    return lines
