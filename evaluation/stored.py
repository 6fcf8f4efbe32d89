"""Reads an experiment's files, as finetuning.py leaves them.

experiment.json                                      constants, data, labels' names, command
<run>/run.json, history.csv, predictions.csv         a folder for each run

"data" in experiment.json holds the numbers of texts in train, validation and test, for the first
seed; labels_redrawn, whether each seed has a training sample of its own; folds, their number, where
seed s tests fold s; numbers of groups by split; test_share_truncated; notes and warnings, in
sentences.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from boundary import BadInput, reading
from records import ANEW, RunRecord, records_in

from .metrics import METRICS
from .statistics import Scores

HISTORY = {  # columns of history.csv and their types
    "learning_rate": float,
    "step": int,
    "epoch": float,
    "seconds": float,
    "train_loss": float,
    "train_accuracy": float,
    "validation_loss": float,
    "validation_accuracy": float,
}


class Predictions(NamedTuple):
    """The n test texts, in the order of `rows`, and each run's logits for the texts it has tested.

    With folds, the runs of seed s have tested the texts of fold s; else every run has tested all.
    """

    labels: np.ndarray  # (n,)
    logits: dict[str, dict[int, np.ndarray]]  # by method and seed: (texts tested, C)
    rows: np.ndarray  # (n,) the texts' places in the task
    groups: np.ndarray | None = None  # (n,) from 0
    folds: np.ndarray | None = None  # (n,)

    def tested(self, seed: int) -> np.ndarray:
        """The places, among the n texts, of the texts that runs with this seed have tested."""
        if self.folds is None:
            return np.arange(len(self.labels))
        return np.flatnonzero(self.folds == seed)

    def by_run(self, method: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each run of a method, the places of the texts that it has tested, and their logits.

        With folds all runs count as one.
        """
        runs = [(self.tested(seed), logits) for seed, logits in self.logits[method].items()]
        if self.folds is None:
            return runs
        places, logits = map(np.concatenate, zip(*runs, strict=True))
        order = places.argsort()
        return [(places[order], logits[order])]

    def scores(self, metric: str) -> Scores:
        """The metric's values for all texts by method, for comparisons."""
        values, unseen, (compute, move) = {}, {}, (METRICS[metric].compute, METRICS[metric].unseen)
        for method in self.logits:
            runs = self.by_run(method)
            values[method] = np.full((len(runs), len(self.labels)), np.nan)
            for row, (places, logits) in zip(values[method], runs, strict=True):
                row[places] = compute(self.labels[places], logits)
            if move:
                unseen[method] = np.mean([move(self.labels[p], logits) for p, logits in runs], 0)
        seeds = {method: list(runs) for method, runs in self.logits.items()}
        return Scores(values, seeds, self.groups, self.folds is not None, unseen)


# ---------------------------------------------------------------------------- the files


def read_table(path: Path, columns: Mapping[str, type], remedy: str = ANEW) -> pd.DataFrame:
    """These columns of the CSV at `path`; text stays as it is, even "NA". Raises `BadInput`."""
    gaps = {name: [""] for name, kind in columns.items() if kind is not str}
    with reading(str(path), remedy):
        table = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=gaps)
        return table[list(columns)].copy()  # in one piece: of 100 columns, pandas would warn


def read_runs(folder: Path, experiment: dict) -> dict[Path, RunRecord]:
    """The records of finished and failed runs, by folder: in the order of methods, then by seed.

    Methods that the experiment does not list come last, by name.
    """
    methods = experiment["constants"].get("methods", [])
    place = {method: i for i, method in enumerate(methods)}
    runs = [run for run in records_in(folder).items() if run[1].is_finished or run[1].has_failed]
    runs.sort(key=lambda run: (place.get(run[1].method, len(place)), run[1].method, run[1].seed))
    return dict(runs)


def read_tables(runs: Mapping[Path, RunRecord], name: str, columns: Mapping) -> pd.DataFrame:
    """The CSV files of this name as one table, with their runs' method and seed in front."""
    parts = [
        read_table(folder / name, columns).assign(method=run.method, seed=run.seed)
        for folder, run in runs.items()
    ]
    names = ["method", "seed", *columns]
    return pd.concat(parts, ignore_index=True)[names] if parts else pd.DataFrame(columns=names)


def predictions_of(folder: Path, table: pd.DataFrame, experiment: Mapping) -> Predictions:
    """The predictions of all finished runs: each tests all texts or, with folds, one fold's texts.

    `table` has method, seed, row, label, a logit for each label and, if texts have groups, group.
    Raises `BadInput` without runs, and where runs have tested different texts.
    """
    if table.empty:
        raise BadInput(f"{folder} has no finished runs")
    is_folds = experiment["data"]["folds"] is not None
    table = table.assign(fold=table["seed"] if is_folds else 0)
    about = [name for name in ("fold", "row", "label", "group") if name in table]
    texts = table[about].drop_duplicates().sort_values("row", kind="stable")
    is_alike, sizes_of_folds, logits = texts["row"].is_unique, texts["fold"].value_counts(), {}
    for (method, seed), rows in table.groupby(["method", "seed"], sort=False):
        is_alike &= len(rows) == sizes_of_folds[rows["fold"].iloc[0]]
        rows = rows.sort_values("row", kind="stable").filter(like="logit_")
        logits.setdefault(method, {})[seed] = rows.to_numpy(np.float32)
    if not is_alike:
        raise BadInput(
            f"{folder}: its runs have tested different texts; start it anew with --fresh"
        )
    return Predictions(
        labels=texts["label"].to_numpy(),
        logits=logits,
        rows=texts["row"].to_numpy(),
        # each fold numbers its groups for itself; no group is in two folds
        groups=texts.groupby(["fold", "group"]).ngroup().to_numpy() if "group" in texts else None,
        folds=texts["fold"].to_numpy() if is_folds else None,
    )
