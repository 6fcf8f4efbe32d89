"""Everything that an experiment's files say, read once and computed once.

The files are those of its runs' folders (experiment/runs.py) or, of evidence, tables of all runs
(compact.py). Figures, page and terminal table are views of a `Results`.
"""

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import f1_score

from boundary import BadInput, reading
from records import RunRecord, record_files

from . import statistics, style
from .files import HISTORY, read_table

NEEDED = ("constants", "model", "data_set", "label_names", "data", "command")
TYPES = {name: field.annotation for name, field in RunRecord.model_fields.items()}
NUMBERS = [name for name, kind in TYPES.items() if kind in (float | None, int | None)]
MISCLASSIFIED = {"review": int, "label": str, "predicted": str, "confidence": float, "text": str}
LETTERS = 60  # of a misclassified review that files and pages show


class Predictions(NamedTuple):
    """The labels (n,) of the test reviews, and the logits (n, C) of each (method, seed).

    `groups` (n,) numbers the groups that the reviews are of, if there are any.

    The compact form has the predicted label and its confidence alone: its logits give both back.
    """

    labels: np.ndarray
    logits: dict[tuple[str, int], np.ndarray]
    groups: np.ndarray | None = None

    def right(self) -> dict[str, np.ndarray]:
        """Which reviews (n) each seed (S) got right: a bool array (S, n) a method."""
        found = {}
        for (method, _), logits in self.logits.items():
            found.setdefault(method, []).append(logits.argmax(1) == self.labels)
        return {method: np.array(rows) for method, rows in found.items()}

    def seeds(self) -> dict[str, list[int]]:
        """The seeds of each method, in the order of `right`."""
        found = {}
        for method, seed in self.logits:
            found.setdefault(method, []).append(seed)
        return found


@dataclass(frozen=True)
class Results:
    """An experiment's files, and what is computed from them.

    `records` are in the experiment's order of methods, then by seed; `runs` are the finished ones
    with their scores, `failed` the others. `history` has method and seed in front; the compact form
    has none.
    `contrasts` are the planned pairs, `comparisons` all others. `misclassified` is None where it
    was not looked for.
    """

    folder: Path
    experiment: dict[str, Any]
    records: list[RunRecord]
    runs: pd.DataFrame
    failed: pd.DataFrame
    history: pd.DataFrame
    predictions: Predictions
    intervals: pd.DataFrame
    contrasts: pd.DataFrame
    comparisons: pd.DataFrame
    misclassified: pd.DataFrame | None
    looks: dict[str, style.Look]
    is_compact: bool

    @classmethod
    def read(cls, folder: str | Path, texts: Sequence[str] | None = None) -> "Results":
        """Read the experiment in `folder`, and compute its intervals and comparisons.

        With `texts`, the test reviews in test order, the reviews that every method misclassifies
        are computed; else they are read. Raises `BadInput` with the name of the file for what
        cannot be read, and where there is no finished run.
        """
        folder = Path(folder)
        is_compact = not record_files(folder)
        if is_compact and not (folder / "predictions.parquet").exists():
            what = "has no finished runs" if folder.is_dir() else "is no folder"
            raise BadInput(f"{folder} {what}")
        path = folder / "experiment.json"
        with reading(str(path)):
            experiment = json.loads(path.read_text(encoding="utf-8"))
            for name in NEEDED:
                experiment[name]
        read = _read_compact if is_compact else _read_folders
        records, tables = read(folder, experiment)
        if not any(record.is_finished for record in records):
            raise BadInput(f"{folder} has no finished runs")
        predictions = _predictions(folder, tables["predictions"])
        table = _table(records)
        finished = table["status"] == "finished"
        runs = table[finished].merge(_scores(predictions))
        planned, others = _compare(predictions, experiment["constants"])
        if texts is not None:
            wrong = misclassified(predictions, texts, experiment["label_names"])
        else:
            path = folder / "misclassified.csv"
            wrong = read_table(path, MISCLASSIFIED) if path.exists() else None
        return cls(
            folder=folder,
            experiment=experiment,
            records=records,
            runs=runs,
            failed=table[~finished],
            history=tables["history"],
            predictions=predictions,
            intervals=statistics.by_method(runs),
            contrasts=planned,
            comparisons=others,
            misclassified=wrong,
            looks=style.looks(table["method"], blocks_of(records)),
            is_compact=is_compact,
        )

    @property
    def is_shared(self) -> bool:
        """Whether any run used a shared pass: pages without one do not speak of it."""
        return bool((self.runs["shared_seconds"] > 0).any())

    @property
    def margin(self) -> float:
        """Within which a difference of accuracies does not matter."""
        return self.experiment["constants"]["equivalence_margin"]

    @property
    def are_labels_redrawn(self) -> bool:
        """Whether each seed has labels of its own: there are others to draw."""
        constants, data = self.experiment["constants"], self.experiment["data"]
        used = data["train"] + data["validation"]
        return constants["redraw_labels"] and used >= (constants["labels"] or math.inf)

    @property
    def baselines(self) -> set[str]:
        """The methods that train no transformer."""
        return set(self.runs.loc[self.runs["baseline"], "method"])

    def labels(self, methods: Sequence[str]) -> str:
        """The methods' labels, one after the other."""
        return ", ".join(self.looks[method].label for method in methods)


def misclassified(
    predictions: Predictions, texts: Sequence[str], label_names: Sequence[str]
) -> pd.DataFrame:
    """The test reviews that every method gets wrong in all its runs, most confident first.

    `predicted` is the wrong label with the highest probability, averaged over a method's seeds and
    then over methods; that is its `confidence`. Raises `BadInput` for another number of `texts`.
    """
    labels = predictions.labels
    if len(texts) != len(labels):
        raise BadInput(f"{len(texts):,} test reviews for {len(labels):,} predictions")
    wrong = ~np.concatenate(list(predictions.right().values())).any(axis=0)
    by_method = {}
    for (method, _), logits in predictions.logits.items():
        by_method.setdefault(method, []).append(softmax(logits.astype(float), axis=1))  # (n, C)
    mean = np.mean([np.mean(seeds, axis=0) for seeds in by_method.values()], axis=0)
    mean[np.arange(len(labels)), labels] = -1  # the true label is no wrong one, however likely
    names, rows = np.array(label_names, dtype=object), pd.DataFrame({"review": np.where(wrong)[0]})
    rows["label"], rows["predicted"] = names[labels[wrong]], names[mean[wrong].argmax(1)]
    rows["confidence"] = mean[wrong].max(1)
    rows["text"] = [textwrap.shorten(texts[i], LETTERS, placeholder=" …") for i in rows["review"]]
    return rows.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def blocks_of(records: Iterable[RunRecord], name: Callable[[str], str] = str) -> dict:
    """How many blocks each method trains, by the `name` of it; "k" where the runs differ in it."""
    found = {}
    for record in records:
        found.setdefault(name(record.method), set()).add(record.hyperparameters.get("blocks"))
    return {method: of.pop() if len(of) == 1 else "k" for method, of in found.items()}


# ---------------------------------------------------------------------------- the files


def _read_folders(folder, experiment):
    """The records of all runs, and the tables of the finished ones, from the runs' folders."""
    logits = [f"logit_{label}" for label in experiment["label_names"]]
    predicted = {"label": int} | dict.fromkeys(logits, np.float32)
    predicted |= {"group": int} if experiment["data"].get("groups") else {}
    columns = {"history": HISTORY, "predictions": predicted}
    runs, tables = [(path, RunRecord.read(path)) for path in record_files(folder)], {}
    place = {method: i for i, method in enumerate(experiment["constants"]["methods"])}
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


def _read_compact(folder, experiment):
    """The same from the tables that compact.py writes."""
    path, records = folder / "runs.csv", []
    with reading(str(path)):
        for row in pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"):
            row["hyperparameters"] = json.loads(row["hyperparameters"])
            records.append(RunRecord(**{name: value for name, value in row.items() if value != ""}))
    path = folder / "predictions.parquet"
    with reading(str(path)):
        table = pd.read_parquet(path)
        logits = _logits(table["predicted"], table["confidence"], experiment["label_names"])
    return records, {"predictions": table.join(logits), "history": pd.DataFrame()}


def _logits(predicted, confidence, names):
    """Logits (n, C) of these predictions and confidences, where all other labels share the rest."""
    logits = np.zeros((len(predicted), len(names)))
    confidence = confidence.clip((1 + 1e-6) / len(names), 1 - 1e-7)  # the highest, and no infinity
    odds = confidence * (len(names) - 1) / (1 - confidence)
    logits[np.arange(len(predicted)), predicted] = np.log(odds)
    return pd.DataFrame(logits, columns=[f"logit_{name}" for name in names])


def runs_csv(records: Sequence[RunRecord]) -> str:
    """The table of runs, every number to its last digit; hyperparameters as JSON."""
    rows = [r.model_dump() | {"hyperparameters": json.dumps(r.hyperparameters)} for r in records]
    return pd.DataFrame(rows, dtype=object).to_csv(index=False)


def _table(records):
    table = pd.DataFrame([record.model_dump() for record in records])
    table = table.astype(dict.fromkeys(NUMBERS, float))
    return table.assign(total_seconds=table["training_seconds"] + table["shared_seconds"].fillna(0))


def _predictions(folder, table):
    """The predictions of all finished runs, which are of the same reviews."""
    labels, logits, groups = None, {}, None
    for (method, seed), rows in table.groupby(["method", "seed"], sort=False):
        own = rows["label"].to_numpy()
        labels = own if labels is None else labels
        if not np.array_equal(own, labels):
            of = f"{method} with seed {seed}"
            raise BadInput(f"{folder}: {of} has other test reviews than the runs before it")
        logits[method, seed] = rows.filter(like="logit_").to_numpy(np.float32)
        if "group" in rows:
            groups = rows["group"].to_numpy()
    return Predictions(labels, logits, groups)


# ---------------------------------------------------------------------------- what follows


def _scores(predictions):
    """Of each run: macro-F1, expected calibration error, and the reviews that are independent."""
    rows = []
    for (method, seed), logits in predictions.logits.items():
        predicted, shares = logits.argmax(1), softmax(logits.astype(float), axis=1)
        f1 = f1_score(predictions.labels, predicted, average="macro")
        error = statistics.calibration_error(predictions.labels, shares)
        reviews = statistics.independent(predicted == predictions.labels, predictions.groups)
        rows.append((method, seed, f1, error, reviews))
    return pd.DataFrame(
        rows, columns=["method", "seed", "macro_f1", "calibration_error", "reviews"]
    )


def _compare(predictions, constants):
    """The planned contrasts of finished methods, and all other pairs, the largest first."""
    right, seeds = predictions.right(), predictions.seeds()
    margin = constants["equivalence_margin"]
    planned = [tuple(text.split(" - ")) for text in constants.get("contrasts") or ()]
    planned = [pair for pair in planned if set(pair) <= set(right)]
    known = set(map(frozenset, planned))
    others = [pair for pair in statistics.all_pairs(right) if frozenset(pair) not in known]
    tables = [
        statistics.compare(right, pairs, seeds, margin, predictions.groups)
        for pairs in (planned, others)
    ]
    return tables[0], tables[1].sort_values("difference", ascending=False, kind="stable")
