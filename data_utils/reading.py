"""Labelled texts as they come, a frame a split: from a task, a file, a folder or a hub.

What comes is read as data: no code that comes with it is run, and values keep their types.
"""

import warnings
from pathlib import Path

import pandas as pd
from datasets import ClassLabel, Dataset, load_dataset
from pandas.errors import ParserWarning
from pyarrow.parquet import read_table

from boundary import BadInput, expanded, reading

from .bundled import TASKS, read_task

EXPECTED = f"expected {', '.join(TASKS)}, a file, a folder, or owner/name on the hub"
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("valid", "val", "dev"), "validation")


def read(name: str, columns: dict[str, str]) -> tuple[dict[str, pd.DataFrame], list[str] | None]:
    """Frames by split, and the labels' names where the source has them.

    `columns` are those that are read: the source's name of text, label and, if asked for, group.
    A task and aclImdb's folders have their own. Raises `BadInput`.
    """
    with reading(f"the data set {name}", EXPECTED):
        path = expanded(name)
        if name in TASKS:
            splits, label_names = read_task(name)
            columns = columns | {"text": "text", "label": "label"}
            if "film" in splits["train"]:
                columns = {"group": "film"} | columns
            return {split: _select(f, name, columns) for split, f in splits.items()}, label_names
        if (path / "train").is_dir():
            splits = _read_class_folders(path)
            columns = columns | {"text": "text", "label": "label"}
        elif path.is_dir():
            splits = {split: _read_file(file) for split, file in _files(path).items()}
        else:
            splits = {"train": _read_file(path)} if path.exists() else _read_hub(name)
        frames = {split: _select(raw, name, columns) for split, raw in splits.items()}
        return frames, _label_names(splits, name, columns["label"])


def _select(raw, name, columns):
    held = raw.column_names if isinstance(raw, Dataset) else list(raw)
    for role, column in columns.items():
        if column not in held:
            raise BadInput(
                f"{name} has no column {column!r}; it has {', '.join(map(repr, held))}: "
                f"set {role.upper()}_COLUMN"
            )
    chosen = list(columns.values())
    frame = raw.select_columns(chosen).to_pandas() if isinstance(raw, Dataset) else raw
    return frame[chosen].set_axis(list(columns), axis=1)


def _label_names(splits, name, column):
    features = [raw.features[column] for raw in splits.values() if isinstance(raw, Dataset)]
    names = [feature.names for feature in features if isinstance(feature, ClassLabel)]
    if any(other != names[0] for other in names):
        raise BadInput(f"the splits of {name} name their labels differently; use the same names")
    return names[0] if names else None


# ---------------------------------------------------------------------------- files


def _files(folder):
    """The folder's one file for each split."""
    files = [f for f in sorted(folder.iterdir()) if f.suffix in READERS and f.stem in SPLITS]
    splits = [SPLITS[file.stem] for file in files]
    if "train" not in splits or len(set(splits)) < len(splits):
        raise BadInput(
            f"the folder {folder} has {', '.join(f.name for f in files) or 'no data'}; expected "
            f"one file a split, train{'|'.join(READERS)}, or folders train/<label>/*.txt"
        )
    return dict(zip(splits, files, strict=True))


def _read_file(path):
    if path.suffix not in READERS:
        raise BadInput(f"{path} is no {', '.join(READERS)} file; convert it to one of them")
    read, expected = READERS[path.suffix]
    with reading(str(path), f"expected {expected}"):
        raw = read(path)
    if not len(raw):
        raise BadInput(f"{path} has no data; expected labelled reviews, a row each")
    return raw


def _read_csv(path):
    with warnings.catch_warnings(action="error", category=ParserWarning):
        return pd.read_csv(
            path,
            index_col=False,  # else texts with commas make the first column row numbers
            keep_default_na=False,  # NA and None are words; what is empty is missing
            na_values=[""],
            low_memory=False,
        )


def _read_json(path, lines=False):
    return pd.read_json(path, orient="records", lines=lines, dtype=False)


READERS = {
    ".csv": (_read_csv, "UTF-8 text: a header, a row a review, texts in quotes"),
    ".json": (_read_json, "UTF-8 text: a list of objects"),
    ".jsonl": (lambda path: _read_json(path, lines=True), "UTF-8 text: an object a line"),
    ".parquet": (lambda path: Dataset(read_table(path)), "a whole Parquet file"),
}


def _read_class_folders(path):
    """Frames from train/<label>/*.txt, test/<label>/*.txt; aclImdb's unlabelled part is left."""
    frames = {}
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and folder.name in SPLITS:
            rows = []
            for file in sorted(folder.glob("*/*.txt")):
                if file.is_file() and file.parent.name != "unsup":
                    with reading(str(file), "expected UTF-8 text"):
                        rows.append((file.read_text(encoding="utf-8"), file.parent.name))
            if not rows:
                raise BadInput(f"the folder {folder} has no files <label>/*.txt")
            frames[SPLITS[folder.name]] = pd.DataFrame(rows, columns=["text", "label"])
    return frames


# ---------------------------------------------------------------------------- hub


def _read_hub(name):
    # A name without an owner could be a loader of `datasets`, which reads the working folder.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).suffix in READERS:
        raise BadInput(f"DATASET {name} does not exist; {EXPECTED}")
    remedy = f"set DATASET to a local file or folder, or to one of {', '.join(TASKS)}"
    with reading(f"the data set {name}, which is no local path,", remedy):
        splits = load_dataset(name, trust_remote_code=False)
    if "train" not in splits:
        raise BadInput(f"{name} has no split 'train'; it has {', '.join(map(repr, splits))}")
    return {SPLITS[split]: raw for split, raw in splits.items() if split in SPLITS}
