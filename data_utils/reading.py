"""Labelled texts as they come, a frame a split: from a task, a file, a folder or a hub.

What comes is read as data: no code that comes with it is run. Values keep their types; in CSV,
which has none, every cell is text.
"""

import re
from pathlib import Path

import pandas as pd

from boundary import BadInput, expanded, reading

from .bundled import TASKS, read_task
from .files import READERS, Table, arrow_rows, encoding_of, read_frame

EXPECTED = f"expected {', '.join(TASKS)}, a file, a folder, or owner/name on the hub"
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("valid", "val", "dev"), "validation")
PLAIN = {"text": "text", "label": "label"}  # the columns of what has no others to choose from


def read(name: str) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """A frame of all columns for each split, and which columns are known: text, label, group.

    In a frame's `attrs`, `read_as` says how it was read, and `label_names` has the names of labels
    that are numbers, by column. Raises `BadInput`.
    """
    with reading(f"the data set {name}", EXPECTED):
        path = expanded(name)
        if name in TASKS:
            frames = read_task(name)
            return frames, PLAIN | ({"group": "film"} if "film" in frames["train"] else {})
        if (path / "train").is_dir():
            return _read_class_folders(path), PLAIN
        if path.is_dir():
            files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in READERS]
            return {split: read_frame(f) for split, f in _by_split(files, path).items()}, {}
        if path.exists():
            return {"train": read_frame(path)}, {}
        return _read_hub(name), {}


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


def _read_class_folders(path):
    """Frames from train/<label>/*.txt, test/<label>/*.txt; aclImdb's unlabelled part is left."""
    frames, folders = {}, [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    for split, folder in _by_split(folders, path).items():
        files = [file for file in sorted(folder.glob("*/*.txt")) if file.is_file()]
        rows = []
        for file in files:
            if file.parent.name != "unsup":
                with reading(str(file)):
                    rows.append((file.read_text(encoding_of(file)), file.parent.name))
        if not rows:
            raise BadInput(f"the folder {folder} has no files <label>/*.txt")
        frames[split] = pd.DataFrame(rows, columns=["text", "label"], dtype=object)
    return frames


# ---------------------------------------------------------------------------- hub


def _read_hub(name):
    """The splits of owner/name, or of owner/name:config."""
    name, _, config = name.partition(":")
    # A name without an owner could be a loader of `datasets`, which reads the working folder.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).suffix in READERS:
        raise BadInput(f"the data set {name} does not exist; {EXPECTED}")
    remedy = f"give --dataset a local file or folder, or one of {', '.join(TASKS)}"
    with reading(f"the data set {name}, which is no local path,", remedy):
        splits = _download(name, config or None)
        if "train" not in splits:
            raise BadInput(f"{name} has no split 'train'; it has {', '.join(map(repr, splits))}")
        names = [split for split in splits if split in SPLITS]
        if len({SPLITS[split] for split in names}) < len(names):
            raise BadInput(f"{name} has two splits for one of {', '.join(names)}; {remedy}")
        return {SPLITS[split]: _hub_frame(splits[split]) for split in names}


def _download(name, config):
    from datasets import load_dataset  # slow to import, and needed here alone

    try:
        return load_dataset(name, config, trust_remote_code=False)
    except ValueError as error:
        found = re.search(r"(?:available configs|Available): \[(.*?)\]", str(error))
        if not found:
            raise
        configs = found[1].replace("'", "")
        first = configs.split(", ")[0]
        line = f"{name} has the configurations {configs}; name one of them"
        raise BadInput(f"{line}: --dataset {name}:{first}") from None


def _hub_frame(data):
    """A frame of the columns that hold one value a row: no images, lists or the like."""
    from datasets import ClassLabel, Value

    kinds = {name: kind for name, kind in data.features.items() if isinstance(kind, Value)}
    names = {name: k.names for name, k in data.features.items() if isinstance(k, ClassLabel)}
    columns = [name for name in data.features if name in kinds or name in names]
    table = data.select_columns(columns).with_format("arrow")[:]
    records = enumerate(arrow_rows(table), 1)
    return Table(Path(), columns, "a hub data set", iter, names).frame(records)
