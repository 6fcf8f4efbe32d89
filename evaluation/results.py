"""An experiment's results, read and computed once: figures, pages and tables are views of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boundary import BadInput
from records import RunRecord, read_about

from . import statistics, stored, style
from .metrics import METRICS, PLANNABLE, is_collapsed, scores

FIELDS = RunRecord.model_fields.items()
NUMBERS = [name for name, field in FIELDS if field.annotation in (float | None, int | None)]


@dataclass(frozen=True)
class Results:
    """An experiment's files, and what is computed from them.

    `records` are in the experiment's order of methods, then by seed. The first columns of `history`
    are method and seed. `texts` are the texts of all rows of the task, if known; the index of a
    Series holds each text's row in its file.
    """

    folder: Path
    experiment: dict[str, Any]
    records: list[RunRecord]
    predictions: stored.Predictions
    history: pd.DataFrame
    texts: Sequence[str] | None = None

    @classmethod
    def read(cls, folder: str | Path, texts: Sequence[str] | None = None) -> "Results":
        """Read the experiment in `folder`.

        Raises `BadInput` with the name of a file that cannot be read, and where there is no
        finished run.
        """
        folder = Path(folder)
        if (folder / "predictions.parquet").exists():
            raise BadInput(f"{folder} is compact: give it to python -m studies.compact")
        experiment = read_about(folder)
        if not experiment:
            problem = "has no finished runs" if folder.is_dir() else "is no folder"
            raise BadInput(f"{folder} {problem}")
        runs = stored.read_runs(folder, experiment)
        finished = {path: record for path, record in runs.items() if record.is_finished}
        columns = {f"logit_{label}": np.float32 for label in experiment["label_names"]}
        columns |= {"row": int, "label": int}
        columns |= {"group": int} if experiment["data"]["groups"] else {}
        table = stored.read_tables(finished, "predictions.csv", columns)
        predictions = stored.predictions_of(folder, table, experiment)
        learnt = {path: r for path, r in finished.items() if (path / "history.csv").exists()}
        history = stored.read_tables(learnt, "history.csv", stored.HISTORY)
        return cls(folder, experiment, list(runs.values()), predictions, history, texts)

    @cached_property
    def finished(self) -> list[RunRecord]:
        """The records of the runs that have finished."""
        return [record for record in self.records if record.is_finished]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The finished runs: runs.csv, with all scores, total_seconds and collapsed.

        A run that gives every text the same label is collapsed. Scores that a run's record lacks
        are computed from its predictions.
        """
        rows, predictions = [], self.predictions
        for record in self.finished:
            labels = predictions.labels[predictions.tested(record.seed)]
            logits = predictions.logits[record.method][record.seed]
            row = scores(labels, logits, "test_")
            row |= {k: v for k, v in record.row().items() if k not in row or v is not None}
            rows.append(row | {"collapsed": is_collapsed(labels, logits)})
        table = pd.DataFrame(rows)
        of_splits = [f"{split}_{name}" for split in ("train", "validation") for name in METRICS]
        table = table.reindex(columns=table.columns.union(of_splits, sort=False))
        table = table.astype(dict.fromkeys([*NUMBERS, *of_splits], float))
        total = table["training_seconds"] + table["shared_seconds"].fillna(0)
        return table.assign(total_seconds=total)

    @cached_property
    def means(self) -> pd.DataFrame:
        """The means over the runs, by method; with folds some scores are of all texts together.

        A fold may lack a rare label, and in few texts a calibration error arises by chance.
        """
        means = self.runs.groupby("method", sort=False).mean(numeric_only=True)
        for method in means.index if self.is_folds else ():
            ((places, logits),) = self.predictions.by_run(method)
            for name in (*PLANNABLE, "calibration_error"):
                value = METRICS[name].compute(self.predictions.labels[places], logits)
                means.loc[method, f"test_{name}"] = np.mean(value)
        return means

    @cached_property
    def looks(self) -> dict[str, style.Look]:
        """The label and look of each method."""
        records = [*self.records, *self.finished]  # a failed run may have had other constants
        blocks = {record.method: record.hyperparameters.get("blocks") for record in records}
        return style.looks(list(blocks), blocks)

    @cached_property
    def scores(self) -> dict[str, statistics.Scores]:
        """The texts' values by method, for each metric on which differences are tested."""
        return {name: self.predictions.scores(name) for name in PLANNABLE}

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """A row a method: seeds and, for each metric of `scores`, <metric>, _low, _high and _sd."""
        tables = []
        for name, values in self.scores.items():
            table = statistics.by_method(values, self.fixed).set_index(["method", "seeds"])
            tables.append(table.rename(columns=lambda column, n=name: f"{n}_{column}"))
        joined = pd.concat(tables, axis=1).reset_index()
        return joined.rename(columns={f"{name}_mean": name for name in PLANNABLE})

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """The rows of `compare` for the planned pairs of finished methods."""
        planned = [tuple(text.split(" - ")) for text in self.experiment["constants"]["contrasts"]]
        finished = self.predictions.logits.keys()
        return self.compare([pair for pair in planned if set(pair) <= finished])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """The rows of `compare` for all other pairs, the largest difference first."""
        planned = self.contrasts[["method_a", "method_b"]].itertuples(index=False)
        known = set(map(frozenset, planned))
        pairs = statistics.all_pairs(self.scores[self.metric])
        table = self.compare([pair for pair in pairs if frozenset(pair) not in known])
        return table.sort_values("difference", ascending=False, kind="stable")

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """The rows of all pairs, the planned ones first."""
        return pd.concat([self.contrasts, self.comparisons])

    def compare(
        self, pairs: Sequence[tuple[str, str]], others: Sequence["Results"] = ()
    ) -> pd.DataFrame:
        """`statistics.compare` for `metric`, with the means over this experiment and `others`.

        It also has <metric>_difference, <metric>_low and <metric>_high for each of `PLANNABLE`.
        """
        tables = {}
        for name in PLANNABLE:
            scores = [results.scores[name] for results in (self, *others)]
            tables[name] = statistics.compare(scores, pairs, self.margin)
        ends = {
            f"{name}_{column}": table[column]
            for name, table in tables.items()
            for column in ("difference", "low", "high")
        }
        return tables[self.metric].assign(**ends)

    @cached_property
    def best(self) -> str:
        """The method with the highest score."""
        return self.intervals.loc[self.intervals[self.metric].idxmax(), "method"]

    @property
    def metric(self) -> str:
        """The name of the metric on which differences are tested."""
        return self.experiment["constants"]["metric"]

    @property
    def margin(self) -> float:
        """The size below which a difference does not matter."""
        return self.experiment["constants"]["equivalence_margin"]

    @property
    def margin_words(self) -> str:
        """The margin in points: "1 point"."""
        return f"{100 * self.margin:g} point{'s' * (self.margin != 0.01)}"

    @property
    def of_means(self) -> str:
        """A phrase that says what `means` average over."""
        pooled = "; test accuracy, macro-F1 and calibration error are of all texts together"
        return "means over the runs" + pooled * self.is_folds

    @property
    def covers(self) -> str:
        """A phrase that says what the intervals of the methods' scores cover."""
        if self.is_folds:
            return "other texts, for these models, each text tested once"
        if (self.intervals["seeds"] > 1).any():
            seeds = "training samples" if self.experiment["data"]["labels_redrawn"] else "seeds"
            return f"other {seeds} and other texts"
        return "other texts, for these models"

    @property
    def is_folds(self) -> bool:
        """Whether seed s is fold s, and each text is tested once."""
        return self.predictions.folds is not None

    @property
    def fixed(self) -> set[str]:
        """The methods that no seed changes: baselines, and combinations of them, on all labels."""
        if self.experiment["data"]["labels_redrawn"]:
            return set()
        names = {record.name for record in self.finished if record.baseline}
        records = [record for record in self.finished if "labels=" not in record.method]
        return {record.method for record in records if names.issuperset(record.name.split("+"))}

    def labels(self, methods: Iterable[str]) -> list[str]:
        """The labels of these methods in figures and tables."""
        return [self.looks[method].label for method in methods]


def runs_csv(records: Sequence[RunRecord]) -> str:
    """The table of runs, every number to its last digit; dictionaries as JSON."""
    return pd.DataFrame([record.row() for record in records], dtype=object).to_csv(index=False)
