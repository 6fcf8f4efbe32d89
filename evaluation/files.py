"""What each entry of an experiment's files may hold, and the two readers that see to it.

An accuracy of 7.5, a status that is a number or a missing column is a `BadInput` with the file's
name: a figure of impossible values would look like any other.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from boundary import BadInput, reading

LARGEST = sys.float_info.max  # finite numbers end here
LONG = 2**63 - 1


class Kind(NamedTuple):
    """What an entry of a record or a column of a table holds; `gaps`: or nothing (null, NaN)."""

    what: str
    type: type
    lowest: float | None = None
    highest: float | None = None
    gaps: bool = False

    def holds(self, value: Any) -> bool:
        """Whether `value` is of this kind."""
        if value is None or value != value:  # NaN
            return self.gaps
        if self.type is list:
            texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
            return texts and len(set(value)) == len(value)
        types = (int, float) if self.type is float else self.type
        if not isinstance(value, types) or isinstance(value, bool) != (self.type is bool):
            return False
        return self.lowest is None or self.lowest <= value <= self.highest


TEXT, FLAG, ENTRIES = Kind("a text", str), Kind("true or false", bool), Kind("an object", dict)
TEXTS = Kind("a list of different texts", list)
SHARE = Kind("a share from 0 to 1", float, 0, 1)
AMOUNT = Kind("a finite number from 0 up", float, 0, LARGEST)
FINITE = Kind("a finite number", float, -LARGEST, LARGEST)
RATIO = Kind("a number from 0 up", float, 0, np.inf, gaps=True)  # infinite beside a zero
PLACE = Kind("a whole number from 0 up", int, 0, LONG)
COUNT = Kind("a whole number from 1 up", int, 1, LONG)

LEARNT = {"train_loss": AMOUNT, "train_accuracy": SHARE}
LEARNT |= {"validation_loss": AMOUNT, "validation_accuracy": SHARE}
MOMENT = {"step": COUNT, "epoch": AMOUNT, "seconds": AMOUNT}
TABLES = {  # of a run
    "steps": MOMENT | {"loss": AMOUNT, "learning_rate": AMOUNT, "gradient_norm": RATIO},
    "history": MOMENT | LEARNT,
    "changes": {"block": PLACE, "place": TEXT, "relative_size": RATIO, "effective_rank": RATIO},
}
# of a finished run; null where a baseline, or tuning, has none
SOME_SHARE, SOME = SHARE._replace(gaps=True), AMOUNT._replace(gaps=True)
MEASURED = {"test_loss": SOME, "test_accuracy": SOME_SHARE, "train_loss": SOME}
MEASURED |= {"train_accuracy": SOME_SHARE, "trainable_parameters": PLACE._replace(gaps=True)}
MEASURED |= {"trainable_percentage": Kind("a percentage from 0 to 100", float, 0, 100, gaps=True)}
MEASURED |= dict.fromkeys(("training_seconds", "peak_memory_mib", "epochs_run"), SOME)
MEASURED |= {"best_epoch": SOME, "best_step": COUNT._replace(gaps=True), "learning_rate": SOME}
MEASURED |= {"other_load": FINITE._replace(gaps=True)}
OPTIONAL = {"frozen_blocks": PLACE._replace(gaps=True), "shared_seconds": SOME}  # not in old files
HYPERPARAMETERS = {"blocks": PLACE._replace(gaps=True)}  # null: all blocks learn
IDENTITY = {"experiment": TEXT, "method": TEXT, "name": TEXT, "baseline": FLAG}
IDENTITY |= {"seed": PLACE, "status": TEXT}  # of every run
ABOUT = {"constants": ENTRIES, "model": TEXT, "data_set": TEXT, "label_names": TEXTS}
ABOUT |= {"data": ENTRIES, "command": TEXT}  # of an experiment
CONSTANTS = {"experiment": TEXT, "methods": TEXTS, "max_tokens": COUNT}
DATA = {"train": COUNT, "test": COUNT}
ENTRY = {  # of run.json, experiment.json or a part of it, whether it must be there or not
    **(ABOUT | CONSTANTS | DATA | IDENTITY | MEASURED | OPTIONAL | HYPERPARAMETERS),
    **{"validation": COUNT, "test_share_truncated": SOME_SHARE, "notes": TEXTS},
    **dict.fromkeys(("validation_loss", "total_parameters", "trained_bytes"), SOME),
    **dict.fromkeys(("examples_per_second", "tokens_per_second"), SOME),
    **{"validation_accuracy": SOME_SHARE, "hyperparameters": ENTRIES},
    **{"device": TEXT, "libraries": ENTRIES, "python": TEXT, "platform": TEXT},
}


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """What a JSON file says; `needed` are entries that it must have.

    Raises `BadInput` naming the file.
    """
    with _there(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"{type(found).__name__} instead of an object")
        _check_entries(path, found, needed)
    return found


def read_experiment(path: Path) -> dict[str, Any]:
    """What experiment.json says, with all that a page needs. Raises `BadInput`."""
    found = read_json(path, ABOUT)
    with reading(str(path)):
        _check_entries(path, found["constants"], CONSTANTS)
        _check_entries(path, found["data"], DATA)
    return found


def read_run(path: Path) -> dict[str, Any]:
    """What run.json says; of the hyperparameters only `blocks`. Raises `BadInput`."""
    found = read_json(path, IDENTITY)
    with reading(str(path)):
        if found["status"] == "finished":
            _check_entries(path, found, MEASURED)
        given = found.pop("hyperparameters", {})
        known = {name: given[name] for name in HYPERPARAMETERS if name in given}
        _check_entries(path, known, ())
    return found | known


def _check_entries(path, found, needed):
    for name, kind in ENTRY.items():
        if name in found or name in needed:
            _check(path, name, found[name], kind)


def read_table(path: Path, columns: Mapping[str, Kind]) -> pd.DataFrame:
    """The table at `path` with these columns; texts letter by letter, "NA" and "" too.

    Raises `BadInput` naming the file.
    """
    types = {name: kind.type for name, kind in columns.items()}
    gaps = {name: [""] for name, type_ in types.items() if type_ is not str}
    with _there(path):
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=gaps)
        table = table[list(columns)]
        for name in gaps if len(table) else ():
            values = table[name]
            extremes = np.array([values.min(), values.max(), *values[values.isna()][:1]])
            for value in extremes.tolist():
                _check(path, name, value, columns[name])
    return table


def _check(path, name, value, kind):
    if not kind.holds(value):
        raise BadInput(f"{path}: {name} is {value!r:.60}, expected {kind.what}")


@contextmanager
def _there(path: Path) -> Iterator[None]:
    with reading(str(path)):
        if not path.exists():
            raise BadInput(f"{path} is missing")
        yield
