"""What an experiment leaves behind in its folder. Statistics and plots read nothing else.

    experiment.json     every constant, the versions, the machine, the counts of the data
    runs.csv            a row for each (method, seed)
    history.csv         a row for each (method, seed, epoch)
    changes.csv         a row for each (method, seed, block, matrix): how far it has moved
    checkpoints/        <method>-seed<k>/: the trained tensors and what they belong to, and the
                        state of a run under way
    predictions/        <method>-seed<k>.csv: labels and logits of the test reviews, in test order

    tuning.csv          instead, in the folder of a tuning: a row for each (method, learning rate)

Each file is written whole or not at all, and a run's row last: a row stands for a complete run.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

FREE = ("methods", "seeds", "results", "tuning_rates")  # may differ between two starts


def open_experiment(folder: Path, experiment: dict, fresh: bool = False) -> None:
    """Start or continue the experiment in `folder`.

    `experiment["constants"]` must be those of what is already there, but for what is `FREE`:
    `ValueError` names what differs. `fresh` deletes what is there.
    """
    if fresh:
        for written in (*folder.glob("*.csv"), *folder.glob("*.png"), *folder.glob("*.md")):
            written.unlink()
        for name in ("predictions", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
    if any((folder / name).exists() for name in ("runs.csv", "tuning.csv", "checkpoints")):
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


def finished(folder: Path, name: str) -> set[tuple]:
    """What needs no second time: (method, seed) of runs.csv, (method, rate) of tuning.csv."""
    rows, key = read_csv(folder / name), "learning_rate"
    if not len(rows):
        return set()
    if name == "runs.csv":
        rows, key = rows[rows["status"] == "finished"], "seed"
    return set(zip(rows["method"], rows[key], strict=True))


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


def add_tuning(folder: Path, row: dict) -> None:
    """Record one learning rate, and mark each method's best one: the lowest validation loss.

    `chosen` is the best of its method, `at_edge` the lowest or highest rate that was tried.
    """
    path = folder / "tuning.csv"
    empty = {"validation_loss": float("nan")}
    rows = pd.concat([read_csv(path), pd.DataFrame([empty | row])])
    by_method = rows.groupby("method", sort=False)
    rows["chosen"] = rows["validation_loss"] == by_method["validation_loss"].transform("min")
    rates = by_method["learning_rate"]
    lowest, highest = rates.transform("min"), rates.transform("max")
    rows["at_edge"] = (rows["learning_rate"] == lowest) | (rows["learning_rate"] == highest)
    _write(path, rows.to_csv(index=False))


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
