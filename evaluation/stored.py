"""What an experiment's files say: those of its runs' folders or, of evidence, tables of all runs.

experiment.json                                      both: constants, data, labels' names
<run>/run.json, history.csv, predictions.csv         as finetuning.py leaves them
runs.csv, predictions.parquet                        the compact form: no texts, no histories
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from boundary import BadInput, reading
from records import DAMAGED, RunRecord, record_files

from .files import HISTORY, read_table
from .metrics import METRICS
from .statistics import Scores


class Data(BaseModel):
    """What experiment.json says of the data; counts are of the first seed."""

    model_config = ConfigDict(extra="allow")

    train: int
    validation: int
    test: int
    texts: int | None = None  # in all
    folds: int | None = None  # seed s tests fold s
    labels_redrawn: bool | None = None  # each seed has a training sample of its own
    labels: dict[str, list[int]] = {}  # split: texts of each label
    groups: dict[str, int] | None = None  # split: groups
    test_share_truncated: float = 0.0
    notes: list[str] = []
    warnings: list[str] = []
    majority_share: float | None = None  # of the test's most frequent label


class Experiment(BaseModel):
    """experiment.json."""

    model_config = ConfigDict(extra="allow")

    constants: dict[str, Any]  # of the last start
    model: str
    data_set: str
    label_names: list[str]
    data: Data
    command: str
    digests: dict[str, str] = {}


class Predictions(NamedTuple):
    """The n test texts in one order, and what each run says of those that it has tested.

    With folds, run s has tested those of fold s; else every run has tested all. The compact form
    has the predicted label and its confidence alone: its logits give both back.
    """

    labels: np.ndarray  # (n,)
    logits: dict[tuple[str, int], np.ndarray]  # (method, seed): (texts tested, C)
    groups: np.ndarray | None = None  # (n,) from 0
    rows: np.ndarray | None = None  # (n,) the texts' places in the task; the compact form has none
    folds: np.ndarray | None = None  # (n,)

    def tested(self, seed: int) -> np.ndarray:
        """The places (in these n) of the texts that runs with this seed have tested."""
        if self.folds is None:
            return np.arange(len(self.labels))
        return np.flatnonzero(self.folds == seed)

    def seeds(self) -> dict[str, list[int]]:
        """The seeds of each method."""
        seeds = {}
        for method, seed in self.logits:
            seeds.setdefault(method, []).append(seed)
        return seeds

    def by_run(self, method: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each run of a method, the places of the texts that it has tested, and their logits.

        With folds all runs count as one, in the order of the texts.
        """
        places = [self.tested(seed) for seed in self.seeds()[method]]
        logits = [self.logits[method, seed] for seed in self.seeds()[method]]
        if self.folds is None:
            yield from zip(places, logits, strict=True)
        else:
            order = np.concatenate(places).argsort()
            yield np.concatenate(places)[order], np.concatenate(logits)[order]

    def scores(self, metric: str) -> Scores:
        """The values of all texts by method, for comparisons."""
        values, compute = {}, METRICS[metric].values
        for method in self.seeds():
            runs = list(self.by_run(method))
            values[method] = np.full((len(runs), len(self.labels)), np.nan)
            for row, (places, logits) in zip(values[method], runs, strict=True):
                row[places] = compute(self.labels[places], logits)
        return Scores(values, self.seeds(), self.groups, self.folds is not None)


# ---------------------------------------------------------------------------- the files


def read_experiment(folder: Path) -> dict[str, Any]:
    """What experiment.json says, with what older ones do not say."""
    path = folder / "experiment.json"
    with reading(str(path), DAMAGED):
        return Experiment(**json.loads(path.read_text(encoding="utf-8"))).model_dump()


def read_folders(folder: Path, experiment: dict) -> tuple[list[RunRecord], dict[str, pd.DataFrame]]:
    """The records of all runs, and `history` and `predictions` of the finished ones."""
    logits = [f"logit_{label}" for label in experiment["label_names"]]
    predicted = {"row": int, "label": int} | dict.fromkeys(logits, np.float32)
    predicted |= {"group": int} if experiment["data"]["groups"] else {}
    columns = {"history": HISTORY, "predictions": predicted}
    runs, tables = [(path, RunRecord.read(path)) for path in record_files(folder)], {}
    methods = experiment["constants"].get("methods", [])
    place = {method: i for i, method in enumerate(methods)}
    # Methods that are not the experiment's come after its own, by name.
    runs.sort(key=lambda run: (place.get(run[1].method, len(place)), run[1].method, run[1].seed))
    for name in columns:
        parts = []
        for path, record in runs:
            file = path.with_name(f"{name}.csv")
            if record.is_finished and (name == "predictions" or file.exists()):
                table = read_table(file, columns[name])
                parts.append(table.assign(method=record.method, seed=record.seed))
        empty = pd.DataFrame(columns=["method", "seed", *columns[name]])
        tables[name] = pd.concat(parts, ignore_index=True)[empty.columns] if parts else empty
    return [record for _, record in runs], tables


def read_compact(folder: Path, experiment: dict) -> tuple[list[RunRecord], dict[str, pd.DataFrame]]:
    """The same from the compact form."""
    path = folder / "runs.csv"
    with reading(str(path), DAMAGED):
        rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
        records = [RunRecord.from_row(row) for row in rows]
    path = folder / "predictions.parquet"
    with reading(str(path), DAMAGED):
        table = pd.read_parquet(path)
        logits = logits_of(table["predicted"], table["confidence"], experiment["label_names"])
    return records, {"predictions": table.join(logits), "history": pd.DataFrame()}


def logits_of(predicted: pd.Series, confidence: pd.Series, names: list[str]) -> pd.DataFrame:
    """Logits (n, C) of these predictions and confidences, where all other labels share the rest."""
    logits = np.zeros((len(predicted), len(names)))
    confidence = confidence.clip((1 + 1e-6) / len(names), 1 - 1e-7)  # the highest, and no infinity
    odds = confidence * (len(names) - 1) / (1 - confidence)
    logits[np.arange(len(predicted)), predicted] = np.log(odds)
    return pd.DataFrame(logits, columns=[f"logit_{name}" for name in names])


def predictions_of(folder: Path, table: pd.DataFrame, is_folds: bool) -> Predictions:
    """The predictions of all finished runs: of the same texts or, with folds, of disjoint ones."""
    runs = list(table.groupby(["method", "seed"], sort=False))
    about = ["label", *(name for name in ("row", "group") if name in table)]
    if is_folds:
        texts = table[["seed", *about]].drop_duplicates().sort_values("row", kind="stable")
        differing = texts["row"].duplicated().any()
    else:
        texts = runs[0][1][about]
        values = texts.to_numpy()
        differing = not all(np.array_equal(rows[about], values) for _, rows in runs)
    if differing:
        raise BadInput(
            f"{folder}: its runs have tested different texts; start it anew with --fresh"
        )
    texts = {name: texts[name].to_numpy() for name in texts}
    if is_folds and "group" in texts:  # no group is in two folds, whose numbers may be their own
        pairs = np.stack([texts["seed"], texts["group"]])
        texts["group"] = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
    logits = {}
    for run, rows in runs:
        rows = rows.sort_values("row", kind="stable") if is_folds else rows
        logits[run] = rows.filter(like="logit_").to_numpy(np.float32)
    return Predictions(
        labels=texts["label"],
        logits=logits,
        groups=texts.get("group"),
        rows=texts.get("row"),
        folds=texts.get("seed"),
    )
