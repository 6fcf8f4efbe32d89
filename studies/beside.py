"""What does TF-IDF add beside an encoder that reads more? From the predictions of finished runs.

    tar xf docs/results/main-mpnet.tar.xz -C FOLDER
    python -m studies.beside FOLDER                 writes docs/results/beside.md

`lora+tfidf` predicts the label with the highest sum of the log-probabilities of LoRA and of TF-IDF,
which have the same labelled texts. The committed predictions hold the likeliest label and its
probability, rounded. With two labels that is enough. With more, the other labels are assumed to
share the rest equally, so that the more confident of the two answers counts.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from boundary import write
from evaluation import statistics
from evaluation.markdown import percent, with_interval
from evaluation.markdown import table as markdown
from evaluation.metrics import METRICS
from evaluation.results import Results

from . import compact

RESULTS = Path("docs/results")
FOLDERS = "main-2000-imdb", "long-imdb", "main-mpnet-2000-imdb", "long-base-imdb"
FOLDERS = *FOLDERS, "main-mpnet-2000-rotten"
TOPICS = ("main-2000-20newsgroups", "long-20newsgroups", "main-mpnet-2000-20newsgroups")
METHODS = {"lora": "LoRA, %", "tfidf": "TF-IDF, %", "lora+tfidf": "LoRA + TF-IDF, %"}
TITLE = "# What does TF-IDF add beside an encoder that reads more?"
NOTE = """Difference: (LoRA + TF-IDF) − LoRA, in points of test accuracy. In brackets: 95 % \
intervals, of other training samples and other texts. Verdicts: after Holm's correction over a \
table; equivalent within one point. The rows have other samples (those of Rotten Tomatoes, and \
of MPNet with 512 tokens, share texts), learning rates and epochs."""
REVIEWS = "## Film reviews: the sum of the log-probabilities of both"
POSTS = """## Posts: the more confident of the two answers

The files do not have the probabilities that the sum needs. With 128 tokens the sum gains 5.9 \
with [MiniLM](main.md) and 3.8 with [MPNet](main-mpnet.md), more than the more confident answer."""


def scores_of(results: Results) -> statistics.Scores:
    """Whether each run of LoRA, of TF-IDF and of both gives each text its label."""
    predictions = results.predictions
    values, seeds = {}, list(predictions.logits["lora"])
    for method in METHODS:
        rows = []
        for seed in seeds:
            parts = [predictions.logits[part][seed].astype(float) for part in method.split("+")]
            logits = sum(log_softmax(part, axis=1) for part in parts)
            rows.append(METRICS["accuracy"].compute(predictions.labels, logits))
        values[method] = np.array(rows)
    return statistics.Scores(values, dict.fromkeys(values, seeds), predictions.groups)


def table_of(experiments: Sequence[Results]) -> str:
    """A row for each experiment."""
    rows, differences = [], []
    for results in experiments:
        constants, scores = results.experiment["constants"], scores_of(results)
        row = {"task": f"{constants['dataset']}, {results.experiment['model']}"}
        row |= {"tokens": str(constants["max_tokens"]), "labels": f"{constants['labels']:,}"}
        row |= {"seeds": str(len(scores.seeds["lora"]))}
        for method, values in scores.values.items():
            row[METHODS[method]] = percent(values.mean())
        rows.append(row)
        differences.append(statistics.compare([scores], [("lora+tfidf", "lora")]))
    compared = statistics.with_verdicts(pd.concat(differences, ignore_index=True))
    ends = compared[["difference", "low", "high"]].to_numpy()
    points = {"difference": [with_interval(*row) for row in ends], "verdict": compared["verdict"]}
    return markdown(dict(pd.DataFrame(rows)) | points)


def page(of: Callable[[str], Path]) -> str:
    """The page with both tables; `of` gives the folder of an experiment."""
    tables = [table_of([compact.read(of(name)) for name in each]) for each in (FOLDERS, TOPICS)]
    return "\n\n".join([TITLE, REVIEWS, tables[0], NOTE, POSTS, tables[1]]) + "\n"


if __name__ == "__main__":
    unpacked = Path(sys.argv[1])
    written = page(lambda name: (unpacked if (unpacked / name).exists() else RESULTS) / name)
    print(write(RESULTS / "beside.md", written))
