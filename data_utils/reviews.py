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
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Features, Value

from boundary import BadInput

from .reading import read

TEST_SHARE = 0.1  # of the data, where it has no test of its own
NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # breaks a line or a file


@dataclass(frozen=True)
class Reviews:
    """Three data sets of columns `text` and `label`, and how they were made."""

    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    notes: list[str]  # what was dropped and divided, in words
    groups: dict[str, int] | None = None  # how many groups each split's reviews are of


@dataclass(frozen=True)
class Task:
    """Clean texts, labels and groups of train and of those other splits that the source has."""

    name: str
    splits: dict[str, pd.DataFrame]  # columns text, label (0 to C - 1), perhaps group
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
        splits, notes, draw = dict(self.splits), list(self.notes), [split_seed, draw_seed]
        whole = f" by {self.group}" if self.group else ""
        shares = {"test": (TEST_SHARE, [split_seed]), "validation": (validation_share, draw)}
        for taken, (share, seed) in shares.items():
            if taken not in splits:
                rest, part = self._divide(splits["train"], share, seed)
                splits |= {"train": rest, taken: part}
                notes.append(f"{taken} taken from train: {share:.0%}{whole}, stratified by label")
                self._check_labels(splits, taken)
                self._check_labels(splits, "train")
        self._check_labels(splits, "validation")
        numbers = {"train": None, "validation": None, "test": test_examples}
        if labels is not None:
            chosen = min(round(labels * validation_share), len(splits["validation"]))
            numbers |= {"train": labels - chosen, "validation": chosen}
        for split, frame in splits.items():
            seed = [split_seed] if split == "test" else draw
            splits[split] = _in_order(frame, seed)[: numbers[split]]
        used = len(splits["train"]) + len(splits["validation"])
        if labels is not None and used < labels:
            notes.append(f"{labels:,} labels asked for, all {used:,} used")
        if test_examples is not None and len(splits["test"]) < test_examples:
            used = len(splits["test"])
            notes.append(f"{test_examples:,} test reviews asked for, all {used:,} used")
        remedy = f"use more LABELS than {labels}, or another VALIDATION_SHARE than"
        for split in ("train", "validation"):
            self._check_labels(splits, split, f"{remedy} {validation_share}")
        groups = None
        if self.group:
            groups = {split: frame["group"].nunique() for split, frame in splits.items()}
        columns = Features(text=Value("string"), label=ClassLabel(names=self.label_names))
        splits = {
            split: Dataset.from_pandas(frame[["text", "label"]], columns, preserve_index=False)
            for split, frame in splits.items()
        }
        return Reviews(**splits, label_names=self.label_names, notes=notes, groups=groups)

    def _divide(self, frame, share, seed):
        """The frame in two: without this share of it, and that share."""
        if self.group:
            taken = frame["group"].isin(_choose_groups(frame, share, seed))
            return frame[~taken], frame[taken]
        frame = _in_order(frame, seed)
        count = math.ceil(len(frame) * share)
        return frame[count:], frame[:count]

    def _check_labels(self, splits, split, remedy=None):
        """Refuse a split that lacks a label."""
        for number in sorted(set(range(len(self.label_names))) - set(splits[split]["label"])):
            label = self.label_names[number]
            other = "; " + (remedy or "add some, or drop the label")
            if self.group and not remedy:
                other += f", or set another GROUP_COLUMN than {self.group!r}"
            raise BadInput(f"no {split} review of {self.name} has the label {label!r}{other}")


def load_task(
    name: str,
    text_column: str = "text",
    label_column: str = "label",
    group_column: str | None = None,
) -> Task:
    """The task that `name` stands for: one of the `TASKS`, a local path, or a hub data set.

    The `TASKS` have their own columns; imdb is always divided by film. Raises `BadInput`.
    """
    columns = {"text": text_column, "label": label_column}
    columns |= {"group": group_column} if group_column else {}
    for column, times in Counter(columns.values()).items():
        if times > 1:
            names = " and ".join(f"{r.upper()}_COLUMN" for r in columns if columns[r] == column)
            raise BadInput(f"{names} are both {column!r}; expected different columns")
    frames, label_names = read(name, columns)
    notes: list[str] = []
    frames = {split: _clean(frame, split, name, notes) for split, frame in frames.items()}
    label_names = _number_labels(frames, label_names, name, label_column)
    _drop_repeated(frames, name, notes)
    group = None
    if "group" in frames["train"]:
        group = group_column or "film"
        _drop_shared_groups(frames, name, group, notes)
    task = Task(name, frames, label_names, notes, group)
    task._check_labels(frames, "train")
    return task


# ---------------------------------------------------------------------------- cleaning


def clean_text(text: str) -> str:
    """Line breaks in HTML become spaces, so that no words are glued together."""
    return re.sub(r"<br\s*/?>", " ", text).strip()


def _clean(frame, split, name, notes):
    texts = frame["text"].astype(object)
    kinds = sorted({type(text).__name__ for text in texts.dropna()} - {"str"})
    if kinds:
        raise BadInput(f"the text column of {name} holds {' and '.join(kinds)} values, not text")
    for column in frame.columns[1:]:
        missing = int(frame[column].isna().sum())
        if missing:
            remedy = "fill or drop them"
            raise BadInput(f"{missing:,} {split} rows of {name} have no {column}; {remedy}")
    frame = frame.assign(text=texts.fillna("").map(clean_text))
    empty = int((frame["text"] == "").sum())
    if empty:
        notes.append(f"{empty:,} empty texts dropped from {split}")
    frame = frame[frame["text"] != ""].reset_index(drop=True)
    if frame.empty:
        raise BadInput(f"the {split} split of {name} has no texts; expected labelled reviews")
    return frame


def _number_labels(frames, label_names, name, label_column):
    """Replace the labels by 0 .. C - 1, in place; returns their names."""
    labels = pd.concat([frame["label"] for frame in frames.values()]).astype(object)
    kinds = sorted({type(label).__name__ for label in labels})
    odd = [label for label in labels if type(label) is float and label % 1 != 0]
    if odd or kinds not in (["str"], ["bool"], ["int"], ["float"]):
        holds = f"numbers such as {odd[0]}" if odd else f"{' and '.join(kinds)} values"
        expected = "expected integers, booleans or strings, of one kind"
        raise BadInput(f"the column {label_column!r} of {name} holds {holds}; {expected}")
    present = sorted(set(labels.map(int) if kinds == ["float"] else labels))
    values = list(range(len(label_names))) if label_names else present
    unknown = sorted(set(present) - set(values))
    if unknown:
        raise BadInput(
            f"{name} has rows with the label {unknown[0]}, which has no name (unlabelled?); "
            f"expected 0 to {len(values) - 1}"
        )
    names = [str(label) for label in (label_names or values)]
    for label, times in Counter(names).items():
        if times > 1 or not label.strip() or NO_NAME.search(label):
            raise BadInput(f"{name} has the label {label!r}; expected different names of one line")
    number = {value: i for i, value in enumerate(values)}
    for split, frame in frames.items():
        frames[split] = frame.assign(label=[number[label] for label in frame["label"]])
    learnt = frames["train"]["label"].unique()
    if len(learnt) < 2:
        raise BadInput(
            f"all training reviews of {name} have the label {names[learnt[0]]}; "
            "expected two labels or more"
        )
    return names


def _drop_repeated(frames, name, notes):
    """Keep each text once: in test rather than in validation, and there rather than in train.

    Where one split has a text under two labels, which one is right is unknown: it is dropped.
    """
    seen = pd.Series(dtype=str)
    for split in ("test", "validation", "train"):
        if split not in frames:
            continue
        texts = frames[split]["text"]
        elsewhere = texts.isin(seen)
        contradictory = frames[split].groupby("text")["label"].transform("nunique") > 1
        contradictory &= ~elsewhere
        twice = texts.duplicated() & ~elsewhere & ~contradictory
        if twice.any():
            notes.append(f"{twice.sum():,} repeated texts dropped from {split}")
        if contradictory.any():
            count = texts[contradictory].nunique()
            notes.append(f"{count:,} texts with two labels dropped from {split}")
        if elsewhere.any():
            notes.append(f"{elsewhere.sum():,} texts of other splits dropped from {split}")
        frames[split] = frames[split][~(twice | contradictory | elsewhere)].reset_index(drop=True)
        if frames[split].empty:
            why = "have two labels or are" if contradictory.any() else "are all"
            raise BadInput(f"the {split} reviews of {name} {why} in another split; add others")
        seen = pd.concat([seen, texts])


def _drop_shared_groups(frames, name, column, notes):
    """Drop from train the reviews of groups that test or validation has; from that, of test's."""
    if pd.concat([frame["group"] for frame in frames.values()]).astype(str).nunique() < 2:
        raise BadInput(f"all rows of {name} have one {column!r}; set another GROUP_COLUMN")
    seen = set()
    for split in ("test", "validation", "train"):
        if split not in frames:
            continue
        groups = frames[split]["group"].astype(str)
        shared = groups.isin(seen)
        if shared.any():
            count = f"{shared.sum():,} reviews"
            notes.append(f"{count} dropped from {split}, whose {column} is in another split")
        frames[split] = frames[split].assign(group=groups)[~shared].reset_index(drop=True)
        if frames[split].empty:
            raise BadInput(
                f"each {column!r} of the {split} reviews of {name} is in another split; "
                "set another GROUP_COLUMN"
            )
        seen |= set(groups)


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
