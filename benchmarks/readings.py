"""Where should an encoder be read, for each task? A probe's loss, within its own labels.

    python -m benchmarks.readings       docs/results/readings.csv, an hour or two of two cores

1,000 labelled texts of at most 128 tokens, no test text among them. For each value of POOLING a
probe is fitted; its loss is the mean over the five folds of its cross-validation (in nats), at the
best C.
"""

from pathlib import Path

import pandas as pd
from sklearn.pipeline import Pipeline

import modeling
from benchmarks.work import prepared
from data_utils import ENCODERS, TASKS
from experiment import Experiment
from experiment.baselines import fit_to_all_labels
from experiment.inference import features
from modeling import Method, PeftModel
from modeling.pooling import POOLINGS

TABLE = Path(__file__).parents[1] / "docs" / "results" / "readings.csv"
OPTIONS = ("--experiment", "quick", "--labels", "1000", "--methods", "probe")


def fit_probe(experiment: Experiment, encoder: PeftModel) -> Pipeline:
    """A probe on what is read of the frozen encoder, fitted to all labels."""
    splits = experiment.splits(0)

    def inputs(name):
        return features(encoder, splits[name], experiment.settings)

    return fit_to_all_labels(modeling.fit_probe, splits, inputs)


def main() -> None:
    """Measure all, and write the table."""
    rows = []
    for encoder in ENCODERS:
        for task in TASKS:
            rows.append({"encoder": encoder, "task": task})
            for reading in POOLINGS:
                own = "--model", encoder, "--dataset", task, "--pooling", reading
                with prepared(*OPTIONS, *own) as experiment:
                    pipeline = fit_probe(experiment, experiment.build(Method("head", {})))
                rows[-1][reading] = -pipeline[-1].best_score_
                print(f"{encoder}, {task}, {reading}: {rows[-1][reading]:.3f}", flush=True)
            pd.DataFrame(rows).to_csv(TABLE, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
