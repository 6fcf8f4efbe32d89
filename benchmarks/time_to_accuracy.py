"""How many seconds from a cold start to an accuracy on the test?

    python -m benchmarks.time_to_accuracy      into docs/results/time_to_accuracy.csv and .png

MPNet on Rotten Tomatoes, 2,000 labels, the last 3 blocks, the means of all layers. A cold start:
the texts are token ids and the weights are read, and nothing has been computed. The clock holds
the pass through the frozen blocks, and stops while the test is predicted. `peft tuned` is peft's
LoRA of the same blocks, rate and reading, trained by transformers' Trainer in batches of similar
length, in bf16 where that is faster; it runs all blocks at every step.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

import finetuning
import hardware
import modeling
from benchmarks.peers import lora, rows_of
from benchmarks.turns import train as train_by_trainer
from benchmarks.work import new_states
from boundary import write
from evaluation import style
from evaluation.style import plt
from experiment import cached_states, parse, prepare, score
from experiment.inference import features
from modeling.pooling import LayersHead, mean_of_tokens

FOLDER = Path("docs/results")
TASK = ("--experiment", "base", "--dataset", "rotten-tomatoes", "--max-tokens", "64")
TASK += ("--methods", "probe", "lora", "adapter", "--seeds", "0")
TARGETS = (80, 82, 83, 84)  # per cent


class Stopwatch:
    """Seconds since its start, without those for which it was stopped, at each accuracy."""

    def __init__(self, system: str):
        self.system, self.rows, self.start = system, [], time.perf_counter()

    def note(self, accuracy) -> None:
        """Stop, call `accuracy` for the test's, write both down, and go on."""
        now = time.perf_counter()
        row = {"system": self.system, "seconds": now - self.start, "test_accuracy": accuracy()}
        self.rows.append(row)
        print("{system}: {seconds:.1f} s, {test_accuracy:.1%}".format(**row), flush=True)
        self.start += time.perf_counter() - now


def probe(experiment, method) -> list[dict]:
    """Fitted to all labels; a single row."""
    splits, settings = experiment.splits(0), experiment.settings
    encoder, watch = experiment.build(modeling.Method("head", {})), Stopwatch("probe")
    known = {name: splits[name] for name in ("train", "validation")}
    parts = cached_states(encoder, known, settings)[0].values()
    inputs = np.concatenate([features(encoder, part, settings) for part in parts])
    pipeline = modeling.fit_probe(inputs, np.concatenate([part.labels for part in parts]))

    def accuracy():
        test = features(encoder, splits["test"], settings)
        return score(modeling.log_probabilities(pipeline, test), splits["test"])[1]

    watch.note(accuracy)
    return watch.rows


def ours(experiment, method) -> list[dict]:
    """`finetuning.py`'s loop, with the test at each evaluation."""
    run = next(run for run in experiment.runs() if run.method == method)
    state, settings = finetuning.start(experiment, run), experiment.settings
    splits, watch = experiment.splits(0), Stopwatch(f"ours, {method.name}")
    train = cached_states(state.model, {"train": splits["train"]}, settings)[0]["train"]
    for batches in finetuning.parts_of_training(train.lengths, settings, run.seed):
        finetuning.train_part(state, train, batches, settings, tqdm(disable=True))
        watch.note(lambda: tested(state.model, splits["test"], settings))
    return watch.rows


def tested(model, test, settings) -> float:
    """Accuracy on the test, from stored states."""
    test = cached_states(model, {"test": test}, settings)[0]["test"]
    return score(finetuning.predict(model, test, settings), test)[1]


class PeftClassifier(nn.Module):
    """An encoder that peft has adapted, and the same reading and head as ours."""

    def __init__(self, encoder, classes: int):
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.head = LayersHead(config.num_hidden_layers + 1, config.hidden_size, classes)

    def forward(self, input_ids, attention_mask, labels=None):
        """What Trainer expects: the loss and the logits (N, C)."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        layers = self.encoder(**inputs, output_hidden_states=True).hidden_states
        means = [mean_of_tokens(hidden, attention_mask) for hidden in layers]
        logits = self.head(torch.stack(means, 1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def peft_tuned(experiment, method) -> list[dict]:
    """The same LoRA by peft and Trainer."""
    from transformers import DataCollatorWithPadding, TrainerCallback

    settings, splits = experiment.settings, experiment.splits(0)
    pretrained, choice = experiment.pretrained(), method.hyperparameters
    classes = pretrained.config.num_labels
    encoder = lora(pretrained.base_model, choice["rank"], choice["blocks"])
    model = PeftClassifier(encoder, classes)
    train, watch = splits["train"], Stopwatch("peft tuned, lora")
    steps = finetuning.steps_per_epoch(len(train), settings)
    per_part = max(1, steps // settings.evaluations_per_epoch)

    def accuracy():
        model.eval()
        logits = torch.zeros(len(splits["test"]), classes)
        forward = lambda batch: model(*batch.tokens)["logits"].float()  # noqa: E731
        finetuning.compute_all(logits, forward, splits["test"], settings)
        model.train()
        return score(logits, splits["test"])[1]

    class AtEachPart(TrainerCallback):
        def on_step_end(self, arguments, state, control, **_):
            if state.global_step % per_part == 0:
                watch.note(accuracy)

    train_by_trainer(
        model,
        rows_of(train),
        DataCollatorWithPadding(experiment.tokenizer),
        AtEachPart(),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=method.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.gradient_clip,
        train_sampling_strategy="group_by_length",
        bf16=hardware.compute_type(experiment.device) is torch.bfloat16,
    )
    return watch.rows


def first_reached(points: pd.DataFrame) -> pd.DataFrame:
    """The seconds at which each system first had each target; empty where it never had."""
    columns = {}
    for target in TARGETS:
        there = points[100 * points["test_accuracy"] >= target]
        columns[f"{target} %"] = there.groupby("system")["seconds"].min()
    return pd.DataFrame(columns).reindex(points["system"].unique())


def figure(points: pd.DataFrame, note: str) -> Path:
    """Accuracy against seconds, a line for each system."""
    style.set_style()
    drawn, axes = plt.subplots(figsize=(7.2, 3.8))
    looks = {name: style.METHODS[name.split(", ")[-1]] for name in points["system"].unique()}
    handles = []
    for (name, part), pale in zip(points.groupby("system", sort=False), (0, 0, 0, 1), strict=False):
        look = looks[name]._replace(label=name, colour="#999999" if pale else looks[name].colour)
        axes.plot(
            part["seconds"], 100 * part["test_accuracy"], color=look.colour, marker=look.marker
        )
        handles.append(style.line_handle(look))
    axes.set(xlabel="seconds from a cold start", ylabel="test accuracy (%)")
    title = "How long does each accuracy take?"
    return style.save(FOLDER / "time_to_accuracy.png", (drawn, note, handles), title, "")


def main(arguments: list[str]) -> int:
    """Time all, with further options of finetuning.py; write the points and the figure."""
    with new_states(), tempfile.TemporaryDirectory() as results:
        options = [*TASK, "--results", results, *arguments]
        experiment = prepare(parse(vars(finetuning), options))
        _, lora, adapter = experiment.settings.methods
        turns = (probe, None), (ours, lora), (ours, adapter), (peft_tuned, lora)
        rows = []
        for turn, method in turns:
            torch.manual_seed(0)
            with new_states():  # each makes its own pass
                rows += turn(experiment, method)
    points = pd.DataFrame(rows).assign(device=hardware.describe(experiment.device))
    write(FOLDER / "time_to_accuracy.csv", points.to_csv(index=False, float_format="%.4g"))
    print(first_reached(points).to_string(float_format="{:.1f}".format))
    print(figure(points, points["device"].iloc[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
