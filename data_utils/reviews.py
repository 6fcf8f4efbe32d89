"""Labelled reviews from a hub, a local file or folder, or a package: train, validation and test.

    name -> raw splits (any columns, any labels)        read by `datasets`
         -> clean text, integer labels                  <br /> gone, empty texts dropped
         -> train / validation / test                   missing ones cut from train, stratified
         -> no text twice, none of the test in train

Everything that is dropped or cut is counted, and the counts are kept beside the data.
"""

import glob
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils import logging
from pandas.api import types
from pandas.errors import ParserWarning

from . import embedded

READERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass
class Reviews:
    """Three data sets of columns `text` and `label`, and how they came to be."""

    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    notes: list[str] = field(default_factory=list)  # what was dropped and cut, in words


def load_reviews(
    name: str,
    text_column: str = "text",
    label_column: str = "label",
    examples: tuple[int | None, int | None, int | None] = (None, None, None),
    split_seed: int = 0,
) -> Reviews:
    """Load the reviews that `name` stands for: `embedded`, a local path, or a hub data set.

    `examples` limits train, validation and test (None: all); a smaller sample is a part of a
    larger one. The splits depend on `split_seed` alone. Raises `ValueError` for content that
    cannot be used and `OSError` for data that cannot be had, each with a line that says why.
    """
    if text_column == label_column:
        raise ValueError(f"TEXT_COLUMN and LABEL_COLUMN are both {text_column!r}; expected two")
    frames, label_names = _read(name, text_column, label_column)
    notes: list[str] = []
    frames = {split: _clean(frame, split, name, notes) for split, frame in frames.items()}
    label_names = _number_labels(frames, label_names, name, label_column)
    _drop_repeated(frames, notes)
    splits = {
        split: Dataset.from_pandas(
            frame,
            Features(text=Value("string"), label=ClassLabel(names=label_names)),
            preserve_index=False,
        )
        for split, frame in frames.items()
    }
    _cut_missing(splits, name, split_seed, notes)
    for split, limit in zip(("train", "validation", "test"), examples, strict=True):
        splits[split] = _sample(splits[split].shuffle(split_seed), limit, split, notes)
    learnt = set(splits["train"]["label"])
    if len(learnt) < len(label_names):
        missing = [label for i, label in enumerate(label_names) if i not in learnt]
        raise ValueError(
            f"no training review of {name} has the label {missing[0]!r}; use more TRAIN_EXAMPLES"
        )
    return Reviews(**splits, label_names=label_names, notes=notes)


# ---------------------------------------------------------------------------- reading


def _read(name, text_column, label_column):
    """Frames of columns text, label by split, and the labels' names where the source has them."""
    path = Path(name)
    if name == embedded.EMBEDDED:
        raw = load_dataset("csv", data_files=str(embedded.reviews_file()), split="train")
        frame = raw.to_pandas()
        frame = frame[frame["source"] == "imdb"]
        return {"train": frame[["text", "label"]]}, embedded.LABEL_NAMES
    if path.is_dir() and (path / "train").is_dir():
        return _read_class_folders(path), None
    if path.is_dir():
        files = {}
        for file in sorted(path.iterdir()):
            split = SPLITS.get(file.stem) if file.suffix in READERS else None
            if split in files:
                raise ValueError(f"{name} has both {files[split].name} and {file.name}; keep one")
            if split:
                files[split] = file
        if "train" not in files:
            raise ValueError(
                f"the folder {name} has neither a file train{'|'.join(READERS)} "
                "nor folders train/<label>/*.txt"
            )
    elif path.is_file():
        files = {"train": path}
    else:
        files = None
    if files is None:
        splits = _load_from_hub(name)
    else:
        splits = {split: _load_file(file) for split, file in files.items()}
    frames, label_names = {}, None
    for split, raw in splits.items():
        for column in (text_column, label_column):
            if column not in raw.column_names:
                raise ValueError(
                    f"{name} has no column {column!r}; it has {', '.join(raw.column_names)}: "
                    "set TEXT_COLUMN and LABEL_COLUMN"
                )
        if isinstance(raw.features[label_column], ClassLabel):
            label_names = raw.features[label_column].names
        frame = raw.select_columns([text_column, label_column]).to_pandas()
        frames[split] = frame.rename(columns={text_column: "text", label_column: "label"})
    return frames, label_names


def _load_file(path):
    if path.suffix not in READERS:
        raise ValueError(f"{path} is no {', '.join(READERS)} file; convert it to one of them")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected labelled reviews")
    kind = READERS[path.suffix]
    # Else a first column without a name is taken for row numbers, and all others for the next.
    options = {"index_col": False} if kind == "csv" else {}
    try:
        with _one_line():
            return load_dataset(kind, data_files=glob.escape(path), split="train", **options)
    except (DatasetGenerationError, ValueError, OSError) as error:
        error = error.__cause__ or error
        if isinstance(error, UnicodeDecodeError):
            raise _not_utf8(path, error) from None
        if isinstance(error, ParserWarning):
            why = "rows have more fields than the header; put texts in quotes"
        else:
            why = f"{str(error).strip().splitlines()[0]}; expected labelled reviews, a row each"
        raise ValueError(f"{path} cannot be read as {kind}: {why}") from None


@contextmanager
def _one_line():
    """What cannot be read is said once, by us; columns that do not fit are an error."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)


def _not_utf8(path, error):
    byte = f"byte {error.object[error.start]:#x}" if error.object else "a byte"
    return ValueError(f"{path} is not UTF-8 text ({byte} at {error.start:,}); convert it to UTF-8")


def _load_from_hub(name):
    if Path(name).suffix in READERS or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"DATASET {name} does not exist; expected a file or a folder")
    try:
        splits = load_dataset(name)
    except Exception as error:  # the hub's client has many ways to fail, and no common class
        why = str(error).strip().splitlines()[0]
        raise OSError(
            f"the data set {name} is no local path and cannot be had from the hub ({why}); set "
            "DATASET to a local file or folder, or run the quick experiment: --experiment quick"
        ) from None
    return {SPLITS[split]: raw for split, raw in splits.items() if split in SPLITS}


def _read_class_folders(path):
    """Frames from train/<label>/*.txt, test/<label>/*.txt; aclImdb's unlabelled part is left."""
    frames = {}
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or folder.name not in SPLITS:
            continue
        parts = []
        for label in sorted(sub for sub in folder.iterdir() if sub.is_dir()):
            if label.name == "unsup":
                continue
            texts = [_read_text(file) for file in sorted(label.glob("*.txt"))]
            if not texts:
                raise ValueError(f"the folder {label} has no .txt files; fill or remove it")
            parts.append(pd.DataFrame({"text": texts, "label": label.name}))
        if not parts:
            raise ValueError(f"the folder {folder} has no folders <label>/*.txt")
        frames[SPLITS[folder.name]] = pd.concat(parts, ignore_index=True)
    return frames


def _read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None


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
        odd = labels[(labels % 1 != 0) | (labels.abs() >= 2**53)]  # above, floats skip integers
        if len(odd):
            holds = f"numbers such as {odd.iloc[0]}"
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
        torn = frames[split].groupby("text")["label"].transform("nunique") > 1
        torn &= ~elsewhere
        twice = texts.duplicated() & ~elsewhere & ~torn
        if twice.any():
            notes.append(f"{twice.sum():,} repeated texts dropped from {split}")
        if torn.any():
            notes.append(f"{texts[torn].nunique():,} texts with two labels dropped from {split}")
        if elsewhere.any():
            notes.append(f"{elsewhere.sum():,} texts of other splits dropped from {split}")
        frames[split] = frames[split][~(twice | torn | elsewhere)].reset_index(drop=True)
        seen = pd.concat([seen, texts])


# ---------------------------------------------------------------------------- splitting


def _cut_missing(splits, name, seed, notes):
    """Cut test, then validation, from train where they are missing: a tenth each time."""
    for split in ("test", "validation"):
        if split in splits:
            continue
        try:
            parts = splits["train"].train_test_split(0.1, seed=seed, stratify_by_column="label")
        except ValueError as error:
            why = str(error).splitlines()[0]
            labels = len(set(splits["train"]["label"]))
            raise ValueError(
                f"no {split} split can be cut from {name} with its {labels:,} labels: {why}; use "
                "more reviews, fewer labels or another LABEL_COLUMN"
            ) from None
        splits["train"], splits[split] = parts["train"], parts["test"]
        notes.append(f"{split} cut from train: a tenth, stratified")


def _sample(dataset, limit, split, notes):
    if limit is None or limit == len(dataset):
        return dataset
    if limit > len(dataset):
        notes.append(f"{limit:,} {split} reviews asked for, all {len(dataset):,} used")
        return dataset
    return dataset.select(range(limit))
