"""What an experiment leaves behind in its folder. Statistics and plots read nothing else.

    experiment.json     every constant, the versions, the machine, the counts of the data
    runs.csv            a row for each (method, seed)
    history.csv         a row for each (method, seed, epoch)
    changes.csv         a row for each (method, seed, block, matrix): how far it has moved
    checkpoints/        <method>-seed<k>/: the trained tensors and what they belong to, and the
                        state of a run under way
    predictions/        <method>-seed<k>.csv: labels and logits of the test reviews, in test order
    misjudged.csv       the test reviews that every method gets wrong
    report.md           all of it as one page, with the figures (*.png)

    tuning.csv          instead, in the folder of a tuning: a row for each (method, learning rate)

Each file is written whole or not at all, and a run's row last: a row stands for a complete run.
"""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

FREE = ("methods", "seeds", "results", "tuning_rates")  # may differ between two starts
MEASURED = (  # columns of runs.csv that tables and figures need; a baseline's cells may be empty
    *("test_accuracy", "train_accuracy", "test_loss", "train_loss", "trainable_parameters"),
    *("trainable_percentage", "training_seconds", "peak_memory_mib"),
)
MEND = "put it back as it was, or start over with --fresh"
ABOUT = ("constants", "model", "data_set", "label_names", "data")


def open_experiment(folder: Path, experiment: dict, fresh: bool = False) -> None:
    """Start or continue the experiment in `folder`.

    `experiment["constants"]` must be those of what is already there, but for what is `FREE`:
    `ValueError` names what differs, and a file that is damaged or missing. `fresh` deletes what
    is there.
    """
    if fresh:
        for written in (*folder.glob("*.csv"), *folder.glob("*.png"), *folder.glob("*.md")):
            written.unlink()
        for name in ("predictions", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
    if any((folder / name).exists() for name in ("runs.csv", "tuning.csv", "checkpoints")):
        _check_complete(folder)
        earlier, now = _constants(folder), json.loads(json.dumps(experiment["constants"]))
        for name in now:
            if name not in FREE and (name not in earlier or now[name] != earlier[name]):
                then = earlier.get(name, "unknown (another version)")
                raise ValueError(
                    f"{folder} has runs with {name.upper()} = {then}, not "
                    f"{now[name]}; choose another EXPERIMENT name, or start over with --fresh"
                )
    write(folder / "experiment.json", json.dumps(experiment, indent=2) + "\n")


def finished(folder: Path, name: str) -> set[tuple]:
    """What needs no second time: (method, seed) of runs.csv, (method, rate) of tuning.csv."""
    rows, key = read_csv(folder / name), "learning_rate"
    if not len(rows):
        return set()
    if name == "runs.csv":
        rows, key = rows[rows["status"] == "finished"], "seed"
    return set(zip(rows["method"], rows[key], strict=True))


def _constants(folder):
    """The constants of the runs in `folder`."""
    path = folder / "experiment.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["constants"])
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; {MEND}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, repr(error)) from None


def _check_complete(folder):
    """`ValueError` unless the tables are whole and each finished run has left its files."""
    table = folder / "runs.csv"
    runs = read_csv(table, ("method", "status"), ("seed",))
    for run in runs[runs.duplicated(["method", "seed"])].itertuples() if len(runs) else ():
        raise _damaged(table, f"{run.method} seed {run.seed} is there twice")
    if not len(runs) or not (runs["status"] == "finished").any():
        return
    read_csv(table, numbers=(*MEASURED, "best_epoch"))
    history = read_csv(folder / "history.csv", ("method",), ("seed", "epoch"))
    read_csv(folder / "changes.csv")
    learnt = set(zip(history["method"], history["seed"], strict=True)) if len(history) else ()
    for run in runs[runs["status"] == "finished"].itertuples():
        name = f"{run.method} seed {run.seed}"
        by_epochs = not math.isnan(run.best_epoch)
        if by_epochs and not len(history):
            raise ValueError(f"{folder / 'history.csv'} is missing; {MEND}")
        if by_epochs and (run.method, run.seed) not in learnt:
            raise _damaged(folder / "history.csv", f"{name} is not in it")
        predictions = folder / "predictions" / f"{run.method}-seed{run.seed}.csv"
        if not predictions.exists():
            raise ValueError(f"{predictions} is missing; {MEND}")


def _damaged(path, why):
    return ValueError(f"{path} is damaged: {why}; {MEND}")


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
        write(path, predictions.to_csv(index=False))
    for name, rows in (("changes.csv", changes), ("history.csv", history), ("runs.csv", [run])):
        earlier = read_csv(folder / name)
        if len(earlier):
            same = (earlier["method"] == run["method"]) & (earlier["seed"] == run["seed"])
            earlier = earlier[~same]
        new = pd.DataFrame([identity | row for row in rows])
        frames = [frame for frame in (earlier, new) if len(frame)]
        if frames:
            write(folder / name, pd.concat(frames).to_csv(index=False))


def add_tuning(folder: Path, row: dict) -> None:
    """Record one learning rate, and mark each method's best one: the lowest validation loss.

    `chosen` is the best of its method, `at_edge` the lowest or highest rate that was tried.
    """
    path = folder / "tuning.csv"
    rows = pd.concat([read_csv(path), pd.DataFrame([row])])
    if "validation_loss" not in rows:  # all have failed so far
        rows["validation_loss"] = float("nan")
    by_method = rows.groupby("method", sort=False)
    rows["chosen"] = rows["validation_loss"] == by_method["validation_loss"].transform("min")
    rates = by_method["learning_rate"]
    lowest, highest = rates.transform("min"), rates.transform("max")
    rows["at_edge"] = (rows["learning_rate"] == lowest) | (rows["learning_rate"] == highest)
    write(path, rows.to_csv(index=False))


def read_csv(path: Path, text: Sequence[str] = (), numbers: Sequence[str] = ()) -> pd.DataFrame:
    """A table of the experiment, empty where it has not been written yet.

    The columns `text` are taken letter by letter, a label "None" or "1" too. Raises `ValueError`
    where the file cannot be read, lacks a column of `text` or `numbers`, or has something else
    than numbers in one of `numbers`.
    """
    if not path.exists():
        return pd.DataFrame()
    try:
        header = pd.read_csv(path, nrows=0).columns
        empty = {name: [""] for name in header if name not in text}
        kinds = dict.fromkeys(text, str)
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=empty)
    except ValueError as error:  # pandas' own errors are such, and those of decoding
        raise _damaged(path, str(error).strip()) from None
    for name in (*text, *numbers):
        if name not in table:
            raise _damaged(path, f"it has no column {name}")
    for name in numbers:
        if len(table) and not pd.api.types.is_numeric_dtype(table[name]):
            raise _damaged(path, f"not all of column {name} are numbers")
    if not path.read_bytes().endswith(b"\n"):
        raise _damaged(path, "its last line is cut")
    return table


def read_experiment(folder: Path) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """The experiment in `folder`: (what `experiment.json` says, finished runs, failed runs).

    Raises `ValueError` where there is no finished run, and where a file is missing or damaged.
    """
    runs = read_csv(folder / "runs.csv", ("method", "status"))
    finished = runs["status"] == "finished" if len(runs) else []
    if not any(finished):
        raise ValueError(f"{folder} has no finished runs")
    read_csv(folder / "runs.csv", numbers=("seed", *MEASURED))  # failed runs alone have none
    about = folder / "experiment.json"
    try:
        experiment = json.loads(about.read_text(encoding="utf-8"))
        missing = [name for name in ABOUT if name not in experiment]
    except (ValueError, TypeError) as error:
        raise _damaged(about, error) from None
    if missing:
        raise _damaged(about, f"it does not say {missing[0]}")
    return experiment, runs[finished], runs[~finished]


def read_predictions(
    folder: Path, method: str, seed: int, experiment: dict
) -> tuple[np.ndarray, np.ndarray]:
    """The labels (n,) and logits (n, C) of one run on the test reviews, in test order.

    Raises `FileNotFoundError` where they are missing and `ValueError` where they are damaged.
    """
    path = folder / "predictions" / f"{method}-seed{seed}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    logits = [f"logit_{label}" for label in experiment["label_names"]]
    table = read_csv(path, numbers=("label", *logits))
    expected = experiment["data"]["test"]
    if len(table) != expected or table.isna().any(axis=None):
        rows = len(table.dropna())
        raise ValueError(f"{path} is damaged: {rows} complete rows for {expected} test reviews")
    return table["label"].to_numpy(int), table[logits].to_numpy(float)


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


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
