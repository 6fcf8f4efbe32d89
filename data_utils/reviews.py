"""A task: labelled texts from a package, a file, a folder or a hub, and how they are split.

    name -> raw splits (any columns, any labels)        reading.py
         -> Task: clean text, labels 0 to C - 1         no text twice, no group in two splits
         -> Reviews: train / validation / test          missing splits taken from train

The test depends on the split's seed alone. Train and validation depend on a draw's seed as well:
another draw has other training labels and the same test. A budget of n labels counts both of them.
Each split is put in a random order whose every beginning has the labels in proportion, and its
first rows are used: so a smaller budget is a part of a larger one. With groups (a film, a patient,
an author), whole groups are put in test, train or validation before anything is drawn; a text that
two groups share is kept once. What is dropped is counted, and the counts are kept beside the data.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Features, Value

from boundary import BadInput

from .reading import read

ORDER = ("test", "validation", "train")  # a text or group of two splits stays in the first
TEST_SHARE = 0.1  # of the data, where it has no test of its own


@dataclass(frozen=True)
class Reviews:
    """Three data sets of columns text, label and perhaps group, and how they were made."""

    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    notes: list[str]  # what was dropped and divided, in words
    groups: dict[str, int] | None = None  # how many groups each split's reviews are of


@dataclass(frozen=True)
class Task:
    """Clean texts with labels, perhaps in groups, of train and what other splits the source has."""

    name: str
    rows: pd.DataFrame  # columns text, label (0 to C - 1), split and, if group is not None, group
    label_names: list[str]
    notes: list[str]  # what was dropped, in words
    group: str | None = None  # what a group is

    def split(
        self,
        labels: int | None = None,
        validation_share: float = 0.2,
        test_examples: int | None = None,
        split_seed: int = 0,
        draw_seed: int = 0,
    ) -> Reviews:
        """Train and validation of `labels` reviews together, and a test (None: all there are).

        Raises `BadInput` where a label would be missing in one of them.
        """
        splits, notes = dict(list(self.rows.groupby("split"))), list(self.notes)
        by, seeds = f" by {self.group}" if self.group else "", {"test": [split_seed]}
        seeds |= dict.fromkeys(("validation", "train"), [split_seed, draw_seed])
        for taken, share in (("test", TEST_SHARE), ("validation", validation_share)):
            if taken not in splits:
                rest, part = self._divide(splits["train"], share, seeds[taken])
                splits |= {"train": rest, taken: part}
                notes.append(f"{taken} taken from train: {share:.0%}{by}, stratified by label")
                self._check_labels(splits, taken, "train")
        self._check_labels(splits, "validation")
        limits = {"test": test_examples}
        if labels is not None:
            chosen = max(round(labels * validation_share), labels - len(splits["train"]))
            chosen = min(chosen, len(splits["validation"]))
            limits |= {"validation": chosen, "train": labels - chosen}
        for split, frame in splits.items():
            splits[split] = _in_order(frame, seeds[split])[: limits.get(split)]
        remedy = f"use more LABELS than {labels}, or another VALIDATION_SHARE"
        self._check_labels(splits, "train", "validation", remedy=remedy)
        counts = {split: len(frame) for split, frame in splits.items()}
        used = {"labels": counts["train"] + counts["validation"], "test reviews": counts["test"]}
        for asked, what in ((labels, "labels"), (test_examples, "test reviews")):
            if asked is not None and asked > used[what]:
                notes.append(f"{asked:,} {what} asked for, all {used[what]:,} used")
        groups = self.group and {split: f["group"].nunique() for split, f in splits.items()}
        columns = Features(text=Value("string"), label=ClassLabel(names=self.label_names))
        if self.group:
            columns["group"] = Value("string")
        data_sets = {
            split: Dataset.from_pandas(frame[list(columns)], columns, preserve_index=False)
            for split, frame in splits.items()
        }
        return Reviews(**data_sets, label_names=self.label_names, notes=notes, groups=groups)

    def _divide(self, frame, share, seed):
        """The frame in two: without this share of it, and that share."""
        if self.group:
            taken = frame["group"].isin(_choose_groups(frame, share, seed))
            return frame[~taken], frame[taken]
        frame = _in_order(frame, seed)
        count = math.ceil(len(frame) * share)
        return frame[count:], frame[:count]

    def _check_labels(self, splits, *names, remedy="add some, or drop the label"):
        """Refuse splits that lack a label."""
        other = f", or set another GROUP_COLUMN than {self.group!r}" if self.group else ""
        for split in names:
            for number, label in enumerate(self.label_names):
                if not (splits[split]["label"] == number).any():
                    line = f"no {split} review of {self.name} has the label {label!r}"
                    raise BadInput(f"{line}; {remedy}{other}")


def load_task(
    name: str,
    text_column: str = "text",
    label_column: str = "label",
    group_column: str | None = None,
) -> Task:
    """The task that `name` stands for: one of the `TASKS`, a local path, or a hub data set.

    The `TASKS` have their own columns; imdb's group is the film unless another is named. Raises
    `BadInput`.
    """
    columns = {"text": text_column, "label": label_column}
    columns |= {"group": group_column} if group_column else {}
    if len(set(columns.values())) < len(columns):
        what = " and ".join(f"{role.upper()}_COLUMN" for role in columns)
        raise BadInput(f"{what} are {', '.join(columns.values())}; expected different columns")
    frames, label_names = read(name, columns)
    parts = [frames[split].assign(split=split) for split in ORDER if split in frames]
    rows, notes = _clean(pd.concat(parts, ignore_index=True), name), []
    rows = _drop(rows, rows["text"] == "", "empty texts", notes)
    rows["label"], label_names = _number_labels(rows["label"], label_names, name)
    twice = rows["text"].duplicated()
    labels = rows.groupby(["split", "text"])["label"].transform("nunique")  # which one is right?
    rows = _drop(rows, labels > 1, "reviews whose text has two labels", notes)
    rows = _drop(rows, twice[rows.index], "repeated texts", notes)
    group = None
    if "group" in rows:
        group = group_column or "film"
        if rows["group"].nunique() < 2:
            raise BadInput(f"all rows of {name} have one {group!r}; set another GROUP_COLUMN")
        elsewhere = rows.groupby("group")["split"].transform("first") != rows["split"]
        rows = _drop(rows, elsewhere, f"reviews whose {group} is in another split", notes)
    for split in frames:
        if split not in set(rows["split"]):
            line = f"no {split} review of {name} is left ({'; '.join(notes) or 'it has none'})"
            raise BadInput(f"{line}; add others")
    task = Task(name, rows, label_names, notes, group)
    task._check_labels({"train": rows[rows["split"] == "train"]}, "train")
    return task


# ---------------------------------------------------------------------------- cleaning


def _clean(rows, name):
    texts = rows["text"].astype(object)
    kinds = sorted({type(text).__name__ for text in texts.dropna()} - {"str"})
    if kinds:
        raise BadInput(f"the text column of {name} holds {' and '.join(kinds)} values, not text")
    for column in rows.columns.drop("text"):
        missing = rows[column].isna().sum()
        if missing:
            raise BadInput(f"{missing:,} rows of {name} have no {column}; fill or drop them")
    # Line breaks in HTML become spaces, so that no words are glued together.
    texts = texts.fillna("").map(lambda text: re.sub(r"<br\s*/?>", " ", text).strip())
    rows = rows.assign(text=texts)
    return rows.assign(group=rows["group"].astype(str)) if "group" in rows else rows


def _drop(rows, dropped, what, notes):
    """The rows but for those that are `dropped` (n,), which are counted by split."""
    for split, count in rows.loc[dropped, "split"].value_counts().items():
        notes.append(f"{count:,} {what} dropped from {split}")
    return rows[~dropped].copy()


def _number_labels(labels, names, name):
    """The labels as numbers 0 to C - 1, and their names."""
    values = labels.astype(object)
    kinds = {type(label).__name__ for label in values}
    if kinds == {"float"} and all(label % 1 == 0 for label in values):
        values, kinds = values.map(int), {"int"}
    if len(kinds) > 1 or not kinds <= {"str", "bool", "int"}:
        expected = "expected whole numbers, booleans or strings, of one kind"
        holds = " and ".join(sorted(kinds))
        raise BadInput(f"the label column of {name} holds {holds} values; {expected}")
    classes = list(range(len(names))) if names else sorted(set(values))
    unknown = sorted(set(values) - set(classes))
    if unknown:
        expected = f"which has no name (unlabelled?); expected 0 to {len(classes) - 1}"
        raise BadInput(f"{name} has rows with the label {unknown[0]}, {expected}")
    names = [str(label) for label in (names or classes)]
    if len(names) == 1:
        raise BadInput(f"all reviews of {name} have the label {names[0]!r}; expected two or more")
    for label in names:
        if not label.strip() or not label.isprintable():
            raise BadInput(f"{name} has the label {label!r}; expected names of one line")
    return values.map({value: i for i, value in enumerate(classes)}).astype(int), names


# ---------------------------------------------------------------------------- dividing


def _in_order(frame, seed):
    """The rows in random order, of which every beginning has the labels in proportion.

    It starts with a row of each label, so that a rare one is in a small beginning, too.
    """
    frame = frame.iloc[np.random.default_rng(seed).permutation(len(frame))]
    rows = frame.groupby("label")["label"]
    rank = rows.cumcount()
    place = ((rank + 0.5) / rows.transform("size")).where(rank > 0, 0)
    return frame.iloc[np.argsort(place, kind="stable")]


def _choose_groups(frame, share, seed):
    """Groups that together have about this share of each label's rows: large ones, then small.

    In random order within a size, a group is taken if that brings what is taken nearer to its
    share of what was seen. Of a label that all of this misses, a small group is taken at last.
    """
    counts = pd.crosstab(frame["group"], frame["label"])  # (groups, C)
    counts = counts.iloc[np.random.default_rng(seed).permutation(len(counts))]
    counts = counts.iloc[np.argsort(-counts.sum(axis=1), kind="stable")]
    taken = np.zeros(len(counts), bool)
    seen, part = np.zeros((2, counts.shape[1]))  # rows of each label
    for i, rows in enumerate(counts.to_numpy()):
        seen += rows
        lacking = share * seen - part
        if rows @ rows < 2 * rows @ lacking:  # |lacking - rows| < |lacking|
            taken[i], part = True, part + rows
    for label in counts:
        if not counts[label][taken].any():
            taken[np.flatnonzero(counts[label])[-1]] = True
    return counts.index[taken]
