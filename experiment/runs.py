"""A run: one method with one seed, in a folder that one process at a time may hold.

docs/your-own.md lists its files. An unfinished run also has its state, in unfinished.pt.
No file is written by two processes, so any number of them may work on one experiment. The lock is
the operating system's: a crash gives it back.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

import hardware
from boundary import BadInput, clear, reading, write, writing
from data_utils import Split
from modeling import Method
from modeling.checkpoint import ABOUT, TENSORS, WORDS, load_trained, save_trained
from records import DAMAGED, RunRecord, what_differs

from . import processes
from .training_state import State, best, read_state, write_state

RECORD, STATE, LOCK = "run.json", "unfinished.pt", ".lock"
CANDIDATE = "candidate.safetensors"  # the best tensors of the learning rate in training
OUTPUTS = (RECORD, CANDIDATE, "steps.csv", "history.csv", "predictions.csv", TENSORS, WORDS, ABOUT)
OTHERWISE = "choose another EXPERIMENT name, or start over with --fresh"


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Hold a lock file if no other process does; yields whether it could."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held_lock = FileLock(lock, timeout=0).acquire()
    except Timeout:
        yield False
        return
    with held_lock:
        yield True


def utc() -> str:
    """This moment."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(eq=False)
class Run:
    """One method with one seed."""

    experiment: Path  # the experiment's folder
    method: Method
    seed: int
    facts: dict[str, Any]  # what each run.json says of the experiment
    depends_on: dict[str, Any]  # all that its numbers depend on
    label_names: list[str]
    in_folder: str = ""  # where it is not named after method and seed
    started: str = ""  # UTC
    start: float = 0.0  # on the clock of this process
    has_failed: bool = False  # in this process, whether or not that could be written
    history: list[dict] = field(default_factory=list)  # of all learning rates so far
    steps: list[dict] = field(default_factory=list)
    seconds: tuple[float, float] = (0.0, 0.0)  # of training and of evaluation

    @property
    def name(self) -> str:
        """The folder's name, such as lora-rank=4-seed0."""
        return self.in_folder or f"{self.method.file_name}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.experiment / self.name

    def record(self) -> RunRecord | None:
        """What run.json says; None without one: the run is unfinished."""
        path = self.folder / RECORD
        return RunRecord.read(path) if path.exists() else None

    @property
    def quiet(self) -> bool | None:
        """What disables its progress bar."""
        return processes.quiet()

    # ------------------------------------------------------------------------ while it trains

    def rates(self) -> Iterator[float]:
        """The candidate learning rates that are left to try, the interrupted one first.

        After each, its tensors are kept if its lowest validation loss is the lowest so far.
        """
        rates, saved = list(self.method.learning_rates), self.unfinished() or {}
        self.history, self.steps = saved.get("history", []), saved.get("steps", [])
        self.seconds = saved.get("seconds", self.seconds)
        self.started = saved.get("started", self.started)
        for rate in rates[rates.index(saved["learning_rate"]) if saved else 0 :]:
            yield rate
            tensors = self.folder / CANDIDATE
            if self.history and best(self.history)["learning_rate"] == rate and tensors.exists():
                os.replace(tensors, self.folder / TENSORS)

    def unfinished(self) -> dict[str, Any] | None:
        """What `save` wrote last, None where there is nothing that can be resumed.

        Raises `BadInput` where it is of a run that depends on something else, or damaged.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        with reading(str(path), DAMAGED):
            saved = read_state(path)
            differences = what_differs(saved["depends_on"], self.depends_on)
        if not differences:
            return saved
        if self.record() is not None:  # it has failed, and is tried otherwise now
            return None
        raise BadInput(f"{self.folder} is unfinished, with {differences[0]}; {OTHERWISE}")

    def resume(self, state: State) -> None:
        """Bring `state` to the run's last evaluation, of an earlier start or learning rate."""
        state.history, state.steps = self.history, self.steps
        state.training.seconds, state.evaluation.seconds = self.seconds
        saved = self.unfinished()
        if saved and saved["learning_rate"] == state.learning_rate:
            state.load_state_dict(saved)

    def save(self, state: State) -> None:
        """Write what is known after an evaluation, and the trained tensors if they are the best."""
        self.seconds = state.training.seconds, state.evaluation.seconds
        with writing(self.folder):
            write(self.folder / "steps.csv", pd.DataFrame(state.steps).to_csv(index=False))
            write(self.folder / "history.csv", pd.DataFrame(state.history).to_csv(index=False))
            if state.is_best():
                save_trained(state.model, self.folder / CANDIDATE)
            more = {"depends_on": self.depends_on, "started": self.started}
            write_state(state.state_dict() | more, self.folder / STATE)
            self.delete(RECORD)  # of an earlier failure

    def leave_out(self, rate: float, error: FloatingPointError) -> None:
        """Forget a learning rate at which numbers were not finite."""
        tqdm.write(f"{self.method.text} seed {self.seed}: {error} at learning rate {rate:g}")
        for rows in (self.history, self.steps):
            rows[:] = [row for row in rows if row["learning_rate"] != rate]

    def load_best(self, state: State) -> None:
        """Put the tensors of the lowest validation loss into the model.

        Raises `FloatingPointError` where no evaluation at any learning rate was finite.
        """
        if not state.history:
            raise FloatingPointError("the loss is not finite at any learning rate")
        load_trained(state.model, self.folder / TENSORS)

    # ------------------------------------------------------------------------ its end

    def finish(self, facts: dict, test: Split, logits: Tensor) -> None:
        """Write the test's rows, labels (n,), logits (n, C) and groups, and the record.

        Without a test, the record alone: of a model for new texts.
        """
        with writing(self.folder):
            if len(test):
                table = pd.DataFrame({"row": test.rows, "label": test.labels.cpu().numpy()})
                names = [f"logit_{label}" for label in self.label_names]
                table = table.join(pd.DataFrame(logits.numpy(), columns=names))
                if test.groups:
                    table["group"], _ = pd.factorize(np.array(test.groups, object))
                write(self.folder / "predictions.csv", table.to_csv(index=False))
            facts["run_seconds"] = time.perf_counter() - self.start
            record = self._write_record("finished", facts)
            self.tidy()
        tqdm.write(self._in_one_line(record))

    def _in_one_line(self, record):
        scores, parts = record.scores, []
        if (accuracy := scores.get("test_accuracy")) is not None:
            parts.append(f"test accuracy {accuracy:.2%}")
        elif (loss := scores.get("validation_loss")) is not None:
            parts.append(f"validation loss {loss:.4g}")
        if record.trainable_percentage is not None:
            parts.append(f"{record.trainable_percentage:.3g} % trained")
        if len(record.rates_tried) > 1:
            edge = " (at the edge of those tried)" if record.is_rate_at_edge else ""
            parts.append(f"learning rate {record.learning_rate:g}{edge}")
        if record.training_seconds is not None:
            parts.append(f"{record.training_seconds:.3g} s of training")
        return f"{self.method.text} seed {self.seed}: {', '.join(parts)}"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it memory, the disk or a loss that is not finite fail this run, and no other.

        The failure is recorded, and the next start resumes the run; after a loss that was not
        finite it starts it anew.
        """
        self.started, self.start = utc(), time.perf_counter()
        try:
            with self._in_words():
                yield
        except BadInput as error:
            self._record_failure(error)

    def _record_failure(self, error):
        record = self.record()  # a finished run stays so, where only its line failed
        if record and record.is_finished:
            return
        self.has_failed = True
        print(f"{self.method.text} seed {self.seed} failed: {error}", file=sys.stderr)
        with suppress(OSError):  # of a full disk: the exit status still says it
            self._write_record(f"failed: {error}", {})

    @contextmanager
    def _in_words(self):
        try:
            yield
        except FloatingPointError as error:
            self.delete(STATE, CANDIDATE, TENSORS)
            raise BadInput(f"{error}; lower it in LEARNING_RATES") from error
        except Exception as error:
            if hardware.is_out_of_memory(error):
                first = "lower MICRO_BATCH_TOKENS first (it changes no result)"
                raise BadInput(f"out of memory; {first}, then BATCH_SIZE or MAX_TOKENS") from error
            if isinstance(error, OSError):
                with writing(self.folder):
                    raise
            raise

    def _write_record(self, status, facts):
        method = self.method
        described = {"method": method.text, "name": method.name, "baseline": method.is_baseline}
        described |= {"hyperparameters": method.hyperparameters, "depends_on": self.depends_on}
        described |= {"seed": self.seed, "status": status, "started": self.started}
        record = RunRecord(**self.facts | described | facts)
        record.write(self.folder / RECORD)
        return record

    def tidy(self) -> None:
        """Delete what a finished run needs no more, and what killed processes have left of it."""
        self.delete(STATE, CANDIDATE)
        for name in (*OUTPUTS, STATE):
            clear(self.folder / name)

    def delete(self, *names: str) -> None:
        """Delete these of its files, where they are there."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def training_facts(state: State, run: Run, splits: dict[str, Split]) -> dict[str, Any]:
    """What run.json says of training; before the test, so that the peak of memory is training's."""
    chosen, (trainable, total) = best(state.history), state.model.count_parameters()
    losses = {}
    for rate in run.method.learning_rates:
        rows = [row for row in state.history if row["learning_rate"] == rate]
        losses[f"{rate:g}"] = best(rows)["validation_loss"] if rows else None
    same_rate = [r for r in state.history if r["learning_rate"] == chosen["learning_rate"]]
    stored = [split.frozen for name, split in splits.items() if name != "test" and split.frozen]
    return {
        "learning_rate": chosen["learning_rate"],
        "rates_tried": losses,
        "pooling": state.model.pooling,
        "scores": {k: v for k, v in chosen.items() if k.startswith("validation_")},
        "trainable_parameters": trainable,
        "total_parameters": total,
        "trainable_percentage": 100 * trainable / total,
        "training_seconds": state.training.seconds,
        "shared_seconds": sum(outputs.seconds for outputs in stored),
        "frozen_blocks": state.model.frozen_blocks,
        "peak_memory_mib": hardware.peak_memory(state.training.device),
        "epochs_run": same_rate[-1]["epoch"],
        "best_epoch": chosen["epoch"],
        "best_step": chosen["step"],
        "other_load": hardware.other_load(state.training.device),
    }
