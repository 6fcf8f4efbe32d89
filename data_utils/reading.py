"""Labelled texts as they come, a frame a split: from a task, a file, a folder or a hub.

What comes is read as data: no code that comes with it is run. Values keep their types; in CSV,
which has none, every cell is text.
"""

from pathlib import Path

import pandas as pd

from boundary import BadInput, expanded, reading

from .bundled import TASKS, read_task
from .files import READERS, encoding_of, read_frame

EXPECTED = f"expected {', '.join(TASKS)}, a file, a folder, or owner/name on the hub"
HUB = "give --dataset owner/name:configuration where there are several, or a local path, or one of "
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("valid", "val", "dev"), "validation")


def read(name: str) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """A frame of all columns for each split, and which columns are known: text, label, group.

    A frame's `attrs` are as in files.py. Raises `BadInput`.
    """
    plain = {"text": "text", "label": "label"}  # there are no others to choose from
    with reading(f"the data set {name}", EXPECTED):
        path = expanded(name)
        if name in TASKS:
            return read_task(name), plain | ({"group": "film"} if name == "imdb" else {})
        if (path / "train").is_dir():
            return _by_split([p for p in path.iterdir() if p.is_dir()], path, _read_classes), plain
        if path.is_dir():
            files = [file for file in path.iterdir() if file.suffix.lower() in READERS]
            return _by_split(files, path, read_frame), {}
        return ({"train": read_frame(path)} if path.exists() else _read_hub(name)), {}


def _by_split(paths, folder, read_one):
    """What is read of the one file or folder of each split."""
    paths = sorted(path for path in paths if path.stem in SPLITS)
    splits = {SPLITS[path.stem]: path for path in paths}
    if "train" not in splits or len(splits) < len(paths):
        raise BadInput(
            f"the folder {folder} has {', '.join(p.name for p in paths) or 'no data'}; expected "
            f"one file a split, train{'|'.join(READERS)}, or folders train/<label>/*.txt"
        )
    return {split: read_one(path) for split, path in splits.items()}


def _read_classes(folder):
    """A frame of <label>/*.txt; aclImdb's unlabelled part is left."""
    rows = []
    for file in sorted(folder.glob("*/*.txt")):
        if file.parent.name != "unsup":
            with reading(str(file)):
                rows.append((file.read_text(encoding_of(file)), file.parent.name))
    if not rows:
        raise BadInput(f"the folder {folder} has no files <label>/*.txt")
    return pd.DataFrame(rows, columns=["text", "label"], dtype=object)


def _read_hub(name):
    """The splits of owner/name, or of owner/name:configuration."""
    name, _, config = name.partition(":")
    # A name without an owner could be a loader of `datasets`, which reads the working folder.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).suffix in READERS:
        raise BadInput(f"the data set {name} does not exist; {EXPECTED}")
    with reading(f"the data set {name}, which is no local path,", HUB + ", ".join(TASKS)):
        from datasets import load_dataset  # slow to import, and needed here alone

        splits = load_dataset(name, config or None, trust_remote_code=False)
        if "train" not in splits:
            raise BadInput(f"{name} has no split 'train'; it has {', '.join(map(repr, splits))}")
        return {SPLITS[split]: _hub_frame(splits[split]) for split in splits if split in SPLITS}


def _hub_frame(data):
    """A frame of the columns that hold one value a row: no images, lists or the like."""
    from datasets import ClassLabel, Value

    columns = [name for name, kind in data.features.items() if isinstance(kind, Value | ClassLabel)]
    kinds = {name: data.features[name] for name in columns}
    frame = pd.DataFrame(data.select_columns(columns)[:], range(1, len(data) + 1), dtype=object)
    names = {name: kind.names for name, kind in kinds.items() if isinstance(kind, ClassLabel)}
    frame.attrs |= {"read_as": "a hub data set", "label_names": names}
    return frame
