"""The task that a name stands for: read, columns found, texts cleaned, labels numbered.

A name is a task, a file, a folder or a data set of the hub. No code of a data set is run. Rows
that would spoil a comparison are left out and listed; other doubts become warnings.
"""

import tempfile
from pathlib import Path

import pandas as pd

from boundary import BadInput, expanded, quoted, reading, some

from .bundled import TASKS, read_task
from .cleaning import (
    TWO_LABELS,
    UNKNOWN,
    alike_labels,
    clean,
    copy_warnings,
    doubts,
    label_warnings,
    raw_texts,
    reasons,
    sorted_names,
    text_label,
    whole,
    without_case_and_space,
)
from .columns import choose_columns, date_warnings, group_warnings, is_missing, split_warnings
from .files import READERS, read_frame
from .task import Task

EXPECTED = f"expected {', '.join(TASKS)}, a file, a folder, or owner/name on the hub"
HUB = "--preset quick without --dataset needs no network; else give --dataset "
HUB += "owner/name:configuration where there are several, or a local path, or one of "
ADD = "add others, or give another --text-column or --label-column"
SPLITS = {name: name for name in ("train", "validation", "test")}
SPLITS |= dict.fromkeys(("valid", "val", "dev"), "validation")


def load_task(
    name: str,
    text_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
) -> Task:
    """The task that `name` stands for: one of the `TASKS`, a local path, or a hub data set.

    Columns that are not named are found where there is one candidate; the `TASKS` have their own,
    and imdb's group is the film unless another is named. Raises `BadInput`.
    """
    frames, notes, warnings = _read(name), [], _beside(expanded(name))
    train = frames["train"]
    if name in TASKS:
        text_column, label_column = "text", "label"
        group_column = group_column or ("film" if name == "imdb" else None)
    asked = {"text": text_column, "label": label_column, "group": group_column}
    columns = choose_columns(train, name, asked)
    if read_as := train.attrs.get("read_as"):
        named = ", ".join(f"{role} in {column!r}" for role, column in columns.items())
        notes.append(f"{read_as}; {named}")
    rows = _joined(frames, columns, name, notes, warnings)
    warnings += split_warnings(train) + ([] if group_column else group_warnings(train, columns))
    warnings += [] if (rows["split"] == "test").any() else date_warnings(train)
    alike = alike_labels(rows["label"])
    rows, left_out = _kept(rows, group_column, name, notes, alike)
    warnings += _unknown(left_out)
    if doubted := sum(left_out["reason"] == TWO_LABELS):
        warnings.append(f"{doubted:,} rows have a text with another label elsewhere: left out")
    if (wrong := sum(left_out["label"].notna())) > len(rows):
        line = f"{wrong:,} of {wrong + len(rows):,} labelled rows are left out"
        warnings.append(f"{line}: are --text-column and --label-column right?")
    contents = rows.pop("content")
    warnings += [] if group_column or name in TASKS else copy_warnings(contents)
    names = sorted_names(rows["label"])
    counts = rows["label"].value_counts()
    warnings += alike + label_warnings(counts[names])
    shares = [f"{label!r} {count:,}" for label, count in counts.items()]
    notes.insert(0, f"{len(rows):,} texts; labels {some(shares, 10)}")
    if group_column:
        notes.append(f"{rows['group'].nunique():,} groups by {group_column!r}")
    if len(names) == 1:
        raise BadInput(f"all texts of {name} have the label {names[0]!r}; expected two")
    numbers = {label: number for number, label in enumerate(names)}
    rows["label"] = rows["label"].map(numbers).astype(int)
    task = Task(name, rows, names, notes, warnings, group_column, columns["text"], left_out)
    task.check_labels(rows.index[rows["split"] == "train"].to_numpy(), "training", None)
    return task


def _joined(frames, columns, name, notes, warnings):
    """All splits in one frame: text, label, perhaps group, split and file_row."""
    joined, label, several = [], columns["label"], len(frames) > 1
    hidden = [v for v in (-1, "-1") if v not in frames["train"][label].tolist()]
    for split in ("test", "validation", "train"):  # a text or group in two stays in the first
        if split not in frames:
            continue
        frame = frames[split]
        found = some(list(map(repr, frame)), 20)
        absent = [column for column in columns.values() if column not in frame]
        is_hidden = label in frame and all(is_missing(v) or v in hidden for v in frame[label])
        if absent[:1] == [label]:  # it has texts
            warnings.append(f"{split} has no column {label!r}, and is not used; it has {found}")
        elif is_hidden and split != "train":
            notes.append(f"{split} has no labels, and is not used")
        elif absent:
            line = f"the {split} texts of {name} have no column {absent[0]!r}; it has {found}"
            raise BadInput(f"{line}; give all files the same columns")
        else:
            warnings += [f"{split}: {line}" if several else line for line in doubts(frame, columns)]
            part = _part(frame, columns, f"{name}, {split}" if several else name)
            joined.append(part.assign(split=split, file_row=frame.index))
    rows = pd.concat(joined, ignore_index=True)
    # The published results compared the tasks' texts exactly: one pair of imdb differs by space.
    rows["content"] = rows["text"] if name in TASKS else rows["text"].map(without_case_and_space)
    if "group" in rows:
        is_alone = rows["group"].map(is_missing)
        if is_alone.all():
            group = f"the column {columns['group']!r} of {name} is empty"
            raise BadInput(f"{group}; give another --group-column")
        if count := sum(is_alone):
            notes.append(f"texts without {columns['group']}: {count:,}, each a group of its own")
        names = rows["group"].map(lambda group: str(whole(group)))
        rows["group"] = names.where(~is_alone, [f"\0{n}" for n in rows.index])
    return rows


def _part(frame, columns, place):
    """The text, label and perhaps group of a split. Raises `BadInput` that names place and row."""
    part = frame[list(columns.values())].set_axis([*columns], axis=1)
    texts = [clean(text) for text in raw_texts(frame[columns["text"]], place)]
    labels = [text_label(label, f"{place}, row {row},") for row, label in part["label"].items()]
    return part.assign(text=pd.Series(texts, part.index, dtype=object), label=labels)


def _kept(rows, group, name, notes, alike):
    """The rows that stay, and the rows left out. Raises `BadInput` where a split keeps none."""
    rows = rows.assign(reason=reasons(rows, group))
    kept, left_out = rows[rows["reason"] == ""], rows[rows["reason"] != ""]
    for split in rows["split"].unique()[::-1]:
        counts = left_out.loc[left_out["split"] == split, "reason"].value_counts()
        listed = ", ".join(f"{count:,} × {reason}" for reason, count in counts.items())
        if split not in set(kept["split"]):
            why = f"no {split} text of {name} is left ({listed})"
            is_named = UNKNOWN in counts or TWO_LABELS in counts
            todo, *_ = alike[:1] * is_named or _unknown(left_out) or [ADD]
            raise BadInput(f"{why}; {todo}")
        place = f" of {split}" * (rows["split"].nunique() > 1)
        notes += [f"left out{place}: {listed}"] if listed else []
    left_out = left_out.rename(columns={"file_row": "row"})
    left_out = left_out[["split", "row", "reason", "label", "text"]]
    kept = kept.drop(columns="reason").reset_index(drop=True)
    return kept, left_out.reset_index(drop=True)


def _unknown(left_out):
    """A warning of labels that train lacks, if there are any."""
    labels = left_out.loc[left_out["reason"] == UNKNOWN, "label"].unique()
    line = f"labels that train lacks: {some([*map(repr, labels)], 5)}"
    return [f"{line}; add such texts to train, or write a label alike in all"] * bool(len(labels))


def _read(name):
    """A frame of all columns for each split."""
    with reading(f"the data set {name}", EXPECTED):
        path = expanded(name)
        if name in TASKS:
            return read_task(name)
        if path.is_dir():
            return _read_folder(path)
        return {"train": read_frame(path)} if path.exists() else _read_hub(name)


def _beside(path: Path) -> list[str]:
    """A warning where files of other splits lie beside a file of training texts, unused."""
    if SPLITS.get(path.stem.lower()) != "train" or not path.is_file():
        return []
    try:
        files = [file for file in path.parent.iterdir() if file.suffix.lower() in READERS]
    except OSError:  # a folder that may not be listed
        return []
    names = [f.name for f in files if SPLITS.get(f.stem.lower(), "train") != "train"]
    names, folder = some(sorted(names), 3), quoted(str(path.parent))
    line = f"not used: {names} beside {path.name}; --dataset {folder} takes one file a split"
    return [line] if names else []


def _read_folder(folder):
    """The frames of a folder with one file a split."""
    readable = sorted(file for file in folder.iterdir() if file.suffix.lower() in READERS)
    files = [file for file in readable if file.stem.lower() in SPLITS]
    splits = {SPLITS[file.stem.lower()]: file for file in files}
    if "train" not in splits or len(splits) < len(files):
        names = some([file.name for file in readable], 5) if readable else "no data"
        expected = f"expected one file a split, train{'|'.join(READERS)}"
        raise BadInput(f"the folder {folder} has {names}; {expected}")
    frames = {split: read_frame(file) for split, file in splits.items()}
    if unused := [file.name for file in readable if file not in files]:
        frames["train"].attrs["read_as"] += f"; of no split, and not used: {some(unused, 5)}"
    return frames


def _read_hub(name):
    """The splits of owner/name, or of owner/name:configuration."""
    given, (name, _, config) = name, name.partition(":")
    # A name without an owner could be a loader of `datasets`, which reads the working folder.
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).suffix in READERS:
        raise BadInput(f"the data set {given} does not exist; {EXPECTED}")
    with reading(f"the data set {name}, which is no local path,", HUB + ", ".join(TASKS)):
        from datasets import load_dataset  # slow to import, and needed here alone

        splits = load_dataset(name, config or None, trust_remote_code=False)
        if "train" not in splits:
            raise BadInput(f"{name} has no split 'train'; it has {', '.join(map(repr, splits))}")
        frames = {}
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for split in [split for split in SPLITS if split in splits]:
                if SPLITS[split] in frames:  # the first of SPLITS counts
                    frames["train"].attrs["read_as"] += f"; not used: the split {split!r}"
                    continue
                splits[split].to_parquet(file := Path(folder, f"{split}.parquet"))
                frames[SPLITS[split]] = read_frame(file)
        return frames
