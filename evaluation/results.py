"""Everything that an experiment's files say, read once and computed once.

    results/<experiment>/
        experiment.json         every constant, the versions, the machine, the counts of the data
        <run>/                  a folder for each (method, seed), such as lora-rank=4-seed0
            run.json            written last: a run with one is complete
            steps.csv           a row for each optimizer step
            history.csv         a row for each evaluation on the validation reviews
            changes.csv         how far each block and matrix has moved
            predictions.csv     labels and logits of the test reviews, in test order

Figures, page and terminal table are views of a `Results`. Each file is written whole or not at
all, by one process; folders without a run.json are unfinished and are left out.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from . import convergence, statistics, style

ABOUT = ("constants", "model", "data_set", "label_names", "data", "command")  # of experiment.json
IDENTITY = ("experiment", "method", "name", "baseline", "seed", "status")  # of every run.json
MEASURED = (  # of a finished one; null where a baseline has none
    *("test_loss", "test_accuracy", "train_loss", "train_accuracy", "trainable_parameters"),
    *("trainable_percentage", "training_seconds", "peak_memory_mib", "epochs_run", "best_epoch"),
    *("best_step", "learning_rate", "other_load"),
)
STEPS = dict.fromkeys(("epoch", "seconds", "loss", "learning_rate", "gradient_norm"), float)
HISTORY = dict.fromkeys(
    ("epoch", "seconds", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    float,
)
TABLES = {  # of a run: the columns and what they hold
    "steps": {"step": int} | STEPS,
    "history": {"step": int} | HISTORY,
    "changes": {"block": int, "place": str, "relative_size": float, "effective_rank": float},
}
ALL_PAIRS = 15  # more of them are too many for a figure or a list
MISCLASSIFIED = {"review": int, "label": str, "predicted": str, "confidence": float, "text": str}


class Predictions(NamedTuple):
    """The labels (n,) of the test reviews, and the logits (n, C) of each (method, seed)."""

    labels: np.ndarray
    logits: dict[tuple[str, int], np.ndarray]

    def right(self) -> dict[str, np.ndarray]:
        """Which reviews (n) each seed (S) got right: a bool array (S, n) a method."""
        found = {}
        for (method, _), logits in self.logits.items():
            found.setdefault(method, []).append(logits.argmax(1) == self.labels)
        return {method: np.array(rows) for method, rows in found.items()}


@dataclass(frozen=True)
class Results:
    """An experiment's files, and what is computed from them.

    `runs` (finished) and `failed` are indexed by the runs' folders; `history`, `steps` and
    `changes` have method and seed in front, and are empty where no run has them. `comparisons`
    is None for a single method, `misclassified` where it was not looked for.
    """

    folder: Path
    experiment: dict[str, Any]
    runs: pd.DataFrame
    failed: pd.DataFrame
    history: pd.DataFrame
    steps: pd.DataFrame
    changes: pd.DataFrame
    predictions: Predictions
    intervals: pd.DataFrame
    comparisons: pd.DataFrame | None
    convergence: pd.DataFrame
    misclassified: pd.DataFrame | None
    looks: dict[str, style.Look]

    @classmethod
    def read(cls, folder: str | Path, texts: Sequence[str] | None = None) -> "Results":
        """Read the experiment in `folder`, and compute its intervals and comparisons.

        With `texts`, the test reviews in test order, the reviews that every method misclassifies
        are computed; else they are read. Raises `ValueError` and `OSError` in one line, with the
        name of the file, for what cannot be read, and where there is no finished run.
        """
        folder = Path(folder)
        experiment, runs, failed = _runs(folder)
        tables = {name: _collect(folder, runs, name) for name in TABLES}
        predictions = _predictions(folder, runs, experiment)
        wrong = folder / "misclassified.csv"
        if texts is not None:
            wrong = misclassified(predictions, texts, experiment["label_names"])
        else:
            wrong = read_table(wrong, MISCLASSIFIED) if wrong.exists() else None
        pairs = statistics.compare(predictions.right())
        pairs = pairs.sort_values("difference", ascending=False, kind="stable")
        history = tables["history"]
        return cls(
            folder=folder,
            experiment=experiment,
            runs=runs,
            failed=failed,
            **tables,
            predictions=predictions,
            intervals=statistics.by_method(runs, len(predictions.labels)),
            comparisons=pairs if len(pairs) else None,
            convergence=convergence.by_run(history) if len(history) else history,
            misclassified=wrong,
            looks=style.looks([*runs["method"], *failed["method"]]),
        )

    def main_pairs(self) -> pd.DataFrame:
        """All comparisons, or each method's with the best one where they are too many to read."""
        pairs = self.comparisons
        if len(pairs) <= ALL_PAIRS:
            return pairs
        best = self.intervals.loc[self.intervals["accuracy"].idxmax(), "method"]
        return pairs[(pairs[["method_a", "method_b"]] == best).any(axis=1)]

    def labels(self, methods: Sequence[str]) -> str:
        """The methods' labels, one after the other."""
        return ", ".join(self.looks[method].label for method in methods)


def misclassified(
    predictions: Predictions, texts: Sequence[str], label_names: Sequence[str]
) -> pd.DataFrame:
    """The test reviews that every method gets wrong in all its finished runs.

    `texts` are the test reviews, in test order. Columns: review (its place in test order, from
    0), label, predicted, confidence and text, most confident first. A run's probabilities are
    the softmax of its logits; they are averaged over a method's seeds, then over the methods, and
    the wrong label with the highest average is the predicted one, which is its confidence.
    Raises `ValueError` where there are not as many texts as predictions.
    """
    labels = predictions.labels
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts):,} test reviews for {len(labels):,} predictions")
    wrong = ~np.concatenate(list(predictions.right().values())).any(axis=0)
    by_method = {}
    for (method, _), logits in predictions.logits.items():
        by_method.setdefault(method, []).append(softmax(logits, axis=1))  # (n, C)
    mean = np.mean([np.mean(seeds, axis=0) for seeds in by_method.values()], axis=0)
    mean[np.arange(len(labels)), labels] = -1  # the true label is no wrong one, however likely
    names = np.array(label_names, dtype=object)
    rows = pd.DataFrame(
        {
            "review": np.arange(len(labels)),
            "label": names[labels],
            "predicted": names[mean.argmax(1)],
            "confidence": mean.max(1),
            "text": list(texts),
        }
    )
    return rows[wrong].sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What `reader` makes of a file; whatever stops it becomes one line with the file's name."""
    try:
        return reader(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__} {error}") from None


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """What a JSON file says; `needed` are keys that it must have.

    Raises `ValueError` and `OSError` naming the file.
    """

    def reader(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found) | {name: found[name] for name in needed}

    return _read(path, reader)


def _runs(folder):
    """What experiment.json says, the finished runs and the others.

    Methods are in the experiment's order, then others by name; their seeds ascending.
    """
    found = {path.parent.name: read_json(path, IDENTITY) for path in folder.glob("*/run.json")}
    if not any(run["status"] == "finished" for run in found.values()):
        raise ValueError(f"{folder} has no finished runs")
    for name, run in found.items():
        if run["status"] == "finished":
            read_json(folder / name / "run.json", MEASURED)
        run.pop("hyperparameters", None)
    experiment = read_json(folder / "experiment.json", ABOUT)
    place = {method: i for i, method in enumerate(experiment["constants"]["methods"])}
    runs = pd.DataFrame.from_dict(found, orient="index").astype(dict.fromkeys(MEASURED, float))
    order = runs["method"].map(lambda method: (place.get(method, len(place)), method))
    runs = runs.assign(order=order).sort_values(["order", "seed"]).drop(columns="order")
    twice = runs.index[runs.duplicated(["method", "seed"])]
    if len(twice):
        raise ValueError(f"{folder / twice[0]} holds a run that another folder holds too")
    finished = runs["status"] == "finished"
    return experiment, runs[finished], runs[~finished]


def read_table(path: Path, columns: dict[str, type]) -> pd.DataFrame:
    """The table at `path`, with these columns and what they hold; texts letter by letter.

    Raises `ValueError` and `OSError` naming the file.
    """

    def reader(path):
        numbers = {name: [""] for name, kind in columns.items() if kind is not str}
        table = pd.read_csv(path, dtype=columns, keep_default_na=False, na_values=numbers)
        return table[list(columns)]

    return _read(path, reader)


def _collect(folder, runs, name):
    """One table of all runs, with method and seed in front."""
    parts = [
        read_table(path, TABLES[name]).assign(method=run.method, seed=run.seed)
        for run in runs.itertuples()
        if (path := folder / run.Index / f"{name}.csv").exists()
    ]
    columns = ["method", "seed", *TABLES[name]]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _predictions(folder, runs, experiment):
    """The predictions of all runs, which are of the same reviews."""
    labels, logits = None, {}
    for run in runs.itertuples():
        path = folder / run.Index / "predictions.csv"
        names = [f"logit_{label}" for label in experiment["label_names"]]
        table = read_table(path, {"label": int} | dict.fromkeys(names, float))
        own = table.pop("label").to_numpy()
        labels = own if labels is None else labels
        if len(own) != experiment["data"]["test"] or (own != labels).any():
            raise ValueError(f"{path} has other test reviews than the experiment's")
        logits[run.method, run.seed] = table.to_numpy()
    return Predictions(labels, logits)
