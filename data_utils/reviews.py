"""Labelled reviews from a hub, a local file or folder, or a package: train, validation and test.

    name -> raw splits (any columns, any labels)        read by `datasets`
         -> clean text, integer labels                  <br /> removed, empty texts dropped
         -> no text twice, none of the test in train
         -> train / validation / test                   missing ones taken from train, stratified

Everything that is dropped is counted, and the counts are kept beside the data.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Features, Value
from datasets.utils.stratify import stratified_shuffle_split_generate_indices
from pandas.api import types

from .reading import read


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
    larger one. The splits depend on `split_seed` alone. Raises `ValueError` for content that
    cannot be used and `OSError` for data that cannot be had, each with a line that says why.
    """
    if text_column == label_column:
        raise ValueError(f"TEXT_COLUMN and LABEL_COLUMN are both {text_column!r}; expected two")
    frames, label_names = read(name, text_column, label_column)
    notes: list[str] = []
    frames = {split: _clean(frame, split, name, notes) for split, frame in frames.items()}
    label_names = _number_labels(frames, label_names, name, label_column)
    _drop_repeated(frames, notes)
    _split_train(frames, name, split_seed, notes)
    for split, limit in zip(("train", "validation", "test"), examples, strict=True):
        frames[split] = _sample(frames[split], limit, split_seed)
        if limit and limit > len(frames[split]):
            notes.append(f"{limit:,} {split} reviews asked for, all {len(frames[split]):,} used")
    learnt = set(frames["train"]["label"])
    if len(learnt) < len(label_names):
        missing = [label for i, label in enumerate(label_names) if i not in learnt]
        raise ValueError(
            f"no training review of {name} has the label {missing[0]!r}; use more TRAIN_EXAMPLES"
        )
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
    texts = frame["text"]
    if not (types.is_string_dtype(texts.dropna()) or texts.isna().all()):
        raise ValueError(f"the text column of {name} holds {texts.dtype}, not text")
    unlabelled = int(frame["label"].isna().sum())
    if unlabelled:
        raise ValueError(f"{unlabelled:,} {split} rows of {name} have no label; label or drop them")
    frame = frame.assign(text=texts.fillna("").map(clean_text))
    empty = int((frame["text"] == "").sum())
    if empty:
        notes.append(f"{empty:,} empty texts dropped from {split}")
    frame = frame[frame["text"] != ""].reset_index(drop=True)
    if frame.empty:
        raise ValueError(f"the {split} split of {name} has no texts; expected labelled reviews")
    return frame


def _number_labels(frames, label_names, name, label_column):
    """Replace the labels by 0 .. C - 1, in place; returns their names."""
    labels = pd.concat([frame["label"] for frame in frames.values()])
    expected = "expected integers, booleans or strings, of one kind"
    if types.is_object_dtype(labels):
        kinds = sorted({type(label).__name__ for label in labels})
        if kinds not in (["str"], ["bool"], ["int"]):
            holds = f"{' and '.join(kinds)} values"
            raise ValueError(f"the column {label_column!r} of {name} holds {holds}; {expected}")
    if types.is_float_dtype(labels):
        inexact = labels.abs() >= 2**53  # above, floats skip integers
        fractions = labels[(labels % 1 != 0) | inexact]
        if len(fractions):
            holds = f"numbers such as {fractions.iloc[0]}"
            raise ValueError(f"the column {label_column!r} of {name} holds {holds}; {expected}")
        frames.update({s: f.assign(label=f["label"].astype(int)) for s, f in frames.items()})
        labels = labels.astype(int)
    values = list(range(len(label_names))) if label_names else sorted(labels.unique())
    unknown = sorted(set(labels.unique()) - set(values))
    if unknown:
        raise ValueError(
            f"{name} has rows with the label {unknown[0]}, which has no name (unlabelled?); "
            f"expected 0 to {len(values) - 1}"
        )
    if frames["train"]["label"].nunique() < 2:
        raise ValueError(
            f"all training reviews of {name} have the label {values[0]}; "
            "expected two labels or more"
        )
    number = {value: i for i, value in enumerate(values)}
    for split, frame in frames.items():
        frames[split] = frame.assign(label=frame["label"].map(number))
    return [str(label) for label in (label_names or values)]


def _drop_repeated(frames, notes):
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
        try:
            # What `Dataset.train_test_split` calls, which reads the labels one by one before.
            parts = next(
                stratified_shuffle_split_generate_indices(
                    labels, len(train) - tenth, tenth, rng=random
                )
            )
        except ValueError as error:
            raise ValueError(
                f"no {split} split can be taken from {name} with its {len(set(labels)):,} labels "
                f"({error}); use more reviews, fewer labels or another LABEL_COLUMN"
            ) from None
        frames["train"], frames[split] = (train.iloc[part] for part in parts)
        notes.append(f"{split} taken from train: a tenth, stratified")


def _sample(frame, limit, seed):
    """`limit` reviews in random order (None: all); the first ones of every larger sample."""
    return frame.iloc[np.random.default_rng(seed).permutation(len(frame))[:limit]]
