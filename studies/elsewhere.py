"""What is a trained model worth on other texts? Film reviews and sentences of reviews, both ways.

    python -m studies.elsewhere IMDB_FOLDER ROTTEN_TOMATOES_FOLDER

The folders are of two experiments of the main comparison, with their runs' trained tensors. Each
run classifies test texts of the other task, 1,000 at most. The study writes

    docs/results/elsewhere.csv     a row for each run: its accuracy at home and elsewhere
    docs/results/elsewhere.md      means and differences, with intervals over seeds and texts
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import write
from data_utils import load_task
from evaluation.markdown import percent, table, with_interval
from evaluation.results import Results
from evaluation.statistics import Scores, by_method, compare
from evaluation.style import as_difference
from modeling import load_finetuned

METHODS = ("tfidf", "probe", "head", "adapter", "lora", "full")
PAIRS = (("lora", "probe"), ("lora", "tfidf"), ("lora", "full"))
MOST = 1000  # test texts
OUTPUT = Path("docs/results/elsewhere")


def texts_of(results: Results) -> tuple[pd.DataFrame, np.ndarray | None]:
    """At most `MOST` of the texts that an experiment tested, with label names; and their groups.

    They are drawn at random, since a file may be sorted by label.
    """
    predictions = results.predictions
    order = np.random.default_rng(0).permutation(len(predictions.labels))
    places = np.sort(order[:MOST])
    task = load_task(results.experiment["constants"]["dataset"])
    rows = task.rows.iloc[predictions.rows[places]]
    rows = rows.assign(label=np.array(task.label_names, object)[rows["label"]])
    return rows, None if predictions.groups is None else predictions.groups[places]


def tested_on(results: Results, texts: pd.DataFrame, groups: np.ndarray | None) -> Scores:
    """Whether each run gives each text its label: (seeds, texts) for each method."""
    values, names = {}, np.array(results.experiment["label_names"], object)
    seeds = {method: list(results.predictions.logits[method]) for method in METHODS}
    for method in METHODS:
        folders = [results.folder / f"{method}-seed{seed}" for seed in seeds[method]]
        given = [names[load_finetuned(f).probabilities(texts["text"]).argmax(1)] for f in folders]
        values[method] = np.array([(labels == texts["label"]).astype(float) for labels in given])
    return Scores(values, seeds, groups)


def rows_of(results: Results, elsewhere: Scores, other: str) -> pd.DataFrame:
    """A row for each run."""
    runs = results.runs.set_index(["method", "seed"])["test_accuracy"]
    return pd.DataFrame(
        {
            "trained_on": results.experiment["constants"]["dataset"],
            "tested_on": other,
            "method": method,
            "seed": seed,
            "at_home": runs[method, seed],
            "elsewhere": values.mean(),
        }
        for method in METHODS
        for seed, values in zip(elsewhere.seeds[method], elsewhere.values[method], strict=True)
    )


def section(results: Results, elsewhere: Scores, other: str, texts: int) -> str:
    """The tables for models trained on one task and tested on the other."""
    home = results.experiment["constants"]["dataset"]
    at_home = results.intervals.set_index("method")["accuracy"]
    rows = by_method(elsewhere).set_index("method").loc[[*METHODS]]
    accuracies = {
        "method": results.labels(METHODS),
        f"on {home}, %": [percent(at_home[method]) for method in METHODS],
        f"on {other}, %": [with_interval(*row) for row in rows[["mean", "low", "high"]].to_numpy()],
    }
    pairs = compare([elsewhere], PAIRS)
    names = [as_difference(*results.labels(pair)) for pair in PAIRS]
    leads = pairs[["difference", "low", "high"]].to_numpy()
    differences = {
        "difference": names,
        f"on {other}, points": [with_interval(*lead) for lead in leads],
        "verdict": pairs["verdict"],
    }
    return (
        f"## Trained on {home}, tested on {other}\n\n{table(accuracies)}\n\n"
        f"Means over {len(elsewhere.seeds['lora'])} seeds; {texts:,} texts of {other}. In brackets "
        f"95 % intervals, of other seeds and texts.\n\n{table(differences)}\n\n"
        "Paired by text and seed; significant after Holm's correction over this table.\n"
    )


def main(folders: Sequence[str]) -> None:
    """Test each experiment's runs on the other's texts; write the table and the page."""
    experiments = [Results.read(folder) for folder in folders]
    tables, sections = [], ["# What is a trained model worth on other texts?\n"]
    for results, target in (experiments, experiments[::-1]):
        (texts, films), other = texts_of(target), target.experiment["constants"]["dataset"]
        elsewhere = tested_on(results, texts, films)
        tables.append(rows_of(results, elsewhere, other))
        sections.append(section(results, elsewhere, other, len(texts)))
    write(OUTPUT.with_suffix(".csv"), pd.concat(tables).to_csv(index=False, float_format="%.4f"))
    print(write(OUTPUT.with_suffix(".md"), "\n".join(sections)))


if __name__ == "__main__":
    main(sys.argv[1:])
