"""An experiment's results, read and computed once: figures, pages and tables are views of them."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from boundary import BadInput, reading
from records import RunRecord, record_files

from . import answer, statistics, style
from .files import read_table
from .metrics import METRICS, PLANNABLE, is_collapsed, scores
from .stored import Predictions, predictions_of, read_compact, read_experiment, read_folders

TYPES = {name: field.annotation for name, field in RunRecord.model_fields.items()}
NUMBERS = [name for name, kind in TYPES.items() if kind in (float | None, int | None)]
MISCLASSIFIED = {"row": int, "label": str, "predicted": str, "confidence": float, "text": str}
LETTERS = 200  # of a misclassified text that files and pages show


@dataclass(frozen=True)
class Results:
    """An experiment's files, and what is computed from them.

    `records` are in the experiment's order of methods, then by seed. `runs` are the finished ones,
    with a column for each score (test_accuracy, ...), total_seconds and collapsed (every text was
    given one label); `failed` are the others. `history` has method and seed in front; the compact
    form has none. `intervals` has a row a method: seeds and, of each metric that has them,
    <metric>, <metric>_low, _high and _sd. `contrasts` are the planned pairs, `comparisons` all
    others: columns as of `statistics.compare` for `metric`, and <metric>_difference, _low and _high
    for each. `misclassified` are the texts that the advised method gets most confidently wrong or,
    where none is advised, that every method gets wrong; None where it was not looked for.
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

        With `texts`, those of all rows of the task, `misclassified` is computed; else it is read.
        Raises `BadInput` with the name of the file for what cannot be read, and where there is no
        finished run.
        """
        folder = Path(folder)
        is_compact = not record_files(folder)
        if is_compact and not (folder / "predictions.parquet").exists():
            problem = "has no finished runs" if folder.is_dir() else "is no folder"
            raise BadInput(f"{folder} {problem}")
        with reading(str(folder), "one of its files is damaged, or written by another version"):
            return cls._read(folder, is_compact, texts)

    @classmethod
    def _read(cls, folder, is_compact, texts):
        experiment = read_experiment(folder)
        read = read_compact if is_compact else read_folders
        records, tables = read(folder, experiment)
        if not any(record.is_finished for record in records):
            raise BadInput(f"{folder} has no finished runs")
        is_folds = experiment["data"]["folds"] is not None
        predictions = predictions_of(folder, tables["predictions"], is_folds)
        runs = _runs(records, predictions)
        finished = runs["status"] == "finished"
        planned, others = _compare(predictions, experiment)
        path = folder / "misclassified.csv"
        is_read = texts is None and path.exists()
        fixed = set() if _redrawn(experiment) else {r.method for r in records if r.baseline}
        results = cls(
            folder=folder,
            experiment=experiment,
            records=records,
            runs=runs[finished],
            failed=runs[~finished],
            history=tables["history"],
            predictions=predictions,
            intervals=_intervals(predictions, fixed),
            contrasts=planned,
            comparisons=others,
            misclassified=read_table(path, MISCLASSIFIED) if is_read else None,
            looks=style.looks(runs["method"], blocks_of(records)),
            is_compact=is_compact,
        )
        return results if texts is None else replace(results, misclassified=_wrong(results, texts))

    @cached_property
    def constants(self) -> dict[str, Any]:
        """In capitals: those on which all finished runs depend alike, from their own records.

        Of runs without such a record, those of the experiment's last start.
        """
        each = [record.depends_on for record in self.records if record.is_finished]
        if not all(each):
            return {name.upper(): value for name, value in self.experiment["constants"].items()}
        names = [name for name in each[0] if name.isupper()]
        return {n: each[0][n] for n in names if all(one.get(n) == each[0][n] for one in each)}

    @cached_property
    def hyperparameters(self) -> dict[str, dict[str, Any]]:
        """Of each method, those that its finished runs share, from their own records."""
        shared = {}
        for record in self.records:
            if record.is_finished:
                first = shared.setdefault(record.method, record.hyperparameters)
                of_run = record.hyperparameters
                shared[record.method] = {k: v for k, v in first.items() if of_run.get(k) == v}
        return shared

    @cached_property
    def advised(self) -> str | None:
        """The method advised for one's own texts: of experiments with folds, or on a file."""
        is_file = bool(Path(str(self.experiment["constants"].get("dataset", ""))).suffix)
        return answer.advice(self).method if self.is_folds or is_file else None

    @property
    def metric(self) -> str:
        """What the comparisons are tested on."""
        return _metric(self.experiment)

    @property
    def covers(self) -> str:
        """What the intervals of the methods' scores cover."""
        if self.is_folds:
            return "other texts, for these models, each text tested once"
        if (self.intervals["seeds"] > 1).any():
            seeds = "training samples" if self.are_labels_redrawn else "seeds"
            return f"other {seeds} and other texts"
        return "other texts, for these models"

    @property
    def is_folds(self) -> bool:
        """Whether seed s is fold s, and each text is tested once."""
        return self.predictions.folds is not None

    @property
    def is_shared(self) -> bool:
        """Whether any run used the stored output of frozen blocks."""
        return bool((self.runs["shared_seconds"] > 0).any())

    @property
    def margin(self) -> float:
        """Within which a difference does not matter."""
        return _margin(self.experiment)

    @property
    def are_labels_redrawn(self) -> bool:
        """Whether each seed has a training sample of its own: there are others to draw."""
        return _redrawn(self.experiment)

    @property
    def baselines(self) -> set[str]:
        """The methods that train no transformer."""
        return set(self.runs.loc[self.runs["baseline"], "method"])

    def labels(self, methods: Iterable[str]) -> str:
        """The methods' labels, one after the other."""
        return ", ".join(self.looks[method].label for method in methods)


def check_different(experiments: Iterable[Results]) -> None:
    """Refuse a data set that a mean counts twice: its errors are not independent."""
    folders = {}
    for results in experiments:
        digest = results.experiment["digests"].get("data")
        if digest and digest in folders:
            both = f"{folders[digest]} and {results.folder}"
            raise BadInput(f"{both} have the same data, which would count twice; give one of them")
        folders[digest] = results.folder


def blocks_of(records: Iterable[RunRecord], name: Callable[[str], str] = str) -> dict:
    """How many blocks each method trains, by the `name` of it; "k" where the runs differ in it."""
    blocks = {}
    for record in records:
        blocks.setdefault(name(record.method), set()).add(record.hyperparameters.get("blocks"))
    return {method: each.pop() if len(each) == 1 else "k" for method, each in blocks.items()}


def runs_csv(records: Sequence[RunRecord]) -> str:
    """The table of runs, every number to its last digit; dictionaries as JSON."""
    return pd.DataFrame([record.row() for record in records], dtype=object).to_csv(index=False)


# ---------------------------------------------------------------------------- what follows


def _wrong(results, texts):
    """The misclassified texts, most confident first: row (in the task), label, predicted, text."""
    rows = results.predictions.rows
    if rows is None or rows.max() >= len(texts):
        raise BadInput(f"{len(texts):,} texts do not have all rows that runs have tested")
    if results.advised is None:
        table = _wrong_for_all(results.predictions, results.experiment["label_names"])
    else:
        table = answer.confident_errors(results, results.advised)
    short = [textwrap.shorten(texts[i], LETTERS, placeholder=" …") for i in table["row"]]
    return table.assign(text=short)


def _wrong_for_all(predictions, label_names):
    """What every method gets wrong in all its runs.

    `predicted` is the wrong label with the highest probability, averaged over a method's runs and
    then over methods; that is its `confidence`.
    """
    labels, rows = predictions.labels, predictions.rows
    total = np.zeros((len(labels), len(label_names)))  # of probabilities, over methods
    methods, wrong = np.zeros((len(labels), 1)), np.ones(len(labels), bool)
    for method in predictions.seeds():
        runs = list(predictions.by_run(method))
        for places, logits in runs:
            total[places] += softmax(logits.astype(float), axis=1) / len(runs)
            wrong[places] &= logits.argmax(1) != labels[places]
        methods[runs[0][0]] += 1
    mean = total / np.maximum(methods, 1)
    mean[np.arange(len(labels)), labels] = -1  # the true label is no wrong one, however likely
    names, table = np.array(label_names, dtype=object), pd.DataFrame({"row": rows[wrong]})
    table["label"], table["predicted"] = names[labels[wrong]], names[mean[wrong].argmax(1)]
    table["confidence"] = mean[wrong].max(1)
    return table.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def _redrawn(experiment):
    """Of experiments that do not say it: whether all labels were used."""
    data, constants = experiment["data"], experiment["constants"]
    if data["labels_redrawn"] is not None:
        return data["labels_redrawn"]
    used, asked = data["train"] + data["validation"], constants.get("labels")
    return bool(constants.get("redraw_labels") and asked and used >= asked)


def _runs(records, predictions):
    """All runs, with the scores that their records have, or that their predictions give."""
    rows = []
    for record in records:
        row = record.row() | {"collapsed": False}
        if record.is_finished:
            labels = predictions.labels[predictions.tested(record.seed)]
            logits = predictions.logits[record.method, record.seed]
            computed = {f"test_{k}": v for k, v in scores(labels, logits).items()}
            row = computed | {k: v for k, v in row.items() if k not in computed or v is not None}
            row["collapsed"] = is_collapsed(labels, logits)
        rows.append(row)
    of_splits = [f"{split}_{name}" for split in ("train", "validation", "test") for name in METRICS]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys([*TYPES, *of_splits, *rows[0]])))
    table = table.drop(columns="scores").astype(dict.fromkeys([*NUMBERS, *of_splits], float))
    return table.assign(total_seconds=table["training_seconds"] + table["shared_seconds"].fillna(0))


def _intervals(predictions, fixed):
    """A row a method, with the columns of each metric."""
    tables = []
    for name in PLANNABLE:
        table = statistics.by_method(predictions.scores(name), fixed).set_index(["method", "seeds"])
        tables.append(table.rename(columns=lambda column, n=name: f"{n}_{column}"))
    joined = pd.concat(tables, axis=1).reset_index()
    return joined.rename(columns={f"{name}_mean": name for name in PLANNABLE})


def _compare(predictions, experiment):
    """The planned contrasts of finished methods, and all other pairs, the largest first."""
    asked = experiment["constants"].get("contrasts") or ()
    planned = [tuple(text.split(" - ")) for text in asked]
    planned = [pair for pair in planned if set(pair) <= set(predictions.seeds())]
    values = {name: predictions.scores(name) for name in PLANNABLE}
    known = set(map(frozenset, planned))
    others = statistics.all_pairs(values[_metric(experiment)])
    others = [pair for pair in others if frozenset(pair) not in known]
    tables = []
    for pairs in (planned, others):
        of_metric = {
            name: statistics.compare([scores], pairs, _margin(experiment))
            for name, scores in values.items()
        }
        tables.append(of_metric[_metric(experiment)])
        for name, table in of_metric.items():
            for column in ("difference", "low", "high"):
                tables[-1][f"{name}_{column}"] = table[column]
    return tables[0], tables[1].sort_values("difference", ascending=False, kind="stable")


def _metric(experiment):
    return experiment["constants"].get("metric") or "accuracy"


def _margin(experiment):
    margin = experiment["constants"].get("equivalence_margin")
    return statistics.MARGIN if margin is None else margin
