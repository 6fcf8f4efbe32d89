"""Where should an encoder be read, for each task? A probe's loss, within its own labels.

    python -m benchmarks.readings           docs/results/readings.csv, two hours of two cores
    python -m benchmarks.readings mpnet     the rows of one encoder anew

Five draws of 300 labels and one of 2,000, the tokens that the comparison reads (docs/findings.md),
no test text among them. For each value of POOLING a probe is fitted to each draw; its loss is the
mean over the five folds of its cross-validation (in nats), at the best C, and over the draws.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

import modeling
from benchmarks.work import prepared, put_rows
from data_utils import ENCODERS, TASKS
from experiment import Experiment
from experiment.baselines import fit_to_all_labels
from experiment.inference import features
from modeling import Method, PeftModel
from modeling.pooling import POOLINGS

TABLE = Path(__file__).parents[1] / "docs" / "results" / "readings.csv"
OPTIONS = ("--experiment", "quick", "--methods", "probe")
DRAWS = {"300": ("0", "1", "2", "3", "4"), "2000": ("0",)}  # seeds, by the number of labels
FIRST = ("--truncation", "right")  # their first tokens say what they are about
TOKENS = {"rotten-tomatoes": ("--max-tokens", "64"), "r8": FIRST, "20newsgroups": FIRST}


def fit_probe(experiment: Experiment, encoder: PeftModel, seed: int = 0) -> Pipeline:
    """A probe on what is read of the frozen encoder, fitted to all labels of this draw."""
    splits = experiment.splits(seed)

    def inputs(name):
        return features(encoder, splits[name], experiment.settings)

    return fit_to_all_labels(modeling.fit_probe, splits, inputs)


def loss(experiment: Experiment) -> float:
    """Of the probe, in cross-validation, over the draws."""
    encoder = experiment.build(Method("head", {}))
    draws = [fit_probe(experiment, encoder, seed) for seed in experiment.settings.seeds]
    return -np.mean([pipeline[-1].best_score_ for pipeline in draws])


def main(encoders: list[str]) -> None:
    """Measure these encoders, and write their rows of the table."""
    for encoder, labels, task in product(encoders, DRAWS, TASKS):
        row = {"encoder": encoder, "task": task, "labels": int(labels), "draws": len(DRAWS[labels])}
        for reading in POOLINGS:
            own = "--model", encoder, "--dataset", task, "--pooling", reading
            own += "--labels", labels, "--seeds", *DRAWS[labels]
            with prepared(*OPTIONS, *own, *TOKENS.get(task, ())) as experiment:
                row[reading] = loss(experiment)
        print(row, flush=True)
        put_rows(TABLE, [row], ["encoder", "task", "labels"])


if __name__ == "__main__":
    main(sys.argv[1:] or list(ENCODERS))
