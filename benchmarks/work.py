"""What is timed: an encoder, reviews and a method; and that as a run of `finetuning.py`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from unittest import mock

import numpy as np
import torch
from huggingface_hub import constants
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification

import data_utils
import finetuning
import hardware
import modeling
from benchmarks.flops import Shape
from experiment import Experiment, Run, cached_states, parse


@dataclass(frozen=True)
class Work:
    """What a system is timed on."""

    method: str = "lora"
    size: int = 16  # LoRA's rank on q, k, v, o, or the adapters' bottleneck
    batch_size: int = 32
    reviews: int = 256
    max_tokens: int = 512
    length: int | None = None  # tokens of each review, made up; None: real reviews
    shape: str = "minilm"  # or "mpnet"; a width: of random weights
    blocks: int | None = None  # how many of the last blocks learn; None: all
    pooling: str = "first"  # what the head reads

    @property
    def sizes(self) -> Shape:
        """Of the encoder, with the blocks that learn: no others have to run."""
        config = self.config(None)
        blocks, stored = self.blocks or config.num_hidden_layers, self.blocks is not None
        return Shape(config.hidden_size, config.intermediate_size, blocks, stored)

    @property
    def frozen(self) -> int:
        """How many of the first blocks do not learn."""
        return self.config(None).num_hidden_layers - self.sizes.blocks

    @property
    def folder(self) -> str:
        """Where the encoder, or what stands for it, has its files."""
        bundled = self.shape in data_utils.ENCODERS
        return _encoder_folder(self.shape if bundled else "minilm")

    def config(self, dropout: float | None):
        """The model's config; `dropout` inside the encoder, None: the model's own."""
        config = modeling.load_config(self.folder, ["negative", "positive"], dropout)
        if self.shape not in data_utils.ENCODERS:
            width = int(self.shape)
            config.hidden_size, config.intermediate_size = width, 4 * width
        return config

    def pretrained(self, dropout: float | None):
        """The classifier."""
        config = self.config(dropout)
        if self.shape in data_utils.ENCODERS:
            return modeling.load_pretrained(self.folder, config)
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)

    @property
    def tokenizer(self):
        """The bundled encoder's."""
        return modeling.load_tokenizer(self.folder, self.config(None), self.max_tokens)

    def split(self) -> data_utils.Split:
        """The reviews."""
        if self.length is not None:
            random = np.random.default_rng(0)
            ids = random.integers(1000, 30_000, self.reviews * self.length, dtype=np.int32)
            labels = torch.from_numpy(random.integers(0, 2, self.reviews))
            lengths = np.full(self.reviews, self.length)
            return data_utils.Split([], labels, torch.from_numpy(ids), lengths, pad_id=0)
        return data_utils.tokenise(_train().select(range(self.reviews)), self.tokenizer)


@cache
def _train():
    return data_utils.load_task("imdb").split().train


@cache
def _encoder_folder(name):
    return str(data_utils.encoder_folder(name))  # it reads all of the weights, to check them


class WorkExperiment(Experiment):
    """An experiment whose data and pretrained classifier are those of a `Work`, its task."""

    def pretrained(self):
        return self.task.pretrained(self.settings.encoder_dropout)

    def splits(self, seed):
        return self.tokenised


def as_run(work: Work, device: torch.device) -> tuple[Experiment, Run]:
    """The work as an experiment of `finetuning.py`, and its one run."""
    names = {"lora": "lora(rank={})", "adapter": "adapter(bottleneck={})"}
    fixed = {
        "--methods": names.get(work.method, work.method).format(work.size),
        "--batch-size": work.batch_size,
        "--max-tokens": work.max_tokens,
        "--epochs": 100,  # the learning rate never reaches 0
    }
    fixed = [str(part) for pair in fixed.items() for part in pair]
    settings = parse(vars(finetuning) | {"BLOCKS": work.blocks, "POOLING": work.pooling}, fixed)
    config = work.config(settings.encoder_dropout)
    base = ""  # the model of each run computes it
    experiment = WorkExperiment(settings, device, config, base, work.tokenizer, work)
    experiment.tokenised["train"] = work.split().to(device)
    return experiment, Run(experiment.series, settings.methods[0], seed=0)


class Training:
    """The work in training, from stored states; call it for the seconds of a pass."""

    def __init__(self, work: Work, device: torch.device):
        hardware.prepare_device(device)
        experiment, run = as_run(work, device)
        self.state, self.settings = finetuning.start(experiment, run), experiment.settings
        splits, _ = cached_states(self.state.model, experiment.splits(0), self.settings)
        self.split = splits["train"]
        self.batches = data_utils.training_batches(self.split.lengths, work.batch_size, 0, 1)

    def __call__(self) -> float:
        before, bar = self.state.clock.seconds, tqdm(disable=True)
        finetuning.train_part(self.state, self.split, self.batches, self.settings, bar)
        return self.state.clock.seconds - before

    def evaluate(self) -> None:
        """Predict its reviews."""
        finetuning.predict(self.state.model, self.split, self.settings)


@contextmanager
def new_states() -> Iterator[None]:
    """Within it no states of frozen blocks are found; those made go when it ends."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(constants, "HF_HOME", folder),
    ):
        yield
