"""What an experiment leaves behind in its folder. Statistics and plots read nothing else.

    experiment.json     every constant, the versions, the machine, the counts of the data
    runs.csv            a row for each (method, seed)
    history.csv         a row for each (method, seed, epoch)
    changes.csv         a row for each (method, seed, block, matrix): how far it has moved
    checkpoints/        <method>-seed<k>/: the trained tensors and what they belong to
    predictions/        <method>-seed<k>.csv: labels and logits of the test reviews, in test order

Each file is written whole or not at all, and a run's row last: a row stands for a complete run.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

FREE = ("methods", "seeds", "results")  # may differ between two starts of one experiment


def open_experiment(folder: Path, experiment: dict, fresh: bool = False) -> pd.DataFrame:
    """Start or continue the experiment in `folder`; returns its finished runs.

    `experiment["constants"]` must be those of the runs already there, but for what is `FREE`:
    `ValueError` names what differs. `fresh` deletes earlier runs.
    """
    if fresh:
        for written in (*folder.glob("*.csv"), *folder.glob("*.png")):
            written.unlink()
        for name in ("predictions", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
    runs = read_csv(folder / "runs.csv")
    if len(runs):
        earlier = json.loads((folder / "experiment.json").read_text())["constants"]
        now = json.loads(json.dumps(experiment["constants"]))
        for name in now:
            if name not in FREE and now[name] != earlier.get(name):
                raise ValueError(
                    f"{folder} has runs with {name.upper()} = {earlier.get(name)}, not "
                    f"{now[name]}; choose another EXPERIMENT name, or start over with --fresh"
                )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "experiment.json", json.dumps(experiment, indent=2) + "\n")
    return runs


def add_run(
    folder: Path,
    run: dict,
    history: Sequence[dict] = (),
    changes: Sequence[dict] = (),
    predictions: pd.DataFrame | None = None,
) -> None:
    """Record one run; it replaces an earlier one of the same method and seed."""
    identity = {"method": run["method"], "seed": run["seed"]}
    if predictions is not None:
        path = folder / "predictions" / f"{run['method']}-seed{run['seed']}.csv"
        _write(path, predictions.to_csv(index=False))
    for name, rows in (("changes.csv", changes), ("history.csv", history), ("runs.csv", [run])):
        earlier = read_csv(folder / name)
        if len(earlier):
            same = (earlier["method"] == run["method"]) & (earlier["seed"] == run["seed"])
            earlier = earlier[~same]
        new = pd.DataFrame([identity | row for row in rows])
        frames = [frame for frame in (earlier, new) if len(frame)]
        if frames:
            _write(folder / name, pd.concat(frames).to_csv(index=False))


def read_csv(path: Path) -> pd.DataFrame:
    """A table of the experiment, empty where it has not been written yet."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def summary(runs: pd.DataFrame) -> str:
    """The runs as a table for the terminal."""
    table = pd.DataFrame(
        {
            "method": runs["method"],
            "seed": runs["seed"],
            "test acc. %": 100 * runs["test_accuracy"],
            "train acc. %": 100 * runs["train_accuracy"],
            "test loss": runs["test_loss"],
            "train loss": runs["train_loss"],
            "trained %": runs["trainable_percentage"],
            "training s": runs["training_seconds"],
            "best epoch": runs["best_epoch"],
        }
    )
    formats = {"test loss": "{:.4f}".format, "train loss": "{:.4f}".format}
    formats |= {"trained %": "{:.3f}".format, "best epoch": "{:.0f}".format}
    return table.to_string(index=False, float_format="{:.2f}".format, formatters=formats)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
