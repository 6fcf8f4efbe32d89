"""Labelled texts as they come, a frame a split: from a task, a file, a folder or a hub.

What comes is read as data: no code that comes with it is run. Values keep their types; in CSV,
which has none, texts and groups are strings.
"""

import warnings
from functools import partial
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
            files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in READERS]
            splits = {k: _read_file(f, columns) for k, f in _by_split(files, path).items()}
        elif path.exists():
            splits = {"train": _read_file(path, columns)}
        else:
            splits = _read_hub(name)
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


def _by_split(paths, folder):
    """The one file or folder of each split."""
    paths = [path for path in paths if path.stem in SPLITS]
    splits = [SPLITS[path.stem] for path in paths]
    if "train" not in splits or len(set(splits)) < len(splits):
        raise BadInput(
            f"the folder {folder} has {', '.join(p.name for p in paths) or 'no data'}; expected "
            f"one file a split, train{'|'.join(READERS)}, or folders train/<label>/*.txt"
        )
    return dict(zip(splits, paths, strict=True))


def _read_file(path, columns):
    if path.suffix.lower() not in READERS:
        raise BadInput(f"{path} is no {', '.join(READERS)} file; convert it to one of them")
    read, expected = READERS[path.suffix.lower()]
    with reading(str(path), f"expected {expected}"):
        raw = read(path, columns)
    if not len(raw):
        raise BadInput(f"{path} has no data; expected labelled reviews, a row each")
    return raw


def _read_csv(path, columns):
    strings = {column: str for role, column in columns.items() if role != "label"}
    with warnings.catch_warnings(action="error", category=ParserWarning):
        return pd.read_csv(
            path,
            index_col=False,  # else texts with commas make the first column row numbers
            keep_default_na=False,  # NA and None are words; what is empty is missing
            na_values=[""],
            low_memory=False,
            dtype=strings,  # else group 0001 is 1 in one file, and 0001 in another
        )


def _read_json(path, _, lines=False):
    return pd.read_json(path, orient="records", lines=lines, dtype=False)


READERS = {
    ".csv": (_read_csv, "UTF-8 text: a header, a row a review, texts in quotes"),
    ".json": (_read_json, "UTF-8 text: a list of objects"),
    ".jsonl": (partial(_read_json, lines=True), "UTF-8 text: an object a line"),
    ".parquet": (lambda path, _: Dataset(read_table(path)), "a whole Parquet file"),
}


def _read_class_folders(path):
    """Frames from train/<label>/*.txt, test/<label>/*.txt; aclImdb's unlabelled part is left."""
    frames, folders = {}, [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    for split, folder in _by_split(folders, path).items():
        rows = []
        for file in sorted(folder.glob("*/*.txt")):
            if file.is_file() and file.parent.name != "unsup":
                with reading(str(file), "expected UTF-8 text"):
                    rows.append((file.read_text(encoding="utf-8"), file.parent.name))
        if not rows:
            raise BadInput(f"the folder {folder} has no files <label>/*.txt")
        frames[split] = pd.DataFrame(rows, columns=["text", "label"])
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
    names = [split for split in splits if split in SPLITS]
    if len({SPLITS[split] for split in names}) < len(names):
        raise BadInput(f"{name} has the splits {', '.join(names)}, two of them for one; {remedy}")
    return {SPLITS[split]: splits[split] for split in names}
