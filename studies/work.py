"""The work that is timed: passes of `finetuning.py`'s loop over training texts; and its memory."""

import gc
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

import finetuning
import hardware
from boundary import write
from data_utils import training_batches
from experiment import Data, Run, State, parse
from experiment.queue import RunQueue


@contextmanager
def loaded(*options: str) -> Iterator[Data]:
    """The data of an experiment with these options; the cache is new, and deleted at the end."""
    settings = parse(vars(finetuning), ["--preset", "quick", *options])
    with tempfile.TemporaryDirectory() as folder:
        yield Data(settings, hardware.choose_device(), Path(folder))


def runs_of(data: Data) -> list[Run]:
    """The runs of the experiment; none of their files is written."""
    return RunQueue(data.settings, data).runs


class Training:
    """A run in training, from the cached output of frozen blocks.

    Call it for the seconds of a pass over the training texts.
    """

    def __init__(self, data: Data, run: Run):
        self.settings, pooling = data.settings, data.pooling(run)
        torch.manual_seed(run.seed)
        model = data.build(run.method, pooling)
        self.split = data.with_outputs(model, data.splits(run)["train"])
        self.batches = training_batches(self.split.lengths, self.settings.batch_size, run.seed, 1)
        settings, rate = data.settings.for_model(model), run.method.learning_rates[0]
        steps = settings.epochs * len(self.batches)
        trained_by = finetuning.optimizer_and_schedule(model, steps, settings, rate)
        self.state = State(model, rate, *trained_by)

    def __call__(self) -> float:
        with (clock := hardware.Clock()):
            bar = tqdm(disable=True)
            finetuning.train_part(self.state, self.split, self.batches, self.settings, bar)
        return clock.seconds

    def steps(self) -> None:
        """Make the steps of a pass, without a clock and without recording losses."""
        most = self.settings.most_tokens(self.split.labels.device, training=True)
        self.state.model.train()
        for index in self.batches:
            finetuning.step(self.state, self.split, index, self.settings, most)


def put_rows(path: Path, rows: list[dict] | pd.DataFrame, key: list[str]) -> None:
    """Write rows to a table sorted by `key`; they replace rows with the same values of `key`."""
    rows = pd.DataFrame(rows)
    if path.exists():
        before = pd.read_csv(path)
        replaced = before.set_index(key).index.isin(rows.set_index(key).index)
        rows = pd.concat([before[~replaced], rows])
    rows = rows.sort_values(key, kind="stable")
    write(path, rows.to_csv(index=False, float_format="%.5g"))


def peak_memory(device: torch.device, work: Callable[[], float]) -> tuple[float, float]:
    """The result of `work`, and its peak memory above the memory before it, in MiB."""
    gc.collect()
    hardware.reset_peak_memory(device)
    before = hardware.peak_memory(device)
    result, after = work(), hardware.peak_memory(device)
    return result, math.nan if after is None else after - before
