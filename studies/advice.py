"""Is the rule of the advice a good one? Samples of real tasks, with the truth known.

    python -m studies.advice FOLDER        the folder in which studies.coverage has tested samples

Each sample stands for a user's file: TF-IDF, the probe and both together are tested on it in five
folds. A rule takes one of these methods. Its regret is the true accuracy of the best method minus
the true accuracy of the method taken. A true accuracy is the mean over a method's five models, on
the thousands of texts left out. It writes docs/results/advice.csv, a row for each task and number
of texts.
"""

import os
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation import statistics
from evaluation.advice import BEATEN, simplest

from .coverage import METHODS, finished, predictions_of, values_left_out

FILE = Path("docs/results/advice.csv")


def taken(rows: pd.DataFrame, sample: dict) -> dict[str, str]:
    """The method of each rule: the most accurate one, or the simplest within a standard error."""
    scores = predictions_of(rows, sample).scores("accuracy")
    pairs = statistics.compare([scores], list(combinations(METHODS, 2)))
    means = {method: np.nanmean(scores.values[method]) for method in METHODS}
    rules = {"advice": max(METHODS, key=means.get)}
    return rules | {"simplest": simplest(list(METHODS), pairs[pairs["p"] / 2 < BEATEN])}


def regrets(rows: pd.DataFrame, sample: dict) -> dict[str, float]:
    """The regret of each rule, in points."""
    values = values_left_out("accuracy", rows["label"].to_numpy(), sample["outside"])
    truth = dict(zip(METHODS, 100 * np.nanmean(values, axis=1), strict=True))
    best = max(truth.values())
    return {rule: best - truth[method] for rule, method in taken(rows, sample).items()}


def main(folder: Path) -> None:
    """Write the table, and print it."""
    table = []
    for name, size, rows, samples in finished(folder):
        each = pd.DataFrame([regrets(rows, sample) for sample in samples])
        about = {"task": name, "texts": size, "samples": len(samples)}
        table.append(about | each.mean().to_dict())
    table = pd.DataFrame(table)
    samples = table["samples"]
    means = table.drop(columns=["task", "texts"]).mul(samples, axis=0).sum() / samples.sum()
    total = {"task": "all", "samples": samples.sum()}
    table = pd.concat([table, pd.DataFrame([means.to_dict() | total])])
    table.to_csv(FILE, index=False, float_format="%.4g")
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    os.nice(19)
    main(Path(sys.argv[1]))
