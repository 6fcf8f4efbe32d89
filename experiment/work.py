"""The work of a run: fine-tuning, fitting a baseline, or combining finished runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax

import hardware
import modeling
from boundary import BadInput, quoted
from data_utils import Split
from evaluation.metrics import scores
from evaluation.stored import read_table
from modeling import PeftModel
from modeling.checkpoint import save_checkpoint, save_combination
from records import ANEW

from .data import Data
from .queue import RunQueue
from .runs import Run
from .settings import Settings
from .training_state import best

CPU = torch.device("cpu")


def fine_tune(
    run: Run, data: Data, settings: Settings, train: Callable[..., None], evaluate: Callable
) -> None:
    """Do one run: train at each candidate learning rate, keep the best weights, and test them.

    `train` and `evaluate` are finetuning.py's functions.
    """
    frozen_before = data.frozen_clock.seconds
    pooling = data.pooling(run)  # before the seed is set: choosing it may draw random numbers
    for rate in run.rates():
        model = None  # frees the last rate's memory for the next
        torch.manual_seed(run.seed)
        model, splits = data.build(run.method, pooling), data.splits(run)
        splits = {name: data.with_outputs(model, split) for name, split in splits.items()}
        hardware.reset_peak_memory(data.device)  # computing those outputs is no part of the peak
        try:
            train(model, splits, rate, settings.for_model(model), run)
        except FloatingPointError as error:
            run.leave_out(rate, error)
    run.load_best(model)
    facts, logits = training_facts(run, model, splits), {}
    for name in ("train", "test"):
        if len(splits[name]):  # a model for new texts has no test
            with run.evaluation_clock:
                measured, logits[name] = evaluate(model, splits[name], settings)
            facts["scores"] |= {f"{name}_{metric}": value for metric, value in measured.items()}
    run.began += data.frozen_clock.seconds - frozen_before  # all runs share that time
    save_checkpoint(model, run.folder, data.checkpoint)
    run.finish(facts, splits["test"], logits.get("test"))


def training_facts(run: Run, model: PeftModel, splits: dict[str, Split]) -> dict[str, Any]:
    """The record's fields about training, taken before the test may raise the peak of memory."""
    rows = {rate: [] for rate in run.method.learning_rates}
    for row in run.history:
        rows[row["learning_rate"]].append(row)
    chosen, (trainable, total) = best(run.history), model.count_parameters()
    device = splits["train"].labels.device
    stored = [split.frozen for name, split in splits.items() if name != "test" and split.frozen]
    return {
        "learning_rate": chosen["learning_rate"],
        "rates_tried": {
            repr(rate): best(tried)["validation_loss"] if tried else None
            for rate, tried in rows.items()
        },
        "pooling": model.pooling,
        "scores": {k: v for k, v in chosen.items() if k.startswith("validation_")},
        "trainable_parameters": trainable,
        "total_parameters": total,
        "trainable_percentage": 100 * trainable / total,
        "shared_seconds": sum(outputs.seconds for outputs in stored),
        "frozen_blocks": model.frozen_blocks,
        "peak_memory_mib": hardware.peak_memory(device),
        "epochs_run": rows[chosen["learning_rate"]][-1]["epoch"],
        "best_epoch": chosen["epoch"],
        "best_step": chosen["step"],
        "other_load": hardware.other_load(device),
    }


def fit_baseline(run: Run, data: Data, settings: Settings) -> None:
    """Fit a baseline to all labels of a seed, including validation's, and test it.

    Its validation loss comes from cross-validation within these labels.
    """
    labelled, test = data.labelled(run), data.splits(run)["test"]
    labels, classes = labelled.labels.cpu().numpy(), len(data.task.label_names)
    frozen_before, is_probe = data.frozen_clock.seconds, run.method.name == modeling.PROBE
    inputs, pooling = [labelled.texts, test.texts], None
    if is_probe:
        pooling = run.method.hyperparameters.get("pooling") or data.pooling(run)
        frozen = data.frozen_clock.seconds
        with run.evaluation_clock:
            inputs = [data.features(split, pooling) for split in (labelled, test)]
        run.evaluation_clock.seconds -= data.frozen_clock.seconds - frozen
    hardware.reset_peak_memory(CPU)
    fit = modeling.fit_probe if is_probe else modeling.fit_tfidf
    with run.training_clock:
        classifier = fit(inputs[0], labels, labelled.groups, classes)
    facts = {
        "pooling": pooling,
        "peak_memory_mib": hardware.peak_memory(CPU) if data.device == CPU else None,
        "scores": {"validation_loss": classifier.validation_loss},
    }
    if is_probe:
        depth = data.encoder.config.num_hidden_layers
        facts |= {"frozen_blocks": depth, "shared_seconds": data.frozen_seconds(labelled, depth)}
    logits = {}
    for name, split, given in zip(("train", "test"), (labelled, test), inputs, strict=True):
        if len(split):  # a model for new texts has no test
            logits[name] = classifier.log_probabilities(given)
            labels, values = split.labels.cpu().numpy(), logits[name].numpy()
            facts["scores"] |= scores(labels, values, f"{name}_")
    save_checkpoint(classifier, run.folder, data.checkpoint | {"pooling": pooling})
    facts["other_load"] = hardware.other_load(data.device)
    run.began += data.frozen_clock.seconds - frozen_before
    run.finish(facts, test, logits.get("test"))


def combine(queue: RunQueue) -> None:
    """Make the combinations whose parts have finished, again where a part has run anew."""
    for run in queue.combinations:
        parts = [queue.part(part, run.seed) for part in run.method.parts]
        records = [part.record() for part in parts if part.is_finished]
        latest = max((record.started for record in records), default="")
        is_made = run.is_finished and run.record().started >= latest  # a part may have run anew
        if len(records) == len(parts) and not is_made:
            with run.at_work():
                run.begin()
                combine_parts(run, parts, queue.data)


def combine_parts(run: Run, parts: list[Run], data: Data) -> None:
    """Make a run whose log-probabilities are the mean of its parts', renormalised."""
    test, logits, facts = data.splits(parts[0])["test"], None, {}
    if len(test):  # a model for new texts has no test
        columns = {f"logit_{label}": float for label in run.label_names}
        tables = [read_table(part.folder / "predictions.csv", columns) for part in parts]
        for part, table in zip(parts, tables, strict=True):
            if len(table) != len(test):
                raise BadInput(f"{part.folder}/predictions.csv has lost rows; {ANEW}")
        logs = np.mean([log_softmax(table.to_numpy(), axis=1) for table in tables], axis=0)
        logits = torch.from_numpy(log_softmax(logs, axis=1)).float()
        facts["scores"] = scores(test.labels.cpu().numpy(), logits.numpy(), "test_")
    records = [part.record() for part in parts]
    sums = ("training_seconds", "evaluation_seconds", "shared_seconds", "trainable_parameters")
    for name in sums:
        values = [value for record in records if (value := getattr(record, name)) is not None]
        facts[name] = sum(values) if values else None
    save_combination(run.folder, run.method, [Path("..") / part.folder.name for part in parts])
    run.finish(facts, test, logits)


def save_final(queue: RunQueue) -> None:
    """Make the folder `final` a checkpoint of its run's model, and print how to use it."""
    (method,), folder = queue.settings.methods, queue.folder
    run = queue.run(method, 0)
    if not run.is_finished:
        return
    save_combination(folder, method, [Path(run.folder.name)])
    trained = [part for part in method.parts or (method,) if not part.is_baseline]
    share = f" ({queue.settings.validation_share:.0%} choose epoch and learning rate)"
    print(f"{method.text}, trained on all texts{share * bool(trained)}: {folder}")
    print("New texts, from a file, are classified by")
    is_here = Path.cwd() == hardware.PROGRAM
    place = quoted((folder if is_here else folder.resolve()).as_posix())
    start = "" if is_here else f"cd {quoted(hardware.PROGRAM.as_posix())} && "
    print(f"  {start}python -m modeling.predict {place} FILE.csv")
