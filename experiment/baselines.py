"""Runs without training by gradients: TF-IDF, the probe, and combinations of finished runs."""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax

import hardware
import modeling
from evaluation.metrics import scores
from modeling.checkpoint import save_checkpoint, save_combination

from .data import Data
from .queue import RunQueue
from .runs import Run
from .settings import Settings


def fit_baseline(run: Run, data: Data, settings: Settings) -> None:
    """Fit a baseline to all labels of a seed, those of validation too, and test it.

    Its validation loss is that of cross-validation within them.
    """
    labelled, test = data.labelled(run), data.splits(run)["test"]
    labels, classes = labelled.labels.cpu().numpy(), len(data.task.label_names)
    reading, fitting = hardware.Clock(data.device), hardware.Clock(data.device)
    is_probe, pooling, frozen_before = run.method.name == modeling.PROBE, None, data.seconds
    inputs = [labelled.texts, test.texts]
    with reading:
        if is_probe:
            pooling = run.method.hyperparameters.get("pooling") or data.pooling(run)
            inputs = [data.features(split, pooling) for split in (labelled, test)]
    hardware.reset_peak_memory(data.device)
    fit = modeling.fit_probe if is_probe else modeling.fit_tfidf
    with fitting:
        classifier = fit(inputs[0], labels, labelled.groups, classes)
    facts = {
        "pooling": pooling,
        "training_seconds": fitting.seconds,
        "evaluation_seconds": reading.seconds - (data.seconds - frozen_before),
        "peak_memory_mib": hardware.peak_memory(data.device),
        "scores": {"validation_loss": classifier.validation_loss},
    }
    if is_probe:
        depth = data.encoder.config.num_hidden_layers
        facts |= {"frozen_blocks": depth, "shared_seconds": data.frozen_seconds(labelled, depth)}
    logits = {}
    for name, split, read in zip(("train", "test"), (labelled, test), inputs, strict=True):
        if len(split):  # a model for new texts has no test
            logits[name] = classifier.log_probabilities(read)
            values = scores(split.labels.cpu().numpy(), logits[name].numpy()).items()
            facts["scores"] |= {f"{name}_{metric}": value for metric, value in values}
    save_checkpoint(classifier, run.folder, data.checkpoint | {"pooling": pooling})
    facts["other_load"] = hardware.other_load(data.device)
    run.finish(facts, test, logits.get("test"))


def combine(queue: RunQueue) -> None:
    """Make the runs of combinations whose parts have finished: from the parts' predictions."""
    for run in queue.combinations:
        parts = [queue.part(part, run.seed) for part in run.method.parts]
        if not run.is_finished and all(part.is_finished for part in parts):
            with run.at_work():
                combine_parts(run, parts, queue.data)


def combine_parts(run: Run, parts: list[Run], data: Data) -> None:
    """One run whose log-probabilities are the sum of its parts'."""
    tables = [pd.read_csv(part.folder / "predictions.csv") for part in parts]
    names = [f"logit_{label}" for label in run.label_names]
    logits = sum(log_softmax(table[names].to_numpy(np.float64), axis=1) for table in tables)
    logits = log_softmax(logits, axis=1).astype(np.float32)
    test = data.splits(parts[0])["test"]
    values = scores(test.labels.cpu().numpy(), logits).items()
    records = [part.record() for part in parts]
    facts = {"scores": {f"test_{metric}": value for metric, value in values}}
    sums = ("training_seconds", "evaluation_seconds", "shared_seconds", "trainable_parameters")
    for name in sums:
        values = [value for record in records if (value := getattr(record, name)) is not None]
        facts[name] = sum(values) if values else None
    save_combination(run.folder, run.method, [Path("..") / part.folder.name for part in parts])
    run.finish(facts, test, torch.from_numpy(logits))


def save_final(queue: RunQueue) -> None:
    """Say how the classifier for new texts is used; a combination is put beside its parts."""
    method, folder = queue.settings.final, queue.folder / "final"
    if queue.left():
        return
    if method.parts:
        save_combination(folder, method, [Path(part.file_name) for part in method.parts])
    trained = [part for part in method.parts or (method,) if not part.is_baseline]
    share = f" ({queue.settings.validation_share:.0%} choose epoch and learning rate)"
    print(f"{method.text}, trained on all texts{share * bool(trained)}: {folder}")
    print("New texts, from a file, are classified by")
    is_here = Path.cwd() == hardware.PROGRAM
    place = shlex.quote(str(folder if is_here else folder.resolve()))
    start = "" if is_here else f"cd {shlex.quote(str(hardware.PROGRAM))} && "
    print(f"  {start}python -m modeling.predict {place} FILE.csv")
