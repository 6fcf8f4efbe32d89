"""The task that a name stands for: columns found, texts cleaned, labels numbered.

What a comparison would be spoilt by is left out and listed, or warned of.
"""

import numpy as np
import pandas as pd

from boundary import BadInput

from .cleaning import clean_texts, label_warnings, reasons, sorted_names, text_labels
from .columns import choose_columns, group_warnings, is_missing, some
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
    known |= {"group": group_column or known.get("group")} if known else asked
    train = frames["train"]
    columns, notes = choose_columns(train, name, known), []
    group = columns.get("group")
    if "read_as" in train.attrs:
        named = ", ".join(f"{role} in {column!r}" for role, column in columns.items())
        notes.append(f"{train.attrs['read_as']}; {named}")
    warnings = [] if group else group_warnings(train, columns)
    rows = _joined(frames, columns, name, notes)
    why = reasons(rows, group)
    left_out = rows.assign(reason=why)[why != ""]
    left_out = left_out[["split", "row", "reason", "text"]].reset_index(drop=True)
    rows = rows[why == ""].drop(columns="row").reset_index(drop=True)
    notes += _left_out_notes(rows, left_out, frames, name)
    contradictions = (left_out["reason"] == "a text with two labels").sum()
    if contradictions:
        line = f"{contradictions:,} rows have a text with another label elsewhere: left out"
        warnings.append(line)
    warnings += label_warnings(rows["label"])
    counts, names = rows["label"].value_counts(), sorted_names(rows["label"])
    if len(names) == 1:
        raise BadInput(f"all texts of {name} have the label {names[0]!r}; expected two")
    listed = some([f"{label!r} {count:,}" for label, count in counts.items()], 10)
    notes.insert(0, f"{len(rows):,} texts; labels {listed}")
    if group:
        notes.append(f"{rows['group'].nunique():,} groups by {group!r}")
    rows["label"] = rows["label"].map(names.index).astype(int)
    given = columns["text"], columns["label"]
    task = Task(name, rows, names, notes, warnings, group, *given, left_out)
    task.check_labels(np.flatnonzero(rows["split"] == "train"), "training", None)
    return task


def _joined(frames, columns, name, notes):
    """All splits in one frame: text, label, split, row and perhaps group."""
    joined, train = [], frames["train"]
    for split in [split for split in ORDER if split in frames]:
        frame = frames[split]
        part = frame.reindex(columns=columns.values()).set_axis(list(columns), axis=1)
        label_names = frame.attrs.get("label_names", {}).get(columns["label"])
        if label_names:
            part["label"] = part["label"].map(dict(enumerate(label_names)))
        hidden = {-1, "-1"} - {
            *train[columns["label"]]
        }  # what stands for no label, unless in train
        if split != "train" and all(is_missing(v) or v in hidden for v in part["label"]):
            notes.append(f"{split} has no labels, and is not used")
            del frames[split]
            continue
        absent = [column for column in columns.values() if column not in frame]
        if absent:
            raise BadInput(f"the {split} texts of {name} have no column {absent[0]!r}")
        joined.append(part.assign(split=split, row=frame.index))
    rows = pd.concat(joined, ignore_index=True)
    rows["text"] = pd.Series(clean_texts(rows["text"], name), dtype=object)
    rows["label"] = text_labels(rows["label"].astype(object), name)
    if "group" in rows:
        rows["group"] = rows["group"].map(lambda value: None if is_missing(value) else str(value))
    return rows


def _left_out_notes(rows, left_out, splits, name):
    """How many rows of each split are left out, and why. Raises `BadInput` where none is left."""
    lines = []
    for split in splits:
        counts = left_out.loc[left_out["split"] == split, "reason"].value_counts()
        listed = ", ".join(f"{count:,} × {reason}" for reason, count in counts.items())
        if not (rows["split"] == split).any():
            raise BadInput(f"no {split} text of {name} is left ({listed}); add others")
        lines += [f"left out of {split}: {listed}"] if listed else []
    return lines
