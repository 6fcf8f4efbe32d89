"""The task that a name stands for: columns found, texts cleaned, labels numbered.

What a comparison would be spoilt by is left out and listed, or warned of.
"""

import numpy as np
import pandas as pd

from boundary import BadInput

from .cleaning import clean_texts, label_warnings, reasons, some, sorted_names, text_labels
from .columns import choose_columns, group_warnings, is_missing
from .reading import read
from .task import Task

ORDER = ("test", "validation", "train")  # a text or group of two splits stays in the first


def load_task(
    name: str,
    text_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
) -> Task:
    """The task that `name` stands for: one of the `TASKS`, a local path, or a hub data set.

    Columns that are not named are found where there is one candidate; the `TASKS` have their own,
    and imdb's group is the film unless another is named. Raises `BadInput`.
    """
    frames, known = read(name)
    asked = {"text": text_column, "label": label_column, "group": group_column}
    given = {**known, "group": group_column or known.get("group")} if known else asked
    columns, notes = choose_columns(frames["train"], name, given), []
    if not known:
        read_as = frames["train"].attrs.get("read_as", "columns")
        named = ", ".join(f"{role} in {column!r}" for role, column in columns.items())
        notes.append(f"{read_as}; {named}")
    warnings = [] if "group" in columns else group_warnings(frames["train"], columns)
    rows = _joined(frames, columns, name, notes)
    rows, left_out = _kept(rows, columns.get("group"))
    for split in frames:
        counts = left_out.loc[left_out["split"] == split, "reason"].value_counts()
        listed = ", ".join(f"{count:,} × {reason}" for reason, count in counts.items())
        if not (rows["split"] == split).any():
            raise BadInput(f"no {split} text of {name} is left ({listed}); add others")
        if listed:
            notes.append(f"left out of {split}: {listed}")
    doubted = (left_out["reason"] == "a text with two labels").sum()
    if doubted:
        warnings.append(f"{doubted:,} rows have a text with another label elsewhere: left out")
    warnings += label_warnings(rows["label"])
    _describe(rows, columns, name, notes)
    names = sorted_names(rows["label"])
    numbers = rows["label"].map({label: number for number, label in enumerate(names)})
    rows["label"] = numbers.astype(int)
    task = Task(
        name=name,
        rows=rows,
        label_names=names,
        notes=notes,
        warnings=warnings,
        group=columns.get("group"),
        text_column=columns["text"],
        label_column=columns["label"],
        left_out=left_out,
    )
    task.check_labels(np.flatnonzero(rows["split"] == "train"), "training", task.remedy())
    return task


def _joined(frames, columns, name, notes):
    """All splits in one frame: text, label, split, row and perhaps group."""
    joined, names = [], _label_names(frames, name, columns["label"])
    for split in [split for split in ORDER if split in frames]:
        frame = frames[split]
        held = {role: column for role, column in columns.items() if column in frame}
        if split != "train" and _is_unlabelled(frame, held, frames["train"]):
            notes.append(f"{split} has no labels, and is not used")
            del frames[split]
            continue
        if len(held) < len(columns):
            absent = next(column for role, column in columns.items() if role not in held)
            raise BadInput(f"the {split} texts of {name} have no column {absent!r}")
        part = frame[list(held.values())].set_axis(list(held), axis=1)
        joined.append(part.assign(split=split, row=frame.index))
    rows = pd.concat(joined, ignore_index=True)
    rows["text"] = pd.Series(clean_texts(rows["text"], name), dtype=object)
    rows["label"] = text_labels(rows["label"], names, name)
    if "group" in rows:
        rows["group"] = rows["group"].map(lambda value: None if is_missing(value) else str(value))
    return rows


def _label_names(frames, name, column):
    """The names of labels that are numbers, where the source has them."""
    names = [frame.attrs.get("label_names", {}).get(column) for frame in frames.values()]
    names = [one for one in names if one]
    if any(other != names[0] for other in names):
        raise BadInput(f"the splits of {name} name their labels differently; use the same names")
    return names[0] if names else None


def _is_unlabelled(frame, held, train):
    """Whether a split has no label at all, or -1 for all of them as train has not."""
    if "label" not in held:
        return True
    column = held["label"]
    in_train = train[column].tolist()
    nothing = [value for value in (-1, "-1") if value not in in_train]
    return all(is_missing(label) or label in nothing for label in frame[column])


def _kept(rows, group):
    """The rows that stay, and those that are left out with their reasons."""
    why = reasons(rows, group)
    left_out = rows[why != ""].assign(reason=why[why != ""])
    left_out = left_out[["split", "row", "reason", "text"]].reset_index(drop=True)
    return rows[why == ""].drop(columns="row").reset_index(drop=True), left_out


def _describe(rows, columns, name, notes):
    """Say how many texts, labels and groups there are. Raises `BadInput` where there is one."""
    counts = rows["label"].value_counts()
    if len(counts) == 1:
        raise BadInput(f"all texts of {name} have the label {counts.index[0]!r}; expected two")
    listed = some([f"{label!r} {count:,}" for label, count in counts.items()], 10)
    notes.insert(0, f"{len(rows):,} texts; labels {listed}")
    if "group" in columns:
        groups, column = rows["group"].nunique(), columns["group"]
        if groups < 2:
            raise BadInput(f"all rows of {name} have one {column!r}; give another --group-column")
        notes.append(f"{groups:,} groups by {column!r}")
