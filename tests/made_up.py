"""An experiment's folder, made up: the files that finetuning.py leaves, without training."""

import json

import numpy as np
import pandas as pd

from evaluation.metrics import scores

TESTS = 40
EXPERIMENT = {
    "constants": {
        **{"experiment": "t", "model": "tiny", "labels": 14, "max_tokens": 8},
        **{"methods": ["head", "lora"], "seeds": [0, 1], "epochs": 2, "encoder_dropout": None},
        **{"learning_rates": {"head": 0.01, "lora": 1e-05}, "lora_rslora": False},
        **{"micro_batch_tokens": None, "truncation": "right", "results": "my results"},
        **{"metric": "accuracy", "equivalence_margin": 0.01, "preset": "quick"},
        "contrasts": [],
    },
    "model": "tiny",
    "data_set": "made up",
    "label_names": ["bad", "good"],
    "command": "python finetuning.py --experiment t",
    "code": "0123abcd+",
    "digests": {"data digest": "d1", "encoder digest": "e1"},
    "data": {"train": 10, "validation": 4, "test": TESTS, "test_share_truncated": 0.25}
    | {"labels_redrawn": False, "folds": None},
}
DEPENDS_ON = {"MODEL": "tiny", "EPOCHS": 2, "data digest": "d1", "encoder digest": "e1"}
BASELINES = ("tfidf", "probe")
UNMEASURED = ("trainable_parameters", "total_parameters", "trainable_percentage")
UNMEASURED += ("epochs_run", "best_epoch", "best_step")
STEPS = 3  # an epoch; two evaluations on validation in each, after one step and after three


def begin(folder, **more):
    """Write experiment.json; `more` replaces what it says, some constants or facts of the data."""
    folder.mkdir(exist_ok=True)
    more |= {part: EXPERIMENT[part] | more.get(part, {}) for part in ("constants", "data")}
    more["runs"] = [path.parent.name for path in folder.glob("*/run.json")]
    (folder / "experiment.json").write_text(json.dumps(EXPERIMENT | more))


def begin_folds(folder, folds, **more):
    """The same of an experiment whose seed s tests fold s."""
    begin(folder, data={"folds": folds, "texts": TESTS}, **more)


def add(folder, method, seed, right=30, **more):
    """A run's folder, which gets the first `right` of the test texts right, and no other.

    `more` may hold the labels' names, the status, the number of epochs, and entries of run.json.
    """
    labels = more.pop("labels", ("bad", "good"))
    truth = np.arange(TESTS) % len(labels)
    guess = np.where(np.arange(TESTS) < right, truth, (truth + 1) % len(labels))
    table = predicted(truth, 2.0 * np.eye(len(labels))[guess], labels)
    add_run(folder, method, seed, table, **more)


def add_folds(folder, method, folds, truth, logits, labels=("bad", "good"), groups=None):
    """A run for each of `folds`: text i is of fold i % folds or, with groups, its group is."""
    whole = predicted(truth, logits, labels)
    whole = whole if groups is None else whole.assign(group=groups)
    for fold in range(folds):
        part = whole[(whole.get("group", whole["row"]) % folds) == fold]
        if groups is not None:  # each run numbers its own groups, from 0
            part = part.assign(group=pd.factorize(part["group"])[0])
        add_run(folder, method, fold, part)


def predicted(truth, logits, labels=("bad", "good")):
    """predictions.csv from the labels (n,) and the logits (n, C)."""
    table = pd.DataFrame(logits, columns=[f"logit_{label}" for label in labels])
    table.insert(0, "label", truth)
    table.insert(0, "row", np.arange(len(truth)))
    return table


def add_run(folder, method, seed, predictions, **more):
    """A run's folder with these predictions; returns it."""
    status, epochs = more.get("status", "finished"), more.get("epochs", 2)
    run = folder / f"{method.translate(str.maketrans('(,', '-+', ') ' + chr(39)))}-seed{seed}"
    run.mkdir(exist_ok=True)
    name = method.split("(")[0]
    baseline = name in BASELINES
    record = {"experiment": "t", "model": "tiny", "data_set": "made up", "method": method}
    record |= {"name": name, "baseline": baseline, "seed": seed, "status": status}
    record |= {"learning_rate": None if baseline else 0.01, "device": "cpu"}
    record |= {"rates_tried": {} if baseline else {"0.001": 0.6, "0.01": 0.5}}
    record |= {"hyperparameters": {"rank": 4}, "depends_on": DEPENDS_ON | {"rank": 4}}
    if status == "finished":
        logits = predictions.filter(like="logit_").to_numpy(np.float32)
        record |= _measured(predictions["label"].to_numpy(), logits, method, epochs)
        record |= dict.fromkeys(UNMEASURED) if baseline else {}
        predictions.to_csv(run / "predictions.csv", index=False)
        if not baseline:
            _learning(epochs, seed).to_csv(run / "history.csv", index=False)
    (run / "run.json").write_text(json.dumps(record | more.get("record", {})))
    about = folder / "experiment.json"
    if about.exists():
        said = json.loads(about.read_text())
        about.write_text(json.dumps(said | {"runs": [*dict.fromkeys([*said["runs"], run.name])]}))
    return run


def _measured(labels, logits, method, epochs):
    each = {"validation_loss": 0.5, "validation_accuracy": 0.5, "train_loss": 0.4}
    each |= {"train_accuracy": 0.9, "train_macro_f1": 0.9, "validation_macro_f1": 0.5}
    row = {"scores": each | scores(labels, logits, "test_") | {"test_loss": 0.5}}
    row |= {"trainable_parameters": 10 + len(method), "total_parameters": 1000}
    row |= {"trainable_percentage": 1.0, "training_seconds": 3.0}
    row |= {"peak_memory_mib": 100.0, "epochs_run": epochs}
    row |= {"best_epoch": epochs, "best_step": STEPS * epochs}
    return row | {"other_load": 0.0}


def _learning(epochs, seed):
    steps = np.concatenate([[STEPS * e + 1, STEPS * e + STEPS] for e in range(epochs)])
    table = pd.DataFrame({"learning_rate": 0.01, "step": steps, "epoch": steps / STEPS})
    table = table.assign(seconds=steps / 9, train_loss=1 / steps, train_accuracy=0.5)
    return table.assign(validation_loss=0.9 / steps, validation_accuracy=0.5 + 0.01 * seed)
