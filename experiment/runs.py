"""A run: one method with one seed, a folder that one process at a time may hold.

docs/what-a-run-leaves.md lists its files. An unfinished run also has its state, in
unfinished.safetensors. No file is written by two processes, so any number of them may work on one
experiment. The lock is the operating system's: a crash gives it back.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

import hardware
from boundary import BadInput, reading, reason, write
from data_utils import Split
from modeling import Method
from modeling.finetuned import ABOUT, TENSORS, load_trained, save_trained
from records import RunRecord, run_folders

from . import processes
from .training_state import State, read_state, write_state

RECORD, STATE, LOCK = "run.json", "unfinished.safetensors", ".lock"
OUTPUTS = (RECORD, "steps.csv", "history.csv", "predictions.csv", TENSORS, ABOUT)
ROOM = "make room, or set RESULTS to another disk"


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Hold a lock file if no other process does; yields whether it could."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(lock, timeout=0))
        except Timeout:
            yield False
        else:
            yield True


def at_work(folder: Path) -> list[str]:
    """The names of the runs in `folder` that a process holds, this one too."""
    names = []
    for run in run_folders(folder):
        with held(run / LOCK) as free:
            if not free:
                names.append(run.name)
    return names


def folder_lock(folder: Path):
    """Held for a moment to open an experiment's folder, to take a run, and to write the page."""
    with reading(f"RESULTS {folder}", "set it to a folder that can be written", "written"):
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / LOCK).acquire()


def utc() -> str:
    """This moment."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Series:
    """What all runs of an experiment share."""

    folder: Path
    record: dict[str, Any]  # what each run.json says of the experiment
    constants: dict[str, Any]  # what the numbers of every run depend on
    label_names: list[str]
    tensorboard: bool = False


@dataclass(eq=False)
class Run:
    """One method with one seed."""

    series: Series
    method: Method
    seed: int
    started: str = ""  # UTC
    writer: Any = None  # TensorBoard's, one for all of the run

    @property
    def name(self) -> str:
        """The folder's name, such as lora-rank=4-seed0."""
        return f"{self.method.file_name}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.series.folder / self.name

    def record(self) -> RunRecord | None:
        """What run.json says; None without one: the run is unfinished."""
        path = self.folder / RECORD
        return RunRecord.read(path) if path.exists() else None

    @property
    def constants(self) -> dict[str, Any]:
        """What its numbers depend on."""
        return self.series.constants | self.method.hyperparameters

    # ------------------------------------------------------------------------ an unfinished run

    def unfinished(self) -> dict[str, Any] | None:
        """What `save` wrote last, None where there is nothing that can be resumed.

        Of a failed run with other constants nothing can. Raises `BadInput` where those of a run
        that was interrupted have changed, or its state is damaged.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        with reading(str(path), f"delete {self.folder} to start that run anew"):
            saved = read_state(path)
            then = saved["constants"]
        for name, now in self.constants.items():
            if then.get(name) != now:
                if self.record() is not None:
                    return None
                raise BadInput(
                    f"{self.folder} is of an unfinished run with {name} = {then.get(name)}, not "
                    f"{now}; choose another EXPERIMENT name, or start over with --fresh"
                )
        return saved

    def check(self) -> None:
        """Raise `BadInput` where a run that is there was another one, or is damaged."""
        record = self.record()
        if record and record.is_finished:
            self._delete(STATE)  # it may have been killed before it could
        else:
            self.unfinished()

    def check_like(self, record: RunRecord, but: str = "") -> None:
        """Raise `BadInput` where a finished run had other hyperparameters; `but` may differ."""
        mine = {k: v for k, v in self.method.hyperparameters.items() if k != but}
        for name, then in record.hyperparameters.items():
            now = list(mine[name]) if isinstance(mine.get(name), tuple) else mine.get(name)
            if name in mine and now != then:
                raise BadInput(
                    f"{self.series.folder} has {self.method.text} with {name} = {then}, not "
                    f"{now}; write it as {self.method.name}({name}={now}), choose another "
                    "EXPERIMENT name, or start over with --fresh"
                )

    def resume(self, state: State) -> None:
        """Bring `state` to the last evaluation of an unfinished run, if there is one."""
        saved = self.unfinished()
        if saved is not None:
            state.load_state_dict(saved)
            self.started = saved["started"]
        if self.series.tensorboard and processes.leads():
            from torch.utils.tensorboard import SummaryWriter

            # Of a killed run, what was written after its last evaluation is dropped when read.
            self.writer = SummaryWriter(self.folder, purge_step=len(state.steps) + 1)
        processes.reseed(self.seed, len(state.history))

    def save(self, state: State) -> None:
        """Write what is known after an evaluation; no process goes on before it is written."""
        if processes.leads():
            with reading(str(self.folder), ROOM, "written"):
                write(self.folder / "steps.csv", pd.DataFrame(state.steps).to_csv(index=False))
                write(self.folder / "history.csv", pd.DataFrame(state.history).to_csv(index=False))
                if state.best() is state.history[-1]:
                    save_trained(state.model, self.folder / TENSORS)
                if self.writer:
                    _log(self.writer, state)
                more = {"constants": self.constants, "started": self.started}
                write_state(state.state_dict() | more, self.folder / STATE)
                self._delete(RECORD)  # of an earlier failure
        processes.barrier()
        processes.reseed(self.seed, len(state.history))

    def load_best(self, state: State) -> None:
        """Put the tensors of the best evaluation into the model."""
        load_trained(state.model, self.folder / TENSORS)
        processes.barrier()  # the first one may delete them

    # ------------------------------------------------------------------------ its end

    def finish(self, facts: dict, test: Split | None, logits: Tensor | None) -> None:
        """Write the record that ends the run.

        Before it the test's labels (n,), logits (n, C) and, as numbers, groups, if there was a
        test: else the run was for tuning, and nothing is kept of the model.
        """
        if not processes.leads():
            return
        with reading(str(self.folder), ROOM, "written"):
            if logits is not None:
                names = [f"logit_{label}" for label in self.series.label_names]
                table = pd.DataFrame(logits.numpy(), columns=names)
                table.insert(0, "label", test.labels.cpu().numpy())
                if test.groups:
                    table["group"], _ = pd.factorize(np.array(test.groups, object))
                write(self.folder / "predictions.csv", table.to_csv(index=False))
            self._write_record("finished", facts)
            self._delete(STATE, *([TENSORS] if logits is None else []))
        if logits is None:
            loss = facts["validation_loss"]  # None: a fold would lack a label
            parts = ["not validated" if loss is None else f"validation loss {loss:.4g}"]
        else:
            parts = [f"test accuracy {facts['test_accuracy']:.2%}"]
        if "trainable_percentage" in facts:
            parts.append(f"{facts['trainable_percentage']:.3g} % trained")
        parts.append(f"{facts['training_seconds']:.3g} s of training")
        if facts.get("shared_seconds"):
            parts.append(f"{facts['shared_seconds']:.3g} s of frozen blocks, once for all runs")
        tqdm.write(f"{self.method.text} seed {self.seed}: {', '.join(parts)}")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it memory, the disk or a loss that is not finite fail this run, and no other.

        The failure is recorded, and the next start resumes the run; after a loss that was not
        finite it starts it anew.
        """
        self.started = utc()
        try:
            with processes.together(), self._in_words():
                yield
        except BadInput as error:
            record = self.record()  # a finished run stays so, where only its line failed
            if processes.leads() and not (record and record.is_finished):
                print(f"{self.method.text} seed {self.seed} failed: {error}", file=sys.stderr)
                with suppress(OSError):  # of a full disk
                    self._write_record(f"failed: {error}", {})
        finally:
            if self.writer:
                self.writer.close()

    @contextmanager
    def _in_words(self):
        try:
            yield
        except FloatingPointError as error:
            if processes.leads():
                self._delete(STATE, TENSORS)
            rate = f"learning rate {self.method.learning_rate:g}"
            raise BadInput(f"{error}, {rate}; lower it in LEARNING_RATES") from error
        except ConnectionError:
            raise
        except Exception as error:
            if hardware.is_out_of_memory(error):
                first = "lower MICRO_BATCH_TOKENS first (it changes no result)"
                raise BadInput(f"out of memory; {first}, then BATCH_SIZE or MAX_TOKENS") from error
            if isinstance(error, OSError):
                raise BadInput(f"{reason(error)}; {ROOM}") from error
            raise

    def _write_record(self, status, facts):
        method = self.method
        what = {"method": method.text, "name": method.name, "baseline": method.is_baseline}
        what |= {"learning_rate": method.learning_rate, "hyperparameters": method.hyperparameters}
        what |= {"seed": self.seed, "status": status, "started": self.started}
        RunRecord(**self.series.record | what | facts).write(self.folder / RECORD)

    def _delete(self, *names):
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def _log(writer, state):
    """Add the steps since the evaluation before, and the last evaluation, for TensorBoard."""
    before = state.history[-2]["step"] if len(state.history) > 1 else 0
    for row in state.steps[before:]:
        for name in ("loss", "learning_rate", "gradient_norm"):
            writer.add_scalar(f"step/{name}", row[name], row["step"])
    row = state.history[-1]
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        writer.add_scalar(name.replace("_", "/"), row[name], row["step"])
    writer.flush()
