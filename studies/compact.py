"""An experiment as evidence to keep: its page, and the tables of all its runs in a few small files.

    python -m studies.compact results/quick docs/results/quick
    python -m studies.compact docs/results/quick           makes a compact form's page anew

    experiment.json, runs.csv       as they are, but without RESULTS, a folder of one machine
    predictions.parquet             a row for each run and test text: label, predicted label,
                                    confidence to three decimals (most of the file), its group's
                                    number, if there are groups, and with folds its row in the data
    report.md                       the page, made anew from these, with the folder's figures

No text is kept, and no learning curve: the page has no list of misclassified texts, but each run's
best epoch and last epoch. A folder that holds anything but an earlier compact form of the same
experiment is refused.
To keep figures, copy them to the folder: the second command draws the figures that it finds there,
and makes the same page again.
"""

import json
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from boundary import BadInput, reading, replacing, write
from evaluation import plots, report
from evaluation.results import Results, runs_csv
from evaluation.stored import predictions_of
from records import DAMAGED, RunRecord, read_about, records_in

from . import variants

HERE = {"results": "results"}  # RESULTS of a command without that option
SPLITS = ("train", "validation", "test")  # first words of the names of scores
FIGURES = (*plots.FIGURES, variants.FIGURE)  # of two with one name, the first that can be drawn


# ---------------------------------------------------------------------------- out


def compact(source: Path, target: Path) -> list[Path]:
    """Write the experiment in `source` to `target` in its compact form; returns the paths."""
    results = Results.read(source)
    _check(target, results.experiment)
    about = results.experiment | {"constants": results.experiment["constants"] | HERE}
    about["command"] = _without_results(about["command"])
    written = [write(target / "experiment.json", json.dumps(about, indent=2) + "\n")]
    written.append(write(target / "runs.csv", runs_csv(results.records)))
    rows, predictions = [], results.predictions
    for record in results.finished:
        method, seed = record.method, record.seed
        logits, places = predictions.logits[method][seed], predictions.tested(seed)
        confidence = softmax(logits, axis=1).max(axis=1).round(3)
        row = {"method": method, "seed": seed, "label": predictions.labels[places]}
        row |= {"predicted": logits.argmax(1), "confidence": confidence}
        row |= {"row": predictions.rows[places]} if results.is_folds else {}
        row |= {} if predictions.groups is None else {"group": predictions.groups[places]}
        rows.append(pd.DataFrame(row))
    with replacing(target / "predictions.parquet") as part:
        packed = {"compression": "zstd", "compression_level": 19}
        pd.concat(rows).to_parquet(part, index=False, **packed)
    written.append(target / "predictions.parquet")
    return [*written, *show(target)]


def _without_results(command):
    words = shlex.split(command)
    kept = [
        word
        for before, word in pairwise(["", *words])
        if "--results" not in (before, word) and not word.startswith("--results=")
    ]
    return " ".join(word if word == "&&" else shlex.quote(word) for word in kept)


def _check(target, about):
    """Raise `BadInput` where the folder holds anything but an earlier form of this experiment."""
    if not target.exists() or not any(target.iterdir()):
        return
    earlier = read_about(target)
    known = earlier.get("constants", {}).get("experiment"), earlier.get("digests")
    if records_in(target) or known != (about["constants"]["experiment"], about.get("digests")):
        raise BadInput(f"{target} is there and is not of this experiment; choose another folder")


# ---------------------------------------------------------------------------- in


def read(folder: Path) -> Results:
    """The results of an experiment's folder, in its compact form or as finetuning.py leaves it."""
    path = folder / "predictions.parquet"
    if not path.exists():
        return Results.read(folder)
    experiment = read_about(folder)
    with reading(str(path), DAMAGED):
        table = pd.read_parquet(path)
        logits = logits_of(table["predicted"], table["confidence"], experiment["label_names"])
        if "row" not in table:  # all runs have tested the same texts
            table["row"] = table.groupby(["method", "seed"]).cumcount()
    with reading(str(folder / "runs.csv"), DAMAGED):
        rows = pd.read_csv(folder / "runs.csv", dtype=str, keep_default_na=False)
        records = [record_of(row, experiment["constants"]) for row in rows.to_dict("records")]
    predictions = predictions_of(folder, table.join(logits), experiment)
    return Results(folder, experiment, records, predictions, pd.DataFrame())


def record_of(row: dict[str, str], constants: dict) -> RunRecord:
    """The record of a row of runs.csv, whose values are text; an empty value counts as missing.

    Older rows have no depends_on: the `constants` of the last start stand for it.
    """
    row = {name: value for name, value in row.items() if value != ""}
    kinds = {name: field.annotation for name, field in RunRecord.model_fields.items()}
    values = {"depends_on": {name.upper(): value for name, value in constants.items()}}
    for name in row.keys() & kinds.keys():
        is_json = str(kinds[name]).startswith("dict")
        values[name] = json.loads(row[name]) if is_json else row[name]
    scores = {k: float(v) for k, v in row.items() if k.partition("_")[0] in SPLITS}
    return RunRecord(**values, scores=scores)


def logits_of(predicted: pd.Series, confidence: pd.Series, names: list[str]) -> pd.DataFrame:
    """Logits (n, C) with these predictions and confidences; the other labels share the rest."""
    logits = np.zeros((len(predicted), len(names)))
    confidence = confidence.clip((1 + 1e-6) / len(names), 1 - 1e-7)  # highest, but finite
    odds = confidence * (len(names) - 1) / (1 - confidence)
    logits[np.arange(len(predicted)), predicted] = np.log(odds)
    return pd.DataFrame(logits, columns=[f"logit_{name}" for name in names])


def show(folder: Path) -> list[Path]:
    """Make the page of a compact form anew, with the figures that are there; returns the paths."""
    results = read(folder)
    figures = {}
    for figure in FIGURES:
        path = folder / f"{figure.name}.png"
        if path not in figures and path.exists():
            figures |= plots.draw(results, [figure])
    return [*figures, *report.write_page(results, figures)]


def main(arguments: list[str] | None = None) -> int:
    """Write one experiment in its compact form; returns the exit status, 0 or 2."""

    def act(source, *target):
        return compact(source, *target) if target else show(source)

    expected = "give a folder of results and where to: results/quick docs/results/quick"
    return report.main(arguments, act, (1, 2), expected)


if __name__ == "__main__":
    sys.exit(main())
