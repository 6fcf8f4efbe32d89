"""How many seconds from a cold start to an accuracy on the test?

    python -m studies.time_to_accuracy      into docs/results/time_to_accuracy.csv and .png

MPNet on Rotten Tomatoes, 2,000 labels, the last 3 blocks, the means of all layers. A cold start:
the texts are token ids and the weights are read, and nothing has been computed. The clock holds
the pass through the frozen blocks, and stops while the test is predicted. `peft tuned` is peft's
LoRA of the same blocks, rate and pooling, trained by transformers' Trainer in batches of similar
length, in bf16 where that is faster; it runs all blocks at every step.
"""

import sys
import time
from itertools import accumulate
from pathlib import Path

import pandas as pd
import torch
from experiment.inference import features
from torch import nn
from tqdm import tqdm

import finetuning
import hardware
import modeling
from boundary import write
from evaluation import style
from experiment import cached_states, compute_all, score
from experiment.baselines import fit_to_all_labels
from modeling.pooling import LayersHead, mean_of_tokens
from studies import peers
from studies.work import prepared

FOLDER = Path("docs/results")
TASK = ("--experiment", "base", "--dataset", "rotten-tomatoes", "--max-tokens", "64")
TASK += ("--seeds", "0", "--methods", "probe", "lora", "adapter")
TASK += ("--learning-rates", "lora=0.001", "adapter=0.00316")  # best on this task


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


def probe(experiment, run) -> list[dict]:
    """Fitted to all labels; a single row."""
    splits, encoder = experiment.splits(0), experiment.build(modeling.Method("head", {}))
    watch = Stopwatch("probe")

    def inputs(name):
        return features(encoder, splits[name], experiment.settings)

    def accuracy():
        return score(modeling.log_probabilities(pipeline, inputs("test")), splits["test"])[1]

    pipeline = fit_to_all_labels(modeling.fit_probe, splits, inputs)

    watch.note(accuracy)
    return watch.rows


def ours(experiment, run) -> list[dict]:
    """`finetuning.py`'s loop, with the test at each evaluation."""
    state, settings = finetuning.start(experiment, run), experiment.settings
    splits, watch = experiment.splits(0), Stopwatch(f"ours, {run.method.name}")

    def with_states(name):
        return cached_states(state.model, {name: splits[name]}, settings)[0][name]

    def accuracy():
        test = with_states("test")
        return score(finetuning.predict(state.model, test, settings), test)[1]

    train = with_states("train")
    for batches in finetuning.parts_of_training(train.lengths, settings, run.seed):
        finetuning.train_part(state, train, batches, settings, tqdm(disable=True))
        watch.note(accuracy)
    return watch.rows


class PeftClassifier(nn.Module):
    """An encoder that peft has adapted, and the same pooling and head as ours."""

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


def peft_tuned(experiment, run) -> list[dict]:
    """The same LoRA by peft and Trainer."""
    settings, test = experiment.settings, experiment.splits(0)["test"]
    classes = len(experiment.task.label_names)
    encoder = peers.lora(experiment.pretrained().base_model, run.method)
    model, watch = PeftClassifier(encoder, classes), Stopwatch("peft tuned, lora")
    lengths = experiment.splits(0)["train"].lengths
    parts = finetuning.parts_of_training(lengths, settings, seed=0)

    def accuracy():
        model.eval()
        forward = lambda batch: model(*batch.tokens)["logits"].float()  # noqa: E731
        logits = compute_all(torch.zeros(len(test), classes), forward, test, settings)
        model.train()
        return score(logits, test)[1]

    peers.train(
        experiment,
        model,
        set(accumulate(map(len, parts))),  # the steps after which ours is tested
        lambda: watch.note(accuracy),
        num_train_epochs=settings.epochs,
        learning_rate=run.method.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.gradient_clip,
        **peers.tuned(experiment.device),
    )
    return watch.rows


def figure(points: pd.DataFrame) -> Path:
    """Accuracy against seconds, a line for each system; peft's is grey."""
    style.set_style()
    drawn, axes = style.plt.subplots(figsize=(7.2, 3.8))
    for name, part in points.groupby("system", sort=False):
        look = style.METHODS[name.split(", ")[-1]]
        colour = "#999999" if "peft" in name else look.colour
        percent = 100 * part["test_accuracy"]
        axes.plot(part["seconds"], percent, color=colour, marker=look.marker, label=name)
    axes.set(xlabel="seconds from a cold start", ylabel="test accuracy (%)")
    drawn = drawn, points["device"].iloc[0], axes.lines
    title = "How long does each accuracy take?"
    return style.save(FOLDER / "time_to_accuracy.png", drawn, title, "")


def main(options: list[str]) -> None:
    """Time all, with further options of finetuning.py; write the points and the figure."""
    rows = []
    for turn, method in ((probe, 0), (ours, 1), (ours, 2), (peft_tuned, 1)):
        with prepared(*TASK, *options) as experiment:
            torch.manual_seed(0)
            rows += turn(experiment, experiment.runs()[method])
    points = pd.DataFrame(rows).assign(device=hardware.describe(experiment.device))
    write(FOLDER / "time_to_accuracy.csv", points.to_csv(index=False, float_format="%.4g"))
    print(figure(points))


if __name__ == "__main__":
    main(sys.argv[1:])
