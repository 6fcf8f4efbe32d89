"""A run: one method with one seed, in a folder that one process at a time may hold.

docs/your-own.md lists a run's files. An unfinished run also has its state, in unfinished.pt. The
operating system releases the run's lock after a crash.
"""

import io
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
import torch
from filelock import Timeout
from torch import Tensor
from tqdm import tqdm

import hardware
from boundary import BadInput, clear, lock, replacing, write, writing
from data_utils import Split
from evaluation.markdown import size
from modeling import Method, PeftModel
from modeling.checkpoint import load_trained, save_trained
from records import DAMAGED, RECORD, RunRecord, what_differs

from .training_state import State, best, read_state

STATE, LOCK = "unfinished.pt", ".lock"
CANDIDATE = "candidate-{}.safetensors"  # the tensors of a learning rate's best evaluation


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock file at `path`; yields False, at once, if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held_lock = lock(path, timeout=0)
    except Timeout:
        yield False
        return
    with held_lock:
        yield True


def utc() -> str:
    """The current time in UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(eq=False)
class Run:
    """One method with one seed."""

    folder: Path  # such as lora-rank=4-seed0
    method: Method
    seed: int
    facts: dict[str, Any]  # fields of run.json about the experiment and the machine
    depends_on: dict[str, Any]  # everything that its numbers depend on
    label_names: list[str]
    started: str = ""  # UTC
    began: float = 0.0  # on the clock of this process
    has_failed: bool = False  # in this process, even where run.json could not be written
    history: list[dict] = field(default_factory=list)  # evaluations at all learning rates so far
    training_clock: hardware.Clock = field(default_factory=hardware.Clock)
    evaluation_clock: hardware.Clock = field(default_factory=hardware.Clock)
    saved: dict[str, Any] = field(default_factory=dict)  # the state that an earlier start has left

    def record(self) -> RunRecord | None:
        """The record in run.json; None without the file: the run was never begun."""
        return RunRecord.in_folder(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        record = self.record()
        return record is not None and record.is_finished

    # ------------------------------------------------------------------------ while it trains

    def begin(self) -> None:
        """Write to run.json that the run is unfinished, and what it depends on.

        An earlier start's files are kept if its run depended on the same values, else deleted.
        """
        earlier, self.began, self.started = self.record(), time.perf_counter(), utc()
        if earlier is None or what_differs(earlier.depends_on, self.depends_on):
            self.start_over()
        self._write_record("unfinished", {})

    def rates(self) -> list[float]:
        """The candidate learning rates that are left to try, the interrupted one first."""
        left, path = list(self.method.learning_rates), self.folder / STATE
        if path.exists():
            self.saved = read_state(path)
            self.history = self.saved["history"]
            self.training_clock.seconds, self.evaluation_clock.seconds = self.saved["seconds"]
            left = left[left.index(self.saved["learning_rate"]) :]
        return left

    def resume(self, state: State) -> None:
        """Give `state` the run's history, and the state saved at its learning rate."""
        state.history = self.history
        if self.saved.get("learning_rate") == state.learning_rate:
            try:
                state.load_state_dict(self.saved)
            except (LookupError, TypeError, ValueError) as error:  # not memory errors
                line = f"{self.folder / STATE} cannot be read ({type(error).__name__}: {error})"
                raise BadInput(f"{line}; {DAMAGED}") from None
            if state.is_best():  # a kill may have come before `save` wrote them
                save_trained(state.model, self.candidate(state.learning_rate))

    def save(self, state: State) -> None:
        """Write history and state after an evaluation, and the trained tensors if they are best."""
        seconds = self.training_clock.seconds, self.evaluation_clock.seconds
        self._write_history()
        with replacing(self.folder / STATE) as part:
            torch.save(state.state_dict() | {"seconds": seconds}, whole := io.BytesIO())
            part.write_bytes(whole.getbuffer())  # on a full disk torch would raise its own error
        if state.is_best():  # after the state, which says at which learning rate
            save_trained(state.model, self.candidate(state.learning_rate))

    def candidate(self, rate: float) -> Path:
        """The file of the tensors with the lowest validation loss at a learning rate."""
        return self.folder / CANDIDATE.format(rate)

    def leave_out(self, rate: float, error: FloatingPointError) -> None:
        """Forget a learning rate at which numbers were not finite; its seconds still count."""
        tqdm.write(f"{self.method.text} seed {self.seed}: {error} at learning rate {rate:g}")
        self.history[:] = [row for row in self.history if row["learning_rate"] != rate]
        if self.history:
            self._write_history()
        else:
            self.delete("history.csv")

    def _write_history(self):
        write(self.folder / "history.csv", pd.DataFrame(self.history).to_csv(index=False))

    def start_over(self) -> None:
        """Forget the training so far, and delete its files."""
        self.history, self.saved = [], {}
        self.training_clock, self.evaluation_clock = hardware.Clock(), hardware.Clock()
        self.delete(STATE, CANDIDATE.format("*"))

    def load_best(self, model: PeftModel) -> None:
        """Put the tensors of the lowest validation loss into the model.

        Raises `FloatingPointError` where no evaluation at any learning rate was finite.
        """
        if not self.history:
            raise FloatingPointError("the loss is not finite at any learning rate")
        load_trained(model, self.candidate(best(self.history)["learning_rate"]))

    # ------------------------------------------------------------------------ its end

    def finish(self, facts: dict, test: Split, logits: Tensor) -> None:
        """Write the test's rows, labels (n,), logits (n, C) and groups, and the run's record.

        A final model has no test: only its record is written.
        """
        if len(test):
            table = pd.DataFrame({"row": test.rows, "label": test.labels.cpu().numpy()})
            names = [f"logit_{label}" for label in self.label_names]
            table = table.join(pd.DataFrame(logits.numpy(), columns=names))
            if test.groups:
                table["group"], _ = pd.factorize(np.array(test.groups, object))
            write(self.folder / "predictions.csv", table.to_csv(index=False))
        earlier = sum(self.saved.get("seconds", ()))  # of training and evaluation
        seconds = {"run_seconds": time.perf_counter() - self.began + earlier}
        seconds |= {"training_seconds": self.training_clock.seconds}
        seconds |= {"evaluation_seconds": self.evaluation_clock.seconds}
        record = self._write_record("finished", seconds | facts)
        self.tidy()
        tqdm.write(self._in_one_line(record))

    def _in_one_line(self, record):
        scores, parts = record.scores, []
        if "test_accuracy" in scores:
            parts.append(f"test accuracy {scores['test_accuracy']:.2%}")
        elif scores.get("validation_loss") is not None:
            parts.append(f"validation loss {scores['validation_loss']:.4g}")
        if record.trainable_percentage is not None:
            parts.append(f"{record.trainable_percentage:.3g} % trained")
        if len(record.rates_tried) > 1:
            edge = " (at the edge of those tried)" if record.is_rate_at_edge else ""
            parts.append(f"learning rate {record.learning_rate:g}{edge}")
        if record.training_seconds is not None:
            parts.append(f"{size(record.training_seconds)} s of training")
        return f"{self.method.text} seed {self.seed}: {', '.join(parts)}"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it, errors of memory or disk, or a loss that is not finite, fail this run alone.

        The failure is recorded, and the next start resumes the run. After a loss that was not
        finite, the next start begins the run anew.
        """
        try:
            with writing(self.folder, "set RESULTS to another folder or disk"):
                yield
        except Exception as error:
            line = str(error)
            if hardware.is_out_of_memory(error):
                first = "lower MICRO_BATCH_TOKENS first (it changes no result but by dropout)"
                line = f"out of memory; {first}, then BATCH_SIZE or MAX_TOKENS"
            elif isinstance(error, FloatingPointError):
                self.start_over()
                line += "; lower it in LEARNING_RATES"
            elif not isinstance(error, BadInput):
                raise
            if not self.is_finished:  # else only the printing of its line failed
                self._fail(line)
        finally:
            self.saved = {}  # frees its memory for the next run

    def _fail(self, line):
        self.has_failed = True
        print(f"{self.method.text} seed {self.seed} failed: {line}", file=sys.stderr)
        with suppress(OSError):  # a full disk: the exit status still tells of the failure
            self._write_record(f"failed: {line}", {})

    def _write_record(self, status, facts):
        method = self.method
        described = {"method": method.text, "name": method.name, "baseline": method.is_baseline}
        described |= {"hyperparameters": method.hyperparameters, "depends_on": self.depends_on}
        described |= {"seed": self.seed, "status": status, "started": self.started}
        record = RunRecord(**self.facts | described | facts)
        record.write(self.folder / RECORD)
        return record

    def tidy(self) -> None:
        """Delete the files that a finished run needs no more, and leftovers of killed processes."""
        self.delete(STATE, CANDIDATE.format("*"))
        clear(self.folder)

    def delete(self, *patterns: str) -> None:
        """Delete the run's files whose names match one of these patterns."""
        for path in (path for pattern in patterns for path in self.folder.glob(pattern)):
            path.unlink()
