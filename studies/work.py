"""What is timed: a run of `finetuning.py`, its passes over the training texts and their memory."""

import gc
import io
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from huggingface_hub import constants
from tqdm import tqdm

import finetuning
import hardware
from boundary import write
from data_utils import training_batches
from experiment import Experiment, Run, cached_states, parse, prepare, settings


@contextmanager
def prepared(*options: str) -> Iterator[Experiment]:
    """The experiment of these options; it finds no cached hidden states, and deletes its own."""
    with tempfile.TemporaryDirectory() as folder:
        parsed = parse(vars(finetuning), [*options, "--results", folder])
        with redirect_stdout(io.StringIO()):
            experiment = prepare(parsed)
        with mock.patch.object(constants, "HF_HOME", folder):
            yield experiment


def run_as(module: str, arguments: list[str], given: Sequence[str] = ()) -> int:
    """`finetuning.py` with options `given` and then `arguments`; `module` is what resumes it."""
    command = settings.resume_command(arguments).replace("finetuning.py", f"-m {module}", 1)
    resume = {"resume_command": lambda _: command}
    with mock.patch.multiple(settings, **resume), mock.patch.multiple(finetuning, **resume):
        return finetuning.main([*given, *arguments])


class Training:
    """A run's training, from cached hidden states; call it for the seconds of a pass."""

    def __init__(self, experiment: Experiment, run: Run):
        self.state, self.settings = finetuning.start(experiment, run), experiment.settings
        own = {"train": experiment.splits(run.seed)["train"]}
        self.split = cached_states(self.state.model, own, self.settings)[0]["train"]
        self.batches = training_batches(self.split.lengths, self.settings.batch_size, 0, 1)

    def __call__(self) -> float:
        before, bar = self.state.clock.seconds, tqdm(disable=True)
        finetuning.train_part(self.state, self.split, self.batches, self.settings, bar)
        return self.state.clock.seconds - before


def put_rows(path: Path, rows: list[dict] | pd.DataFrame, key: list[str]) -> None:
    """Write rows to a table sorted by `key`, in the place of those that have the same values."""
    rows = pd.DataFrame(rows)
    if path.exists():
        before = pd.read_csv(path)
        replaced = before.set_index(key).index.isin(rows.set_index(key).index)
        rows = pd.concat([before[~replaced], rows])
    rows = rows.sort_values(key, kind="stable")
    write(path, rows.to_csv(index=False, float_format="%.5g"))


def peak_memory(device: torch.device, work: Callable[[], float]) -> tuple[float, float]:
    """What `work` returns, and the most that it holds above what was held before it, in MiB."""
    gc.collect()
    hardware.reset_peak_memory(device)
    before = hardware.peak_memory(device)
    result, after = work(), hardware.peak_memory(device)
    return result, math.nan if after is None else after - before
