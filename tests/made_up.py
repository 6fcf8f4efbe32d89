"""An experiment's folder, made up: the files that finetuning.py leaves, without training."""

import numpy as np
import pandas as pd

from evaluation import records

TESTS = 40
EXPERIMENT = {
    "constants": {
        **{"experiment": "t", "model": "tiny", "train_examples": None, "max_tokens": 8},
        **{"methods": ["head", "lora"], "seeds": [0, 1], "epochs": 2, "encoder_dropout": None},
        **{"learning_rates": {"head": 0.01, "lora": 1e-05}, "lora_rank_stabilised": False},
        **{"results": "my results"},
    },
    "model": "tiny",
    "data_set": "made up",
    "label_names": ["bad", "good"],
    "data": {"train": 10, "validation": 4, "test": TESTS},
}


def add(folder, method, seed, right=30, status="finished", labels=("bad", "good"), epochs=2):
    """Record a run that gets the first `right` of the test reviews right, and no other."""
    truth = np.arange(TESTS) % len(labels)
    guess = np.where(np.arange(TESTS) < right, truth, (truth + 1) % len(labels))
    logits = pd.DataFrame(2.0 * np.eye(len(labels))[guess], columns=[f"logit_{x}" for x in labels])
    row = {"method": method, "seed": seed, "status": status}
    if status != "finished":
        records.add_run(folder, row)
        return
    row |= {"best_epoch": epochs, "train_accuracy": 0.9, "test_accuracy": right / TESTS}
    row |= {"train_loss": 0.4, "test_loss": 0.5, "trainable_parameters": 10 + len(method)}
    row |= {"trainable_percentage": 1.0, "training_seconds": 3.0, "peak_memory_mib": 100.0}
    if method == "tfidf":
        row |= dict.fromkeys(("best_epoch", "training_seconds", "peak_memory_mib"), float("nan"))
        row["trainable_percentage"] = 100.0
    history = [
        {"epoch": e, "steps": 3 * e, "seconds": e / 3, "train_loss": 1 / e, "train_accuracy": 0.5}
        | {"validation_loss": 0.9 / e, "validation_accuracy": 0.5}
        for e in range(1, epochs + 1)
    ]
    changes = [
        {"block": b, "place": p, "relative_size": 0.1 * b, "effective_rank": 2.0}
        for b in (0, 1)
        for p in ("q", "o")
    ]
    predictions = pd.concat([pd.DataFrame({"label": truth}), logits], axis=1)
    history = history if method != "tfidf" else ()
    records.add_run(folder, row, history, changes if method == "lora" else (), predictions)


def add_tuning(folder):
    """Learning rates as tried for two methods; one run failed, one choice lies at the edge."""
    nan, rates = float("nan"), (1e-4, 1e-3, 1e-2)
    losses = {"head": (0.7, 0.6, 0.5), "lora": (0.5, 0.4, nan)}
    rows = [
        {"method": method, "learning_rate": rate, "validation_loss": loss}
        | {"validation_accuracy": 0.8, "seconds": 2.0}
        | {"status": "failed: the loss is nan" if np.isnan(loss) else "finished"}
        | {"chosen": loss == np.nanmin(losses[method])}
        | {"at_edge": loss == np.nanmin(losses[method]) and method == "head"}
        for method in losses
        for rate, loss in zip(rates, losses[method], strict=True)
    ]
    records.write(folder / "tuning.csv", pd.DataFrame(rows).to_csv(index=False))
