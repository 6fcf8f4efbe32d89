"""Labelled texts as they come, a frame a split: from a hub, a file, a folder or a package."""

import glob
import warnings
from pathlib import Path

import pandas as pd
from datasets import ClassLabel, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils import logging
from pandas.errors import ParserWarning

from . import bundled

READERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("valid", "val", "dev"), "validation")


def read(name: str, text_column: str, label_column: str) -> tuple[dict, list[str] | None]:
    """Frames of columns text, label by split, and the labels' names where the source has them.

    Raises `ValueError` for what cannot be read and `OSError` for what cannot be had.
    """
    path = Path(name)
    if name == bundled.BUNDLED:
        frame = pd.read_csv(bundled.reviews_file())
        return {"train": frame[frame["source"] == "imdb"][["text", "label"]]}, bundled.LABEL_NAMES
    if (path / "train").is_dir():
        return _read_class_folders(path), None
    if path.is_dir():
        splits = {split: _load_file(file) for split, file in _files(path).items()}
    elif path.is_file():
        splits = {"train": _load_file(path)}
    else:
        splits = _load_from_hub(name)
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


def _files(folder):
    """The folder's one file for each split."""
    files = {}
    for file in sorted(folder.iterdir()):
        split = SPLITS.get(file.stem) if file.suffix in READERS else None
        if split in files:
            raise ValueError(f"{folder} has both {files[split].name} and {file.name}; keep one")
        if split:
            files[split] = file
    if "train" not in files:
        raise ValueError(
            f"the folder {folder} has neither a file train{'|'.join(READERS)} "
            "nor folders train/<label>/*.txt"
        )
    return files


def _load_file(path):
    if path.suffix not in READERS:
        raise ValueError(f"{path} is no {', '.join(READERS)} file; convert it to one of them")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected labelled reviews")
    kind = READERS[path.suffix]
    # Else a first column without a name is taken for row numbers, and all others for the next.
    options = {"index_col": False} if kind == "csv" else {}
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # what cannot be read is said once, below
    try:
        with warnings.catch_warnings(action="error", category=ParserWarning):
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
