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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from boundary import BadInput

from . import convergence, statistics, style
from .files import (
    FINITE,
    HYPERPARAMETERS,
    MEASURED,
    OPTIONAL,
    SHARE,
    TABLES,
    TEXT,
    Kind,
    read_experiment,
    read_run,
    read_table,
)

BUSY = 0.5  # threads of other work, above which seconds and memory say little
ALL_PAIRS = 15  # more of them are too many for a figure or a list


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
        are computed; else they are read. Raises `BadInput` with the name of the file for what
        cannot be read, is impossible or does not fit, and where there is no finished run.
        """
        folder = Path(folder)
        experiment, runs, failed = _runs(folder)
        tables = {name: _collect(folder, runs, name) for name in TABLES}
        predictions = _predictions(folder, runs, experiment)
        if texts is not None:
            wrong = misclassified(predictions, texts, experiment["label_names"])
        else:
            wrong = _misclassified(folder / "misclassified.csv", len(predictions.labels))
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

    @property
    def machines(self) -> list[str]:
        """What the finished runs ran on, each with its threads; empty where no file says it."""
        return list(self.runs.get("device", pd.Series(dtype=object)).dropna().unique())

    @property
    def disturbed(self) -> pd.DataFrame:
        """The finished runs beside which the machine did other work, by its measured load."""
        return self.runs[self.runs["other_load"] > BUSY]

    def main_pairs(self) -> pd.DataFrame:
        """All comparisons, or each method's with the best one where they are too many to read."""
        pairs = self.comparisons
        if len(pairs) <= ALL_PAIRS:
            return pairs
        best = self.intervals.loc[self.intervals["accuracy"].idxmax(), "method"]
        return pairs[(pairs[["method_a", "method_b"]] == best).any(axis=1)]

    def labels(self, methods: Sequence[str], most: int | None = None) -> str:
        """The methods' labels, one after the other; of far more than `most`, the first ones."""
        labels = [self.looks[method].label for method in methods]
        if most and len(labels) > most + 1:
            return f"{', '.join(labels[:most])} and {len(labels) - most} more"
        return ", ".join(labels)


def misclassified(
    predictions: Predictions, texts: Sequence[str], label_names: Sequence[str]
) -> pd.DataFrame:
    """The test reviews that every method gets wrong in all its finished runs.

    `texts` are the test reviews, in test order. Columns: review (its place in test order, from
    0), label, predicted, confidence and text, most confident first. A run's probabilities are
    the softmax of its logits; they are averaged over a method's seeds, then over the methods, and
    the wrong label with the highest average is the predicted one, which is its confidence.
    Raises `BadInput` where there are not as many texts as predictions.
    """
    labels = predictions.labels
    if len(texts) != len(labels):
        raise BadInput(f"{len(texts):,} test reviews for {len(labels):,} predictions")
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


def _runs(folder):
    """What experiment.json says, the finished runs and the others.

    Methods are in the experiment's order, then others by name; their seeds ascending.
    """
    found = {path.parent.name: read_run(path) for path in folder.glob("*/run.json")}
    if not any(run["status"] == "finished" for run in found.values()):
        raise BadInput(f"{folder} {'has no finished runs' if folder.is_dir() else 'is no folder'}")
    experiment = read_experiment(folder / "experiment.json")
    constants = experiment["constants"]
    for name, run in found.items():
        if run["experiment"] != constants["experiment"]:
            names = f"{run['experiment']!r}, not of {constants['experiment']!r}"
            path = folder / name / "run.json"
            raise BadInput(f"{path} is of the experiment {names}; move its folder away")
    place = {method: i for i, method in enumerate(constants["methods"])}
    runs = pd.DataFrame.from_dict(found, orient="index")
    numbers = runs.columns.intersection([*MEASURED, *OPTIONAL, *HYPERPARAMETERS])
    runs = runs.astype(dict.fromkeys(numbers, float))
    order = runs["method"].map(lambda method: (place.get(method, len(place)), method))
    runs = runs.assign(order=order).sort_values(["order", "seed"]).drop(columns="order")
    twice = runs.index[runs.duplicated(["method", "seed"])]
    if len(twice):
        raise BadInput(f"{folder / twice[0]} holds a run that another folder holds too")
    finished = runs["status"] == "finished"
    return experiment, runs[finished], runs[~finished]


def _collect(folder, runs, name):
    """One table of all runs, with method and seed in front."""
    parts = []
    for run in runs.itertuples():
        path = folder / run.Index / f"{name}.csv"
        if path.exists():
            table = read_table(path, TABLES[name])
            _check_steps(path, table, run)
            parts.append(table.assign(method=run.method, seed=run.seed))
    columns = ["method", "seed", *TABLES[name]]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _check_steps(path, table, run):
    """Steps go up, and the best one does not lie beyond them."""
    steps = table.get("step", pd.Series(dtype=int))
    back = steps.diff() <= 0
    if back.any():
        now, before = steps[back].iloc[0], steps.shift()[back].iloc[0]
        raise BadInput(f"{path}: step is {now} after {before:g}, expected ascending steps")
    if run.best_step > steps.max():
        record = path.with_name("run.json")
        raise BadInput(
            f"{record}: best_step is {run.best_step:g}, expected at most the last step of "
            f"{path.name}, {steps.max()}"
        )


def _predictions(folder, runs, experiment):
    """The predictions of all runs, which are of the same reviews and as accurate as they say."""
    names = [f"logit_{label}" for label in experiment["label_names"]]
    label = Kind(f"a label from 0 to {len(names) - 1}", int, 0, len(names) - 1)
    columns = {"label": label} | dict.fromkeys(names, FINITE)
    found = Predictions(np.array([]), {})
    for run in runs.itertuples():
        path = folder / run.Index / "predictions.csv"
        table = read_table(path, columns)
        own = table.pop("label").to_numpy()
        found = found if found.logits else Predictions(own, {})
        if len(own) != experiment["data"]["test"] or (own != found.labels).any():
            raise BadInput(f"{path} has other test reviews than the experiment's")
        found.logits[run.method, run.seed] = table.to_numpy()
        right = found.right()[run.method][-1].mean()
        if not abs(right - run.test_accuracy) < 0.5 / len(own):
            record = path.with_name("run.json")
            accuracy = f"test_accuracy is {run.test_accuracy:g}"
            raise BadInput(f"{record}: {accuracy}, and of {path.name} {right:g}")
    return found


def _misclassified(path, reviews):
    """What `misclassified` found when the texts were there; None without the file."""
    review = Kind(f"one of {reviews:,} reviews, from 0", int, 0, reviews - 1)
    columns = {"review": review, "label": TEXT, "predicted": TEXT, "confidence": SHARE}
    return read_table(path, columns | {"text": TEXT}) if path.exists() else None
