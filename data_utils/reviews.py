"""Labelled reviews from a hub, a local file or folder, or a package: train, validation and test.

    name -> raw splits (any columns, any labels)        read by `datasets`
         -> clean text, integer labels                  <br /> removed, empty texts dropped
         -> no text twice, none of the test in train
         -> train / validation / test                   missing ones taken from train, stratified

Everything that is dropped is counted, and the counts are kept beside the data.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Features, Value
from datasets.utils.stratify import stratified_shuffle_split_generate_indices

from boundary import BadInput

from .reading import read

NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # breaks a line or a file
LACKING = "add some that no other split holds, or drop the label from the other splits"


@dataclass
class Reviews:
    """Three data sets of columns `text` and `label`, and how they were made."""

    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    notes: list[str] = field(default_factory=list)  # what was dropped and divided, in words


def load_reviews(
    name: str,
    text_column: str = "text",
    label_column: str = "label",
    examples: tuple[int | None, int | None, int | None] = (None, None, None),
    split_seed: int = 0,
) -> Reviews:
    """Load the reviews that `name` stands for: `bundled`, a local path, or a hub data set.

    `examples` limits train, validation and test (None: all); a smaller sample is a part of a
    larger one. The splits depend on `split_seed` alone. Raises `BadInput`.
    """
    if text_column == label_column:
        raise BadInput(f"TEXT_COLUMN and LABEL_COLUMN are both {text_column!r}; expected two")
    frames, label_names = read(name, text_column, label_column)
    notes: list[str] = []
    frames = {split: _clean(frame, split, name, notes) for split, frame in frames.items()}
    label_names = _number_labels(frames, label_names, name, label_column)
    _drop_repeated(frames, name, notes)
    _split_train(frames, name, split_seed, notes)
    _check_learnt(frames["train"], label_names, name, LACKING)
    for split, limit in zip(("train", "validation", "test"), examples, strict=True):
        frames[split] = _sample(frames[split], limit, split_seed)
        if limit and limit > len(frames[split]):
            notes.append(f"{limit:,} {split} reviews asked for, all {len(frames[split]):,} used")
    _check_learnt(frames["train"], label_names, name, "use more TRAIN_EXAMPLES")
    columns = Features(text=Value("string"), label=ClassLabel(names=label_names))
    splits = {
        split: Dataset.from_pandas(frame, columns, preserve_index=False)
        for split, frame in frames.items()
    }
    return Reviews(**splits, label_names=label_names, notes=notes)


# ---------------------------------------------------------------------------- cleaning


def clean_text(text: str) -> str:
    """Line breaks in HTML become spaces, so that no words are glued together."""
    return re.sub(r"<br\s*/?>", " ", text).strip()


def _clean(frame, split, name, notes):
    texts = frame["text"].astype(object)
    kinds = sorted({type(text).__name__ for text in texts.dropna()} - {"str"})
    if kinds:
        raise BadInput(f"the text column of {name} holds {' and '.join(kinds)} values, not text")
    unlabelled = int(frame["label"].isna().sum())
    if unlabelled:
        raise BadInput(f"{unlabelled:,} {split} rows of {name} have no label; label or drop them")
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
    # Above 2**53, floats skip integers.
    odd = [x for x in labels if type(x) is float and (x % 1 != 0 or abs(x) >= 2**53)]
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

    Where one split has a text under two labels, which one is right is unknown: it goes.
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


# ---------------------------------------------------------------------------- splitting


def _split_train(frames, name, seed, notes):
    """Take test, then validation, from train where they are missing: a tenth each time."""
    for split in ("test", "validation"):
        if split in frames:
            continue
        train = frames["train"]
        labels, tenth = train["label"].to_numpy(), -(-len(train) // 10)
        random = np.random.default_rng(seed)
        count = len(set(labels))
        if min(tenth, len(train) - tenth) < count or np.unique_counts(labels).counts.min() < 2:
            raise BadInput(
                f"no {split} split can be taken from the {len(train):,} reviews of {name} with "
                f"their {count:,} labels, each of which needs two or more; use more reviews, fewer "
                "labels or another LABEL_COLUMN"
            )
        # What `Dataset.train_test_split` calls, which reads the labels one by one before.
        parts = next(
            stratified_shuffle_split_generate_indices(labels, len(train) - tenth, tenth, rng=random)
        )
        frames["train"], frames[split] = (train.iloc[part] for part in parts)
        notes.append(f"{split} taken from train: a tenth, stratified")


def _sample(frame, limit, seed):
    """`limit` reviews in random order (None: all); the first ones of every larger sample."""
    return frame.iloc[np.random.default_rng(seed).permutation(len(frame))[:limit]]


def _check_learnt(train, label_names, name, remedy):
    learnt = set(train["label"])
    for number, label in enumerate(label_names):
        if number not in learnt:
            raise BadInput(f"no training review of {name} has the label {label!r}; {remedy}")
