"""A run: one method with one seed, a folder that one process at a time may hold.

    results/<experiment>/<run>/
        run.json                what the run was and what came of it; written last
        steps.csv               a row for each step of the optimizer
        history.csv             a row for each evaluation on validation
        predictions.csv         labels and logits of the test reviews, in test order
        changes.csv             how far each matrix, or what each adapter adds, has moved
        trained.safetensors     the trained tensors, with checkpoint.json: what they belong to
        unfinished.safetensors  the state of an unfinished run
        .lock                   held by the process that is at work on it

No file is written by two processes, so any number of them may work on one experiment. The lock is
the operating system's: a crash gives it back.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import Tensor

import hardware
import modeling
from boundary import BadInput, reading, replacing, write
from data_utils import Split
from evaluation.files import TABLES, read_json, read_table
from modeling import Method, PeftModel
from modeling.checkpoint import TENSORS

from . import live, processes
from .state import State, read_state

if TYPE_CHECKING:  # it lists the runs, which know it
    from .experiment import Experiment

FACTS = (  # of a finished run; null where a baseline, or tuning, has none
    *("validation_loss", "validation_accuracy", "train_loss", "train_accuracy"),
    *("test_loss", "test_accuracy", "trainable_parameters", "total_parameters"),
    *("trainable_percentage", "training_seconds", "examples_per_second", "tokens_per_second"),
    *(
        "frozen_blocks",
        "shared_seconds",
        "peak_memory_mib",
        "epochs_run",
        "best_epoch",
        "best_step",
        "trained_bytes",
        "other_load",
    ),
)
RECORD, STATE, LOCK = "run.json", "unfinished.safetensors", ".lock"


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Hold a lock file if no other process does; yields whether it could."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = FileLock(lock, timeout=0)
    try:
        holder.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        holder.release()


def folder_lock(folder: Path) -> FileLock:
    """Held for a moment to open an experiment's folder, to take a run, and to write the page."""
    with reading(f"RESULTS {folder}", "set it to a folder that can be written"):
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / LOCK).acquire()


@dataclass(frozen=True)
class Run:
    """One method with one seed."""

    experiment: "Experiment"
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """The folder's name, such as lora-rank=4-seed0."""
        return f"{self.method.file_name}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.experiment.folder / self.name

    @property
    def splits(self) -> dict[str, Split]:
        """What it is trained and tested on."""
        return self.experiment.splits(self.seed)

    @property
    def stamp(self) -> int | None:
        """When its record was written, None without one."""
        record = self.folder / RECORD
        return record.stat().st_mtime_ns if record.exists() else None

    @property
    def status(self) -> str:
        """Of its record: "finished", "failed: why", or "unfinished" without one."""
        record = self.folder / RECORD
        if not record.exists():
            return "unfinished"
        status = read_json(record, ["status"])["status"]
        if status != "finished" and not status.startswith("failed: "):  # it would be trained anew
            raise BadInput(f"{record}: status is {status!r:.60}, expected finished or failed: why")
        return status

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status == "finished"

    def check(self) -> None:
        """Raise `BadInput` where the files of an unfinished run have been damaged."""
        if self.is_finished:
            self._delete_state()  # it may have been killed before it could
        elif (self.folder / STATE).exists():
            self._read_steps(read_state(self.folder / STATE)[1]["history"])

    def resume(self, state: State) -> None:
        """Bring `state` to the last evaluation of a killed run; nothing where there is none."""
        if (self.folder / STATE).exists():
            state.load(self.folder / STATE)
            state.steps = self._read_steps(state.history)
        processes.reseed(self.seed, len(state.history))

    def _read_steps(self, history):
        """The steps up to the last evaluation."""
        path, last = self.folder / "steps.csv", history[-1]["step"]
        steps = read_table(path, TABLES["steps"]).head(last)
        if list(steps["step"]) != list(range(1, last + 1)):
            raise BadInput(f"{path} lacks steps; delete {self.folder} to start that run anew")
        return steps.to_dict("records")

    def save(self, state: State) -> None:
        """Write what is known after an evaluation; no process goes on before it is written."""
        if processes.leads():
            _write_table(self.folder / "steps.csv", state.steps)
            _write_table(self.folder / "history.csv", state.history)
            state.save(self.folder / STATE)
            if self.experiment.settings.tensorboard:
                live.log(self.folder, state)
        processes.barrier()
        processes.reseed(self.seed, len(state.history))

    def load_best(self, state: State) -> None:
        """Put the tensors of the best evaluation into the model."""
        state.load_best(self.folder / STATE)
        processes.barrier()  # the first one will delete them

    def facts(self, state: State) -> dict:
        """What run.json says of training, the peak of its memory so far included."""
        train, epochs = self.splits["train"], state.history[-1]["epoch"]
        best, seconds = state.best(), state.clock.seconds
        trainable, total = state.model.count_parameters()
        return {
            "validation_loss": best["validation_loss"],
            "validation_accuracy": best["validation_accuracy"],
            "trainable_parameters": trainable,
            "total_parameters": total,
            "trainable_percentage": 100 * trainable / total,
            "training_seconds": seconds,
            "frozen_blocks": state.model.frozen_blocks,
            "examples_per_second": epochs * len(train) / seconds,
            "tokens_per_second": epochs * int(train.lengths.sum()) / seconds,
            "peak_memory_mib": hardware.peak_memory(self.experiment.device),
            "epochs_run": epochs,
            "best_epoch": best["epoch"],
            "best_step": best["step"],
        }

    def keep(self, model: PeftModel) -> None:
        """Write the checkpoint, and where the model has changed."""
        if not processes.leads():
            return
        modeling.save_checkpoint(model, self.folder, self.experiment.tokenizer)
        validation = self.splits["validation"]
        some = validation.batch(np.arange(min(32, len(validation))))
        base = self.experiment.pretrained().to(self.experiment.device)
        rows = modeling.changes(model, base, some.input_ids, some.attention_mask)
        if rows:
            _write_table(self.folder / "changes.csv", rows)

    def finish(self, facts: dict, logits: Tensor | None) -> None:
        """Write the test's logits (n, C), if there was one, and the record that ends the run."""
        if not processes.leads():
            return
        if logits is not None:  # else a learning rate was tried
            labels = self.splits["test"].labels.cpu()
            predictions = pd.DataFrame({"label": labels})
            names = [f"logit_{label}" for label in self.experiment.label_names]
            predictions[names] = logits.numpy()
            write(self.folder / "predictions.csv", predictions.to_csv(index=False))
        if (self.folder / TENSORS).exists():
            facts["trained_bytes"] = (self.folder / TENSORS).stat().st_size
        facts["other_load"] = hardware.other_load(self.experiment.device)
        self._record("finished", {name: facts.get(name) for name in FACTS})
        measured = "test_accuracy" if "test_accuracy" in facts else "validation_accuracy"
        said = [f"{measured.replace('_', ' ')} {facts[measured]:.2%}"]
        if "trainable_percentage" in facts:
            said.append(f"{facts['trainable_percentage']:.3g} % trained")
        said.append(f"{facts['training_seconds']:.3g} s of training")
        if facts.get("shared_seconds"):
            said.append(f"{facts['shared_seconds']:.3g} s of frozen blocks, once for all runs")
        processes.print_line(f"{self.method.text} seed {self.seed}: {', '.join(said)}")

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Too little memory, a loss that is not finite, and what cannot be fitted fail this run.

        The failure is recorded; the next start tries the run again from its beginning.
        """
        try:
            with processes.together(), self._saying_why():
                yield
        except BadInput as error:
            if processes.leads():
                print(f"{self.method.text} seed {self.seed} failed: {error}", file=sys.stderr)
                self._record(f"failed: {error}", {})

    @contextmanager
    def _saying_why(self):
        settings = self.experiment.settings
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise BadInput(
                f"out of memory with BATCH_SIZE {settings.batch_size}, MICRO_BATCH_TOKENS "
                f"{settings.micro_batch_tokens or 'auto'}, MAX_TOKENS {settings.max_tokens}; lower "
                "the first two, or the last"
            ) from error
        except FloatingPointError as error:
            rate = f"learning rate {self.method.learning_rate:g}"
            raise BadInput(f"{error}, {rate}; lower it in LEARNING_RATES") from error

    def _record(self, status, facts):
        record = {"experiment": self.experiment.settings.experiment} | self.experiment.names
        record |= {
            "method": self.method.text,
            "name": self.method.name,
            "baseline": self.method.is_baseline,
            "seed": self.seed,
            "status": status,
            "learning_rate": self.method.learning_rate,
            "device": processes.describe(self.experiment.device),
            "hyperparameters": self.method.hyperparameters,
        }
        if status != "finished":  # the next start is to find nothing to resume
            self._delete_state()
        write(self.folder / RECORD, json.dumps(record | facts, indent=2) + "\n")
        self._delete_state()

    def _delete_state(self):
        (self.folder / STATE).unlink(missing_ok=True)
        for rest in self.folder.glob(".tmp*"):  # of safetensors, killed while it wrote
            rest.unlink()


def _write_table(path, rows):
    with replacing(path) as part:
        pd.DataFrame(rows).to_csv(part, index=False)
