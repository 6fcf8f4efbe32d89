"""Labelled texts as they come, a frame a split: from a hub, a file, a folder or a package.

What comes is read as data: no code that comes with it is run, and values keep their types.
"""

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pandas as pd
from datasets import ClassLabel, Dataset, load_dataset
from pandas.errors import ParserWarning
from pyarrow.parquet import ParquetFile

from boundary import BadInput, expanded, reading

from . import bundled

EXPECTED = "expected a file, a folder, or owner/name on the hub"
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("valid", "val", "dev"), "validation")


def read(name: str, text_column: str, label_column: str) -> tuple[dict, list[str] | None]:
    """Frames of columns text, label by split, and the labels' names where the source has them.

    Raises `BadInput`.
    """
    with reading(f"the data set {name}", EXPECTED):
        path = expanded(name)
        if name == bundled.BUNDLED:
            frame = _read_csv(bundled.reviews_file())
            imdb = frame.loc[frame["source"] == "imdb", ["text", "label"]]
            return {"train": imdb}, bundled.LABEL_NAMES
        if (path / "train").is_dir():
            return _read_class_folders(path), None
        if path.is_dir():
            splits = {split: _load_file(file) for split, file in _files(path).items()}
        else:
            splits = {"train": _load_file(path)} if path.exists() else _load_from_hub(name)
        columns = [text_column, label_column]
        frames = {split: _frame(raw, name, columns) for split, raw in splits.items()}
        return frames, _label_names(splits, name, label_column)


def _frame(raw, name, columns):
    held = raw.column_names if isinstance(raw, Dataset) else list(raw)
    for column in columns:
        if column not in held:
            raise BadInput(
                f"{name} has no column {column!r}; it has {', '.join(map(repr, held))}: "
                "set TEXT_COLUMN and LABEL_COLUMN"
            )
    frame = raw.select_columns(columns).to_pandas() if isinstance(raw, Dataset) else raw[columns]
    return frame.set_axis(["text", "label"], axis=1)


def _label_names(splits, name, column):
    features = [raw.features[column] for raw in splits.values() if isinstance(raw, Dataset)]
    names = [feature.names for feature in features if isinstance(feature, ClassLabel)]
    if any(other != names[0] for other in names):
        raise BadInput(f"the splits of {name} name their labels differently; use the same names")
    return names[0] if names else None


@contextmanager
def cache() -> Iterator[Path]:
    """The folder in which `datasets` keeps what it makes: what fails within is blamed on it."""
    folder = expanded(datasets.config.HF_DATASETS_CACHE)
    remedy = "set HF_HOME or HF_DATASETS_CACHE to a folder that can be written"
    with reading(f"the cache folder {folder}", remedy):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        yield folder


# ---------------------------------------------------------------------------- files


def _files(folder):
    """The folder's one file for each split."""
    files = {}
    for file in sorted(folder.iterdir()):
        split = SPLITS.get(file.stem) if file.suffix in READERS else None
        if split in files:
            raise BadInput(f"{folder} has both {files[split].name} and {file.name}; keep one")
        if split:
            files[split] = file
    if "train" not in files:
        raise BadInput(
            f"the folder {folder} has neither a file train{'|'.join(READERS)} "
            "nor folders train/<label>/*.txt"
        )
    return files


def _load_file(path):
    if path.suffix not in READERS:
        raise BadInput(f"{path} is no {', '.join(READERS)} file; convert it to one of them")
    raw = _read(path, *READERS[path.suffix])
    if not len(raw):
        raise BadInput(f"{path} has no data; expected labelled reviews, a row each")
    return raw


def _read(path, read, expected):
    if not path.is_file():  # what else there is may never end
        raise BadInput(f"{path} is no regular file; expected {expected}")
    with reading(str(path), f"expected {expected}"):
        return read(path)


def _read_csv(path):
    with warnings.catch_warnings(action="error", category=ParserWarning):
        return pd.read_csv(
            path,
            index_col=False,  # else texts with commas make the first column row numbers
            keep_default_na=False,  # NA and None are words; what is empty is missing
            na_values=[""],
            low_memory=False,
        )


def _read_json(path):
    content = path.read_text(encoding="utf-8-sig")
    if content.lstrip().startswith("["):
        return pd.DataFrame(json.loads(content))
    return pd.DataFrame([json.loads(line) for line in content.split("\n") if line.strip()])


TEXT = (lambda path: path.read_text(encoding="utf-8"), "UTF-8 text")
READERS = {
    ".csv": (_read_csv, "UTF-8 text: a header, a row a review, texts in quotes"),
    ".json": (_read_json, "UTF-8 text: a list of objects, or an object a line"),
    ".jsonl": (_read_json, "UTF-8 text: an object a line"),
    ".parquet": (lambda path: Dataset(ParquetFile(path).read()), "a whole Parquet file"),
}


def _read_class_folders(path):
    """Frames from train/<label>/*.txt, test/<label>/*.txt; aclImdb's unlabelled part is left."""
    frames = {}
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or folder.name not in SPLITS:
            continue
        rows = []
        for label in sorted(sub for sub in folder.iterdir() if sub.is_dir()):
            if label.name == "unsup":
                continue
            files = sorted(label.glob("*.txt"))
            if not files:
                raise BadInput(f"the folder {label} has no .txt files; fill or remove it")
            rows += [(_read(file, *TEXT), label.name) for file in files]
        if not rows:
            raise BadInput(f"the folder {folder} has no folders <label>/*.txt")
        frames[SPLITS[folder.name]] = pd.DataFrame(rows, columns=["text", "label"])
    return frames


# ---------------------------------------------------------------------------- hub


def _load_from_hub(name):
    # A name without an owner could be a loader of `datasets`, which reads the working folder.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).suffix in READERS:
        raise BadInput(f"DATASET {name} does not exist; {EXPECTED}")
    remedy = (
        "set DATASET to a local file or folder, or run the quick experiment: --experiment quick"
    )
    with cache(), reading(f"the data set {name}, which is no local path,", remedy):
        splits = load_dataset(name, trust_remote_code=False)
    if "train" not in splits:
        raise BadInput(f"{name} has no split 'train'; it has {', '.join(map(repr, splits))}")
    return {SPLITS[split]: raw for split, raw in splits.items() if split in SPLITS}
