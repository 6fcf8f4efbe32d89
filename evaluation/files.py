"""The readers of an experiment's files: whatever stops one is a line with the file's name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from boundary import BadInput, reading

MOMENT = {"step": int, "epoch": float, "seconds": float}
LEARNT = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
TABLES = {  # of a run: its columns and their types
    "steps": MOMENT | dict.fromkeys(("loss", "learning_rate", "gradient_norm"), float),
    "history": MOMENT | dict.fromkeys(LEARNT, float),
    "changes": {"block": int, "place": str, "relative_size": float, "effective_rank": float},
}


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """What a JSON file says; `needed` are entries that it must have. Raises `BadInput`."""
    with reading(str(path)):
        _check_exists(path)
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"{type(found).__name__} instead of an object")
        missing = [name for name in needed if name not in found]
        if missing:
            raise KeyError(missing[0])
    return found


def read_table(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """The CSV at `path` with these columns; texts letter by letter, "NA" too. Raises `BadInput`."""
    gaps = {name: [""] for name, kind in columns.items() if kind is not str}
    with reading(str(path)):
        _check_exists(path)
        table = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=gaps)
        return table[list(columns)]


def _check_exists(path):
    if not path.exists():
        raise BadInput(f"{path} is missing")
