"""Which pooling suits each task? A probe's loss, within its own labels.

    python -m studies.readings           docs/results/readings.csv, two hours of two cores
    python -m studies.readings mpnet     the rows of one encoder anew

Five training samples of 300 labels and one of 2,000, with the tokens of docs/findings.md, no test
text among them. For each value of POOLING a probe is fitted to each sample; its loss is the mean
over the five folds of its cross-validation (in nats), at the best C, and over the samples.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np

from data_utils import ENCODERS, TASKS
from experiment import Experiment, fit_baseline
from modeling.pooling import POOLINGS
from studies.work import prepared, put_rows

TABLE = Path(__file__).parents[1] / "docs" / "results" / "readings.csv"
OPTIONS = ("--experiment", "quick", "--test-examples", "2")
OPTIONS += ("--methods", *(f"probe(pooling={pooling!r})" for pooling in POOLINGS))
DRAWS = {"300": ("0", "1", "2", "3", "4"), "2000": ("0",)}  # seeds, by the number of labels
FIRST = ("--truncation", "right")  # their first tokens say what they are about
TOKENS = {"rotten-tomatoes": ("--max-tokens", "64"), "r8": FIRST, "20newsgroups": FIRST}


def losses(experiment: Experiment) -> dict[str, float]:
    """Of the probe with each pooling, in cross-validation, over the training samples."""
    found = {pooling: [] for pooling in POOLINGS}
    for run in experiment.runs():
        fit_baseline(experiment, run)
        loss = run.record().validation_loss
        found[run.method.hyperparameters["pooling"]].append(loss)
    return {pooling: np.mean(draws) for pooling, draws in found.items()}


def main(encoders: list[str]) -> None:
    """Measure these encoders, and write their rows of the table."""
    for encoder, labels, task in product(encoders, DRAWS, TASKS):
        own = "--model", encoder, "--labels", labels, "--seeds", *DRAWS[labels], "--dataset", task
        with prepared(*OPTIONS, *own, *TOKENS.get(task, ())) as experiment:
            found = losses(experiment)
        row = {"encoder": encoder, "task": task, "labels": int(labels), "draws": len(DRAWS[labels])}
        print(row | found, flush=True)
        put_rows(TABLE, [row | found], ["encoder", "task", "labels"])


if __name__ == "__main__":
    main(sys.argv[1:] or list(ENCODERS))
