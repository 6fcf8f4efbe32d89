"""The systems that are timed: what users would pick, and ours. Each works in a process of its own.

    reference       padded to 512 tokens, float32, the model's dropout, Adam over all parameters
    peft defaults   peft and transformers' Trainer as they come
    peft tuned      bf16, batches of similar length, no dropout inside the encoder
    adapterhub      AdapterHub's `adapters`, tuned likewise (benchmarks/adapterhub.py)
    ours            finetuning.py's own epoch

All see the same reviews, or the first of them, in batches of the same size. Where the last blocks
alone learn, ours reads what the others make of each review from a file, made before the clock
starts; a peer can choose which blocks to adapt, and runs all.

A system calls `turn()` before each pass over the reviews, which waits until it is its turn: loading
is outside the clock, and one pass runs at a time.
"""

import io
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache, partial
from unittest import mock

import numpy as np
import torch
from huggingface_hub import constants
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, DistilBertConfig

import data_utils
import finetuning
import modeling
from benchmarks.flops import Shape
from benchmarks.turns import Turn, train_in_turns
from evaluation import measure
from experiment import Experiment, FrozenStates, Run, parse


@dataclass(frozen=True)
class Work:
    """What a system is timed on."""

    method: str = "lora"
    size: int = 16  # LoRA's rank on q, k, v, o, or the adapters' bottleneck
    batch_size: int = 32
    reviews: int = 256
    max_tokens: int = 512
    length: int | None = None  # tokens of each review, made up; None: real reviews
    shape: str = data_utils.BUNDLED  # or BUNDLED_BASE; "distilbert", a width: of random weights
    skip: int = 0  # of the real reviews, in their order
    blocks: int | None = None  # how many of the last blocks learn; None: all

    @property
    def sizes(self) -> Shape:
        """Of the encoder, with the blocks that learn: no others have to run."""
        config = self.config(None)
        blocks, stored = self.blocks or config.num_hidden_layers, self.blocks is not None
        if self.shape == "distilbert":
            return Shape(config.dim, config.hidden_dim, blocks, stored)
        return Shape(config.hidden_size, config.intermediate_size, blocks, stored)

    @property
    def frozen(self) -> int:
        """How many of the first blocks do not learn."""
        return self.config(None).num_hidden_layers - self.sizes.blocks

    @property
    def folder(self) -> str:
        """Where the encoder, or what stands for it, has its files."""
        bundled = self.shape in data_utils.ENCODERS
        return _encoder_folder(self.shape if bundled else data_utils.BUNDLED)

    @property
    def heads(self) -> int:
        return self.config(None).num_attention_heads

    def config(self, dropout: float | None):
        """The model's config; `dropout` inside the encoder, None: the model's own."""
        if self.shape == "distilbert":
            rates = {} if dropout is None else {"dropout": dropout, "attention_dropout": dropout}
            return DistilBertConfig(num_labels=2, **rates)
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
        data = data_utils.load_reviews(data_utils.BUNDLED, examples=(None, 1, 1))
        some = data.train.select(range(self.skip, self.skip + self.reviews))
        return data_utils.tokenise(some, self.tokenizer)


@cache
def _encoder_folder(name):
    return str(data_utils.encoder_folder(name))  # it reads all of the weights, to check them


# ---------------------------------------------------------------------------- ours


@dataclass(frozen=True)
class WorkExperiment(Experiment):
    """An experiment whose pretrained classifier is that of a `Work`, random weights included."""

    work: Work

    def pretrained(self):
        return self.work.pretrained(self.settings.encoder_dropout)


def as_run(work: Work, device: torch.device, *arguments: str) -> Run:
    """The work as a run of `finetuning.py`, with more of its command line's arguments."""
    names = {"lora": "lora(rank={})", "adapter": "adapter(bottleneck={})"}
    fixed = {
        "--methods": names.get(work.method, work.method).format(work.size),
        "--batch-size": work.batch_size,
        "--max-tokens": work.max_tokens,
        "--epochs": 100,  # the learning rate never reaches 0
    }
    fixed = [str(part) for pair in fixed.items() for part in pair]
    settings = parse(vars(finetuning) | {"BLOCKS": work.blocks}, [*fixed, *arguments])
    config, splits = work.config(settings.encoder_dropout), {"train": work.split().to(device)}
    base = ""  # the model of each run computes it
    experiment = WorkExperiment(settings, device, config, base, work.tokenizer, splits, [], work)
    return Run(experiment, settings.methods[0], seed=0)


@contextmanager
def new_states(dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within it no states of frozen blocks are found; those made go when it ends.

    `dtype` is that of the file, None: as the package chooses.
    """
    rows = FrozenStates.rows.fget

    def other_rows(frozen):
        return rows(frozen) if dtype is None else replace(rows(frozen), dtype=dtype)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(constants, "HF_HOME", folder),
        mock.patch.object(FrozenStates, "rows", property(other_rows)),
    ):
        yield


@contextmanager
def counting_reads(turn) -> Iterator[None]:
    """Within it `turn.waited` grows by the seconds that reading states takes."""
    padded = data_utils.Rows.padded

    def timed(*arguments, **options):
        start = time.perf_counter()
        states = padded(*arguments, **options)
        turn.waited += time.perf_counter() - start
        return states

    turn.waited = 0.0
    with mock.patch.object(data_utils.Rows, "padded", timed):
        yield


def ours(work: Work, device, turn, dtype: torch.dtype | None = None):
    """`finetuning.py`'s model and loop; states of frozen blocks are in a file of `dtype`."""
    measure.prepare_device(device)
    run = as_run(work, device)
    state, settings = finetuning.start(run), run.experiment.settings
    with new_states(dtype), counting_reads(turn):
        split = finetuning.with_states(state.model, run.experiment)[0]["train"]
        batches = data_utils.training_batches(split.lengths, work.batch_size, seed=0, epoch=1)
        while turn():
            finetuning.train_part(state, split, batches, settings, tqdm(disable=True))


def evaluation(work: Work, device, turn):
    """`finetuning.py`'s pass over reviews that are not trained on; whole where all blocks learn."""
    measure.prepare_device(device)
    run = as_run(work, device)
    model, experiment = finetuning.start(run).model, run.experiment
    with new_states(), counting_reads(turn):
        splits = finetuning.with_states(model, experiment)[0] if work.blocks else experiment.splits
        while turn():
            finetuning.predict(model, splits["train"], experiment.settings)


def shared_pass(work: Work, device, turn):
    """The frozen blocks, which run once, and the file that they leave."""
    measure.prepare_device(device)
    run = as_run(work, device)
    model = finetuning.start(run).model
    while turn():
        with new_states():
            finetuning.with_states(model, run.experiment)


def whole_experiment(work: Work, device, turn):
    """`finetuning.py` from its command line to its figures, with no states there at its start."""
    few = str(work.reviews // 4)
    counts = ["--train-examples", str(work.reviews), "--validation-examples", few]
    fixed = "--experiment timed --methods head adapter lora --seeds 0 1 2 --epochs 3"
    fixed += f" --evaluations-per-epoch 1 --max-tokens {work.max_tokens}"
    arguments = [*fixed.split(), *counts, "--test-examples", few, "--model", work.shape]
    while turn():
        said = io.StringIO()
        with (
            new_states(),
            mock.patch.object(finetuning, "BLOCKS", work.blocks),
            tempfile.TemporaryDirectory() as results,
            redirect_stdout(said),
            redirect_stderr(said),
        ):
            status = finetuning.main([*arguments, "--results", results])
        if status:
            raise RuntimeError(said.getvalue())


# ---------------------------------------------------------------------------- what users pick


def reference(work: Work, device, turn):
    """The loop of the project that this one mirrors, from its description."""
    pretrained = work.pretrained(None)
    options = {"lora": {"rank": work.size}, "adapter": {"bottleneck": work.size}}
    model = modeling.METHODS[work.method](pretrained, **options.get(work.method, {})).to(device)
    model.train()
    reviews = work.split().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    order = np.random.default_rng(0).permutation(len(reviews))
    while turn():
        for start in range(0, len(order), work.batch_size):
            batch = reviews.batch(order[start : start + work.batch_size])
            padding = (0, work.max_tokens - batch.input_ids.shape[1])
            ids, mask = (torch.nn.functional.pad(tensor, padding) for tensor in batch[:2])
            logits = model.pretrained(input_ids=ids, attention_mask=mask).logits
            optimizer.zero_grad()
            cross_entropy(logits, batch.labels).backward()
            optimizer.step()


def peft_defaults(work: Work, device, turn):
    """peft and Trainer as they come; its data collator pads each batch to its longest."""
    _trainer(work, turn, None)


def peft_tuned(work: Work, device, turn):
    """peft and Trainer as someone who knows them would set them."""
    _trainer(work, turn, 0.0, bf16=True, train_sampling_strategy="group_by_length")


def _trainer(work, turn, dropout, **options):
    import peft
    from transformers import DataCollatorWithPadding

    pretrained = work.pretrained(dropout)
    architecture = modeling.architectures.architecture_of(pretrained.config)
    if work.method == "lora":
        blocks = range(work.frozen, work.frozen + work.sizes.blocks)
        config = peft.LoraConfig(
            task_type="SEQ_CLS",
            r=work.size,
            lora_alpha=2 * work.size,
            target_modules=[architecture.projections[name] for name in ("q", "k", "v", "o")],
            layers_to_transform=list(blocks),
        )
        pretrained = peft.get_peft_model(pretrained, config)
    collator = DataCollatorWithPadding(work.tokenizer)
    options["per_device_train_batch_size"] = work.batch_size
    train_in_turns(turn, pretrained, _rows(work), collator, **options)


def _rows(work):
    reviews = work.split()
    ids = reviews.token_ids.split(reviews.lengths.tolist())
    pairs = zip(ids, reviews.labels, strict=True)
    return [{"input_ids": ids.tolist(), "labels": int(label)} for ids, label in pairs]


def adapterhub(work: Work, device, turn):
    """AdapterHub's trainer, in the environment of the interpreter ADAPTERS_PYTHON."""
    names = ("folder", "method", "size", "batch_size", "frozen")
    facts = {name: getattr(work, name) for name in names} | {"rows": _rows(work)}
    end = turn.pipe.fileno()  # it answers the parent itself
    command = [os.environ["ADAPTERS_PYTHON"], "-m", "benchmarks.adapterhub", str(end)]
    subprocess.run(command, input=json.dumps(facts).encode(), pass_fds=[end], check=True)


# ---------------------------------------------------------------------------- processes

SYSTEMS = {
    "reference": reference,
    "peft defaults": peft_defaults,
    "peft tuned": peft_tuned,
    "adapterhub": adapterhub,
    "ours": ours,
    "ours, float32 states": partial(ours, dtype=torch.float32),
    "ours, evaluation": evaluation,
    "ours, shared pass": shared_pass,
    "ours, experiment": whole_experiment,
}


class Worker:
    """A system in a process of its own; call it for the seconds of one pass over its reviews."""

    def __init__(self, system: str, work: Work):
        self.system, self.work = system, work
        context = multiprocessing.get_context("forkserver")  # imports once, then forks
        context.set_forkserver_preload(["benchmarks.systems"])
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, system, work), daemon=True)
        self.process.start()
        self.lengths = self._answer()

    def __call__(self) -> float:
        self.pipe.send("pass")
        return self._answer()

    def peak_memory(self) -> float | None:
        """MiB above the loaded model before its first step, at the highest."""
        self.pipe.send("memory")
        return self._answer()

    def waited(self) -> float:
        """Seconds of the last pass in which it waited for stored states."""
        self.pipe.send("waited")
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.pipe.send("end")
        self.process.join()

    def _answer(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            answer = RuntimeError("the process has died")
        if isinstance(answer, Exception):
            raise RuntimeError(f"{self.system} on {self.work}: {answer}")
        return answer


def _serve(pipe, system, work):
    warnings.simplefilter("ignore")
    device = measure.choose_device()
    try:
        torch.manual_seed(0)
        SYSTEMS[system](work, device, Turn(pipe, device, work.split().lengths))
    except Exception as error:  # the parent says which system it was
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
