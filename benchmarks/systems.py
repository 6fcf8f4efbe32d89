"""The systems that are timed: what users would pick, and ours. Each works in a process of its own.

    reference       padded to 512 tokens, float32, the model's dropout, Adam over all parameters
    peft defaults   peft and transformers' Trainer as they come
    peft tuned      bf16, batches of similar length, no dropout inside the encoder
    ours            finetuning.py's own epoch

All see the same reviews, or the first of them, in batches of the same size. A system calls `turn()`
before each pass over them, which waits until it is its turn: loading is outside the clock, and one
pass runs at a time.
"""

import multiprocessing
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, DistilBertConfig

import data_utils
import finetuning
import modeling
from benchmarks.flops import Shape
from evaluation import measure
from experiment import Experiment, Run, parse


@dataclass(frozen=True)
class Work:
    """What a system is timed on."""

    method: str = "lora"
    size: int = 16  # LoRA's rank on q, k, v, o, or the adapters' bottleneck
    batch_size: int = 32
    reviews: int = 256
    max_tokens: int = 512
    length: int | None = None  # tokens of each review, made up; None: real reviews
    shape: str = data_utils.BUNDLED  # or "distilbert", or a width: of random weights
    skip: int = 0  # of the real reviews, in their order

    @property
    def sizes(self) -> Shape:
        config = self.config(None)
        if self.shape == "distilbert":
            return Shape(config.dim, config.hidden_dim, config.n_layers)
        return Shape(config.hidden_size, config.intermediate_size, config.num_hidden_layers)

    @property
    def heads(self) -> int:
        return self.config(None).num_attention_heads

    def config(self, dropout: float | None):
        """The model's config; `dropout` inside the encoder, None: the model's own."""
        if self.shape == "distilbert":
            rates = {} if dropout is None else {"dropout": dropout, "attention_dropout": dropout}
            return DistilBertConfig(num_labels=2, **rates)
        folder = str(data_utils.encoder_folder())
        config = modeling.load_config(folder, ["negative", "positive"], dropout)
        if self.shape != data_utils.BUNDLED:
            width = int(self.shape)
            config.hidden_size, config.intermediate_size = width, 4 * width
        return config

    def pretrained(self, dropout: float | None):
        """The classifier."""
        config = self.config(dropout)
        if self.shape == data_utils.BUNDLED:
            return modeling.load_pretrained(str(data_utils.encoder_folder()), config)
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)

    @property
    def tokenizer(self):
        """The bundled encoder's."""
        folder = str(data_utils.encoder_folder())
        return modeling.load_tokenizer(folder, self.config(None), self.max_tokens)

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
    settings = parse(vars(finetuning), [*fixed, *arguments])
    config, splits = work.config(settings.encoder_dropout), {"train": work.split().to(device)}
    experiment = WorkExperiment(settings, device, config, work.tokenizer, splits, [], work)
    return Run(experiment, settings.methods[0], seed=0)


def ours(work: Work, device, turn):
    """`finetuning.py`'s model and loop."""
    measure.prepare_device(device)
    run = as_run(work, device)
    state, settings = finetuning.start(run), run.experiment.settings
    split = run.experiment.splits["train"]
    batches = data_utils.training_batches(split.lengths, work.batch_size, seed=0, epoch=1)
    while turn():
        finetuning.train_part(state, split, batches, settings, tqdm(disable=True))


def evaluation(work: Work, device, turn):
    """`finetuning.py`'s pass over reviews that are not trained on."""
    measure.prepare_device(device)
    run = as_run(work, device)
    model, experiment = finetuning.start(run).model, run.experiment
    while turn():
        finetuning.predict(model, experiment.splits["train"], experiment.settings)


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
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        def on_epoch_begin(self, *_, **__):
            turn()

    pretrained = work.pretrained(dropout)
    architecture = modeling.architectures.architecture_of(pretrained.config)
    targets = [architecture.projections[name] for name in ("q", "k", "v", "o")]
    if work.method == "lora":
        config = peft.LoraConfig(
            task_type="SEQ_CLS",
            r=work.size,
            lora_alpha=2 * work.size,
            target_modules=rf".*({'|'.join(path.replace('.', chr(92) + '.') for path in targets)})",
        )
        pretrained = peft.get_peft_model(pretrained, config)
    reviews = work.split()
    rows = [
        {"input_ids": ids.tolist(), "labels": int(label)}
        for ids, label in zip(
            reviews.token_ids.split(reviews.lengths.tolist()), reviews.labels, strict=True
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=work.batch_size,
            num_train_epochs=1000,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **options,
        )
        trainer = Trainer(
            pretrained,
            arguments,
            data_collator=DataCollatorWithPadding(work.tokenizer),
            train_dataset=rows,
            callbacks=[Turns()],
        )
        trainer.train()


# ---------------------------------------------------------------------------- processes

SYSTEMS = {
    "reference": reference,
    "peft defaults": peft_defaults,
    "peft tuned": peft_tuned,
    "ours": ours,
    "ours, evaluation": evaluation,
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


class Turn:
    """The worker's end: waits for the parent's word, and answers with the seconds since."""

    def __init__(self, pipe, device, lengths):
        self.pipe, self.device, self.lengths = pipe, device, lengths
        self.start = None

    def __call__(self) -> bool:
        """Wait for one's turn."""
        measure.synchronise(self.device)
        if self.start is None:
            self.pipe.send(self.lengths)
            measure.reset_peak_memory(self.device)
            self.resting = measure.peak_memory(self.device)  # what is held now
        else:
            self.pipe.send(time.perf_counter() - self.start)
        while (order := self.pipe.recv()) == "memory":
            peak = measure.peak_memory(self.device)
            self.pipe.send(None if peak is None else peak - self.resting)
            measure.reset_peak_memory(self.device)  # gives back what other workers need
        if order == "end":
            sys.exit()
        self.start = time.perf_counter()
        return True


def _serve(pipe, system, work):
    warnings.simplefilter("ignore")
    device = measure.choose_device()
    try:
        torch.manual_seed(0)
        SYSTEMS[system](work, device, Turn(pipe, device, work.split().lengths))
    except Exception as error:  # the parent says which system it was
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
