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
MEASURES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")  # of a finished run
MEASURES += ("trainable_percentage", "training_seconds", "best_epoch")


def open_experiment(folder: Path, experiment: dict, fresh: bool = False) -> pd.DataFrame:
    """Start or continue the experiment in `folder`; returns its finished runs.

    `experiment["constants"]` must be those of the runs already there, but for what is `FREE`:
    `ValueError` names what differs, and a file that is damaged or missing. `fresh` deletes
    earlier runs.
    """
    if fresh:
        for written in (*folder.glob("*.csv"), *folder.glob("*.png")):
            written.unlink()
        for name in ("predictions", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
    runs = read_csv(folder / "runs.csv")
    if len(runs):
        _check_complete(folder, runs)
        earlier, now = _constants(folder), json.loads(json.dumps(experiment["constants"]))
        for name in now:
            if name not in FREE and (name not in earlier or now[name] != earlier[name]):
                then = earlier.get(name, "unknown (another version)")
                raise ValueError(
                    f"{folder} has runs with {name.upper()} = {then}, not "
                    f"{now[name]}; choose another EXPERIMENT name, or start over with --fresh"
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "experiment.json", json.dumps(experiment, indent=2) + "\n")
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror})"
        raise OSError(f"{why}; set RESULTS to a folder that can") from None
    return runs


def _constants(folder):
    """The constants of the runs in `folder`."""
    path = folder / "experiment.json"
    try:
        constants = json.loads(path.read_text(encoding="utf-8"))["constants"]
        return dict(constants)
    except FileNotFoundError:
        raise _damaged(path, "missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"damaged ({error!r})") from None


def _check_complete(folder, runs):
    """`ValueError` unless the tables are whole and each finished run has left its files."""
    _check_columns(folder / "runs.csv", runs, ("method", "seed", "status"))
    for run in runs[runs.duplicated(["method", "seed"])].itertuples():
        raise _damaged(
            folder / "runs.csv", f"damaged ({run.method} seed {run.seed} is there twice)"
        )
    finished = runs[runs["status"] == "finished"]
    if finished.empty:
        return
    history = read_csv(folder / "history.csv")
    read_csv(folder / "changes.csv")
    _check_columns(folder / "runs.csv", finished, MEASURES)
    _check_columns(folder / "history.csv", history, ("method", "seed", "epoch"))
    numbers = finished[list(MEASURES)].apply(pd.to_numeric, errors="coerce")
    learnt = set(zip(history["method"], history["seed"], strict=True))
    for run, unreadable in zip(finished.itertuples(), numbers.isna().any(axis=1), strict=True):
        name = f"{run.method} seed {run.seed}"
        if unreadable:
            raise _damaged(folder / "runs.csv", f"damaged (a measure of {name} is no number)")
        if (run.method, run.seed) not in learnt:
            raise _damaged(folder / "history.csv", f"damaged ({name} is not in it)")
        predictions = folder / "predictions" / f"{run.method}-seed{run.seed}.csv"
        if not predictions.exists():
            raise _damaged(predictions, "missing")


def _check_columns(path, table, columns):
    if missing := [column for column in columns if column not in table]:
        raise _damaged(
            path, f"damaged (it has no column {missing[0]})" if len(table) else "missing"
        )


def _damaged(path, what):
    return ValueError(f"{path} is {what}; put it back as it was, or start over with --fresh")


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
    """A table of the experiment, empty where it has not been written yet.

    Raises `ValueError` for a file that is no table, or cut short.
    """
    if not path.exists():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' own errors are such, and those of decoding
        raise _damaged(path, f"damaged ({str(error).strip()})") from None
    if not path.read_bytes().endswith(b"\n"):
        raise _damaged(path, "damaged (its last line is cut)")
    return table


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
