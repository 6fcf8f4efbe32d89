"""The record of a run: run.json, which one class writes and reads, and a row of runs.csv.

A run that has begun has a record. Fields without a value are null: a baseline has no epochs.
`depends_on` holds all that the run's numbers depend on. `what_differs` is the one function that
compares it, so that different runs never share a folder or a page.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from boundary import reading, write

ABOUT, RECORD = "experiment.json", "run.json"
ANEW = "delete its folder to make that run anew"
DAMAGED = "it is damaged, or written by another version: delete it"
REQUIRED = ("constants", "model", "data_set", "label_names", "data", "command")  # experiment.json
REQUIRED_OF_DATA = ("train", "validation", "test", "labels_redrawn", "test_share_truncated")
LATER_OF_DATA = {"is_own": None, "folds": None, "groups": None, "notes": [], "warnings": []}


def starts(command: str) -> list[str]:
    """The commands that " && " joins in experiment.json; a file's name may contain " && ", too."""
    return re.split(r" && (?=python )", command)


class RunRecord(BaseModel):
    """One run: what it was, where and when it ran, and what came of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    experiment: str
    model: str
    data_set: str
    method: str  # as one types it: "lora(rank=4)", "lora+tfidf"
    name: str  # "lora"
    baseline: bool  # without training by gradients
    seed: int
    status: str = Field(pattern=r"^(finished$|unfinished$|failed: )")
    started: str | None = None  # UTC, ISO 8601
    code: str | None = None  # the git commit; "+" and a digest where code differs
    device: str
    hyperparameters: dict[str, Any] = {}
    depends_on: dict[str, Any] = {}  # constants in upper case, hyperparameters, digests

    learning_rate: float | None = None  # the rate with the lowest validation loss
    rates_tried: dict[str, float | None] = {}  # rate: lowest validation loss; None: not finite
    pooling: str | None = None
    # "test_accuracy" and so on, <split>_<metric>. A baseline's validation loss comes
    # from cross-validation within all of its labels.
    scores: dict[str, float | None] = {}

    trainable_parameters: int | None = None
    total_parameters: int | None = None
    trainable_percentage: float | None = None
    frozen_blocks: int | None = None
    training_seconds: float | None = None  # of all learning rates, without evaluation
    evaluation_seconds: float | None = None  # on validation, training and test texts
    shared_seconds: float | None = None  # for the frozen blocks, which run once for all runs
    run_seconds: float | None = None  # from start to end, without the frozen blocks
    peak_memory_mib: float | None = None
    epochs_run: float | None = None  # with the chosen learning rate
    best_epoch: float | None = None
    best_step: int | None = None
    other_load: float | None = None  # threads of other processes in the run's last minute

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status == "finished"

    @property
    def has_failed(self) -> bool:
        """Whether an error has ended the run; a killed run is unfinished."""
        return self.status.startswith("failed: ")

    @property
    def is_rate_at_edge(self) -> bool:
        """Whether the chosen learning rate is the lowest or the highest of several tried."""
        tried = [float(rate) for rate in self.rates_tried]
        return len(tried) > 1 and self.learning_rate in (min(tried), max(tried))

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read run.json. Raises `BadInput`, which names the file and the field."""
        with reading(str(path), ANEW):
            return cls(**json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def in_folder(cls, folder: Path) -> "RunRecord | None":
        """The record in a run's folder; None without one. Raises `BadInput`."""
        path = folder / RECORD
        return cls.read(path) if path.exists() else None

    def write(self, path: Path) -> None:
        """Write run.json, whole or not at all."""
        write(path, self.model_dump_json(indent=2) + "\n")

    def row(self) -> dict[str, Any]:
        """A row of runs.csv: a column for each score, dictionaries as JSON."""
        values = self.model_dump()
        scores = values.pop("scores")
        cells = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in values.items()}
        return cells | {"is_rate_at_edge": self.is_rate_at_edge} | scores


def what_differs(earlier: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """The differences of two runs that should be alike, in words, a line each; empty for none.

    The arguments are the runs' `depends_on`. A name that one of them lacks counts as None there.
    Digests, which are long, are not quoted.
    """
    lines = []
    for name in dict.fromkeys([*current, *earlier]):
        before, after = (json.loads(json.dumps(side.get(name))) for side in (earlier, current))
        if before != after:
            is_digest = name.endswith("digest")
            words = f"different {name.removesuffix(' digest')}" if is_digest else ""
            lines.append(words or f"{name} = {before}, not {after}")
    return lines


def read_about(folder: Path) -> dict[str, Any]:
    """The content of experiment.json, with defaults for fields that earlier versions lacked.

    Without the file: {}. Raises `BadInput` where it is damaged.
    """
    path = folder / ABOUT
    if not path.exists():
        return {}
    with reading(str(path), DAMAGED):
        about = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in REQUIRED if name not in about]
        missing = missing or [name for name in REQUIRED_OF_DATA if name not in about["data"]]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return {"digests": {}, "runs": []} | about | {"data": LATER_OF_DATA | about["data"]}


def records_in(folder: Path) -> dict[Path, RunRecord]:
    """The records, by run's folder, of the runs that experiment.json in `folder` lists.

    A user's copy of a run is not listed, and a link is left out. Raises `BadInput`.
    """
    paths = [folder / name for name in read_about(folder).get("runs", ())]
    records = {path: RunRecord.in_folder(path) for path in paths if not path.is_symlink()}
    return {path: record for path, record in records.items() if record}
