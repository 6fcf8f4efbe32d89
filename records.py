"""What run.json says of one run: written and read by one class, and a row of runs.csv.

A run with a record is complete, or has failed. Fields that a run has no value for are null: a
baseline has no epochs, tuning no test.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from boundary import reading, write

# Constants that change no finished run's numbers, or are recorded with each run.
FREE = ("experiment", "methods", "seeds", "contrasts", "equivalence_margin", "learning_rates")
FREE += ("tuning_rates", "store_states", "micro_batch_tokens", "results", "tensorboard", "parallel")


def run_folders(folder: Path) -> list[Path]:
    """The folders that runs have made in `folder`; a user's copy, lora-seed0-old, is none."""
    names = (".lock", "run.json", "unfinished.safetensors")
    made = {path.parent for name in names for path in folder.glob(f"*-seed*/{name}")}
    return sorted(path for path in made if path.name.rpartition("-seed")[2].isdigit())


def record_files(folder: Path) -> list[Path]:
    """The run.json of each run in `folder` that has one."""
    return [path for run in run_folders(folder) if (path := run / "run.json").exists()]


class RunRecord(BaseModel):
    """One run: what it was, where and when it ran, and what came of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    experiment: str
    model: str
    data_set: str
    method: str  # as one types it: "lora(rank=4)"
    name: str  # "lora"
    baseline: bool  # without training by gradients
    seed: int
    status: str = Field(pattern=r"^(finished$|failed: )")
    started: str | None = None  # UTC, ISO 8601
    code: str | None = None  # the git commit, with "+" where files differ from it
    device: str
    learning_rate: float | None = None
    hyperparameters: dict[str, Any] = {}

    validation_loss: float | None = None  # a baseline's: in cross-validation, within all labels
    validation_accuracy: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    trainable_percentage: float | None = None
    frozen_blocks: int | None = None
    training_seconds: float | None = None
    shared_seconds: float | None = None  # of the frozen blocks, once for all runs
    peak_memory_mib: float | None = None
    epochs_run: float | None = None
    best_epoch: float | None = None
    best_step: int | None = None
    other_load: float | None = None  # threads of other processes in the run's last minute

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status == "finished"

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read run.json. Raises `BadInput` that names the file and the field."""
        with reading(str(path), "delete its folder to make that run anew"):
            return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write run.json, whole or not at all."""
        write(path, self.model_dump_json(indent=2) + "\n")
